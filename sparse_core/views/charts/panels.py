"""The layout of every chart: axes of sparsity and size, panels side by side above one legend, all in pixels of a fixed height.

So nothing overlaps at any width from 640 pixels up. ``captions.with_caption`` adds room for text above and below.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.views.charts.style import GREY, LABEL_SIZE, TEMPLATE, method_style, shortened
from sparse_core.views.labels import SIZES

PANEL_TITLES = {
    "linear": "<b>Linear transfer</b>: backbone frozen",
    "full": "<b>Full transfer</b>: unpruned weights train",
}
SPARSITY_TITLE = "Sparsity of the backbone (%)"
FEWEST_TICKS = 3
PLOT_HEIGHT = 340
NARROW = 720
LEGEND_ENTRY, WIDE_ENTRY, LEGEND_ROW = 206, 320, 20
EDGE = 8
AXIS_ROOM = 52
PANEL_TITLE_ROOM = 34
LABEL_GAP = 15
END_CHARACTERS = 26


class Panels:
    """Builds a figure. Each line has one entry in the legend, which appears from ``legend_from`` lines on; an entry is
    ``entry`` pixels wide, or as wide as the longest name.

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
        bottom: int = AXIS_ROOM,
        entry: int = LEGEND_ENTRY,
        legend_from: int = 2,
    ) -> None:
        self.data: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.shapes: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.plot_height, self.entry, self.legend_from = plot_height, entry, legend_from
        self.margin = {"t": PANEL_TITLE_ROOM if any(titles) else 10, "b": bottom, "l": left, "r": 12}
        self.axes: dict[str, dict[str, Any]] = {}
        width = (1 - spacing * (len(titles) - 1)) / len(titles)
        for number, title in enumerate(titles):
            low = number * (width + spacing)
            x_axis = {"anchor": f"y{number + 1}", "domain": [low, low + width], **_axis(x_title)}
            self.axes[f"xaxis{number + 1}"] = x_axis
            self.axes[f"yaxis{number + 1}"] = {"anchor": f"x{number + 1}", **_axis("" if number else y_title)}
            place = {"xref": "paper", "x": low + width / 2, "yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 6}
            text = {"text": PANEL_TITLES.get(title, title), "font": {"size": 14}, "showarrow": False}
            self.annotations.append({**text, "xanchor": "center", **place})

    def x(self, number: int) -> dict[str, Any]:
        """The horizontal axis of a panel."""
        return self.axes[f"xaxis{number + 1}"]

    def y(self, number: int) -> dict[str, Any]:
        """The vertical axis of a panel."""
        return self.axes[f"yaxis{number + 1}"]

    def add(self, number: int, name: str, trace: dict[str, Any]) -> None:
        """Add a trace to a panel; traces of one name share one legend entry."""
        axes = {"xaxis": f"x{number + 1}", "yaxis": f"y{number + 1}"}
        self.data.append({"hoverinfo": "text", **trace, **axes, **self._entry(name)})

    def dense_line(self, number: int, x: Sequence[float], y: Sequence[float] = (0, 0)) -> None:
        """The dashed reference line of dense networks, between two points given by their x and their y."""
        ends = {"x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "xref": f"x{number + 1}", "yref": f"y{number + 1}"}
        self.shapes.append({"type": "line", "line": {"color": GREY, "width": 1.5, "dash": "dash"}, **ends})

    def note(self, text: str, **place: Any) -> None:
        """A small text in the first panel."""
        font = {"size": LABEL_SIZE}
        self.annotations.append({"text": text, "xref": "x1", "yref": "y1", "showarrow": False, "font": font, **place})

    def name_rows(self, names: Sequence[str]) -> None:
        """Make the first panel's vertical axis one of rows 0, 1, …, from top to bottom, with these names (HTML)."""
        rows = {"tickvals": list(range(len(names))), "ticktext": list(names), "range": [len(names) - 0.5, -0.5]}
        self.y(0).update(**rows, showgrid=False)

    def label_ends(self, number: int, ends: Sequence[tuple[float, float, str, str]], right: float) -> None:
        """Write the name of each line (x, y, name, colour) at ``right`` without overlap; none of them if there are too many."""
        low, high = self.y(number)["range"]
        pixel = (high - low) / self.plot_height
        heights = spread([end[1] for end in ends], LABEL_GAP * pixel, low + EDGE * pixel, high - EDGE * pixel)
        for (x, y, name, colour), height in zip(ends, heights or [], strict=heights is not None):
            self.annotations.append(
                {
                    **{"x": x, "y": y, "xref": f"x{number + 1}", "yref": f"y{number + 1}"},
                    **{"ax": right, "ay": height, "axref": f"x{number + 1}", "ayref": f"y{number + 1}"},
                    **{"text": shortened(name, END_CHARACTERS), "xanchor": "left", "font": {"size": LABEL_SIZE}},
                    **{"arrowhead": 0, "arrowwidth": 1, "arrowcolor": colour, "standoff": 6},
                }
            )

    def figure(self, absent: Mapping[str, str] | None = None) -> go.Figure:
        """The figure, with legend entries for methods without a line (``absent``: method to reason)."""
        for method, reason in (absent or {}).items():
            colour, symbol = method_style(method)
            style = {"line": {"color": colour}, "marker": {"symbol": symbol}, "visible": "legendonly"}
            self.data.append({"x": [None], "y": [None], **style, **self._entry(f"{method}: {reason}")})
        room = NARROW - self.margin["l"] - self.margin["r"]
        entry = max(self.entry, min(44 + 6 * max(map(len, self.names), default=0), room))
        columns = max(room // entry, 1)
        rows = math.ceil(len(self.names) / columns) if len(self.names) >= self.legend_from else 0
        below = self.margin["b"] + rows * LEGEND_ROW + EDGE
        legend = {
            **{"orientation": "h", "entrywidth": entry - 40, "tracegroupgap": 0, "itemsizing": "constant"},
            **{"font": {"size": LABEL_SIZE}, "title": {"text": ""}},
            **{"x": 0, "xanchor": "left", "y": -self.margin["b"] / self.plot_height, "yanchor": "top"},
        }
        layout = {
            **{"template": TEMPLATE, "showlegend": rows > 0, "legend": legend},
            **{"hovermode": "closest", "clickmode": "event+select", "dragmode": False},
            "height": self.margin["t"] + self.plot_height + below,
            "margin": {**self.margin, "b": below},
            **{"annotations": self.annotations, "shapes": self.shapes},
            **self.axes,
        }
        return go.Figure({"data": [{"type": "scatter", **trace} for trace in self.data], "layout": layout})

    def _entry(self, name: str) -> dict[str, Any]:
        first = name not in self.names
        if first:
            self.names.append(name)
        return {"name": html.escape(name), "legendgroup": name, "showlegend": first}


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float] | None:
    """Positions moved as little as needed to lie ``gap`` apart within low..high, in order; None if they do not fit."""
    if (len(positions) - 1) * gap > high - low:
        return None
    order = np.argsort(positions, kind="stable")
    offsets = gap * np.arange(len(order))
    # Without the gaps the task is isotonic regression: keep the order, with the least squared moves. These are a dozen labels
    # at most, so its min-max formula does; SciPy's would delay the first page, which loads without SciPy, by half a second.
    wanted = np.asarray(positions, dtype=float)[order] - offsets
    means = [[wanted[first : last + 1].mean() for last in range(first, len(order))] for first in range(len(order))]
    kept = [max(min(means[first][at - first :]) for first in range(at + 1)) for at in range(len(order))]
    placed = np.empty(len(order))
    placed[order] = np.clip(kept, low, high - offsets[-1]) + offsets
    return placed.tolist()


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


def _axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "automargin": False, "zeroline": False}
