"""The texts of a figure: title, subtitle and caption, written into it so that a download explains itself, and hover texts."""

import html
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.catalog import task_label
from sparse_core.views.charts.fitting import PAGE, Canvas, fit
from sparse_core.views.labels import SIZES, counted, metric_name, network_label, percent, samples, sparsity_label

# What is given in pixels, and what holds no such values or those of the data.
PIXELS = {
    "size",
    "height",
    "t",
    "b",
    "l",
    "r",
    "xshift",
    "yshift",
    "ax",
    "ay",
    "borderpad",
    "standoff",
    "thickness",
    "width",
}
PIXELS |= {"ticklen", "entrywidth", "xgap", "ygap"}
UNSCALED = {
    "meta",
    "template",
    "x",
    "y",
    "z",
    "text",
    "hovertext",
    "customdata",
    "array",
    "arrayminus",
    "tickvals",
    "ticktext",
}
MOST_ENLARGED = 3.0
NARROWEST = 300  # pixels of a canvas that charts are made for


def with_caption(figure: go.Figure, title: str, subtitle: str = "", caption: str = "") -> go.Figure:
    """A new figure with ``title`` and ``subtitle`` above and ``caption`` below, and taller by the room they take."""
    document = figure.to_plotly_json()
    document["layout"]["meta"] = {**document["layout"]["meta"], "texts": [title, subtitle, caption]}
    return go.Figure(fit(document))


def fitted(figure: go.Figure, canvas: Canvas) -> go.Figure:
    """The figure for a download: the same chart on another canvas. A chart for which a slide is too low gets a larger one of the
    same shape, up to ``MOST_ENLARGED`` times, on which all texts are smaller."""
    found = go.Figure(fit(figure.to_plotly_json(), canvas))
    larger = 1.0
    while canvas.height and found.layout.height > larger * canvas.height + 1 and larger < MOST_ENLARGED:
        larger += 0.1
        slide = replace(canvas, width=larger * canvas.width, height=larger * canvas.height)
        found = go.Figure(fit(figure.to_plotly_json(), slide))
    return found


def enlarged(figure: go.Figure, scale: float) -> go.Figure:
    """The figure for a page whose text is ``scale`` times as large as usual: fitted to as much less room, then drawn larger."""
    if scale == 1:
        return figure
    return magnified(fitted(figure, Canvas(width=max(PAGE.width / scale, NARROWEST))), scale)


def magnified(figure: go.Figure, scale: float) -> go.Figure:
    """The figure with all that is in pixels ``scale`` times as large. Zooming a page instead leads Plotly's pointer astray."""
    document = figure.to_plotly_json()
    layout = {
        name: value if name in UNSCALED else _scaled(name, value, scale) for name, value in document["layout"].items()
    }
    traces = [
        {name: value if name in UNSCALED else _scaled(name, value, scale) for name, value in trace.items()}
        for trace in document["data"]
    ]
    return go.Figure({"data": traces, "layout": layout})


def _scaled(name: str, value: Any, scale: float) -> Any:
    """A part of a figure with all that is in pixels multiplied."""
    if isinstance(value, Mapping):
        return {key: part if key in UNSCALED else _scaled(key, part, scale) for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray) and name not in PIXELS:
        return (
            [_scaled("", part, scale) for part in value] if any(isinstance(part, Mapping) for part in value) else value
        )
    if name not in PIXELS or value is None or isinstance(value, bool | str):
        return value
    return (np.asarray(value, float) * scale).tolist()


def data(figure: go.Figure) -> pd.DataFrame:
    """The points of a chart as a table: a row for each, with the name of its line, its panel, its ends of error bars and what the
    pointer says of it; of an image, a row for each cell."""
    parts = [_points(trace) for trace in figure.to_plotly_json()["data"] if trace.get("hoverinfo") != "skip"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _points(trace: dict[str, Any]) -> pd.DataFrame:
    if trace.get("z") is not None:
        values = np.asarray(trace["z"], dtype=float)
        rows, columns = np.indices(values.shape)
        return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel(), "value": values.ravel()})
    found = {"line": html.unescape(trace["name"]).replace("<br>", " "), "panel": trace.get("xaxis", "x")[1:] or "1"}
    points = pd.DataFrame({"x": list(trace["x"]), "y": list(trace["y"])}).assign(**found)
    for letter in "xy":
        bars = trace.get(f"error_{letter}") or {}
        if bars.get("array") is not None:
            above = np.asarray(bars["array"], dtype=float)
            below = above if bars.get("arrayminus") is None else np.asarray(bars["arrayminus"], dtype=float)
            points[f"{letter}_low"], points[f"{letter}_high"] = points[letter] - below, points[letter] + above
    if trace.get("hovertext") is not None:
        points["details"] = [re.sub("<[^>]*>", "", text.replace("<br>", "; ")) for text in trace["hovertext"]]
    return points


def accuracy_hover(name: str, row: Any, *details: str) -> str:
    """Name, sparsity and network, the mean accuracy with its spread and n; then the ``details``, each on its line (HTML).

    The spread is the standard deviation over seeds (``accuracy_std``), or the standard error of a mean over tasks.
    """
    spread = getattr(row, "accuracy_std", getattr(row, "standard_error", math.nan))
    around = "" if math.isnan(spread) else f" ± {percent(spread)}"
    at = "" if row.sparsity == 0 else f" at {sparsity_label(row.sparsity)}"
    on = f" on {html.escape(task_label(row.dataset))}" if hasattr(row, "dataset") else ""
    size = f"{counted(row.tasks, 'task')}, {counted(row.runs, 'run')}" if hasattr(row, "tasks") else samples(row)
    metric = "" if metric_name([getattr(row, "metric", "")]) == "accuracy" else f"{row.metric} "
    accuracy = f"{metric}{percent(row.accuracy_mean)}{around} % ({size})"
    lines = [f"<b>{html.escape(name)}</b>{at}{on}", html.escape(network_label(row)), accuracy, *details]
    return "<br>".join(filter(None, lines))


def size_hover(row: Any, size: str) -> str:
    """One of a network's sizes with its unit."""
    measure = SIZES[size]
    return f"{measure.label}: {getattr(row, size) / measure.scale:.3g} {measure.unit}"
