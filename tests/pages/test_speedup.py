"""Speedup in Streamlit's test harness: states, what is shown of invented measurements, what is submitted."""

from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import frame
from sparse_core import paths
from sparse_core.catalog import ENGINES
from sparse_core.engines import availability, machine
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.paths import PUBLISHED
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs import options
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import measurements
from sparse_core.views import speed_tables
from tests.pages.support import (
    buttons,
    chart_text,
    choose,
    figure,
    legend,
    messages,
    open_app,
    open_page,
    press,
    shown,
    submitted,
)
from tests.support.measurements import MAGNITUDE_50, backbone_record, line, speed_record, training_line, training_record
from tests.support.records import record, write, write_probes


def measure(home, *records: dict) -> None:
    """Store measurements, each made a day after the one before it."""
    for day, made in enumerate(records, start=2):
        measurements.write(home, {**made, "created_at": f"2026-01-{day:02d}T03:04:05"})


def open_measured(home, *records: dict, **query: str) -> AppTest:
    """The page with these measurements, at this address."""
    measure(home, *records)
    return open_page("speedup", **query)


def test_a_page_without_measurements_shows_the_next_step(home):
    app = open_page("speedup")
    assert "No measurements yet. Press Measure" in app.info[0].value
    assert app.get("expander")[0].proto.expanded
    assert not app.get("plotly_chart")
    assert not submitted(home)


def test_one_measurement_gives_a_sentence_and_a_chart(home):
    app = open_measured(home, speed_record(lines=[line(ratio=3.2, width=0.1)]))
    sentence = "ResNet50 at 90 %, uniform mask (timing only): 3.20× faster (3.10–3.30) in DeepSparse at batch 64"
    assert sentence in messages(app)
    (drawn,) = figure(app, 0)["data"]
    assert (drawn["x"], drawn["y"]) == ([90.0], [3.2])
    assert drawn["error_y"]["array"] == drawn["error_y"]["arrayminus"] == [pytest.approx(0.1)]
    assert (drawn["marker"]["symbol"], drawn["name"]) == (["circle"], "DeepSparse, uniform mask (timing only)")
    assert figure(app, 0)["layout"]["showlegend"]
    assert "1× (dense)" in chart_text(app, 0)
    assert "random weights, which has no accuracy" in chart_text(app, 0)
    assert "Hollow" not in chart_text(app, 0)


def test_networks_that_are_not_faster_are_named(home):
    lines = [line(engine="torch", ratio=1.02, width=0.05), line(engine="onnxruntime", ratio=0.8, width=0.1)]
    app = open_measured(home, speed_record(lines=lines))
    both = "**Not shown to be faster than dense.** 1 inconclusive (interval includes 1), 1 not faster (below 1)."
    assert both in messages(app)
    assert "Inconclusive in PyTorch: 1.02× the dense speed (0.97–1.07) at 90 %." in messages(app)
    assert "Not faster in ONNX Runtime: 0.80× the dense speed (0.70–0.90) at 90 %." in messages(app)
    assert "inconclusive" in chart_text(app, 0)


def test_intervals_that_include_1_are_inconclusive(home):
    lines = [line(engine=engine, ratio=1.02, width=0.05) for engine in ("torch", "onnxruntime")]
    app = open_measured(home, speed_record(lines=lines))
    assert "**Inconclusive.** Every 95 % interval includes 1" in messages(app)
    assert "Not faster" not in messages(app)


def test_intervals_below_1_are_not_faster(home):
    app = open_measured(home, speed_record(lines=[line(ratio=0.8, width=0.1)]))
    assert "**Not faster than dense.** The 95 % interval lies below 1." in messages(app)


def test_an_unreliable_line_is_hollow_and_explained(home):
    app = open_measured(home, speed_record(lines=[line(reliable=False)]))
    assert figure(app, 0)["data"][0]["marker"]["symbol"] == ["circle-open"]
    assert "Hollow markers are unreliable: times spread by more than 15 %" in chart_text(app, 0)
    assert "(unreliable)" in messages(app)


def test_one_line_per_mask_with_the_newest_measurements(home):
    old, newer = speed_record("a", lines=[line(ratio=2.0)]), speed_record("b", lines=[line(ratio=3.0)])
    at_80 = speed_record("c", sparsity=0.8, lines=[line(ratio=1.5)])
    other_mask = speed_record("d", distribution="erk", lines=[line(ratio=2.5)])
    uniform, erk = figure(open_measured(home, old, newer, at_80, other_mask), 0)["data"]
    assert (uniform["x"], uniform["y"]) == ([80.0, 90.0], [1.5, 3.0])
    assert (erk["x"], erk["y"], erk["marker"]["symbol"]) == ([90.0], [2.5], ["diamond"])


def test_batch_sizes_are_on_a_logarithmic_axis(home):
    app = open_measured(home, speed_record(lines=[line(batch_size=1, ratio=1.2), line(batch_size=64)]))
    assert app.selectbox(key="batch_size").value == 64
    (drawn,) = figure(app, 1)["data"]
    assert (drawn["x"], drawn["y"]) == ([0.0, 6.0], [1.2, 3.0])
    assert figure(choose(app, batch_size=1), 0)["data"][0]["y"] == [1.2]


def test_other_machines_are_left_out_and_counted(home):
    here = machine.machine()
    ours = speed_record("a", machine={"processor": here["processor"], "cores": here["cores"]})
    app = open_measured(home, ours, speed_record("b", architecture="resnet18", lines=[line(ratio=9.0)]))
    assert "1 other machine was left out" in messages(app)
    assert figure(app, 0)["data"][0]["y"] == [3.0]
    choose(app, machine="Some processor, 2 cores")
    assert app.selectbox(key="timed_architecture").value == "resnet18"
    assert figure(app, 0)["data"][0]["y"] == [9.0]


def test_the_link_restores_the_view(home):
    two_engines = speed_record("b", lines=[line(), line(engine="torch", ratio=1.0)])
    app = open_measured(home, speed_record("a", architecture="resnet18"), two_engines, timed_architecture="ResNet18")
    assert "ResNet18" in chart_text(app, 0)
    app = open_page("speedup", only_engines=["PyTorch"])
    assert [trace["y"] for trace in figure(app, 0)["data"]] == [[1.0]]


def test_a_damaged_file_is_named_and_the_rest_shown(home):
    measurements.write(home, speed_record("good"))
    (measurements.folder(home) / "bad.json").write_text("{", encoding="utf-8")
    app = open_app("speedup")
    (warning,) = app.warning
    assert frame.plain("speeds/bad.json is left out: it is damaged.") in warning.value
    assert len(figure(app, 0)["data"]) == 1


def test_deleting_asks_for_confirmation(home):
    app = open_measured(home, speed_record("a"), part="All measurements")
    app.selectbox(key="look").select_index(0).run()
    press(app, "Delete …")
    assert buttons(app)[-1] == "Delete"
    assert len(measurements.read_all(home)) == 1


def test_deleting_can_be_undone(home):
    app = open_measured(home, speed_record("a"), speed_record("b", sparsity=0.8))
    measurements.delete(home, "b")
    app.session_state["deleted_speed"] = "b"
    app.run()
    assert "The measurement was deleted." in messages(app)
    assert figure(app, 0)["data"][0]["x"] == [90.0]
    press(app, "Undo")
    assert [kept["id"] for kept in measurements.read_all(home)] == ["a", "b"]
    assert figure(app, 0)["data"][0]["x"] == [80.0, 90.0]


def test_the_table_has_every_measurement(home):
    inference = speed_record("a", lines=[line(), line(batch_size=1)])
    app = open_measured(home, inference, training_record("b"), part="All measurements")
    table = app.dataframe[0].value
    assert table["mode"].tolist() == ["Online training", "Inference", "Inference"]
    assert table["timing_only"].tolist() == [False, True, True]
    assert app.get("download_button")


def started(home, **query: Any) -> Job:
    """The job that Measure submits on the page at this address."""
    press(open_page("speedup", **query), "Measure")
    (job,) = submitted(home)
    return job


def test_the_sparsest_backbone_is_offered_first(home):
    job = started(home)
    assert (job.kind, job.spec.backbone, job.spec.mode) == ("speedup", "efficientnet_lite0_magnitude_70", "inference")


def test_a_link_chooses_the_backbone(home):
    assert started(home, measure="true", backbone="EfficientNet-Lite0, magnitude 50 %").spec.backbone == MAGNITUDE_50


def test_a_dense_backbone_chosen_on_another_page_is_replaced(home):
    assert started(home, state={"backbone": "efficientnet_lite0"}).spec.backbone == "efficientnet_lite0_magnitude_70"


def test_what_was_chosen_is_submitted(home):
    chosen = {"what": "Random weights (timing only)", "to_sparsity": "95", "of_architecture": "ResNet18"}
    spec = started(home, **chosen, sizes=["8"], rounds="3").spec
    assert (spec.architecture, spec.sparsity, spec.batch_sizes, spec.rounds) == ("resnet18", 0.95, (8,), 3)
    assert spec.engines == tuple(name for name in ENGINES if not availability.missing(name))


def test_the_layer_densities_of_a_backbone_can_be_used(home):
    chosen = {"what": "Random weights (timing only)", "of_architecture": "EfficientNet-Lite0"}
    spec = started(home, **chosen, distribution="As in EfficientNet-Lite0, magnitude 50 %").spec
    assert (spec.architecture, spec.densities_of, spec.sparsity) == ("efficientnet_lite0", MAGNITUDE_50, 0.0)
    assert f"--densities-of {MAGNITUDE_50}" in options.command("speedup", spec)
    heading = "EfficientNet-Lite0, mask as in EfficientNet-Lite0, magnitude 50 % (timing only)"
    assert open_page("speedup", job=queue.queued(home)[0]).header[0].value == frame.plain(heading)


def test_the_form_is_closed_once_there_are_measurements(home):
    measurements.write(home, speed_record())
    assert "Measure" not in buttons(open_page("speedup"))
    assert "Measure" in buttons(open_page("speedup", measure="true"))


def test_online_training_is_submitted_with_a_dataset_and_one_engine(home):
    spec = started(home, time="Online training").spec
    assert (spec.mode, spec.dataset, len(spec.engines)) == ("training", "digits", 1)


def test_a_missing_engine_is_explained_and_not_offered(monkeypatch):
    missing = {**{name: availability.missing(name) for name in ENGINES}, "deepsparse": "Not set up. Do it."}
    monkeypatch.setattr(availability, "missing", missing.get)
    app = open_page("speedup")
    assert "DeepSparse is not available: Not set up. Do it." in messages(app)
    assert "deepsparse" not in app.multiselect(key="engines").value


def test_a_missing_engine_or_batch_size_is_requested():
    app = choose(open_page("speedup"), engines=[])
    assert "Choose an engine." in messages(app)
    assert "Choose a batch size." in messages(choose(app, sizes=[]))
    assert next(button for button in app.button if button.label == "Measure").disabled


def test_progress_and_cancel(home):
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet18", sparsity=0.9)))
    app = open_page("speedup", job=job_id)
    assert "ResNet18 at 90 %, uniform mask (timing only)" in shown(app.header[0].value)
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"
    assert "Press “Measure” to start again" in messages(open_page("speedup", job=job_id))


def show_result(home, result: dict) -> AppTest:
    """The page of a job that gave this measurement."""
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet50", sparsity=0.9)))
    queue.end(home, job_id, "done", result=result)
    return open_page("speedup", job=job_id)


def test_a_result_shows_sentences_machine_load_and_problems(home):
    lines = [line(ratio=3.2), line(engine="torch", ratio=1.0, reliable=False)]
    result = speed_record(lines=lines, problems=["PyTorch, batch 1: too large."])
    measurements.write(home, result)
    app = show_result(home, result)
    text = messages(app)
    assert "3.20× faster (3.10–3.30) in DeepSparse at batch 64" in text
    assert "inconclusive: 1.00× the dense speed (0.90–1.10) in PyTorch at batch 64 (unreliable)" in text
    assert "PyTorch, batch 1: too large." in [shown(entry.value) for entry in app.warning]
    assert "Some processor, 2 cores (avx2)" in text
    assert "before 0.10, after 1.00" in text
    assert "It has no accuracy." in text


def test_reasons_for_an_unreliable_result_are_given(home):
    lines = [line(spread=0.32, reliable=False), line(batch_size=1, reliable=False)]
    (warning,) = show_result(home, speed_record(lines=lines, busy_before=0.75)).warning
    assert "Background CPU load was 75 % when the measurement began." in warning.value
    assert "The times spread by 32 % in DeepSparse at batch 64." in warning.value


def test_the_accuracy_after_online_training_is_shown(home):
    app = open_measured(home, training_record(lines=[training_line(accuracy=0.853)]), part="All measurements")
    app.selectbox(key="look").select_index(0).run()
    assert "Top-1 accuracy on the test images after this training: 85.3 %." in messages(app)


def test_a_link_with_wrong_values_opens_with_the_defaults(home):
    wrong = {"job": "unknown", "machine": "Nowhere", "use_threads": "9999", "sizes": ["0"], "to_sparsity": "0"}
    app = open_measured(home, speed_record(), measure="true", **wrong, rounds="x", look="?")
    assert len(figure(app, 0)["data"]) == 1
    assert app.number_input(key="use_threads").value == machine.cores()
    assert "was started on another machine" in messages(app)


def test_a_failed_measurement_gives_the_reason(home):
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet50", sparsity=0.9)))
    queue.end(home, job_id, "failed", "The engine does not know this network.")
    assert open_page("speedup", job=job_id).error[0].value == "The engine does not know this network."


def test_training_speed_against_accuracy(home):
    write_probes(home)
    (drawn,) = figure(open_measured(home, training_record(), part="Online training"), 1)["data"]
    # 70 % where dense has 85 on average, in an epoch of 40 s where dense takes 100.
    assert (drawn["x"], drawn["y"]) == ([2.5], [pytest.approx(-15.0)])
    assert drawn["text"] == [" 50 %"]


def test_timing_only_is_never_compared_with_accuracy(home):
    write_probes(home)
    random_weights = {"timing_only": True, "backbone": "", "distribution": "uniform"}
    measure(home, training_record("a", **random_weights), backbone_record("b", **random_weights))
    app = open_page("speedup", part="Online training")
    assert "EfficientNet-Lite0 is not in the paper's public rows" in messages(app)
    assert figure(app, 1)["layout"]["xaxis"]["title"]["text"] == "Time per epoch (s)"
    app = open_page("speedup", part="Accuracy and speed")
    assert "random weights have no accuracy" in messages(app)
    assert len(app.get("plotly_chart")) == 1


def test_figure_4_has_the_papers_accuracy_at_the_sparsity_of_a_timing_only_mask(home):
    mask = speed_record("a", mode="training", spec={"dataset": "textures"}, lines=[training_line(ratio=2.5)])
    app = open_measured(home, mask, speed_record("b"), part="Online training", mode="training")
    assert app.selectbox(key="paper_task").value == "caltech101"
    drawn = {trace["name"]: (trace["x"], trace["y"], trace["text"]) for trace in figure(app, 1)["data"]}
    rows = pd.read_csv(PUBLISHED / "transfer_accuracy.csv").query("architecture == 'resnet50' and transfer == 'linear'")
    means = rows[rows["dataset"] == "caltech101"].groupby(["method", "sparsity"])["accuracy"].mean()
    expected = 100 * (means["AC/DC", 0.9] - means["Dense", 0.0])
    assert drawn["AC/DC, DeepSparse, Caltech-101"][:2] == ([2.5], [pytest.approx(expected, abs=0.01)])
    assert len(drawn) == 5 and sorted(text for *_, (text,) in drawn.values()) == [""] * 4 + [" 90 %"]  # not LTH-T
    text = chart_text(app, 1)
    assert "the paper's ResNet50 by linear transfer to Caltech-101" in text
    assert "timing-only masks of the same sparsity on Some processor, 2 cores, online training on textures" in text
    assert "ResNet50 at 90 %, uniform mask (timing only)" in figure(app, 1)["data"][0]["hovertext"][0]
    assert "Timing only: a mask on random weights" in text and "dotted" not in text  # which has points alone
    sparsest = speed_record("c", sparsity=0.97, mode="training", lines=[training_line()])
    published = Store(Records(home)).results(source="published", architecture="resnet50", transfer="linear")
    assert speed_tables.training_with_paper_accuracy(speed_tables.table(home, [sparsest], {}), published).empty


def test_the_legend_of_figure_4_has_a_filled_marker_where_some_point_is_reliable(home):
    made = [("a", 0.9, False), ("b", 0.8, True)]
    settings = {"mode": "training", "spec": {"dataset": "textures"}}
    masks = [
        speed_record(name, sparsity=level, lines=[training_line(reliable=reliable)], **settings)
        for name, level, reliable in made
    ]
    app = open_measured(home, *masks, part="Online training", mode="training")
    first = next(trace for trace in figure(app, 1)["data"] if trace["name"].startswith("AC/DC"))
    assert first["marker"]["symbol"] == ["square", "square-open"] and first["text"] == [" 80 %", " 90 %"]
    assert "Some bars are unreliable" in chart_text(app, 2)


def test_shipped_measurements_are_shown_until_this_machine_was_measured(home):
    here = {name: machine.machine()[name] for name in ("processor", "cores")}
    inference = speed_record("a", machine=here, lines=[line(ratio=4.0)])
    measure(paths.SHIPPED, inference, speed_record("b", machine=here, mode="training", lines=[training_line()]))
    app = open_page("speedup")
    assert "made on another machine" in app.info[0].value and app.get("expander")[0].proto.expanded
    assert figure(app, 0)["data"][0]["y"] == [4.0]
    assert "Measured on another machine (shipped results): " in chart_text(app, 0)
    assert "AC/DC, DeepSparse, Caltech-101" in legend(app, 1)  # figure 4, without a click
    app = choose(open_page("speedup", part="All measurements"), look=None)
    app.selectbox(key="look").select_index(0).run()
    assert "Delete …" not in buttons(app)
    app = open_measured(home, speed_record("c", machine=here))
    assert figure(app, 0)["data"][0]["y"] == [3.0]
    assert "another machine" not in messages(app)


def test_runs_missing_for_training_against_accuracy_are_named(home):
    shown = messages(open_measured(home, training_record(), part="Online training"))
    assert "EfficientNet-Lite0, magnitude 50 % on Digits: no linear probe yet" in shown
    write(home, record(sparsity=0.5, best=0.7))
    assert "no linear probe of the dense network to compare" in messages(open_page("speedup", part="Online training"))


def test_the_split_of_an_epoch(home):
    splits = {"dense_split": {"decode": 5.0, "backbone": 90.0, "classifier": 5.0, "waiting": 2.0}}
    splits["split"] = {**splits["dense_split"], "backbone": 30.0}
    app = open_measured(home, training_record(lines=[training_line(**splits)]), part="Online training")
    traces = {trace["name"]: trace["x"] for trace in figure(app, 1)["data"]}
    named = figure(app, 1)["layout"]["yaxis"]["ticktext"]
    assert named == [f"EfficientNet-Lite0, magnitude 50 %<br>{which}, DeepSparse" for which in ("dense", "sparse")]
    assert (traces["Backbone"], traces["Classifier"]) == ([90.0, 30.0], [5.0, 5.0])
    assert (traces["Waiting for images"], traces["Decoding alone"]) == ([2.0, 2.0], [5.0, 5.0])


def test_accuracy_and_speed_include_the_dense_network(home):
    write_probes(home)
    app = open_measured(home, backbone_record(lines=[line(milliseconds=4.0, ratio=3.0)]), part="Accuracy and speed")
    front, *points = figure(app, 1)["data"]
    drawn = {trace["name"]: (trace["x"], trace["y"]) for trace in points}
    assert drawn == {"Dense": ([12.0], pytest.approx([85.0])), "Magnitude": ([4.0], pytest.approx([70.0]))}
    assert front["x"] == [4.0, 12.0]
    assert figure(choose(app, speed_axis="images_per_second"), 1)["data"][2]["x"] == [250.0]


def test_accuracy_and_speed_names_what_is_missing(home):
    shown = messages(open_measured(home, backbone_record(), part="Accuracy and speed"))
    assert "no backbone was transferred to a task" in shown


def test_time_by_layer(home):
    lines = [line(layers=[["conv1", 0.25], ["fc", 0.75]]), line(engine="torch", ratio=1.0)]
    app = open_measured(home, speed_record(lines=lines), part="Time by layer")
    assert figure(app, 1)["data"][0]["y"] == [25.0, 75.0]
    assert "DeepSparse, batch 64" in chart_text(app, 1)


def test_missing_times_by_layer_are_explained(home):
    text = messages(open_measured(home, speed_record(), part="Time by layer"))
    assert "No measurement of this architecture has times of single layers. Only inference in DeepSparse" in text


def test_the_command_of_a_measurement():
    spec = SpeedupSpec(architecture="resnet18", sparsity=0.9, distribution="erk", batch_sizes=(8,), engines=("torch",))
    assert options.command("speedup", spec) == (
        "sparse-transfer speedup --architecture resnet18 --sparsity 0.9 --distribution erk --engines torch "
        "--batch-sizes 8 --json"
    )


def test_filters_offer_only_what_was_measured_together(home):
    one = speed_record("a", lines=[line(engine="deepsparse", threads=2, batch_size=64)])
    other = speed_record("b", lines=[line(engine="torch", threads=1, batch_size=1)])
    app = open_measured(home, one, other)
    app = choose(app, only_engines=["torch"])
    assert "No measurement matches" not in messages(app) and "PyTorch" in legend(app)[0]
    assert not [box for box in app.selectbox if box.key in ("threads", "batch_size")]  # there is one value of each


def test_a_detector_is_timed_at_an_image_size(home):
    app = open_page("speedup", measure="true", what="Random weights (timing only)", of_architecture="YOLOv5s")
    app = choose(app, timed_size=416, sizes=[16], engines=["onnxruntime"])
    press(app, "Measure")
    (job,) = submitted(home, "speedup")
    assert (job.spec.architecture, job.spec.image_size, job.spec.batch_sizes) == ("yolov5s", 416, (16,))
