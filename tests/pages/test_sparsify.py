"""Sparsify in Streamlit's test harness: what is submitted, refusals, live charts, the networks, and pruning downstream."""

from dataclasses import replace

import pytest

from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import importing
from sparse_core.sparsify import durations
from sparse_core.specs.progress import Progress
from sparse_core.specs.sparsify import SparsifySpec
from tests.pages.support import (
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
from tests.support.made import add_made

START = "Start sparsifying"
ACDC = SparsifySpec("AC/DC", "resnet20", "digits", 0.9)


def made(name: str, found: bool = False) -> dict[str, list[object]]:
    """The result of a job that made one network."""
    return {"backbones": [{"name": name}], "found": [name] if found else []}


def test_the_defaults_need_no_network_connection_and_no_weights(home):
    press(open_page("sparsify"), START)
    (job,) = submitted(home, "sparsify")
    assert (job.spec, job.seeds) == (ACDC, (0,))


def test_one_press_asks_for_every_method_sparsity_and_seed(home):
    app = choose(open_page("sparsify"), method=["Dense", "RigL ERK 1x"], sparsities="95, 80", seeds=2)
    assert "**6 networks**" in messages(app)
    press(app, START)
    jobs = submitted(home, "sparsify")
    asked = [(job.spec.method, job.spec.sparsity, *job.seeds) for job in jobs]
    once = [("Dense", 0.0), ("RigL ERK 1x", 0.8), ("RigL ERK 1x", 0.95)]
    assert asked == [(*each, seed) for seed in (0, 1) for each in once]
    assert len(app.query_params["job"]) == 6


def test_methods_that_need_dense_weights_have_a_dense_network_made_first(home):
    app = choose(open_page("sparsify"), method=["GMP", "STR", "Dense"], seeds=2)
    assert "GMP starts from dense weights: a Dense network is trained first." in messages(app)
    press(app, START)
    jobs = submitted(home, "sparsify")
    assert [job.spec.method for job in jobs] == ["Dense", "GMP", "STR"] * 2
    dense, gmp, soft = jobs[:3]
    assert gmp.spec.backbone == dense.spec.name != jobs[3].spec.name
    assert (dense.spec.backbone, soft.spec.backbone) == ("resnet20", "resnet20")


def test_a_dense_network_that_is_there_is_used(home, file):
    add_made(home, file, "mine", SparsifySpec("Dense", "resnet20", "digits", precision="fp32", dataset_hash="d"))
    press(choose(open_page("sparsify"), method=["GMP"]), START)
    dense, gmp = submitted(home, "sparsify")
    assert (dense.spec.name, gmp.spec.backbone) == ("mine", "mine")


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
    specs = {job.spec.method: job.spec for job in submitted(home, "sparsify")}
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
    assert button.disabled and submitted(home, "sparsify") == []


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
    job_id = queue.submit(home, Job("sparsify", ACDC))
    for number in (1, 2, 2):  # a resumed training reports an epoch twice
        epoch = {"seed": 0, "epoch": number, "loss": 2 / number, "top1": 0.4, "mean_per_class": 0.4, "sparsity": 0.45}
        queue.open_reports(home, job_id).report(Progress("AC/DC", number, 30, 60.0, epochs=(epoch,)))
    app = open_page("sparsify", job=job_id)
    drawn = figure(app)
    assert [trace["y"] for trace in drawn["data"]] == [[45, 45], [2, 1], [40, 40]]
    assert [(shape["y0"], shape["y1"]) for shape in drawn["layout"]["shapes"]] == [(90, 90)]
    assert chart_text(app).endswith("90 %")
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"


def test_a_page_opened_without_a_link_shows_what_is_running(home):
    queue.submit(home, Job("sparsify", ACDC))
    app = open_page("sparsify")
    assert "AC/DC 90 %, seed 0 from ResNet20, new weights on Digits" in shown(app.subheader[0].value)
    assert "Cancel" in [button.label for button in app.button]


def test_all_of_a_request_can_be_cancelled(home):
    ids = [queue.submit(home, Job("sparsify", ACDC, (seed,))) for seed in range(3)]
    press(open_page("sparsify", job=ids), "Cancel all 3")
    assert {queue.status(home, job_id).state for job_id in ids} == {"cancelled"}


def test_a_finished_network_shows_sparsity_accuracy_times_and_provenance(home, file):
    add_made(home, file, "mine", SparsifySpec("GMP", "dense", "digits", 0.5, pruning_steps=3))
    job_id = queue.submit(home, Job("sparsify", SparsifySpec("GMP", "dense", "digits", 0.5)))
    queue.end(home, job_id, "done", result=made("mine", found=True))
    app = open_page("sparsify", job=job_id)
    assert metrics(app) == {
        "Sparsity": "50 %",
        "Upstream accuracy": "90.0 %",
        "Time": "30 s",
        "Time with parents": "80 s",
    }
    assert "1 network existed already" in messages(app)
    assert [trace["y"] for trace in figure(app)["data"]] == [[0, 50], [2, 1], [95, 90]]
    provenance = table(app, 0).set_index("What")["Value"]
    assert provenance["Options that differ from the defaults"] == "pruning steps 3"
    assert provenance["Started from"] == "dense (parent's)"


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


def test_an_empty_home_says_what_to_do():
    assert "Nothing was made here yet." in messages(open_page("sparsify"))
    assert "Nothing to compare yet." in messages(open_page("sparsify", part="Prune downstream"))


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
