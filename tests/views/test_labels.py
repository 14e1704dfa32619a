"""Labels: numbers, and names of points, which links contain."""

import pandas as pd
import pytest

from sparse_core.results import measures
from sparse_core.views import labels, tables
from tests.support.records import measured, row


@pytest.mark.parametrize(
    ("fraction", "signed", "expected"),
    [(0.0123, 0, "1.23"), (0.12345, 1, "+12.3"), (-0.032, 1, "−3.20"), (4.0156, 1, "+402"), (1, 0, "100")],
)
def test_percent_has_three_significant_digits(fraction: float, signed: int, expected: str) -> None:
    assert labels.percent(fraction, signed=bool(signed)) == expected
    assert labels.percent(float("nan")) == "–"


def test_a_point_keeps_its_name_when_other_runs_are_added() -> None:
    """Links contain these names, so they must always mean the same runs."""
    first = measured(row("Dense", 0, 0.9), row("AC/DC", 0.5, 0.8))
    levels = (("Dense", 0), ("AC/DC", 0.5))
    more = measured(*(row(*level, 0.7, protocol=protocol) for protocol in "QR" for level in levels))
    (name,) = labels.name_points(measures.summary(first))["point"]
    all_points = labels.name_points(measures.summary(pd.concat([first, more], ignore_index=True)))
    assert all_points["point"].nunique() == 3
    (kept,) = all_points.loc[all_points["point"] == name, "protocol"]
    assert kept == first["protocol"].iloc[0]
    stages = (first, pd.concat([first, more]))
    cells, more_cells = (set(tables.task_table(rows, "best", {"digits": 0.0})["point"]) for rows in stages)
    assert cells < more_cells


def test_points_in_older_links_have_a_current_name() -> None:
    assert labels.current_point("Full: AC/DC 90 %, measured 3f2a") == "Full: AC/DC 90 %, your runs 3f2a"
    cell = labels.current_point("STR 80 %, measured 00ff on Digits (abc123)")
    assert cell == "STR 80 %, your runs 00ff on Digits (abc123)"
    assert labels.current_point("Full: AC/DC 90 %") == "Full: AC/DC 90 %"
