"""Speedup in Streamlit's test harness: states, what is shown of made-up measurements, what is submitted."""

import pytest
from streamlit.testing.v1 import AppTest

from sparse_core.catalog import ENGINES
from sparse_core.engines import availability, machine
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Records
from sparse_core.specs import options
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import measurements
from tests.pages.support import (
    MAGNITUDE_50,
    backbone_record,
    chart_text,
    figure,
    messages,
    open_page,
    press,
    submitted,
    training_record,
)
from tests.support.measurements import line, speed_record, training_line
from tests.support.records import record


def probes(home) -> None:
    """Two dense runs of 85 % on average, one sparse of 70 %."""
    for seed in (0, 1):
        Records(home).write(record(seed=seed, best=0.9 - 0.1 * seed))
    Records(home).write(record(sparsity=0.5, best=0.7))


def test_nothing_measured_yet_says_what_to_do(home):
    app = open_page("speedup")
    assert "No measurements yet. Press Measure" in app.info[0].value
    assert app.get("expander")[0].proto.expanded
    assert not app.get("plotly_chart")
    assert not submitted(home)


def test_one_measurement_is_an_answer_in_words_and_a_chart(home):
    measurements.write(home, speed_record(lines=[line(ratio=3.2, width=0.1)]))
    app = open_page("speedup")
    assert (
        "ResNet50 at 90 %, uniform mask (timing only): 3.20× faster (3.10–3.30) in DeepSparse at batch 64"
        in messages(app)
    )
    (drawn,) = figure(app, 0)["data"]
    assert (drawn["x"], drawn["y"]) == ([90.0], [3.2])
    assert drawn["error_y"]["array"] == [pytest.approx(0.1)]
    assert drawn["error_y"]["arrayminus"] == [pytest.approx(0.1)]
    assert drawn["marker"]["symbol"] == ["circle"]
    assert drawn["name"] == "DeepSparse, uniform mask (timing only)"
    assert figure(app, 0)["layout"]["showlegend"]
    assert "1× (dense)" in chart_text(app, 0)
    assert "random weights, which has no accuracy" in chart_text(app, 0)
    assert "Hollow" not in chart_text(app, 0)


def test_no_gain_is_said(home):
    lines = [line(engine="torch", ratio=1.02, width=0.05), line(engine="onnxruntime", ratio=0.8, width=0.1)]
    measurements.write(home, speed_record(lines=lines))
    app = open_page("speedup")
    assert "**Not faster than dense.**" in messages(app)
    assert "Inconclusive in PyTorch: 1.02× the dense speed (0.97–1.07) at 90 %." in messages(app)
    assert "Not faster in ONNX Runtime: 0.80× the dense speed (0.70–0.90) at 90 %." in messages(app)
    assert "inconclusive" in chart_text(app, 0)


def test_an_unreliable_line_is_hollow_and_explained(home):
    measurements.write(home, speed_record(lines=[line(reliable=False)]))
    app = open_page("speedup")
    assert figure(app, 0)["data"][0]["marker"]["symbol"] == ["circle-open"]
    assert "Hollow markers are unreliable: times spread by more than 15 %" in chart_text(app, 0)
    assert "(unreliable)" in messages(app)


def test_a_line_a_mask_and_the_newest_of_each(home):
    measurements.write(home, speed_record("a", lines=[line(ratio=2.0)]))
    measurements.write(home, speed_record("b", created_at="2026-02-01", lines=[line(ratio=3.0)]))
    measurements.write(home, speed_record("c", created_at="2026-02-02", sparsity=0.8, lines=[line(ratio=1.5)]))
    measurements.write(home, speed_record("d", created_at="2026-02-03", distribution="erk", lines=[line(ratio=2.5)]))
    uniform, erk = figure(open_page("speedup"), 0)["data"]
    assert (uniform["x"], uniform["y"]) == ([80.0, 90.0], [1.5, 3.0])
    assert (erk["x"], erk["y"], erk["marker"]["symbol"]) == ([90.0], [2.5], ["diamond"])


def test_batch_sizes_are_spaced_by_doubling(home):
    measurements.write(home, speed_record(lines=[line(batch_size=1, ratio=1.2), line(batch_size=64)]))
    app = open_page("speedup")
    assert app.selectbox(key="batch_size").value == 64
    (drawn,) = figure(app, 1)["data"]
    assert (drawn["x"], drawn["y"]) == ([0.0, 6.0], [1.2, 3.0])
    app.selectbox(key="batch_size").set_value(1).run()
    assert figure(app, 0)["data"][0]["y"] == [1.2]


def test_other_machines_are_left_out_and_named(home):
    here = machine.machine()
    measurements.write(home, speed_record("a", machine={"processor": here["processor"], "cores": here["cores"]}))
    measurements.write(
        home, speed_record("b", created_at="2026-02-01", architecture="resnet18", lines=[line(ratio=9.0)])
    )
    app = open_page("speedup")
    assert "1 other machine was left out" in messages(app)
    assert figure(app, 0)["data"][0]["y"] == [3.0]
    app.selectbox(key="machine").set_value("Some processor, 2 cores").run()
    assert not app.exception
    assert app.selectbox(key="timed_architecture").value == "resnet18"
    assert figure(app, 0)["data"][0]["y"] == [9.0]


def test_the_link_restores_the_view(home):
    measurements.write(home, speed_record("a", architecture="resnet18"))
    measurements.write(
        home, speed_record("b", created_at="2026-02-01", lines=[line(), line(engine="torch", ratio=1.0)])
    )
    app = open_page("speedup", timed_architecture="ResNet18")
    assert "ResNet18" in chart_text(app, 0)
    app = open_page("speedup", only_engines=["PyTorch"])
    assert [trace["y"] for trace in figure(app, 0)["data"]] == [[1.0]]


def test_a_damaged_file_is_named_and_the_rest_shown(home):
    measurements.write(home, speed_record("good"))
    (measurements.folder(home) / "bad.json").write_text("{", encoding="utf-8")
    app = open_page("speedup")
    assert app.warning[0].value == "bad.json cannot be read, so it is left out."
    assert len(figure(app, 0)["data"]) == 1


def test_deleting_asks_first(home):
    measurements.write(home, speed_record("a"))
    app = open_page("speedup", part="All measurements")
    app.selectbox(key="look").select_index(0).run()
    press(app, "Delete …")
    assert [button.label for button in app.button][-1] == "Delete"
    assert len(measurements.read_all(home)) == 1


def test_what_was_deleted_comes_back(home):
    measurements.write(home, speed_record("a"))
    measurements.write(home, speed_record("b", created_at="2026-02-01", sparsity=0.8))
    app = open_page("speedup")
    measurements.delete(home, "b")
    app.session_state["deleted_speed"] = "b"
    app.run()
    assert "The measurement was deleted." in messages(app)
    assert figure(app, 0)["data"][0]["x"] == [90.0]
    press(app, "Undo")
    assert [kept["id"] for kept in measurements.read_all(home)] == ["a", "b"]
    assert figure(app, 0)["data"][0]["x"] == [80.0, 90.0]


def test_the_table_has_every_measurement(home):
    measurements.write(home, speed_record("a", lines=[line(), line(batch_size=1)]))
    measurements.write(home, training_record("b", created_at="2026-02-01"))
    app = open_page("speedup", part="All measurements")
    table = app.dataframe[0].value
    assert table["mode"].tolist() == ["Online training", "Inference", "Inference"]
    assert table["timing_only"].tolist() == [False, True, True]
    assert app.get("download_button")


def test_the_sparsest_backbone_is_offered_first(home):
    press(open_page("speedup"), "Measure")
    (job,) = submitted(home)
    assert (job.kind, job.spec.backbone, job.spec.mode) == ("speedup", "efficientnet_lite0_magnitude_70", "inference")


def test_a_link_names_the_backbone(home):
    press(open_page("speedup", measure="true", backbone="EfficientNet-Lite0, magnitude 50 %"), "Measure")
    assert [job.spec.backbone for job in submitted(home)] == [MAGNITUDE_50]


def test_a_dense_backbone_chosen_elsewhere_gives_way(home):
    app = AppTest.from_file(str(REPOSITORY / "pages" / "speedup.py"), default_timeout=60)
    app.session_state["framed"] = True
    app.session_state["backbone"] = "efficientnet_lite0"
    app.run()
    assert not app.exception
    press(app, "Measure")
    assert [job.spec.backbone for job in submitted(home)] == ["efficientnet_lite0_magnitude_70"]


def test_what_was_chosen_is_asked_for(home):
    chosen = {"what": "Random weights (timing only)", "to_sparsity": "95", "of_architecture": "ResNet18"}
    press(open_page("speedup", **chosen, sizes=["8"], rounds="3"), "Measure")
    (job,) = submitted(home)
    spec = job.spec
    assert (spec.architecture, spec.sparsity, spec.batch_sizes, spec.rounds) == ("resnet18", 0.95, (8,), 3)
    assert spec.engines == tuple(name for name in ENGINES if not availability.missing(name))


def test_the_layer_densities_of_a_backbone_can_be_taken(home):
    chosen = {"what": "Random weights (timing only)", "of_architecture": "EfficientNet-Lite0"}
    press(open_page("speedup", **chosen, distribution="As in EfficientNet-Lite0, magnitude 50 %"), "Measure")
    (job,) = submitted(home)
    assert (job.spec.architecture, job.spec.densities_of, job.spec.sparsity) == (
        "efficientnet_lite0",
        MAGNITUDE_50,
        0.0,
    )
    assert f"--densities-of {MAGNITUDE_50}" in options.command("speedup", job.spec)
    words = "EfficientNet-Lite0, mask as in EfficientNet-Lite0, magnitude 50 % (timing only)"
    assert open_page("speedup", job=queue.queued(home)[0]).subheader[0].value == words


def test_the_form_is_shut_once_there_is_something_to_see(home):
    measurements.write(home, speed_record())
    app = open_page("speedup")
    assert not [button for button in app.button if button.label == "Measure"]
    app = open_page("speedup", measure="true")
    assert [button for button in app.button if button.label == "Measure"]


def test_training_asks_for_a_dataset_and_one_engine(home):
    app = open_page("speedup", time="Online training")
    press(app, "Measure")
    spec = submitted(home)[0].spec
    assert (spec.mode, spec.dataset, len(spec.engines)) == ("training", "digits", 1)


def test_a_missing_engine_says_why_and_is_not_offered(monkeypatch):
    missing = availability.missing
    monkeypatch.setattr(
        availability, "missing", lambda name: "Not set up. Do it." if name == "deepsparse" else missing(name)
    )
    app = open_page("speedup")
    assert "DeepSparse is not available: Not set up. Do it." in messages(app)
    assert "deepsparse" not in app.multiselect(key="engines").value
    assert not app.exception


def test_no_engine_or_batch_size_is_asked_for():
    app = open_page("speedup")
    app.multiselect(key="engines").set_value([]).run()
    assert "Choose an engine." in messages(app)
    app.multiselect(key="sizes").set_value([]).run()
    assert "Choose a batch size." in messages(app)
    assert not [button for button in app.button if button.label == "Measure"]


def test_progress_and_cancel(home):
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet18", sparsity=0.9)))
    app = open_page("speedup", job=job_id)
    assert "ResNet18 at 90 %, uniform mask (timing only)" in app.subheader[0].value
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"
    assert "Press “Measure” to start again" in messages(open_page("speedup", job=job_id))


def test_a_result_in_words_with_machine_load_and_problems(home):
    given = speed_record(
        lines=[line(ratio=3.2), line(engine="torch", ratio=1.0, reliable=False)],
        problems=["PyTorch, batch 1: too large."],
    )
    measurements.write(home, given)
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet50", sparsity=0.9)))
    queue.end(home, job_id, "done", result=given)
    app = open_page("speedup", job=job_id)
    text = messages(app)
    assert "3.20× faster (3.10–3.30) in DeepSparse at batch 64" in text
    assert "inconclusive: 1.00× the dense speed (0.90–1.10) in PyTorch at batch 64 (unreliable)" in text
    assert "PyTorch, batch 1: too large." in [entry.value for entry in app.warning]
    assert "Some processor, 2 cores (avx2)" in text
    assert "before 0.10, after 1.00" in text
    assert "It has no accuracy." in text


def test_what_makes_a_result_doubtful_is_said(home):
    given = speed_record(
        lines=[line(spread=0.32, reliable=False), line(batch_size=1, reliable=False)], busy_before=0.75
    )
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet50", sparsity=0.9)))
    queue.end(home, job_id, "done", result=given)
    (warned,) = open_page("speedup", job=job_id).warning
    assert "Background CPU load was 75 % when the measurement began." in warned.value
    assert "The times spread by 32 % in DeepSparse at batch 64." in warned.value


def test_the_accuracy_of_online_training_is_told(home):
    measurements.write(home, training_record("a", lines=[training_line(accuracy=0.853)]))
    app = open_page("speedup", part="All measurements")
    app.selectbox(key="look").select_index(0).run()
    assert "Top-1 accuracy on the test images after this training: 85.3 %." in messages(app)


def test_a_link_with_wrong_values_opens_with_the_usual_ones(home):
    measurements.write(home, speed_record())
    app = open_page(
        "speedup",
        measure="true",
        machine="Nowhere",
        use_threads="9999",
        sizes=["0"],
        to_sparsity="0",
        rounds="x",
        job="unknown",
        look="?",
    )
    assert len(figure(app, 0)["data"]) == 1
    assert app.number_input(key="use_threads").value == machine.cores()
    assert "was started on another machine" in messages(app)


def test_a_failed_measurement_says_why(home):
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet50", sparsity=0.9)))
    queue.end(home, job_id, "failed", "The engine does not know this network.")
    assert open_page("speedup", job=job_id).error[0].value == "The engine does not know this network."


def test_training_speed_against_accuracy(home):
    probes(home)
    measurements.write(home, training_record("a"))
    app = open_page("speedup", part="Online training")
    (drawn,) = figure(app, 1)["data"]
    # 70 % where dense has 85 on average, in an epoch of 40 s where dense takes 100.
    assert (drawn["x"], drawn["y"]) == ([2.5], [pytest.approx(-15.0)])
    assert drawn["text"] == [" 50 %"]


def test_timing_only_never_meets_accuracy(home):
    probes(home)
    measurements.write(
        home, training_record("a", timing_only=True, backbone="", backbone_hash="net0.5", distribution="uniform")
    )
    measurements.write(home, backbone_record("b", timing_only=True, backbone="", distribution="uniform"))
    app = open_page("speedup", part="Online training")
    assert "only random weights were trained, which have no accuracy" in messages(app)
    assert [figure(app, at)["layout"]["xaxis"]["title"]["text"] for at in (1,)] == ["Time per epoch (s)"]
    app = open_page("speedup", part="Accuracy and speed")
    assert "random weights have no accuracy" in messages(app)
    assert len(app.get("plotly_chart")) == 1


def test_what_is_missing_for_training_against_accuracy_is_named(home):
    measurements.write(home, training_record("a"))
    assert "EfficientNet-Lite0, magnitude 50 % on Digits: no linear probe yet" in messages(
        open_page("speedup", part="Online training")
    )
    Records(home).write(record(sparsity=0.5, best=0.7))
    assert "no linear probe of the dense network to compare" in messages(open_page("speedup", part="Online training"))


def test_the_split_of_an_epoch(home):
    splits = {"dense_split": {"decode": 5.0, "backbone": 90.0, "classifier": 5.0, "waiting": 2.0}}
    splits["split"] = {**splits["dense_split"], "backbone": 30.0}
    measurements.write(home, training_record("a", lines=[training_line(**splits)]))
    app = open_page("speedup", part="Online training")
    traces = {trace["name"]: trace["x"] for trace in figure(app, 1)["data"]}
    named = figure(app, 1)["layout"]["yaxis"]["ticktext"]
    assert named == [f"EfficientNet-Lite0, magnitude 50 %<br>{which}, DeepSparse" for which in ("dense", "sparse")]
    assert traces["Backbone"] == [90.0, 30.0]
    assert traces["Classifier"] == [5.0, 5.0]
    assert traces["Waiting for images"] == [2.0, 2.0]
    assert traces["Decoding alone"] == [5.0, 5.0]


def test_accuracy_and_speed_with_the_dense_one(home):
    probes(home)
    measurements.write(home, backbone_record("a", lines=[line(milliseconds=4.0, ratio=3.0)]))
    app = open_page("speedup", part="Accuracy and speed")
    front, *points = figure(app, 1)["data"]
    assert {trace["name"]: (trace["x"], trace["y"]) for trace in points} == {
        "Dense": ([12.0], [pytest.approx(85.0)]),
        "Magnitude": ([4.0], [pytest.approx(70.0)]),
    }
    assert front["x"] == [4.0, 12.0]
    app.segmented_control(key="speed_axis").set_value("images_per_second").run()
    assert figure(app, 1)["data"][2]["x"] == [250.0]


def test_accuracy_and_speed_says_what_is_missing(home):
    measurements.write(home, backbone_record("a"))
    assert "no backbone was transferred to a task" in messages(open_page("speedup", part="Accuracy and speed"))


def test_time_by_layer(home):
    measurements.write(
        home, speed_record(lines=[line(layers=[["conv1", 0.25], ["fc", 0.75]]), line(engine="torch", ratio=1.0)])
    )
    app = open_page("speedup", part="Time by layer")
    assert figure(app, 1)["data"][0]["y"] == [25.0, 75.0]
    assert "DeepSparse, batch 64" in chart_text(app, 1)


def test_times_by_layer_are_missing(home):
    measurements.write(home, speed_record())
    text = messages(open_page("speedup", part="Time by layer"))
    assert "No measurement of this architecture has times of single layers. Only inference in DeepSparse" in text


def test_a_command_that_asks_for_the_same():
    spec = SpeedupSpec(architecture="resnet18", sparsity=0.9, distribution="erk", batch_sizes=(8,), engines=("torch",))
    assert options.command("speedup", spec) == (
        "python -m sparse_core speedup --architecture resnet18 --sparsity 0.9 --distribution erk --engines torch "
        "--batch-sizes 8 --json"
    )
