"""Accuracy against sparsity or network size: error increase by method, and the Pareto front."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    name_lines,
    network_label,
    percent,
    series_names,
    sparsity_label,
)

FAINT = "rgba(128, 128, 128, 0.45)"  # leads from a single point to its name: in colour it would look like a line


def tradeoff(
    summary: pd.DataFrame,
    transfers: Sequence[str],
    absent: Mapping[str, str],
    selected: Iterable[str] = (),
    axis: str = "sparsity",
) -> go.Figure:
    """Mean relative error increase over dense against sparsity, a line for each method, a panel for each transfer (figure 2).

    ``summary`` is from ``measures.summary`` with a column ``point`` that names each row; it has rows with a baseline for each
    of ``transfers``. ``absent`` maps methods without a line to the reason, for the legend. ``selected`` are names of points to
    highlight. ``axis`` is ``sparsity`` or one of ``labels.SIZES``, a column of ``summary`` without NaN, on a log scale.
    """
    rows = summary.dropna(subset=["mean_relative_error_increase"])
    spread = rows["standard_error"].fillna(rows["seed_error"])
    rows = rows.assign(
        place=percents(rows[axis]) if axis == "sparsity" else magnitudes(rows[axis], axis), spread=spread
    )
    x_title = layout.SPARSITY_TITLE if axis == "sparsity" else SIZES[axis].title
    panels = Panels(transfers, x_title, "Relative error increase over dense (%)")
    names, chosen = series_names(summary), set(selected)  # as in the caption
    rows = rows.assign(line=name_lines(rows))
    found = looks(rows)
    for number, transfer in enumerate(transfers):
        panel = rows[rows["transfer"] == transfer]
        free = 0.32 if len(transfers) > 1 else 0.18
        last, limits = (
            layout.sparsity_axis(panels.x(number), panel["sparsity"], free)
            if axis == "sparsity"
            else layout.size_axis(panels.x(number), panel["place"], free)
        )
        panels.y(number)["range"] = _limits(panel["mean_relative_error_increase"], panel["spread"])
        ends = [(last, 0.0, "dense", GREY)]
        for key, line in by_line(panel):
            style = dash(names[key[1:4]], names)
            panels.add(number, key[4], _tradeoff_line(line, key, style, chosen, axis, found[key[4]]))
            end = line.loc[line["place"].idxmax()]
            height = 100 * end["mean_relative_error_increase"]
            ends.append((end["place"], height, key[4], method_style(key[0])[0] if len(line) > 1 else FAINT))
        panels.dense_line(number, (limits[0], last))
        panels.label_ends(number, ends, last + 0.05 * (limits[1] - limits[0]))
    return panels.figure(absent)


def pareto(
    table: pd.DataFrame, transfers: Sequence[str], selected: Iterable[str] = (), axis: str = "sparsity"
) -> go.Figure:
    """Accuracy against sparsity, a point for each backbone, with the Pareto front of each series; a panel for each transfer.

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
    panels = Panels(transfers, "Sparsity (%), log scale" if by_sparsity else SIZES[axis].title, "Accuracy (%)")
    names, chosen, found = series_names(table), set(selected), looks(table)
    for number, transfer in enumerate(transfers):
        panel = table[table["transfer"] == transfer]
        if by_sparsity:
            layout.reduction_axis(panels.x(number), panel["sparsity"])
        else:
            panels.x(number).update(layout.size_ticks(panel["place"].min(), panel["place"].max()))
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


def _tradeoff_line(line: pd.DataFrame, key: Line, style: str, chosen: set[str], axis: str, look: int) -> dict[str, Any]:
    colour, symbol = method_style(key[0])
    sizes = [14 if point in chosen else 9 for point in line["point"]]
    return {
        **_points(line, "mean_relative_error_increase", axis, "lines+markers"),
        "line": {"color": colour, "width": 2.2, "dash": style},
        "marker": marker(colour, symbol, hollow=style != "solid", size=sizes, look=look),
        "hovertext": [_tradeoff_hover(key[4], row, axis) for row in line.itertuples()],
    }


def _tradeoff_hover(name: str, row: Any, axis: str) -> str:
    error = "one task without a spread over seeds, so no standard error"
    if not math.isnan(row.spread):
        over = "seeds" if math.isnan(row.standard_error) else "tasks"
        error = f"standard error over {over} {percent(row.spread)}"
    lines = [
        f"<b>{html.escape(name)}</b> at {sparsity_label(row.sparsity)}",
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
        **_points(points, "accuracy_mean", axis, "markers"),
        "marker": marker(colour, horizontal, hollow=key[1] != "published", size=sizes, look=look),
        "hovertext": [
            accuracy_hover(key[4], row, *_size_hover(row, axis), optimal[row.front]) for row in points.itertuples()
        ],
    }


def _points(rows: pd.DataFrame, value: str, axis: str, mode: str) -> dict[str, Any]:
    """Points at ``place`` with error bars; with the sparsity beside each where the axis does not show it."""
    labels = {} if axis == "sparsity" else point_labels(level_labels(rows), "top center")
    bars = error_bars(100 * rows["spread"])
    return {
        **{"x": rows["place"].tolist(), "y": percents(rows[value]), "error_y": bars},
        **{"mode": f"{mode}+text" if labels else mode, **labels, "customdata": rows["point"].tolist()},
    }


def _size_hover(row: Any, axis: str) -> list[str]:
    return [] if axis == "sparsity" else [size_hover(row, axis)]


def _limits(values: pd.Series, errors: pd.Series) -> tuple[float, float]:
    errors = errors.fillna(0)
    low, high = min(100 * (values - errors).min(), 0), max(100 * (values + errors).max(), 0)
    margin = 0.06 * ((high - low) or 1)
    return low - margin, high + margin
