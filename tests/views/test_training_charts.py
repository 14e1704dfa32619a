"""Charts of trainings: learning curves, confusion matrices and accuracy by class."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from sparse_core.views.charts import training


def test_learning_curves_have_a_line_for_each_run() -> None:
    curves = {"run": ["seed 0"] * 3 + ["seed 1"] * 3, "epoch": [1, 2, 3] * 2, "top1": [0.1, 0.5, 0.6, 0.2, 0.4, 0.7]}
    figure = training.learning_curves(pd.DataFrame(curves))
    assert [list(trace.y) for trace in figure.data] == [pytest.approx([10, 50, 60]), pytest.approx([20, 40, 70])]
    assert figure.data[0].line.color != figure.data[1].line.color


@pytest.mark.parametrize("classes", [2, 25, 40, 500])
def test_confusion_matrix_is_readable_from_2_to_500_classes(classes: int) -> None:
    confusion = np.diag(np.full(classes, 8)) + np.roll(np.diag(np.full(classes, 2)), 1, axis=1)
    names = [f"class {number}" for number in range(classes)]
    figure = training.confusion_matrix(confusion, names)
    heat = figure.data[0]
    assert np.diag(heat.z) == pytest.approx(80)
    assert (heat.text is not None) == (classes <= training.NUMBERED_CLASSES)
    assert bool(figure.layout.yaxis.showticklabels) == (classes <= training.NAMED_CLASSES)
    assert figure.layout.height < 1100
    assert tuple(heat.customdata[0][0]) == ("class 0", "class 0", 8)


def test_confusion_matrix_with_a_class_without_images() -> None:
    heat = training.confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"]).data[0]
    assert np.array(heat.z).tolist() == [[75, 25], [0, 0]]


def test_per_class_accuracy_is_sorted_with_wilson_intervals() -> None:
    confusion = np.array([[9, 1, 0], [5, 5, 0], [0, 0, 10]])
    points = training.per_class_accuracy(confusion, ["a", "b", "c"]).data[0]
    assert list(points.x) == pytest.approx([100, 90, 50])
    expected = binomtest(9, 10).proportion_ci(method="wilson")
    assert points.error_x.array[1] == pytest.approx(100 * (expected.high - 0.9), rel=1e-5)
    assert points.error_x.arrayminus[1] == pytest.approx(100 * (0.9 - expected.low), rel=1e-5)


def test_class_names_are_escaped() -> None:
    assert "<img" not in training.confusion_matrix(np.eye(2), ["<img src=x>", "b"]).to_json()
    cells = np.eye(2)
    titles = ("R&D <b>z</b> of a name that is too long for a panel beside another one", "Dense", cells)
    shown = [each.text for each in training.confusion_matrix(cells, ["a", "b"], titles).layout.annotations]
    assert any(text.startswith("R&amp;D &lt;b&gt;z") for text in shown) and "&amp;amp;" not in str(shown)


def test_curves_of_several_seeds_are_a_mean_in_a_band_of_one_deviation() -> None:
    curves = {
        "run": ["seed 0"] * 2 + ["seed 1"] * 2,
        "group": "AC/DC 90 %",
        "epoch": [1, 2] * 2,
        "top1": [0.1, 0.5, 0.3, 0.6],
    }
    band, line = training.learning_curves(pd.DataFrame(curves), mean=True).data
    assert list(line.y) == pytest.approx([20, 55]) and line.name == "AC/DC 90 %"
    deviation = [np.std([10, 30], ddof=1), np.std([50, 60], ddof=1)]
    assert list(band.x) == [1, 2, 2, 1]
    assert list(band.y) == pytest.approx([20 + deviation[0], 55 + deviation[1], 55 - deviation[1], 20 - deviation[0]])
    assert "± 14 (n = 2)" in line.hovertext[0] and band.showlegend is False


def test_axes_of_classes_fit_the_data() -> None:
    counts = np.array([[98, 2], [4, 96]])
    low, high = training.per_class_accuracy(counts, ["a", "b"]).layout.xaxis.range
    assert 85 < low < 90.2 and 99.4 < high <= 102


def test_two_networks_stand_beside_each_other_by_class() -> None:
    sparse, dense = np.array([[5, 5], [1, 9]]), np.array([[9, 1], [1, 9]])
    first, second = training.per_class_accuracy(sparse, ["a", "b"], ("AC/DC 90 %", "Dense", dense)).data
    assert (first.name, second.name) == ("AC/DC 90 %", "Dense")
    assert dict(zip(np.round(first.y), first.x, strict=True)) == {0: 90, 1: 50}
    assert list(second.x) == pytest.approx([90, 90])
    cells = training.confusion_matrix(sparse, ["a", "b"], ("AC/DC 90 %", "Dense", dense)).data
    assert [cell.z[0][0] for cell in cells] == [50, 90]
