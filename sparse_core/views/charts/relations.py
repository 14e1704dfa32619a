"""Two measures of networks or tasks against each other: points with regression lines, and how ranks change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from sparse_core.results.difficulty import Regression
from sparse_core.views.charts.panels import Panels, percents
from sparse_core.views.charts.style import GREY, by_line, looks, marker, method_style
from sparse_core.views.labels import sparsity_label

NARROW = 120  # pixels of a panel
BAND = 0.1  # opacity
STEPS = 40  # points of a line with its band


@dataclass(frozen=True)
class Axis:
    """A horizontal axis: the column, its title, and by how much it is multiplied."""

    column: str
    title: str
    scale: float = 100.0


def against_difficulty(
    points: pd.DataFrame, levels: Sequence[float], lines: dict[tuple[float, str], Regression]
) -> go.Figure:
    """Relative error increase against task difficulty (the paper's figure 3), a panel for each sparsity of ``levels``, with a
    regression line and its 95 % band for each line of a chart.

    ``points`` are of ``difficulty.points`` with ``level``, ``line``, ``task`` and ``kind`` of task: specialised ones are filled,
    others hollow. ``lines`` are by level and line.
    """
    titles = [f"<b>{sparsity_label(level)}</b> sparsity" for level in levels]
    panels = Panels(
        titles,
        "Difficulty (points)",
        "Relative error increase over dense (%)",
        spacing=0.04,
        plot_height=300,
        narrowest=NARROW,
    )
    found = looks(points)
    increases = 100 * points["relative_error_increase"]
    margin = 0.07 * (float(np.ptp(increases)) or 1.0)
    limits = [min(float(increases.min()), 0) - margin, max(float(increases.max()), 0) + margin]
    for number, level in enumerate(levels):
        panel = points[points["level"] == level]
        if panel.empty:
            continue
        ends = float(panel["difficulty"].min()), float(panel["difficulty"].max())
        for key, line in by_line(panel):
            colour, symbol = method_style(key[0])
            _add_regression(panels, number, key[4], colour, lines[level, key[4]], ends)
            hollow = (line["kind"] != "specialised").tolist()
            trace = {
                **{"x": percents(line["difficulty"]), "y": percents(line["relative_error_increase"])},
                **{"mode": "markers", "marker": marker(colour, symbol, hollow=hollow, size=8, look=found[key[4]])},
                "hovertext": line["hover"].tolist(),
            }
            panels.add(number, key[4], trace)
        panels.dense_line(number, (100 * ends[0], 100 * ends[1]))
        panels.y(number).update(range=limits, **({"matches": "y"} if number else {}))
    return panels.figure()


def networks(points: pd.DataFrame, axis: Axis, y_title: str, transfers: Sequence[str]) -> go.Figure:
    """A point for each network at ``axis`` and ``y`` (a fraction of 1), with ``hover``; a panel for each of the transfers."""
    panels = Panels(transfers, axis.title, y_title)
    found = looks(points)
    for number, transfer in enumerate(transfers):
        for key, line in by_line(points[points["transfer"] == transfer]):
            colour, symbol = method_style(key[0])
            trace = {
                **{"x": (axis.scale * line[axis.column]).tolist(), "y": percents(line["y"])},
                **{"mode": "markers", "hovertext": line["hover"].tolist()},
                "marker": marker(colour, symbol, hollow=key[1] != "published", size=10, look=found[key[4]]),
            }
            panels.add(number, key[4], trace)
    return panels.figure()


def rank_change(ranks: pd.DataFrame) -> go.Figure:
    """The rank of each network under linear and under full transfer, 1 (fewest errors) on top, with a line between the two.

    ``ranks`` has ``method``, ``name``, ``linear``, ``full`` and ``hover``.
    """
    panels = Panels([""], "", "Rank (1: fewest errors)", plot_height=max(220, 34 * len(ranks)))
    ends = []
    for row in ranks.itertuples():
        colour, symbol = method_style(row.method)
        trace = {
            **{"x": [0.0, 1.0], "y": [row.linear, row.full], "mode": "lines+markers", "hovertext": [row.hover] * 2},
            **{"line": {"color": colour, "width": 2}, "marker": marker(colour, symbol)},
        }
        panels.add(0, row.name, trace)
        ends.append((1.0, float(row.full), row.name, colour))
    panels.x(0).update(
        range=[-0.15, 1.15], tickvals=[0, 1], ticktext=["Linear transfer", "Full transfer"], showgrid=False
    )
    panels.y(0).update(range=[len(ranks) + 0.5, 0.5], dtick=1)
    panels.label_ends(0, ends, (-0.15, 1.0))
    return panels.figure()


def _add_regression(
    panels: Panels, number: int, name: str, colour: str, line: Regression, ends: tuple[float, float]
) -> None:
    """The line between two x, with its band; nothing where there is no line."""
    if np.isnan(line.slope) or ends[0] == ends[1]:
        return
    x = np.linspace(*ends, STEPS)
    middle, low, high = line.band(x)
    shared: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip"}
    fill = f"rgba({', '.join(map(str, hex_to_rgb(colour)))}, {BAND})"
    around = {
        "x": [*100 * x, *100 * x[::-1]],
        "y": [*100 * high, *100 * low[::-1]],
        "fill": "toself",
        "fillcolor": fill,
    }
    panels.add(number, f"{name}, band", {**shared, **around, "line": {"width": 0, "color": GREY}}, legend=False)
    straight = {"x": (100 * x).tolist(), "y": (100 * middle).tolist(), "line": {"color": colour, "width": 2}}
    panels.add(number, f"{name}, line", {**shared, **straight}, legend=False)
