"""Accuracy against sparsity or network size: error increase by method, and the Pareto front."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.views.charts import panels as layout
from sparse_core.views.charts.captions import accuracy_hover, size_hover
from sparse_core.views.charts.panels import Panels, magnitudes, percents
from sparse_core.views.charts.style import (
    GREY,
    Line,
    by_line,
    dash,
    error_bars,
    looks,
    marker,
    method_style,
    point_labels,
)
from sparse_core.views.labels import (
    SERIES_KEY,
    SIZES,
    counted,
    level_labels,
    metric_title,
    name_lines,
    network_label,
    percent,
    series_names,
    sparsity_label,
)

FAINT = "rgba(128, 128, 128, 0.45)"  # leads from a single point to its name: in colour it would look like a line
DIM = 0.25  # the opacity of what is not selected


@dataclass(frozen=True)
class Scale:
    """A vertical axis of relative error increase: in percent, or as a ratio of errors on a ``log`` scale; from ``low`` to
    ``high`` (percent) or fitted to the data where they are None; the ``same`` for all panels, or each panel's own."""

    log: bool = False
    same: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def title(self) -> str:
        """The title of the axis."""
        return "Errors relative to dense (×, log scale)" if self.log else "Relative error increase over dense (%)"

    @property
    def ticks(self) -> dict[str, Any]:
        """Where the axis has ticks: fixed on a log scale, Plotly's own else."""
        if not self.log:
            return {}
        return {"tickvals": [math.log2(ratio) for ratio in RATIOS], "ticktext": [f"{ratio:g}" for ratio in RATIOS]}

    def place(self, increase: float) -> float:
        """Where an increase (0.1 is 10 % more errors) stands on the axis."""
        return math.log2(max(1 + increase, 0.01)) if self.log else 100 * increase

    def limits(self, rows: pd.DataFrame) -> list[float]:
        """The ends of the axis for rows with ``mean_relative_error_increase`` and ``spread``."""
        values, errors = rows["mean_relative_error_increase"], rows["spread"].fillna(0)
        low, high = self.place(min((values - errors).min(), 0)), self.place(max((values + errors).max(), 0))
        margin = 0.06 * ((high - low) or 1)
        given = [None if end is None else self.place(end / 100) for end in (self.low, self.high)]
        found = [low - margin if given[0] is None else given[0], high + margin if given[1] is None else given[1]]
        return found if found[0] < found[1] else [low - margin, high + margin]


RATIOS = (0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 5, 7, 10)


def tradeoff(
    summary: pd.DataFrame,
    transfers: Sequence[str],
    selected: Iterable[str] = (),
    axis: str = "sparsity",
    scale: Scale | None = None,
    texts: Sequence[str] = ("", "", ""),
) -> go.Figure:
    """Mean relative error increase over dense against sparsity, a line for each method, a panel for each transfer (figure 2).

    ``summary`` is from ``measures.summary`` with a column ``point`` that names each row; it has rows with a baseline for each
    of ``transfers``. ``selected`` are names of points to highlight; the others are dimmed. ``axis`` is ``sparsity`` or one of
    ``labels.SIZES``, a column of ``summary`` without NaN, on a log scale. ``scale`` is that of the vertical axis. ``texts`` are
    title, subtitle and caption.
    """
    scale = scale or Scale()
    rows = summary.dropna(subset=["mean_relative_error_increase"])
    spread = rows["standard_error"].fillna(rows["seed_error"])
    rows = rows.assign(
        place=percents(rows[axis]) if axis == "sparsity" else magnitudes(rows[axis], axis), spread=spread
    )
    x_title = layout.SPARSITY_TITLE if axis == "sparsity" else SIZES[axis].title
    panels = Panels(transfers, x_title, scale.title)
    names, chosen = series_names(summary), set(selected)  # as in the caption
    rows = rows.assign(line=name_lines(rows))
    rows = rows.assign(hover=[_tradeoff_hover(row, axis) for row in rows.itertuples()])
    found = looks(rows)
    shared = scale.limits(rows)
    for number, transfer in enumerate(transfers):
        panel = rows[rows["transfer"] == transfer]
        last, limits = (
            layout.sparsity_axis(panels.x(number), panel["sparsity"], 0.0)
            if axis == "sparsity"
            else layout.size_axis(panels.x(number), panel["place"], 0.0)
        )
        panels.y(number).update(range=shared if scale.same else scale.limits(panel), **scale.ticks)
        ends = [(last, scale.place(0.0), "dense", GREY)]
        for key, line in by_line(panel):
            style = dash(names[key[1:4]], names)
            panels.add(number, key[4], _tradeoff_line(line, key, style, chosen, axis, found[key[4]], scale))
            end = line.loc[line["place"].idxmax()]
            height = scale.place(end["mean_relative_error_increase"])
            ends.append((end["place"], height, key[4], method_style(key[0])[0] if len(line) > 1 else FAINT))
        panels.dense_line(number, (limits[0], last), (scale.place(0.0), scale.place(0.0)))
        panels.label_ends(number, ends, (limits[0], last))
    return panels.figure(texts)


def pareto(
    table: pd.DataFrame,
    transfers: Sequence[str],
    selected: Iterable[str] = (),
    axis: str = "sparsity",
    metric: str = "accuracy",
) -> go.Figure:
    """``metric`` against sparsity, a point for each backbone, with the Pareto front of each series; a panel for each transfer.

    Sparsity is on a log scale of the remaining weights, because 90 and 95 % differ by half the weights; so are sizes.

    ``table`` has ``accuracy_mean``, ``standard_error`` (NaN where unknown), ``runs``, ``point`` and ``front`` (whether
    Pareto-optimal within its series); ``axis`` is ``sparsity`` or one of ``labels.SIZES``, a column of it without NaN.
    """
    by_sparsity = axis == "sparsity"
    table = table.assign(
        spread=table["standard_error"],
        place=layout.reductions(percents(table[axis])) if by_sparsity else magnitudes(table[axis], axis),
        line=name_lines(table),
    )
    panels = Panels(
        transfers, "Sparsity (%), log scale" if by_sparsity else SIZES[axis].title, f"{metric_title(metric)} (%)"
    )
    names, chosen, found = series_names(table), set(selected), looks(table)
    for number, transfer in enumerate(transfers):
        panel = table[table["transfer"] == transfer]
        if by_sparsity:
            layout.reduction_axis(panels.x(number), panel["sparsity"])
        else:
            panels.x(number).update(layout.size_ticks(panel["place"].min(), panel["place"].max()))
        panels.y(number).update({"matches": "y"} if number else {})
        for key, front in sorted(panel[panel["front"]].groupby(SERIES_KEY), key=lambda item: item[0][0] != "published"):
            line = {**front_line(front, "place"), "line": {"color": GREY, "width": 5, "dash": dash(names[key], names)}}
            panels.add(number, ", ".join(filter(None, ["Pareto front", names[key]])), line)
        for key, points in by_line(panel):
            panels.add(number, key[4], _pareto_points(points, key, chosen, axis, found[key[4]]))
    return panels.figure()


def front_line(front: pd.DataFrame, x: str) -> dict[str, Any]:
    """The line through Pareto-optimal rows, against their column ``x``."""
    ordered = front.sort_values(x)
    style = {"mode": "lines", "line": {"color": GREY, "width": 5}, "opacity": 0.45, "hoverinfo": "skip"}
    return {"x": ordered[x].tolist(), "y": percents(ordered["accuracy_mean"]), **style}


def _tradeoff_line(
    line: pd.DataFrame, key: Line, style: str, chosen: set[str], axis: str, look: int, scale: Scale
) -> dict[str, Any]:
    colour, symbol = method_style(key[0])
    sizes = [14 if point in chosen else 9 for point in line["point"]]
    value, spread = line["mean_relative_error_increase"].to_numpy(), line["spread"].fillna(0).to_numpy()
    centre, above, below = (
        np.array([scale.place(each) for each in values]) for values in (value, value + spread, value - spread)
    )
    bars = error_bars(above - centre, centre - below if scale.log else None)
    return {
        **_points(line, centre.tolist(), bars, axis, "lines+markers"),
        "line": {"color": colour, "width": 2.2, "dash": style},
        "marker": {**marker(colour, symbol, hollow=style != "solid", size=sizes, look=look), **_dimmed(line, chosen)},
        "opacity": DIM if chosen and not chosen & set(line["point"]) else 1.0,
        "hovertext": line["hover"].tolist(),
    }


def _dimmed(points: pd.DataFrame, chosen: set[str]) -> dict[str, Any]:
    """The opacity of points beside those that are selected; nothing where none is, or none of these."""
    if not chosen & set(points["point"]):
        return {}
    return {"opacity": [1.0 if point in chosen else DIM for point in points["point"]]}


def _tradeoff_hover(row: Any, axis: str) -> str:
    error = "one task without a spread over seeds, so no standard error"
    if not math.isnan(row.spread):
        over = "seeds" if math.isnan(row.standard_error) else "tasks"
        error = f"standard error over {over} {percent(row.spread)}"
    lines = [
        f"<b>{html.escape(row.line)}</b> at {sparsity_label(row.sparsity)}",
        html.escape(network_label(row)),
        f"{percent(row.mean_relative_error_increase, signed=True)} % relative error increase, {error}",
        f"{counted(row.tasks, 'task')}, {counted(row.runs, 'run')}",
        *_size_hover(row, axis),
    ]
    return "<br>".join(filter(None, lines))


def _pareto_points(points: pd.DataFrame, key: Line, chosen: set[str], axis: str, look: int) -> dict[str, Any]:
    colour, symbol = method_style(key[0])
    sizes = [18 if row.point in chosen else 13 if row.front else 8 for row in points.itertuples()]
    optimal = {True: "Pareto-optimal", False: "not Pareto-optimal"}
    horizontal = symbol.replace("line-ns", "line-ew")  # dense: its place on the vertical axis is what matters here
    return {
        **_points(points, percents(points["accuracy_mean"]), error_bars(100 * points["spread"]), axis, "markers"),
        "marker": {
            **marker(colour, horizontal, hollow=key[1] != "published", size=sizes, look=look),
            **_dimmed(points, chosen),
        },
        "opacity": DIM if chosen and not chosen & set(points["point"]) else 1.0,
        "hovertext": [
            accuracy_hover(key[4], row, *_size_hover(row, axis), optimal[row.front]) for row in points.itertuples()
        ],
    }


def _points(rows: pd.DataFrame, heights: list[float], bars: dict[str, Any], axis: str, mode: str) -> dict[str, Any]:
    """Points at ``place`` with error bars; with the sparsity beside each where the axis does not show it."""
    labels = {} if axis == "sparsity" else point_labels(level_labels(rows), "top center")
    return {
        **{"x": rows["place"].tolist(), "y": heights, "error_y": bars},
        **{"mode": f"{mode}+text" if labels else mode, **labels, "customdata": rows["point"].tolist()},
    }


def _size_hover(row: Any, axis: str) -> list[str]:
    return [] if axis == "sparsity" else [size_hover(row, axis)]
