"""The Sweeps page in Streamlit's test harness: what is started from ticks and from a file, and what is shown of it."""

import dataclasses

import pytest

from sparse_core import paths
from sparse_core.jobs import queue, slurm, sweep_files, sweep_packs, sweeps
from sparse_core.paths import REPOSITORY
from sparse_core.specs.slurm import SlurmSpec
from tests.pages.support import buttons, choose, messages, open_page, press, run, shown

ACDC, DENSE = "resnet20_acdc_90_s0", "resnet20_dense_s0"


@pytest.fixture(autouse=True)
def zoo(monkeypatch):
    """The networks that come with the product."""
    monkeypatch.setattr(paths, "ZOO", REPOSITORY / "data" / "zoo")


def ticked(**values):
    return choose(open_page("sweeps"), **{"backbones": [ACDC, DENSE], "seeds": 2, "epochs": 3, **values})


def only(home):
    """The one sweep's plan and state."""
    (name,) = sweep_files.names(home)
    return sweep_files.read(home, name)


def test_an_empty_page_says_what_to_do(home):
    app = open_page("sweeps")
    assert "No sweep yet." in messages(app)
    assert next(button for button in app.button if button.label == "Start sweep").disabled


def test_ticks_become_the_runs_of_all_backbones_tasks_and_transfers(home):
    app = ticked(transfers=["linear", "full"], parallel=2)
    assert "**8 runs**, all new." in messages(app)
    press(app, "Start sweep")
    plan, state = only(home)
    asked = [(task.kind, task.spec.backbone, task.seeds, task.spec.settings.epochs) for task in plan.tasks]
    probes = [("probe", name, (0, 1), 3) for name in (ACDC, DENSE)]
    assert asked == [*probes, *(("finetune", name, (seed,), 3) for name in (ACDC, DENSE) for seed in (0, 1))]
    assert (state.state, state.parallel, state.executor) == ("running", 2, "local")


def test_a_file_starts_what_it_says_and_a_bad_one_says_why(home):
    app = choose(open_page("sweeps"), way="file")
    assert "**10 networks and 50 runs**, all new." in messages(app)  # the example is one that works
    app.text_area(key="text").set_value(f"runs: [{{kind: probe, backbone: {ACDC}, dataset: digits, epochs: 0}}]")
    assert "Entry 1 of the sweep: epochs must be at least 1" in shown(run(app).error[0].value)
    app.text_area(key="text").set_value(f"runs: [{{kind: probe, backbone: {ACDC}, dataset: digits, seeds: [7]}}]")
    press(run(app), "Start sweep")
    assert [task.seeds for task in only(home)[0].tasks] == [(7,)]


def test_slurm_takes_the_sweep_with_the_options_given(home, monkeypatch):
    asked = []
    monkeypatch.setattr(slurm, "missing", lambda: "")
    monkeypatch.setattr(sweep_packs, "submit", lambda *given, **options: asked.append((given, options)) or "none")
    app = choose(ticked(executor="slurm"), parallel=8)
    press(choose(app, hours=2.0, gpus=1), "Start sweep")
    (_, plan, spec, parallel), options = asked[0]
    assert (len(plan.tasks), spec.time, spec.gpus, parallel, options) == (2, 2.0, 1, 8, {"retry": True})


def test_without_slurm_the_choice_says_why_it_is_closed(home, monkeypatch):
    monkeypatch.setattr(slurm, "missing", lambda: "SLURM's sbatch is not on this machine.")
    (executor,) = (each for each in open_page("sweeps").button_group if each.key == "executor")
    assert executor.disabled and executor.help == "SLURM's sbatch is not on this machine."


def test_each_network_and_task_has_a_cell_and_a_failed_run_its_log(home, monkeypatch):
    press(ticked(transfers=["linear", "full"]), "Start sweep")
    plan, state = only(home)
    probe, _, first, second = [task.key for task in plan.tasks][:4]
    job = queue.new_id()
    tasks = {
        probe: sweep_files.TaskState(state="done"),
        first: sweep_files.TaskState(state="done"),
        second: sweep_files.TaskState(job=job, lane="long", state="failed", message="It broke."),
    }
    sweep_files.write_state(home, plan.id, dataclasses.replace(state, state="paused", tasks=tasks))
    entry = "2026-01-01 00:00:00,000 ERROR job {} failed\nTraceback of {}\n"
    (home / "workers").mkdir(exist_ok=True)
    (home / "workers" / "log.txt").write_text(entry.format(job, "this") + entry.format("another", "another"))
    app = open_page("sweeps", sweep_id=plan.id)
    cells = app.dataframe[0].value
    assert cells.loc[f"{ACDC}: ResNet20, AC/DC 90 %"].to_dict() == {
        "Digits, probe": "✓ 2",
        "Digits, finetune": "✗ 1 of 2",
    }
    assert cells.iloc[1].to_dict() == {"Digits, probe": "… 0 of 2", "Digits, finetune": "… 0 of 2"}
    assert "It broke." in app.code[-1].value and "Traceback of this" in app.code[-1].value
    assert "another" not in app.code[-1].value
    assert {"Resume", "Retry 1 failed"} <= set(buttons(app))
    press(app, "Retry 1 failed")
    assert not sweeps.status(home, plan.id).failures


def test_a_link_to_a_sweep_that_is_gone_says_so(home):
    assert "was started on another machine" in messages(open_page("sweeps", sweep_id="nothing-123"))


def test_what_slurm_did_goes_on_here_only_where_that_is_said(home, monkeypatch):
    monkeypatch.setattr(slurm, "missing", lambda: "SLURM's sbatch is not on this machine.")
    press(ticked(), "Start sweep")
    plan, state = only(home)
    sweep_files.write_state(home, plan.id, dataclasses.replace(state, state="cancelled", executor="slurm"))
    app = open_page("sweeps", sweep_id=plan.id)
    assert "Resume on this machine" in buttons(app)
    press(app, "Resume on this machine")
    assert only(home)[1].executor == "local"


def test_what_slurm_did_goes_on_there_with_the_options_it_had(home, monkeypatch):
    monkeypatch.setattr(slurm, "missing", lambda: "")
    press(ticked(), "Start sweep")
    plan, state = only(home)
    asked = dataclasses.asdict(SlurmSpec(partition="fast", cpus=3))
    stopped = dataclasses.replace(state, state="cancelled", parallel=7, executor="slurm", slurm=asked)
    sweep_files.write_state(home, plan.id, stopped)
    given = []
    monkeypatch.setattr(sweep_packs, "submit", lambda *args, **options: given.append((*args, options)) or plan.id)
    press(open_page("sweeps", sweep_id=plan.id), "Resume on SLURM")
    assert given == [(home, plan, SlurmSpec(partition="fast", cpus=3), 7, {"retry": True})]
