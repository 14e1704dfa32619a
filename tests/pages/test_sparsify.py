"""Sparsify in Streamlit's test harness: what is submitted, refusals, live charts, the networks, and pruning downstream."""

from dataclasses import replace

import pytest

from sparse_core import paths
from sparse_core.jobs import queue, sweep_checks, sweep_files, sweeps
from sparse_core.jobs.kinds import Job
from sparse_core.networks import importing
from sparse_core.paths import REPOSITORY
from sparse_core.sparsify import durations
from sparse_core.specs.progress import Progress
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.sweep import Plan, Task, task
from tests.pages.support import (
    buttons,
    chart_text,
    choose,
    figure,
    messages,
    metrics,
    open_page,
    press,
    run,
    shown,
    submitted,
    table,
)
from tests.support import boxes
from tests.support.made import add_made

START = "Start sparsifying"
ACDC = SparsifySpec("AC/DC", "resnet20", "digits", 0.9)


def made(name: str, found: bool = False) -> dict[str, list[object]]:
    """The result of a job that made one network."""
    return {"backbones": [{"name": name}], "found": [name] if found else []}


def planned(home) -> list[Task]:
    """The tasks of the newest sweep, which is going on."""
    status = sweeps.recent(home)[0]
    assert status.state == "running"
    return [each.task for each in status.tasks]


def started(home, *specs: SparsifySpec) -> str:
    """A sweep of networks whose first job is submitted; returns its id."""
    plan = Plan("sparsify", tuple(task("sparsify", spec, (0,)) for spec in specs))
    sweep_id = sweeps.submit(home, plan)
    sweeps.advance(home, sweep_id)
    return sweep_id


def test_a_detector_is_pruned_without_data_or_with_boxes(home, tmp_path):
    app = choose(open_page("sparsify"), method=["Magnitude"], parent="yolov3_tiny", sparsities="50 80")
    assert "No mAP is measured." in messages(app)
    press(app, START)
    specs = [task.spec for task in planned(home)]
    assert [(spec.backbone, spec.dataset, spec.sparsity) for spec in specs] == [
        ("yolov3_tiny", "", 0.5),
        ("yolov3_tiny", "", 0.8),
    ]
    app = choose(app, method=["GMP"])
    assert "Only Magnitude prunes a detector without" in messages(app)
    app = choose(app, upstream_boxes=str(boxes.voc(tmp_path / "voc", 40, 4)), epochs=20)
    press(app, START)
    (spec,) = [task.spec for task in planned(home)][:1]
    assert (spec.method, spec.batch_size, spec.learning_rate, spec.momentum) == ("GMP", 16, 0.01, 0.937)
    app = choose(app, method=["WoodFisher"])
    assert "does not prune detectors here" in app.error[0].value
    assert not {"schedule", "nesterov"} & {each.key for each in (*app.selectbox, *app.toggle)}  # theirs is fixed


def test_a_detector_is_pruned_on_voc_by_name(home):
    app = choose(open_page("sparsify"), method=["GMP"], parent="yolov3_tiny")
    app = choose(app, upstream_box_data="voc")
    assert "downloaded on first use" in messages(app)
    press(app, START)
    assert [(task.spec.method, task.spec.dataset) for task in planned(home)] == [("GMP", "voc")]
    again = open_page("sparsify", sweep_id=app.query_params["sweep_id"])
    assert again.selectbox(key="upstream_box_data").value == "voc"


def test_a_detector_starts_from_new_weights(home, tmp_path):
    """A dense detector is trained first for the methods that need its weights; all have the settings of detectors."""
    app = choose(open_page("sparsify"), method=["Magnitude"], parent="yolov5n", sparsities="50")
    assert "Only Magnitude prunes a detector without, where it has weights." in messages(app)
    app = choose(app, upstream_boxes=str(boxes.voc(tmp_path / "voc", 40, 4)), epochs=20)
    press(app, START)
    tasks = planned(home)
    assert [(task.spec.method, bool(task.after)) for task in tasks] == [("Dense", False), ("Magnitude", True)]
    assert tasks[0].spec.backbone == "yolov5n" and tasks[1].spec.backbone == tasks[0].key
    assert {(task.spec.learning_rate, task.spec.batch_size) for task in tasks} == {(0.01, 16)}
    press(choose(app, method=["AC/DC"]), START)
    assert [(task.spec.method, task.spec.backbone) for task in planned(home)] == [("AC/DC", "yolov5n")]


def test_the_defaults_need_no_network_connection_and_no_weights(home):
    app = press(open_page("sparsify"), START)
    (asked,) = planned(home)
    assert (asked.spec, asked.seeds) == (ACDC, (0,))
    assert app.query_params["sweep_id"] == sweeps.recent(home)[0].sweep_id


def test_one_press_asks_for_every_method_sparsity_and_seed(home):
    app = choose(open_page("sparsify"), method=["Dense", "RigL ERK 1x"], sparsities="95, 80", seeds=2)
    assert "**6 networks**, all new." in messages(app)
    press(app, START)
    asked = [(each.spec.method, each.spec.sparsity, *each.seeds) for each in planned(home)]
    once = [("Dense", 0.0), ("RigL ERK 1x", 0.8), ("RigL ERK 1x", 0.95)]
    assert asked == [(*each, seed) for seed in (0, 1) for each in once]
    assert "6 networks from ResNet20, new weights on Digits" in shown(app.header[0].value)


def test_methods_that_need_dense_weights_have_a_dense_network_made_first(home):
    app = choose(open_page("sparsify"), method=["GMP", "STR", "Dense"], seeds=2)
    assert "GMP starts from dense weights: a Dense network is trained first." in messages(app)
    press(app, START)
    asked = planned(home)
    assert [each.spec.method for each in asked] == ["Dense", "GMP", "STR"] * 2
    dense, gmp, soft = asked[:3]
    assert gmp.spec.backbone == dense.key != asked[3].key and gmp.after == (dense.key,)
    assert (dense.spec.backbone, soft.spec.backbone, soft.after) == ("resnet20", "resnet20", ())
    (command,) = [code.value for code in app.code]
    first, second, *_ = command.splitlines()
    name = first.split(" --name ")[1].split()[0]
    assert f"--backbone {name} " in second


def test_only_what_is_missing_is_made(home, file):
    digits = sweep_checks.dataset_hash(home, "digits")
    there = SparsifySpec("Dense", "resnet20", "digits", precision="fp32", dataset_hash=digits)
    add_made(home, file, "mine", there)
    app = choose(open_page("sparsify"), method=["GMP"])
    assert "**2 networks**, 1 new." in messages(app)
    press(app, START)
    (sweep_id,) = sweep_files.names(home)
    sweeps.advance(home, sweep_id)
    (job,) = submitted(home, "sparsify")
    assert (job.spec.method, job.spec.backbone) == ("GMP", "mine")
    choose(app, method=["Dense"])
    assert "**1 network**, there already. Nothing will run again." in messages(app)


def test_the_time_is_estimated_from_one_measured_epoch(home):
    """Half a second an epoch gives 15 s for 30 epochs, five times as much for RigL 5x."""
    app = open_page("sparsify")
    (asked,) = submitted(home, "estimate_sparsify")
    assert asked.spec == ACDC and "Estimating the time on this machine …" in messages(app)
    durations.keep(home, replace(ACDC, precision="fp32"), durations.Pace(1437, 0.5, 0.0, 1), durations.DENSE)
    assert "About 15 s on this machine" in messages(run(app))
    assert "About 3 min on this machine" in messages(choose(app, method=["AC/DC", "RigL ERK 5x"], seeds=2))


def test_options_reach_only_the_methods_that_have_them(home):
    app = choose(open_page("sparsify"), method=["STR", "AC/DC"])
    choose(app, strength=0.01, distribution="uniform", name="", smoothing=0.1)
    press(app, START)
    specs = {each.spec.method: each.spec for each in planned(home)}
    assert (specs["STR"].strength, specs["AC/DC"].strength) == (0.01, None)
    assert (specs["STR"].distribution, specs["AC/DC"].distribution) == ("", "uniform")
    assert {spec.label_smoothing for spec in specs.values()} == {0.1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sparsities": "ninety"},
            "Expected sparsities in percent, from 1 to below 100, such as 80 90 95; got “ninety”.",
        ),
        ({"sparsities": "90 100"}, "such as 80 90 95; got 100."),
        ({"sparsities": "-5"}, "such as 80 90 95; got -5."),
        ({"sparsities": "0.9"}, "got 0.9. 0.9 as a fraction is 90."),
        ({"sparsities": " "}, "such as 80 90 95; got none."),
        (
            {"method": ["LTH-T", "AC/DC"], "parent": "efficientnet_lite0_magnitude_50"},
            "LTH-T starts from the weights of a dense network; efficientnet_lite0_magnitude_50 is 50 % sparse.",
        ),
        ({"epochs": 1}, "AC/DC 90 %: AC/DC's phases take at least 20 training steps; this training has 12."),
        ({"method": ["RigL ERK 5x"], "length": 3.0}, "a length factor of 3 contradicts it."),
        ({"name": "my net"}, "A backbone's name has 1 to 64 letters"),
        ({"name": "net", "sparsities": "80 90"}, "One name cannot be that of 2 networks."),
    ],
)
def test_wrong_input_is_one_line_before_the_press(home, values, message):
    app = choose(open_page("sparsify"), **{name: value for name, value in values.items() if name == "method"})
    app = choose(app, **{name: value for name, value in values.items() if name != "method"}) if values else app
    (error,) = app.error
    assert message in shown(error.value) and "\n" not in error.value
    (button,) = [button for button in app.button if button.label == START]
    assert button.disabled and sweep_files.names(home) == []


def test_a_schedule_must_fit_the_users_own_images(home, images):
    app = open_page("sparsify", upstream="My own folder or Parquet file", upstream_path=images)
    assert "AC/DC's phases take at least 20 training steps" not in str([error.value for error in app.error])
    choose(app, epochs=5)
    (error,) = app.error
    assert "this training has 5" in shown(error.value)


def test_the_link_restores_the_settings():
    app = open_page("sparsify", method=["RigL ERK 1x"], sparsities="80", epochs="7", parent="ResNet32, new weights")
    choose(app, updates=12, seeds=2, augment=False)
    (command,) = [code.value for code in app.code]
    first, second = command.splitlines()
    wanted = (
        "--method 'RigL ERK 1x'",
        "--backbone resnet32",
        "--sparsity 0.8",
        "--epochs 7",
        "--updates 12",
        "--no-aug",
    )
    assert all(each in first for each in wanted), command
    assert "--seed" not in first and "--seed 1" in second


def test_live_charts_show_sparsity_loss_accuracy_and_the_target(home):
    started(home, ACDC)
    (job_id,) = queue.queued(home)
    for number in (1, 2, 2):  # a resumed training reports an epoch twice
        epoch = {"seed": 0, "epoch": number, "loss": 2 / number, "top1": 0.4, "mean_per_class": 0.4, "sparsity": 0.45}
        queue.open_reports(home, job_id).report(Progress("AC/DC", number, 30, 60.0, epochs=(epoch,)))
    app = open_page("sparsify")  # without a link: it shows what goes on
    assert "AC/DC 90 %, seed 0 from ResNet20, new weights on Digits" in shown(app.header[0].value)
    drawn = figure(app)
    assert [trace["y"] for trace in drawn["data"]] == [[45, 45], [2, 1], [40, 40]]
    assert [(shape["y0"], shape["y1"]) for shape in drawn["layout"]["shapes"]] == [(90, 90)]
    assert chart_text(app).endswith("90 %")
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"


def test_a_request_is_paused_goes_on_and_is_cancelled(home):
    sweep_id = started(home, ACDC, replace(ACDC, sparsity=0.8))
    (job_id,) = queue.queued(home)
    app = press(open_page("sparsify", sweep_id=sweep_id), "Pause")
    assert sweeps.status(home, sweep_id).state == "paused" and queue.is_paused(home, job_id)
    app = open_page("sparsify")
    assert "Cancel all 2" in buttons(app) and "Pause" not in buttons(app)
    press(app, "Resume")
    assert sweeps.status(home, sweep_id).state == "running" and not queue.is_paused(home, job_id)
    press(open_page("sparsify", sweep_id=sweep_id), "Cancel all 2")
    assert sweeps.status(home, sweep_id).state == "cancelled"
    assert queue.status(home, job_id).state == "cancelled"


def test_failures_are_listed_and_retried_on_demand(home):
    sweep_id = started(home, ACDC)
    queue.end(home, queue.queued(home)[0], "failed", "Training diverged in epoch 3. Lower the learning rate.")
    sweeps.advance(home, sweep_id)
    app = open_page("sparsify", sweep_id=sweep_id)
    assert [shown(error.value) for error in app.error] == ["Training diverged in epoch 3. Lower the learning rate."]
    assert "Ended: 0 of 1 network done." in messages(app)
    press(app, "Retry 1 failed")
    status = sweeps.status(home, sweep_id)
    assert (status.state, status.failures) == ("running", [])


def test_what_needs_a_failed_network_is_said_to_wait(home):
    press(choose(open_page("sparsify"), method=["GMP"]), START)
    (sweep_id,) = sweep_files.names(home)
    sweeps.advance(home, sweep_id)
    queue.end(home, sweeps.status(home, sweep_id).tasks[0].job_id, "failed", "The disk is full.")
    sweeps.advance(home, sweep_id)
    app = open_page("sparsify", sweep_id=sweep_id)
    assert shown(app.error[0].value).endswith("Dense, seed 0: The disk is full.")
    assert "Not started: 1 network that depends on what failed." in messages(app)


def test_a_link_to_jobs_of_an_earlier_version_opens(home):
    ids = [queue.submit(home, Job("sparsify", ACDC, (seed,))) for seed in range(3)]
    app = open_page("sparsify", job=ids)
    assert "3 networks from ResNet20, new weights on Digits" in shown(app.header[0].value)
    assert "Pause" not in buttons(app)
    press(app, "Cancel all 3")
    assert {queue.status(home, job_id).state for job_id in ids} == {"cancelled"}


def test_a_finished_network_shows_sparsity_accuracy_times_and_provenance(home, file):
    add_made(home, file, "mine", SparsifySpec("GMP", "dense", "digits", 0.5, pruning_steps=3))
    job_id = queue.submit(home, Job("sparsify", SparsifySpec("GMP", "dense", "digits", 0.5)))
    queue.end(home, job_id, "done", result=made("mine", found=True))
    app = open_page("sparsify", job=job_id)
    assert metrics(app) == {
        "Backbone sparsity": "50 %",
        "Upstream accuracy": "90.0 %",
        "Time": "30 s",
        "Time with parents": "80 s",
    }
    assert "1 network existed already" in messages(app)
    assert [trace["y"] for trace in figure(app)["data"]] == [[0, 50], [2, 1], [95, 90]]
    (provenance,) = (each.value.set_index("What")["Value"] for each in app.dataframe if "What" in each.value)
    assert provenance["Options that differ from the defaults"] == "pruning steps 3"
    assert provenance["Started from"] == "dense (parent's)"


def test_all_networks_of_a_request_go_into_one_batch(home, file, monkeypatch):
    shown_links = {}
    monkeypatch.setattr("streamlit.page_link", lambda page, label, **given: shown_links.update({label: given}))
    ids = []
    for seed, name in enumerate(("first", "second")):
        add_made(home, file, name, ACDC, seed=seed)
        ids.append(queue.submit(home, Job("sparsify", ACDC, (seed,))))
        queue.end(home, ids[-1], "done", result=made(name))
    open_page("sparsify", job=ids)
    query = shown_links["Probe all 2"]["query_params"]
    assert query["backbones"] == ["first: ResNet20, AC/DC 90 %", "second: ResNet20, AC/DC 90 %"]
    app = open_page("probe", **query)
    assert app.multiselect(key="backbones").value == ["first", "second"]


def test_a_failure_is_said_and_the_other_networks_are_shown(home, file):
    add_made(home, file, "mine", ACDC)
    ids = [queue.submit(home, Job("sparsify", ACDC, (seed,))) for seed in range(2)]
    queue.end(home, ids[0], "done", result=made("mine"))
    queue.end(
        home, ids[1], "failed", "Training diverged: the loss is no longer finite in epoch 3. Lower the learning rate."
    )
    app = open_page("sparsify", job=ids)
    (error,) = app.error
    assert shown(error.value).startswith(
        "AC/DC 90 %, seed 1: Training diverged: the loss is no longer finite in epoch 3."
    )
    assert metrics(app)["Upstream accuracy"] == "90.0 %"


def test_a_link_to_jobs_of_another_machine_says_so(home):
    assert "was started on another machine" in messages(open_page("sparsify", job="20260101-000000-x"))
    assert "was started on another machine" in messages(open_page("sparsify", sweep_id="sparsify-0123"))


def test_an_empty_home_says_what_to_do():
    assert "Nothing was made here yet." in messages(open_page("sparsify"))
    assert "Nothing to compare yet." in messages(open_page("sparsify", part="Prune downstream"))


def test_until_a_network_is_made_those_of_the_zoo_show_how_methods_prune(home, file, monkeypatch):
    monkeypatch.setattr(paths, "ZOO", REPOSITORY / "data" / "zoo")
    app = open_page("sparsify")
    assert "An example: ResNet20 at 90 %, by 8 methods" in [each.value for each in app.header]
    rows = table(app)
    assert len(rows) == 8 == rows["method"].nunique() and set(rows["seed"]) == {0}
    assert not rows["network_name"].str.contains("3x|smoothed").any()  # which were trained otherwise
    text = chart_text(app)
    assert "CIFAR-10 (JPEG copy)" in text and "Shipped: made on NVIDIA" in text and "Your runs" not in text
    assert "LTH-T ends with its mask on the dense weights" in text
    add_made(home, file, "mine", ACDC)
    assert table(open_page("sparsify"))["network_name"].tolist() == ["mine"]


def test_networks_made_here_are_listed(home, file):
    add_made(home, file, "mine", ACDC)
    (row,) = table(open_page("sparsify")).to_dict("records")
    assert (row["network_name"], row["method"], row["upstream_data"], row["sparsity"]) == (
        "mine",
        "AC/DC",
        "Digits",
        90,
    )


def test_pruning_on_the_task_is_shown_and_what_is_missing_is_said(home, file):
    add_made(home, file, "mine", SparsifySpec("GMP", "dense", "digits", 0.5, dataset_hash="d"))
    importing.add(home, file, "other")
    app = open_page("sparsify", part="Prune downstream")
    assert "No backbone that was pruned elsewhere was finetuned on this task." in messages(app)
    assert "The paper (section 3.1) sets pruning on the task aside" in chart_text(app)
    (row,) = table(app).to_dict("records")
    assert (row["route"], row["networks"], row["accuracy_mean"]) == ("pruned on the task itself", 1, 90)
