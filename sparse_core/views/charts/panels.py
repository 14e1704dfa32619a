"""The layout of every chart: panels side by side above one legend, all positions in pixels of a fixed height.

So nothing overlaps at any width from 640 pixels up. ``captions.with_caption`` adds room for text above and below.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sparse_core.views.charts.style import GREY, LABEL_SIZE, TEMPLATE, method_style

PANEL_TITLES = {
    "linear": "<b>Linear transfer</b>: backbone frozen",
    "full": "<b>Full transfer</b>: unpruned weights train",
}
PLOT_HEIGHT = 340
NARROW = 720
LEGEND_ENTRY, WIDE_ENTRY, LEGEND_ROW = 206, 320, 20
EDGE = 8
AXIS_ROOM = 52
PANEL_TITLE_ROOM = 34
LABEL_GAP = 15
REFERENCE_LINE = {"color": GREY, "width": 1.5, "dash": "dash"}


class Panels:
    """A figure in the making. Each line has one entry in the legend, which appears from ``legend_from`` lines on.

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
            self.annotations.append(_panel_title(PANEL_TITLES.get(title, title), low + width / 2))

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

    def dense_line(self, number: int, start: float, end: float, height: float = 0) -> None:
        """The dashed reference line of dense networks."""
        axes = {"xref": f"x{number + 1}", "yref": f"y{number + 1}"}
        place = {"x0": start, "x1": end, "y0": height, "y1": height}
        self.shapes.append({"type": "line", "line": REFERENCE_LINE, **place, **axes})

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
                    **{"text": html.escape(name), "xanchor": "left", "font": {"size": LABEL_SIZE}},
                    **{"arrowhead": 0, "arrowwidth": 1, "arrowcolor": colour, "standoff": 6},
                }
            )

    def figure(self, absent: Mapping[str, str] | None = None) -> go.Figure:
        """The figure, with legend entries for methods without a line (``absent``: method to reason)."""
        for method, reason in (absent or {}).items():
            colour, symbol = method_style(method)
            style = {"line": {"color": colour}, "marker": {"symbol": symbol}, "visible": "legendonly"}
            self.data.append({"x": [None], "y": [None], **style, **self._entry(f"{method}: {reason}")})
        columns = max((NARROW - self.margin["l"] - self.margin["r"]) // self.entry, 1)
        rows = math.ceil(len(self.names) / columns) if len(self.names) >= self.legend_from else 0
        below = self.margin["b"] + rows * LEGEND_ROW + EDGE
        legend = {
            **{"orientation": "h", "entrywidth": self.entry - 40, "tracegroupgap": 0, "itemsizing": "constant"},
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
    """Positions moved as little as needed to lie at least ``gap`` apart within low..high, in the same order.

    None where so many do not fit.
    """
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


def _axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "automargin": False, "zeroline": False}


def _panel_title(text: str, x: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": x, "xanchor": "center", "yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 6}
    return {"text": text, "font": {"size": 14}, "showarrow": False, **place}
