"""Images on Probe: a sample before a run, and after it the misclassified ones, those of the test set's own rows."""

from collections import Counter
from pathlib import Path

import numpy as np
from streamlit.testing.v1 import AppTest

from sparse_core.datasets import catalogue
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results import predictions
from sparse_core.results.records import Record
from sparse_core.specs.transfer import ProbeSpec
from tests.pages.support import chart_text, choose, figure, messages, open_page, run, table
from tests.support.records import record, write

DIGITS = catalogue.load(Path(), "digits")
TRUTH = DIGITS.test.labels


def probed(predicted: np.ndarray | None, sparsity: float = 0.5, **spec: str) -> Record:
    """A run on the digits with these predictions of the test images."""
    made = record(sparsity=sparsity)
    names = [str(name) for name in range(10)]
    cells = Counter(zip(TRUTH.tolist(), (TRUTH if predicted is None else predicted).tolist(), strict=True))
    confusion = [[true, guess, count] for (true, guess), count in cells.items()]
    result = {**made.result, "class_names": names, "test_images": len(TRUTH), "confusion": confusion}
    result |= {} if predicted is None else {"predicted": predictions.encode(predicted)}
    changed = {"backbone": "efficientnet_lite0", "dataset_hash": DIGITS.hash, **spec}
    return Record(made.run_id, {**made.spec, **changed}, result, made.events)


def shown(home, made: Record) -> AppTest:
    write(home, made)
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0,)))
    queue.end(home, job_id, "done", result={"runs": [made.run_id], "found": []})
    return open_page("probe", {"look_after": True}, job=job_id)


def captions(app: AppTest) -> list[str]:
    """What is written under the images of the last gallery."""
    return [image.caption for image in app.get("image")[-1].proto.imgs]


def wrong_at(*rows: int) -> np.ndarray:
    """Predictions that are one class too high at these rows."""
    predicted = TRUTH.copy()
    predicted[list(rows)] = (predicted[list(rows)] + 1) % 10
    return predicted


def test_a_sample_has_an_image_of_each_class(home):
    app = open_page("probe", {"look_before": True})
    assert captions(app) == [str(digit) for digit in range(10)]
    assert "10 of 1,437 training images after the backbone's preprocessing" in messages(app)


def test_misclassified_images_by_cell(home):
    sevens, (nine,) = np.flatnonzero(TRUTH == 7)[:2], np.flatnonzero(TRUTH == 9)[:1]
    app = shown(home, probed(wrong_at(*sevens, nine)))
    assert captions(app) == ["7, predicted 8"] * 2  # the most frequent confusion at first
    assert captions(choose(app, look_cells=["9, predicted 0"])) == ["9, predicted 0"]


def test_a_cell_of_the_matrix_can_be_clicked(home):
    """What a click gives is the name of a cell under "Cells", so that its images are shown."""
    sevens, (nine,) = np.flatnonzero(TRUTH == 7)[:2], np.flatnonzero(TRUTH == 9)[:1]
    app = shown(home, probed(wrong_at(*sevens, nine)))
    marks = next(trace for trace in figure(app, 2)["data"] if trace.get("customdata") and trace["type"] == "scatter")
    assert list(zip(marks["x"], marks["y"], strict=True)) == [(8, 7), (0, 9)]
    app.session_state["look_cells"] = [marks["customdata"][1]]
    assert captions(run(app)) == ["9, predicted 0"]


def test_dense_stands_beside_sparse(home):
    write(home, probed(wrong_at(3, 4), sparsity=0.0))
    app = shown(home, probed(wrong_at(4, 5, 6)))
    assert "dense over 1 seed" in chart_text(app, 1) and "dense over 1 seed" in chart_text(app, 2)
    assert [trace["name"] for trace in figure(app, 1)["data"]] == ["Magnitude 50 %", "Dense"]
    assert sum(trace["type"] == "heatmap" for trace in figure(app, 2)["data"]) == 2
    assert "Magnitude 50 %: 90.0 % (n = 1), +0.00 points to dense (one seed: no interval)" in messages(app)
    assert set(table(app)["method"]) == {"Dense", "Magnitude"}


def test_where_dense_and_sparse_differ(home):
    write(home, probed(wrong_at(3, 4), sparsity=0.0))
    app = shown(home, probed(wrong_at(4, 5, 6)))
    assert captions(choose(app, look_at="lost")) == [
        f"{TRUTH[row]}, predicted {(TRUTH[row] + 1) % 10}" for row in (5, 6)
    ]
    assert captions(choose(app, look_at="won")) == [f"{TRUTH[3]}, predicted {TRUTH[3]}"]


def test_a_run_of_an_earlier_version_says_why_there_are_none(home):
    assert "predictions of this run were not kept" in messages(shown(home, probed(None)))


def test_images_that_have_changed_are_not_shown(home):
    app = shown(home, probed(wrong_at(1), dataset_hash="other"))
    assert "have changed since this run" in app.error[0].value
    assert "Run the dense network" in next(group.help for group in app.get("button_group") if group.key == "look_at")
    assert not app.exception and run(app)
