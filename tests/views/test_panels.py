"""The building of charts from their parts."""

import pytest

from sparse_core.views.charts.panels import Panels


@pytest.mark.parametrize(("count", "kind"), [(5000, "scatter"), (5001, "scattergl")])
def test_many_points_are_drawn_by_the_graphics_card(count: int, kind: str) -> None:
    panels = Panels([""], "Sparsity (%)", "Accuracy (%)")
    numbers = list(range(count))
    panels.add(
        0, "GMP", {"x": numbers, "y": numbers, "mode": "markers", "hovertext": [""] * count, "marker": {"size": 8}}
    )
    assert panels.figure().data[0].type == kind
