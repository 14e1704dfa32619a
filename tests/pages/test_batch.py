"""Batches from Probe and Finetune in Streamlit's test harness: what is started, with which baselines, and what is shown."""

from dataclasses import replace

import pytest

from sparse_core import paths
from sparse_core.jobs import queue, sweep_checks, sweeps
from sparse_core.networks import importing
from sparse_core.paths import REPOSITORY
from sparse_core.specs.sweep import Plan, Task, transfers
from sparse_core.specs.transfer import ProbeSpec, protocol
from tests.pages.support import buttons, choose, messages, open_page, press, shown, submitted, table, write_runs
from tests.support.records import record, write

ACDC, DENSE = "resnet20_acdc_90_s0", "resnet20_dense_s0"
LITE = "efficientnet_lite0_magnitude_50"


@pytest.fixture(autouse=True)
def zoo(monkeypatch):
    """The networks that come with the product."""
    monkeypatch.setattr(paths, "ZOO", REPOSITORY / "data" / "zoo")


def batch(page: str = "probe", **values):
    """The page in batch mode, with these controls set."""
    return choose(open_page(page, several="true"), **values)


def planned(home) -> list[Task]:
    return [each.task for each in sweeps.recent(home)[0].tasks]


def test_one_press_asks_for_every_backbone_and_dataset_with_the_dense_baselines(home, images):
    app = batch(backbones=[ACDC, LITE], datasets=["digits", "My own folder or Parquet file"], seeds=2)
    app = choose(app, path=str(images))
    assert "**16 runs**, all new." in messages(app)
    press(app, "Start batch")
    asked = {(each.spec.backbone, each.spec.dataset, each.seeds) for each in planned(home)}
    backbones = (DENSE, "efficientnet_lite0", ACDC, LITE)
    assert asked == {(name, dataset, (0, 1)) for name in backbones for dataset in ("digits", str(images))}
    assert submitted(home, "probe") == []  # the worker takes it from here


def test_baselines_can_be_left_out_and_are_not_doubled(home):
    app = batch(backbones=[ACDC, DENSE])
    assert "Added:" not in messages(app)
    press(choose(app, backbones=[ACDC], baselines=False), "Start batch")
    assert [each.spec.backbone for each in planned(home)] == [ACDC]


def test_a_missing_baseline_is_said_before_the_press(home, file):
    importing.add(home, file, "mine", method="GMP", sparsity=0.8, upstream="Photos")
    app = batch(backbones=["mine"])
    assert "No baseline: there is no dense ResNet20 from Photos here." in messages(app)


def test_finetuning_runs_each_seed_by_itself_with_the_papers_rate_of_each_dataset(home, monkeypatch):
    monkeypatch.setattr("pages.parts.transfer_choice.require_trainable", lambda *_: None)  # the images are not here
    app = batch("finetune", backbones=[ACDC], datasets=["digits", "cars"], seeds=2, baselines=False)
    press(app, "Start batch")
    rates = [(each.spec.dataset, each.spec.settings.learning_rate, *each.seeds) for each in planned(home)]
    assert rates == [("digits", 0.001, 0), ("digits", 0.001, 1), ("cars", 0.01, 0), ("cars", 0.01, 1)]
    press(choose(app, lr=0.02), "Start batch")
    assert {each.spec.settings.learning_rate for each in planned(home)} == {0.02}


def test_runs_that_are_there_are_not_counted_as_new(home, monkeypatch):
    monkeypatch.setattr("pages.parts.sweep_start.dataset_hash", lambda home, name: "d")
    monkeypatch.setattr(sweep_checks, "dataset_hash", lambda home, name: "d")
    known = record(seed=0)
    spec = {**known.spec, "dataset": "digits", "dataset_hash": "d", "backbone": "efficientnet_lite0"}
    asked = ProbeSpec("efficientnet_lite0", "digits", backbone_hash=spec["backbone_hash"], dataset_hash="d")
    spec |= {"settings": {**known.spec["settings"], "epochs": asked.settings.epochs}}
    write(home, replace(known, run_id=sweep_checks.run_id(asked, 0), spec=spec))
    app = batch(backbones=["efficientnet_lite0"], seeds=1)
    assert "**1 run**, there already. Nothing will run again." in messages(app)
    assert "**2 runs**, 1 new." in messages(choose(app, seeds=2))


@pytest.mark.parametrize(("backbones", "datasets"), [([], ["digits"]), ([ACDC], [])])
def test_nothing_chosen_asks_for_something(backbones, datasets):
    app = batch(backbones=backbones, datasets=datasets)
    assert "Choose at least one backbone and one dataset." in messages(app)
    (start,) = (button for button in app.button if button.label == "Start batch")
    assert start.disabled


def test_the_command_names_every_transfer():
    (command,) = [code.value for code in batch(backbones=[ACDC], seeds=2).code]
    assert [line.split("--backbone ")[1].split()[0] for line in command.splitlines()] == [DENSE, ACDC]
    assert all("--seeds 2" in line for line in command.splitlines())


@pytest.mark.parametrize("size", [0, 32])  # pixels; 32 are the networks' own, and runs have it as 0
def test_a_batch_shows_its_progress_and_each_result_beside_dense(home, size):
    specs = [ProbeSpec(name, "digits", image_size=size) for name in (DENSE, ACDC)]
    ran = protocol(ProbeSpec(DENSE, "digits"))
    sweep_id = sweeps.submit(home, Plan("probe", tuple(transfers("probe", specs, (0, 1)))))
    sweeps.advance(home, sweep_id)
    app = open_page("probe", sweep_id=sweep_id)
    assert shown(app.header[0].value) == "4 runs: 2 backbones on 1 task"
    assert "Pause" in buttons(app)
    assert app.multiselect(key="backbones").value == [DENSE, ACDC]  # the form is that of the batch
    assert len(app.dataframe) == 1  # the list of its runs
    for method, sparsity, name, accuracies in (("Dense", 0.0, DENSE, [0.8, 0.9]), ("AC/DC", 0.9, ACDC, [0.6, 0.8])):
        write_runs(home, method, sparsity, accuracies, network=name, protocol=ran)
    write_runs(home, "GMP", 0.5, [0.1], network="of another sweep", protocol=ran)
    for _ in specs:
        job_id = next(
            each.job_id for each in sweeps.status(home, sweep_id).tasks if each.state == "waiting" and each.job_id
        )
        queue.end(home, job_id, "done", result={"runs": ["a", "b"], "found": []})
        sweeps.advance(home, sweep_id)
    app = open_page("probe", sweep_id=sweep_id)
    assert "Ended: 4 of 4 runs done." in messages(app)
    rows = table(app).set_index("network_name")
    assert rows["accuracy_mean"].to_dict() == pytest.approx({DENSE: 85, ACDC: 70})
    assert rows.loc[ACDC, "difference"] == pytest.approx(-15)
    assert "Without a difference" not in messages(app)


def test_without_a_link_a_batch_that_goes_on_is_shown_and_a_link_to_a_job_goes_before_it(home):
    sweep_id = sweeps.submit(home, Plan("probe", tuple(transfers("probe", [ProbeSpec(ACDC, "digits")], (0,)))))
    assert shown(open_page("probe").header[0].value) == "1 run: 1 backbone on 1 task"
    assert not open_page("finetune").header  # a batch of probes is of no concern there
    app = press(choose(open_page("probe", sweep_id=sweep_id), several=False), "Start probe")
    assert "sweep_id" not in app.query_params
    assert shown(app.header[0].value) == "resnet20_acdc_90_s0: ResNet20, AC/DC 90 % on Digits"
