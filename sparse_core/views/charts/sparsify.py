"""The course of a sparsification, and what pruning on the task gives beside sparse transfer."""

import html
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sparse_core.catalog import METRICS
from sparse_core.views.charts.panels import SPARSITY_TITLE, Panels, percents, sparsity_axis
from sparse_core.views.charts.style import HUES, OWN_DASHES, error_bars, marker, method_style
from sparse_core.views.labels import ON_TASK, counted, percent, sparsity_label

COURSE = {
    "sparsity": ("Sparsity (%)", 100),
    "loss": ("Training loss", 1),
    "accuracy": ("Top-1 accuracy (%)", 100),
}
COURSE_HEIGHT = 220


def course(epochs: pd.DataFrame, targets: Iterable[float], total: int, metric: str = "") -> go.Figure:
    """Sparsity, training loss and test accuracy by ``epoch``, a panel each and a line for each ``run``.

    ``epochs`` has the columns of ``sparsified.CURVES``; ``targets`` (0..1) are dashed lines in the first panel; ``total`` is the
    number of epochs that the longest training will have; ``metric`` is what ``accuracy`` is, by default top-1.
    """
    named = COURSE | ({"accuracy": (f"{metric} (%)", 100)} if metric else {})
    titles = [f"<b>{title}</b>" for title, _ in named.values()]
    panels = Panels(titles, "Epoch", "", plot_height=COURSE_HEIGHT, spacing=0.1, left=44, narrowest=140)
    last = max(total, 2)
    dashes = ("solid", *OWN_DASHES)
    for number, (value, (_, scale)) in enumerate(COURSE.items()):
        panels.x(number).update(range=[1 - 0.04 * last, 1.04 * last], **({"dtick": 1} if last <= 6 else {"nticks": 5}))
        for line, (run, rows) in enumerate(epochs.groupby("run", sort=False)):
            style = {"color": HUES[line % len(HUES)], "width": 1.8, "dash": dashes[line // len(HUES) % len(dashes)]}
            panels.add(number, str(run), _line(str(run), rows, value, scale, style))
    panels.y(0)["range"] = [-3, 103]
    panels.y(1)["rangemode"] = "tozero"
    for target in sorted({target for target in targets if target}):
        panels.dense_line(0, (1, last), (100 * target, 100 * target))
        place = {"xref": "x domain", "x": 0.99, "xanchor": "right"}
        panels.note(f"target {sparsity_label(target)}", y=100 * target, yanchor="top", **place)
    return panels.figure()


def _line(run: str, rows: pd.DataFrame, value: str, scale: float, style: dict[str, Any]) -> dict[str, Any]:
    heights = (scale * rows[value]).tolist()
    hover = zip(rows["epoch"], heights, strict=True)
    return {
        **{"x": rows["epoch"].tolist(), "y": heights, "line": style},
        "mode": "lines" if len(rows) > 1 else "markers",
        "marker": {"color": style["color"], "size": 6},
        "hovertext": [f"{html.escape(run)}<br>epoch {epoch}: {height:.3g}" for epoch, height in hover],
    }


def routes(table: pd.DataFrame, metric: str) -> go.Figure:
    """Accuracy by sparsity, a line for each ``line`` of ``downstream.points``: filled and solid where networks were pruned
    upstream and transferred, open and dashed where they were pruned on the task. Dense networks are horizontal lines."""
    sparse, dense = table[table["method"] != "Dense"], table[table["method"] == "Dense"]
    panels = Panels([""], SPARSITY_TITLE, f"{METRICS[metric][:1].upper()}{METRICS[metric][1:]} on the task (%)")
    _, limits = sparsity_axis(panels.x(0), sparse["sparsity"], 0.0)
    panels.y(0)["range"] = _limits(100 * table["accuracy_mean"], 100 * table["accuracy_std"].fillna(0))
    for number, row in enumerate(dense.sort_values("accuracy_mean", ascending=False).itertuples()):
        height = 100 * row.accuracy_mean
        panels.dense_line(0, limits, (height, height))
        place = {"xanchor": "right", "yanchor": "top" if number % 2 else "bottom"}
        panels.note(html.escape(f"{row.line}: {height:.1f} %"), x=limits[1], y=height, **place)
    for line, rows in sparse.groupby("line", sort=False):
        panels.add(0, str(line), _route_line(str(line), rows.sort_values("sparsity")))
    return panels.figure()


def _route_line(line: str, rows: pd.DataFrame) -> dict[str, Any]:
    colour, symbol = method_style(rows["method"].iloc[0])
    on_task = rows["route"].iloc[0] == ON_TASK
    return {
        **{
            "x": percents(rows["sparsity"]),
            "y": percents(rows["accuracy_mean"]),
            "error_y": error_bars(100 * rows["accuracy_std"]),
        },
        "mode": "lines+markers" if len(rows) > 1 else "markers",
        "line": {"color": colour, "width": 2, "dash": "dash" if on_task else "solid"},
        "marker": marker(colour, symbol, hollow=on_task),
        "hovertext": [_route_hover(line, row) for row in rows.itertuples()],
    }


def _route_hover(line: str, row: Any) -> str:
    lines = [
        f"<b>{html.escape(line)}</b> at {sparsity_label(row.sparsity)}",
        f"{percent(row.accuracy_mean)} % (n = {counted(int(row.networks), 'network')}, {counted(int(row.runs), 'run')})",
        _spreads(row),
        html.escape(f"{row.start}, {row.epochs} epochs on the task"),
    ]
    return "<br>".join(lines)


def _spreads(row: Any) -> str:
    if math.isnan(row.accuracy_std):
        return "one run: no spread"
    between = "networks" if row.networks > 1 else "seeds"
    seeds = "" if math.isnan(row.seed_std) else f", between seeds {percent(row.seed_std)}"
    return f"standard deviation between {between} {percent(row.accuracy_std)}{seeds} points"


def _limits(values: pd.Series, spreads: pd.Series) -> tuple[float, float]:
    low, high = float((values - spreads).min()), float((values + spreads).max())
    margin = max(0.08 * (high - low), 0.5)
    return low - margin, high + margin
