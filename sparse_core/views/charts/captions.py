"""The texts of a figure: title, subtitle and caption, written into it so that a download explains itself, and hover texts."""

import html
import math
import textwrap
from typing import Any

import plotly.graph_objects as go

from sparse_core.catalog import task_label
from sparse_core.views.charts.panels import EDGE
from sparse_core.views.labels import SIZES, counted, network_label, percent, samples, sparsity_label

TITLE_SIZE, SUBTITLE_SIZE, CAPTION_SIZE = 18, 13, 11
TITLE_CHARACTERS, SUBTITLE_CHARACTERS, CAPTION_CHARACTERS = 64, 112, 140
LINE_HEIGHT = 1.3


def with_caption(figure: go.Figure, title: str, subtitle: str = "", caption: str = "") -> go.Figure:
    """A new figure with ``title`` and ``subtitle`` above and ``caption`` below, wrapped, and taller by the room they take."""
    top, bottom, left = figure.layout.margin.t, figure.layout.margin.b, figure.layout.margin.l
    title_lines = _wrapped(title, TITLE_CHARACTERS)
    subtitle_lines = _wrapped(subtitle, SUBTITLE_CHARACTERS)
    caption_lines = _wrapped(caption, CAPTION_CHARACTERS)
    title_height = LINE_HEIGHT * TITLE_SIZE * len(title_lines)
    above = 2 * EDGE + title_height + LINE_HEIGHT * SUBTITLE_SIZE * len(subtitle_lines)
    below = EDGE + LINE_HEIGHT * CAPTION_SIZE * len(caption_lines)
    shift = EDGE - left
    texts = [
        _text(title_lines, TITLE_SIZE, shift, 1, top + above - EDGE, 1.0),
        _text(subtitle_lines, SUBTITLE_SIZE, shift, 1, top + above - EDGE - title_height, 0.9),
        _text(caption_lines, CAPTION_SIZE, shift, 0, -bottom, 0.8),
    ]
    document = figure.to_plotly_json()
    layout = document["layout"]
    layout["height"] += above + below
    layout["margin"].update(t=top + above, b=bottom + below)
    layout["annotations"] = [*layout.get("annotations", ()), *(text for text in texts if text["text"])]
    return go.Figure(document)


def accuracy_hover(name: str, row: Any, *details: str) -> str:
    """Name, sparsity and network, the mean accuracy with its spread and n; then the ``details``, each on its line (HTML).

    The spread is the standard deviation over seeds (``accuracy_std``), or the standard error of a mean over tasks.
    """
    spread = getattr(row, "accuracy_std", getattr(row, "standard_error", math.nan))
    around = "" if math.isnan(spread) else f" ± {percent(spread)}"
    at = "" if row.sparsity == 0 else f" at {sparsity_label(row.sparsity)}"
    on = f" on {html.escape(task_label(row.dataset))}" if hasattr(row, "dataset") else ""
    size = f"{counted(row.tasks, 'task')}, {counted(row.runs, 'run')}" if hasattr(row, "tasks") else samples(row)
    accuracy = f"{percent(row.accuracy_mean)}{around} % ({size})"
    lines = [f"<b>{html.escape(name)}</b>{at}{on}", html.escape(network_label(row)), accuracy, *details]
    return "<br>".join(filter(None, lines))


def size_hover(row: Any, size: str) -> str:
    """One of a network's sizes with its unit."""
    measure = SIZES[size]
    return f"{measure.label}: {getattr(row, size) / measure.scale:.3g} {measure.unit}"


def _text(lines: list[str], size: int, xshift: float, y: int, yshift: float, opacity: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": y, "yanchor": "top"}
    style = {"font": {"size": size}, "opacity": opacity, "align": "left", "showarrow": False}
    return {"text": "<br>".join(lines), "xshift": xshift, "yshift": yshift, **place, **style}


def _wrapped(text: str, characters: int) -> list[str]:
    lines = [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, characters)]
    return [html.escape(line, quote=False) for line in lines]
