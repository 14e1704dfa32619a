"""Charts as a page draws them: larger with the text, bars from zero, cells to click, both matrices named."""

import numpy as np

from sparse_core.views.charts import captions, training
from tests.support import charts


def test_a_chart_grows_with_the_text():
    figure = charts.chart("tradeoff")
    large = captions.enlarged(figure, 1.5)
    assert captions.enlarged(figure, 1) is figure
    sizes = {note.font.size for note in figure.layout.annotations}
    assert {note.font.size for note in large.layout.annotations} == {1.5 * size for size in sizes}
    assert large.layout.margin.l == 1.5 * figure.layout.margin.l and large.layout.height > 1.4 * figure.layout.height
    np.testing.assert_allclose(large.data[0].marker.size, 1.5 * np.asarray(figure.data[0].marker.size))
    np.testing.assert_array_equal(large.data[0].y, figure.data[0].y)
    assert large.layout.yaxis.range == figure.layout.yaxis.range


def test_the_bars_of_an_epoch_begin_at_zero():
    low, high = charts.chart("time of an epoch").layout.xaxis.range
    assert low == 0 and high >= 5 + 30 + 5


def test_the_classes_of_both_matrices_are_named():
    ticks = charts.chart("confusion beside dense").layout.xaxis2
    assert list(ticks.tickvals) == list(range(10)) and len(ticks.ticktext) == 10


def test_cells_that_have_a_name_can_be_selected():
    drawn = training.confusion_matrix(
        np.array([[3, 1], [0, 0]]), ["a", "b"], None, {(0, 1): "a, predicted b", (1, 0): "x"}
    )
    marks = drawn.data[1]
    assert (list(marks.x), list(marks.y), list(marks.customdata)) == ([1], [0], ["a, predicted b"])
    assert marks.marker.opacity == 0 and marks.selected.marker.opacity == 1
