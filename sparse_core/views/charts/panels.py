"""Panels side by side, the axes of sparsity and size, and the building of a figure from its parts; ``fitting`` lays it out."""

import html
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.views.charts.fitting import NARROWEST_PANEL, Layout, fit
from sparse_core.views.charts.placing import crowds
from sparse_core.views.charts.style import GREY, LABEL_SIZE
from sparse_core.views.labels import SIZES

PANEL_TITLES = {
    "linear": "<b>Linear transfer</b>: backbone frozen",
    "full": "<b>Full transfer</b>: unpruned weights train",
}
SPARSITY_TITLE = "Sparsity (%)"
FEWEST_TICKS = 3
PLOT_HEIGHT = 340
WEBGL_FROM = 5000  # points of a chart, from which on the graphics card draws them


class Panels:
    """Builds a figure. Each line has one entry in the legend, which appears from ``legend_from`` lines on.

    The parts are collected as dictionaries and checked by Plotly once, at the end: checking each of them on its own takes
    several times as long.
    """

    def __init__(
        self,
        titles: Sequence[str],
        x_title: str,
        y_title: str,
        *,
        plot_height: int = PLOT_HEIGHT,
        spacing: float = 0.1,
        left: int = 62,
        legend_from: int = 2,
        narrowest: float = NARROWEST_PANEL,
    ) -> None:
        self.data: list[dict[str, Any]] = []
        self.shapes: list[dict[str, Any]] = []
        self.names: list[str] = []
        shown = [PANEL_TITLES.get(title, title) for title in titles]
        self.layout = Layout(shown, x_title, y_title, spacing, plot_height, left, legend_from, narrowest)
        self.axes: dict[str, dict[str, Any]] = {}
        for number in range(1, len(titles) + 1):
            self.axes[f"xaxis{number}"] = {"anchor": f"y{number}", "automargin": False, "zeroline": False}
            self.axes[f"yaxis{number}"] = {"anchor": f"x{number}", "automargin": False, "zeroline": False}

    def x(self, number: int) -> dict[str, Any]:
        """The horizontal axis of a panel."""
        return self.axes[f"xaxis{number + 1}"]

    def y(self, number: int) -> dict[str, Any]:
        """The vertical axis of a panel."""
        return self.axes[f"yaxis{number + 1}"]

    def add(self, number: int, name: str, trace: dict[str, Any], *, legend: bool = True) -> None:
        """Add a trace to a panel; traces of one name share one legend entry, or have none without ``legend``."""
        axes = {"xaxis": f"x{number + 1}", "yaxis": f"y{number + 1}"}
        first = legend and name not in self.names
        if first:
            self.names.append(name)
        entry = {"name": html.escape(name), "legendgroup": name, "showlegend": first}
        self.data.append({"type": "scatter", "hoverinfo": "text", **trace, **axes, **entry})

    def dense_line(self, number: int, x: Sequence[float], y: Sequence[float] = (0, 0)) -> None:
        """The dashed reference line of dense networks, between two points given by their x and their y."""
        ends = {"x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "xref": f"x{number + 1}", "yref": f"y{number + 1}"}
        self.shapes.append({"type": "line", "line": {"color": GREY, "width": 1.5, "dash": "dash"}, **ends})

    def note(self, text: str, **place: Any) -> None:
        """A small text in the first panel; left out where it would cover an earlier one."""
        font = {"size": LABEL_SIZE}
        self.layout.notes.append({"text": text, "xref": "x1", "yref": "y1", "showarrow": False, "font": font, **place})

    def name_rows(self, names: Sequence[str], places: Sequence[float] | None = None) -> None:
        """Name places on the first panel's vertical axis, which is one of rows 0, 1, … from top to bottom unless ``places`` are
        given. A line break in a name is kept."""
        self.layout.row_names = list(names)
        if places is None:
            self.y(0)["range"] = [len(names) - 0.5, -0.5]
        self.y(0).update(tickvals=list(range(len(names)) if places is None else places), showgrid=False)

    def name_columns(self, names: Sequence[str]) -> None:
        """Name the columns 0, 1, … along the first panel's horizontal axis."""
        self.layout.column_names = list(names)
        self.x(0).update(tickvals=list(range(len(names))), ticks="", showgrid=False)

    def label_ends(
        self, number: int, ends: Sequence[tuple[float, float, str, str]], limits: tuple[float, float]
    ) -> None:
        """The name of each line at its end (x, y, name, colour), in place of a legend where there is room; ``limits`` are the
        lowest and the highest x."""
        self.layout.ends += [(number, *end) for end in ends]
        self.layout.x_limits[str(number)] = limits

    def figure(self, texts: Sequence[str] = ("", "", "")) -> go.Figure:
        """The figure, fitted to a page, with title, subtitle and caption (see ``captions.with_caption``)."""
        self.layout.texts = list(texts)
        if sum(len(trace.get("x", ())) for trace in self.data) > WEBGL_FROM:
            for trace in self.data:
                trace["type"] = {"scatter": "scattergl"}.get(trace["type"], trace["type"])
        for number in range(len(self.layout.titles)):
            self._set_ranges(number)
        self.layout.labels = {
            str(place): (trace["text"], trace["textposition"])
            for place, trace in enumerate(self.data)
            if trace.get("meta") == "labels"
        }
        layout = {
            **{"hovermode": "closest", "clickmode": "event+select", "dragmode": False},
            **{"shapes": self.shapes, "meta": asdict(self.layout), **self.axes},
        }
        return go.Figure(fit({"data": self.data, "layout": layout}))

    def _set_ranges(self, number: int) -> None:
        """Limits of the axes of points, so that labels and what the pointer says of crowded points can be worked out."""
        mine = [trace for trace in self.data if trace["xaxis"] == f"x{number + 1}" and "marker" in trace]
        points = [trace for trace in mine if "hovertext" in trace and trace["type"] == "scatter" and len(trace["x"])]
        if not points:
            return
        for axis, letter in ((self.x(number), "x"), (self.y(number), "y")):
            if "range" not in axis:
                axis["range"] = _span([_ends(trace, letter) for trace in points], 0.07 if letter == "y" else 0.05)
        crowds(points, self.x(number)["range"], self.y(number)["range"], self.layout.plot_height)


def _ends(trace: dict[str, Any], letter: str) -> tuple[float, float]:
    values, bars = np.asarray(trace[letter], float), trace.get(f"error_{letter}", {})
    above = np.asarray(bars.get("array", 0.0), float)
    below = np.asarray(bars.get("arrayminus", bars.get("array", 0.0)), float)
    return float(np.min(values - below)), float(np.max(values + above))


def _span(ends: Sequence[tuple[float, float]], margin: float) -> list[float]:
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    room = margin * ((high - low) or abs(high) or 1)
    return [low - room, high + room]


def percents(fractions: pd.Series) -> list[float]:
    """Fractions of 1 in percent."""
    return (100 * fractions).tolist()


def sparsity_axis(axis: dict[str, Any], sparsities: pd.Series, free: float) -> tuple[float, tuple[float, float]]:
    """Fit an axis to these sparsities, with the share ``free`` of it empty at the right; returns the largest and the limits."""
    levels = sorted({round(100 * sparsity, 4) for sparsity in sparsities})
    low, high = _with_room(levels[0], levels[-1], 10.0, free)
    axis.update(range=[low, high], tickvals=_ticks(levels, 0.05 * (high - low)))
    return levels[-1], (low, high)


def reductions(percents: Sequence[float]) -> list[float]:
    """Sparsities (percent) as orders of magnitude by which the weights were reduced: 90 gives 1, 99 gives 2."""
    return [-math.log10(max(1 - percent / 100, 1e-4)) for percent in percents]


def reduction_axis(axis: dict[str, Any], sparsities: pd.Series) -> None:
    """Ticks at these sparsities on an axis of ``reductions``."""
    levels = sorted({100 * sparsity for sparsity in sparsities})
    axis.update(tickvals=reductions(levels), ticktext=[f"{level:.3g}" for level in levels])


def magnitudes(sizes: pd.Series, size: str) -> list[float]:
    """The logarithms (base 10) of sizes in the unit of ``SIZES[size]``."""
    return np.log10(sizes / SIZES[size].scale).tolist()


def size_axis(axis: dict[str, Any], places: pd.Series, free: float) -> tuple[float, tuple[float, float]]:
    """As ``sparsity_axis``, for ``magnitudes``."""
    first, last = float(places.min()), float(places.max())
    low, high = _with_room(first, last, 0.3, free)
    axis.update(range=[low, high], **size_ticks(low, last))
    return last, (low, high)


def size_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks at round sizes between two magnitudes: 1, 2 and 5 times powers of ten, or closer ones where few of these fit."""
    powers = [10.0**power for power in range(math.floor(low), math.ceil(high) + 1)]
    rounds = [digit * power for power in powers for digit in (1, 2, 5)]
    inside = [size for size in rounds if low <= math.log10(size) <= high]
    if len(inside) < FEWEST_TICKS and high > low:
        step = max(size for size in (*rounds, *(size / 100 for size in rounds)) if size <= (10**high - 10**low) / 3)
        inside = [step * count for count in range(math.ceil(10**low / step), math.floor(10**high / step) + 1)]
    inside = inside or [10**low]
    return {"tickvals": [math.log10(size) for size in inside], "ticktext": [f"{size:.3g}" for size in inside]}


def doubling_axis(axis: dict[str, Any], sizes: pd.Series, free: float) -> tuple[float, float]:
    """Fit an axis to batch sizes, spaced by their logarithm to base 2; returns the limits."""
    levels = sorted(sizes.unique())
    low, high = math.log2(levels[0]) - 0.5, math.log2(levels[-1]) + 0.5
    high += (high - low) * free / (1 - free)
    ticks = {"tickvals": [math.log2(size) for size in levels], "ticktext": [f"{size:g}" for size in levels]}
    axis.update(range=[low, high], **ticks)
    return low, high


def layer_panel(layers: int, y_title: str) -> Panels:
    """A panel with layers 1, 2, … on its horizontal axis."""
    panels = Panels([""], "Layer (input → output)", y_title, plot_height=260)
    panels.x(0).update(range=[0.3, layers + 0.7], showgrid=False)
    return panels


def _with_room(first: float, last: float, span: float, free: float) -> tuple[float, float]:
    """The limits of an axis from ``first`` to ``last``, or ``span`` wide where they are equal, with a share free at the right."""
    margin = 0.08 * ((last - first) or span)
    low, high = first - margin, last + margin
    return low, high + (high - low) * free / (1 - free)


def _ticks(levels: Sequence[float], distance: float) -> list[float]:
    """As many levels as fit side by side, round ones first."""
    kept: list[float] = []
    for level in sorted(levels, key=lambda level: (level % 10 != 0, level % 5 != 0, level)):
        if all(abs(level - other) >= distance for other in kept):
            kept.append(level)
    return sorted(kept)
