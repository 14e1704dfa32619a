"""Results of detectors on Tradeoffs and Tasks, in Streamlit's test harness: shown as mAP, and never among accuracies."""

import pandas as pd
import pytest

from sparse_core.paths import PUBLISHED
from sparse_core.results import evaluations
from tests.pages.support import chart_text, choose, command_output, figure, open_page, table, write_runs
from tests.support.evaluations import evaluation
from tests.support.records import detection_record, write


@pytest.fixture
def detectors(home):
    """A dense detector with mAP@0.5 of 80 and 82 %, one of 50 % sparsity with 71 and 69 %; mAP@[.5:.95] is half of each."""
    write(home, *(detection_record(seed=seed, map50=value) for seed, value in enumerate((0.8, 0.82))))
    write(home, *(detection_record(sparsity=0.5, seed=seed, map50=value) for seed, value in enumerate((0.71, 0.69))))


def increase(app) -> float:
    return table(app)["mean_relative_error_increase"].iloc[0]


@pytest.mark.parametrize(("metric", "dense", "sparse"), [("mAP@0.5", 0.81, 0.7), ("mAP@[.5:.95]", 0.405, 0.35)])
def test_tradeoffs_shows_the_relative_increase_of_one_minus_map(detectors, metric, dense, sparse):
    app = open_page("tradeoffs", metric=metric)
    assert app.selectbox(key="architecture").value == "yolov3_tiny"
    assert increase(app) == pytest.approx(100 * (dense - sparse) / (1 - dense))
    text = chart_text(app)
    assert f"error is 1 − {metric}" in text and f"{metric} of the best epoch" in text and "table 6" in text
    assert "Linear" not in text and not [group for group in app.get("button_group") if group.key == "transfer"]
    (row,) = command_output(app)
    assert row["mean_relative_error_increase"] == pytest.approx((dense - sparse) / (1 - dense))
    tab = f"{metric} per task"
    assert tab in [each.label for each in app.tabs] and "Difficulty" not in [each.label for each in app.tabs]
    app = open_page("tradeoffs", metric=metric, view=tab)
    assert f"{metric} (%)" in str(figure(app, 1)["layout"]) and f"{metric} of each network" in chart_text(app, 1)
    assert any(f"{metric} {100 * sparse:.1f}" in each for each in figure(app, 1)["data"][-1]["hovertext"])


def test_accuracies_and_map_are_never_mixed(detectors, home):
    write_runs(home, "Magnitude", 0.5, [0.7], architecture="yolov3_tiny")  # an accuracy under the detector's name
    app = open_page("tradeoffs")
    assert app.selectbox(key="architecture").value == "resnet50"
    assert "YOLOv3-tiny" not in app.selectbox(key="architecture").options
    runs = open_page("tradeoffs", metric="mAP@0.5", view="Runs")
    assert len(table(runs)) == 4 and sorted(table(runs)["accuracy_best"]) == pytest.approx([69, 71, 80, 82])


def test_an_older_link_to_a_detector_shows_its_map(detectors):
    app = open_page("tradeoffs", architecture="YOLOv3-tiny", source="Your runs")
    assert (app.selectbox(key="metric").value, increase(app)) == ("mAP@0.5", pytest.approx(100 * 0.11 / 0.19))


@pytest.mark.parametrize("value", ["mAP@0.5", "Difference to dense"])
def test_tasks_has_map(detectors, value):
    app = open_page("tasks", metric="mAP@0.5", value=value)
    assert ("mAP@0.5 of each network" in chart_text(app)) == (value == "mAP@0.5")
    numbers = [text for trace in figure(app)["data"] for text in trace.get("text") or ()]
    assert sorted(numbers) == (["70.0", "81.0"] if value == "mAP@0.5" else ["−11.0"])
    rows = command_output(app)
    assert {row["metric"] for row in rows} == {"mAP@0.5"} and {row["accuracy_mean"] for row in rows} == {0.81, 0.7}
    by_task = open_page("tasks", metric="mAP@0.5", layout="By task")
    assert "Mean mAP@0.5 (%)" in by_task.dataframe[-1].proto.columns


def test_without_runs_the_next_step_and_the_published_figures_are_shown():
    app = open_page("tradeoffs", metric="mAP@0.5")
    assert "no runs of detectors yet" in app.info[0].value
    text = chart_text(app)
    assert "SparseML, not the paper's table" in text and "neuralmagic/sparseml" in text
    points = sorted((x, y) for trace in figure(app)["data"] for x, y in zip(trace["x"], trace["y"], strict=True))
    rows = pd.read_csv(PUBLISHED / "detection.csv")
    pairs = 100 * rows.pivot_table(index=["architecture", "method"], columns="dataset", values="value")
    assert points == [pytest.approx(pair) for pair in sorted(pairs.itertuples(index=False, name=None))]
    shown = table(app)
    assert len(shown) == 9 and shown["transfer_map"].max() == pytest.approx(90.0)
    sources = rows.pivot_table(index=["architecture", "method"], columns="dataset", values="source", aggfunc="first")
    assert set(zip(shown["upstream_map_origin"], shown["transfer_map_origin"], strict=True)) == set(
        sources.itertuples(index=False, name=None)
    )


def test_the_upstream_tab_of_detectors_is_that_of_map(detectors):
    app = open_page("tradeoffs", metric="mAP@0.5", view="Upstream and downstream")
    assert "Upstream against downstream mAP" in chart_text(app, 1) and "Spearman" in chart_text(app, 1)
    assert "never averaged with other sources" in chart_text(app, 1)
    assert "Evaluate measures it on images with boxes" in app.info[-1].value
    assert choose(app, metric="accuracy").selectbox(key="architecture").value == "resnet50"


@pytest.mark.parametrize(("metric", "upstream", "downstream"), [("mAP@0.5", 30, 70), ("mAP@[.5:.95]", 20, 35)])
def test_own_detectors_with_a_known_upstream_map_are_a_chart_of_their_own(
    detectors, home, metric, upstream, downstream
):
    known = {
        "map50": 0.3,
        "map": 0.2,
        "upstream": "COCO",
        "architecture": "yolov3_tiny",
        "backbone": "half",
        "id": "half",
    }
    record = evaluation("net0.5", "val2017", **known)
    del record["top1"]
    evaluations.write(home, record)
    app = open_page("tradeoffs", metric=metric, view="Upstream and downstream")
    (point,) = figure(app, 1)["data"]
    assert (point["x"], point["y"]) == ([pytest.approx(upstream)], [pytest.approx(downstream)])
    assert f"Upstream against downstream {metric} of your detectors" in chart_text(app, 1)
    assert "SparseML" not in chart_text(app, 1) and "SparseML" in chart_text(app, 2)
    assert f"Downstream {metric} (%)" in str(figure(app, 1)["layout"])
