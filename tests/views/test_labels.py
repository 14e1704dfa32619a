"""Labels: numbers, and names of points, which links contain."""

import pandas as pd
import pytest

from sparse_core.results import measures
from sparse_core.specs.transfer import ProbeSpec, protocol
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


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"lr 0.01": "lr 0.1"}, ("lr 0.01", "lr 0.1")),
        ({"fp32 features": "bf16 features"}, ("fp32", "bf16")),
        ({"batch 64": "batch 64, 32 px images"}, ("default image size", "32 px images")),
        ({"lr 0.01": "lr chosen from 0.01, 0.1"}, ("lr 0.01", "lr from 0.01/0.1")),
        ({"lr 0.01": "lr 0.1", "150 epochs": "20 epochs"}, ("lr 0.01, 150 epochs", "lr 0.1, 20 epochs")),
    ],
)
def test_series_are_named_by_what_differs(changed: dict[str, str], expected: tuple[str, str]) -> None:
    first = second = protocol(ProbeSpec("net", "digits"))
    for usual, other in changed.items():
        second = second.replace(usual, other)
    names = labels.series_names(measured(*(row("Dense", 0, 0.9, protocol=text) for text in (first, second))))
    assert tuple(names["measured", "ImageNet", text] for text in (first, second)) == tuple(
        f"your runs, {name}" for name in expected
    )


def test_a_probe_and_a_finetuning_are_not_told_apart_by_their_settings() -> None:
    rows = measured(row("Dense", 0, 0.9), row("Dense", 0, 0.9, protocol="Q", transfer="full"))
    assert set(labels.series_names(rows).values()) == {"your runs"}


def test_points_in_older_links_have_a_current_name() -> None:
    assert labels.current_point("Full: AC/DC 90 %, measured 3f2a") == "Full: AC/DC 90 %, your runs 3f2a"
    cell = labels.current_point("STR 80 %, measured 00ff on Digits (abc123)")
    assert cell == "STR 80 %, your runs 00ff on Digits (abc123)"
    assert labels.current_point("Full: AC/DC 90 %") == "Full: AC/DC 90 %"
