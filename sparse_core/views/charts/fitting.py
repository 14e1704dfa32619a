"""Fits a chart to a width: panels side by side or one below the other, names at the ends of lines or a legend, lines of text.

A chart keeps what it takes to lay it out in ``layout.meta`` (``Layout``); ``fit`` places it all in pixels, at a base font of 12
pixels. A page and a download are two canvases for the same chart, so both look alike and no text of either covers another.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparse_core.views.charts import text as measure
from sparse_core.views.charts.placing import Box, free_position, overlaps, text_box
from sparse_core.views.charts.style import LABEL_SIZE, template

Json = dict[str, Any]

TITLE_SIZE, SUBTITLE_SIZE, CAPTION_SIZE, PANEL_TITLE_SIZE = 18, 13, 11, 14
EDGE = 8
AXIS_ROOM = 52  # below a panel: ticks and title
TICK_ROOM = 24  # of them, the ticks
PANEL_TITLE_ROOM = 34
RIGHT = 12
NARROWEST_PANEL = 235
LABEL_GAP = 15  # between names at the ends of lines
LEADER = 22  # from a line's end to its name
MOST_FOR_NAMES = 0.5  # of a panel's width
LEGEND_ROW, LEGEND_SYMBOL = 20, 46
SMALLEST_CELL_TEXT = 6
ROW_LINE, ROW_SPACE = 15, 5
LONGEST_COLUMN_NAME = 140
LOWEST_PLOT = 130
PAGE_FONT = 1.2  # how much more text fits into a width in the page's font than is allowed for


@dataclass(frozen=True)
class Canvas:
    """What a chart is fitted to: a ``width`` and, for a slide, a ``height`` in pixels at a base font of 12 pixels; with title and
    caption or without; on white or, ``dark``, on black. ``fixed``: the figure itself gets the width."""

    width: float = 680
    height: float | None = None
    title: bool = True
    caption: bool = True
    dark: bool = False
    fixed: bool = False


PAGE = Canvas()  # the narrowest page; a wider one gives the plot more room


@dataclass
class Layout:
    """What ``fit`` needs to know of a chart.

    ``ends`` are the ends of lines: panel, x, y, name, colour; ``notes`` small texts in a panel, as annotations; ``row_names`` and
    ``column_names`` those along the axes of the first panel; ``x_limits`` the ends of each panel's horizontal axis, before room
    for names is added. ``labels`` are the texts of a trace's points with the place beside them, by the trace's number. ``texts``
    are title, subtitle and caption. Panels narrower than ``narrowest`` are put one below the other.
    """

    titles: list[str]
    x_title: str
    y_title: str
    spacing: float
    plot_height: float
    left: float
    legend_from: int
    narrowest: float = NARROWEST_PANEL
    ends: list[tuple[int, float, float, str, str]] = field(default_factory=list)
    notes: list[Json] = field(default_factory=list)
    row_names: list[str] = field(default_factory=list)
    column_names: list[str] = field(default_factory=list)
    x_limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    labels: dict[str, tuple[list[str], str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=lambda: ["", "", ""])


def fit(document: Json, canvas: Canvas = PAGE) -> Json:
    """The chart, a figure as JSON with a ``Layout`` in ``layout.meta``, fitted to the canvas."""
    fitted = {**document, "layout": {**document["layout"]}, "data": [{**trace} for trace in document["data"]]}
    return _Fitting(fitted, canvas).result()


class _Fitting:
    """One chart on one canvas."""

    def __init__(self, document: Json, canvas: Canvas) -> None:
        self.document, self.canvas = document, canvas
        self.layout: Json = document["layout"]
        self.about = Layout(**self.layout["meta"])
        self.count = len(self.about.titles)
        self.left = self._left()
        self.right = self._right()
        room = canvas.width - self.left - self.right
        side_by_side = room * (1 - self.about.spacing * (self.count - 1)) / self.count
        self.stacked = self.count > 1 and side_by_side < self.about.narrowest
        self.panel_width = room if self.stacked else side_by_side
        self.room = room
        self.bottom, self.column_angle = self._columns()
        self.annotations: list[Json] = []
        self.shapes: list[Json] = [shape for shape in self.layout.get("shapes", ()) if shape.get("name") != "leader"]

    def result(self) -> Json:
        named = self._named_ends()
        legend_rows = 0 if named else self._legend_rows()
        title, subtitle, caption = self._texts()
        above = sum(measure.height(*lines) for lines in (title, subtitle) if lines[0])
        above += 2 * EDGE if above else 0
        below = measure.height(*caption) + EDGE if caption[0] else 0
        top = PANEL_TITLE_ROOM if any(self.about.titles) else 10
        x_title = self._axis_title(self.about.x_title, self.panel_width)
        under = self.bottom + (len(x_title) - 1) * ROW_LINE
        margin = {
            "t": top + above,
            "b": under + legend_rows * LEGEND_ROW + EDGE + below,
            "l": self.left,
            "r": self.right,
        }
        plot = self._plot_height(margin["t"] + margin["b"])
        self._widen_left(plot)
        margin["l"] = self.left
        gap = (TICK_ROOM if not self.about.column_names else self.bottom) + top
        whole = plot if not self.stacked else self.count * plot + (self.count - 1) * gap
        self._place_panels(plot, gap, whole, x_title)
        for panel, each in (named or {}).items():
            self._write_ends(panel, each, plot)
        self._legend(legend_rows, under / whole)
        self._write_notes_and_labels(plot)
        self._write_texts((title, subtitle, caption), margin, legend_rows * LEGEND_ROW + under)
        self.layout.update(height=whole + margin["t"] + margin["b"], margin=margin, annotations=self.annotations)
        self.layout["shapes"] = self.shapes
        self.layout["template"] = template(self.canvas.dark)
        if self.canvas.fixed:
            self.layout.update(width=self.canvas.width, autosize=False)
        return self.document

    def _axis(self, letter: str, panel: int) -> Json:
        name = f"{letter}axis{panel + 1}" if f"{letter}axis{panel + 1}" in self.layout else f"{letter}axis"
        return self.layout[name]

    def _set_axis(self, letter: str, panel: int, **changes: Any) -> None:
        name = f"{letter}axis{panel + 1}" if f"{letter}axis{panel + 1}" in self.layout else f"{letter}axis"
        self.layout[name] = {**self.layout[name], **changes}

    def _left(self) -> float:
        """The left margin: of named rows as wide as their names need, up to two fifths of the canvas."""
        names = self.about.row_names
        if not names:
            return self.about.left
        widest = max(measure.width(html.escape(name).replace("\n", "<br>"), LABEL_SIZE) for name in names)
        return min(widest + 14, 0.4 * self.canvas.width) + (ROW_LINE + 6 if self.about.y_title else 0)

    def _right(self) -> float:
        """The right margin, with room for a colour bar; cells with numbers need none where the canvas is narrow."""
        bars = [trace for trace in self.document["data"] if trace.get("type") == "heatmap"]
        if not bars:
            return RIGHT
        narrow = self.canvas.width < 0.75 * PAGE.width
        numbered = any(trace.get("meta") in ("cells", "counts") for trace in self.document["data"])
        for place, trace in enumerate(bars):
            trace["showscale"] = place == 0 and not (narrow and numbered)
        return RIGHT if narrow and numbered else 88

    def _columns(self) -> tuple[float, int]:
        """The room below the panels and the angle of the names there: level if they fit side by side, else slanted or upright."""
        names = self.about.column_names
        self.named_columns = True
        title = AXIS_ROOM - TICK_ROOM if self.about.x_title else 0
        if not names:
            return TICK_ROOM + title, 0
        column = self.panel_width / len(names)
        widest = min(max(measure.width(html.escape(name), LABEL_SIZE) for name in names), LONGEST_COLUMN_NAME)
        if widest < column - 6:
            return TICK_ROOM + title, 0
        self.named_columns = column >= LABEL_SIZE + 1
        if not self.named_columns:
            return EDGE + title, 0
        angle = -45 if column >= 1.45 * LABEL_SIZE and not self.about.x_title else -90
        sine = math.sin(math.radians(-angle))
        return sine * widest + LABEL_SIZE + EDGE + title, angle

    def _texts(self) -> tuple[tuple[list[str], int], tuple[list[str], int], tuple[list[str], int]]:
        title, subtitle, caption = self.about.texts
        # A download may be drawn in a font wider than Arial; the page's own is narrower.
        room = (self.canvas.width - 2 * EDGE) * (1.0 if self.canvas.fixed else PAGE_FONT)
        shown = [(title, TITLE_SIZE, self.canvas.title), (subtitle, SUBTITLE_SIZE, self.canvas.title)]
        shown.append((caption, CAPTION_SIZE, self.canvas.caption))
        lines = [(measure.wrapped(text, size, room) if on else [], size) for text, size, on in shown]
        return lines[0], lines[1], lines[2]

    def _axis_title(self, title: str, room: float) -> list[str]:
        return measure.wrapped(title, LABEL_SIZE, room) or [""]

    def _plot_height(self, rest: float) -> float:
        """The height of one panel: that of the chart, more where names of rows take several lines, or what a slide leaves."""
        height = self.about.plot_height
        if self.about.row_names:
            lines = max(len(self._row_lines(name)) for name in self.about.row_names)
            least = len(self.about.row_names) * (lines * ROW_LINE + ROW_SPACE)
            height = max(height, least)
        else:
            least, height = LOWEST_PLOT, height * (0.7 if self.stacked else 1)
        if self.canvas.height and not self.stacked:
            height = max(self.canvas.height - rest, least)
        return height

    def _widen_left(self, plot: float) -> None:
        """Make room for a vertical title of several lines."""
        more = (len(self._axis_title(self.about.y_title, plot)) - 1) * ROW_LINE
        if more and not self.about.row_names:
            self.left, self.panel_width = self.left + more, self.panel_width * (1 - more / self.room)
            self.room -= more

    def _row_lines(self, name: str) -> list[str]:
        room = self.left - 12 - (ROW_LINE + 6 if self.about.y_title else 0)
        return [line for part in name.split("\n") for line in measure.name_lines(part, LABEL_SIZE, room)]

    def _place_panels(self, plot: float, gap: float, whole: float, x_title: Sequence[str]) -> None:
        share = self.panel_width / self.room
        whole_titles = all(len(self._title_lines(title)) <= 1 for title in self.about.titles)
        for panel, title in enumerate(self.about.titles):
            low = 0.0 if self.stacked else panel * (share + self.about.spacing)
            top = panel * (plot + gap) / whole if self.stacked else 0.0
            last = not self.stacked or panel == self.count - 1
            y_title = self._axis_title(self.about.y_title if self.stacked or panel == 0 else "", plot)
            standoff = {"standoff": 8}
            ticks = {"tickfont": {"size": LABEL_SIZE}}
            self._set_axis("x", panel, domain=[low, low + share], **ticks)
            self._set_axis(
                "x",
                panel,
                title={"text": "<br>".join(x_title) if last else "", **standoff, "font": {"size": LABEL_SIZE}},
            )
            self._set_axis("y", panel, domain=[max(1 - top - plot / whole, 0.0), 1 - top], **ticks)
            self._set_axis("y", panel, title={"text": "<br>".join(y_title), **standoff, "font": {"size": LABEL_SIZE}})
            shown = title if whole_titles else self._short_title(title)
            place = {
                "xref": "paper",
                "x": low + share / 2,
                "yref": "paper",
                "y": 1 - top,
                "yanchor": "bottom",
                "yshift": 6,
            }
            style = {"font": {"size": PANEL_TITLE_SIZE}, "showarrow": False, "xanchor": "center"}
            self.annotations += [{"text": shown, **style, **place}] if title else []
        if self.about.row_names:
            lines = ["<br>".join(self._row_lines(name)) for name in self.about.row_names]
            for panel in range(self.count):
                values, first = self._axis("y", 0)["tickvals"], self.stacked or panel == 0
                self._set_axis("y", panel, tickvals=values, ticktext=lines, showticklabels=first)
        if self.about.column_names:
            names = [measure.shortened(name, LABEL_SIZE, LONGEST_COLUMN_NAME) for name in self.about.column_names]
            for panel in range(self.count):
                self._set_axis(
                    "x", panel, ticktext=names, tickangle=self.column_angle, showticklabels=self.named_columns
                )

    def _title_lines(self, title: str) -> list[str]:
        plain = html.unescape(title.replace("<b>", "").replace("</b>", ""))
        return measure.wrapped(plain, PANEL_TITLE_SIZE, self.panel_width)

    def _short_title(self, title: str) -> str:
        """The title of a panel that is too narrow for all: the first line of what is bold in it, else of the whole."""
        bold, end, _ = title.partition("</b>")
        line = "".join(self._title_lines(bold)[:1])  # escaped already
        return f"<b>{line}</b>" if end else line

    def _named_ends(self) -> dict[int, list[tuple[float, float, str, str]]] | None:
        """The names to write at the ends of lines, by panel; None where a legend is needed because they find no room."""
        panels: dict[int, list[tuple[float, float, str, str]]] = {}
        for panel, x, y, name, colour in self.about.ends:
            panels.setdefault(panel, []).append((x, y, name, colour))
        if not panels:
            return None
        most, height = MOST_FOR_NAMES * self.panel_width, self.about.plot_height * (0.7 if self.stacked else 1)
        height = min(height, 0.5 * self.canvas.height) if self.canvas.height and not self.stacked else height
        for ends in panels.values():
            names = [name for _, _, name, _ in ends]
            if max(measure.width(html.escape(name), LABEL_SIZE) for name in names) + LEADER > most:
                return None
            if len(set(names)) < len(names) or (len(names) - 1) * LABEL_GAP > height - 2 * EDGE:
                return None
        return panels

    def _write_ends(self, panel: int, ends: list[tuple[float, float, str, str]], plot: float) -> None:
        """Write the name of each line right of the panel's last point, apart from each other, with a thin lead from its end."""
        widest = max(measure.width(html.escape(name), LABEL_SIZE) for _, _, name, _ in ends)
        low, last = self.about.x_limits[str(panel)]
        share = (widest + LEADER) / self.panel_width
        high = low + (last - low) / (1 - share)
        self._set_axis("x", panel, range=[low, high])
        bottom, top = self._axis("y", panel)["range"]
        pixel, across = (top - bottom) / plot, (high - low) / self.panel_width  # pixel < 0 where the axis points down
        heights = spread([(end[1] - bottom) / pixel for end in ends], LABEL_GAP, EDGE, plot - EDGE)
        axes = {"xref": f"x{panel + 1}", "yref": f"y{panel + 1}"}
        at = last + (LEADER - 4) * across
        for (x, y, name, colour), above in zip(ends, heights or [], strict=heights is not None):
            height = bottom + above * pixel
            line = {"type": "line", "line": {"color": colour, "width": 1}, "layer": "below", "name": "leader"}
            self.shapes.append({**line, **axes, "x0": x + 6 * across, "y0": y, "x1": at, "y1": height})
            style = {"font": {"size": LABEL_SIZE}, "showarrow": False, "borderpad": 0}
            place = {"x": at, "y": height, "xanchor": "left", "yanchor": "middle", "xshift": 3}
            self.annotations.append({"text": html.escape(name), **axes, **style, **place})

    def _legend_rows(self) -> int:
        """The rows of the legend; none where there are few lines."""
        listed = [trace for trace in self.document["data"] if trace.get("showlegend")]
        if len(listed) < self.about.legend_from:
            return 0
        room = self.room - LEGEND_SYMBOL
        lines = [measure.name_lines(trace["legendgroup"], LABEL_SIZE, room) for trace in listed]
        for trace, each in zip(listed, lines, strict=True):
            trace["name"] = "<br>".join(each)
        self.entry = min(max(measure.width(trace["name"], LABEL_SIZE) for trace in listed) + LEGEND_SYMBOL, self.room)
        columns = max(int(self.room // self.entry), 1)
        return math.ceil(len(listed) / columns) if columns > 1 else sum(map(len, lines))

    def _legend(self, rows: int, below: float) -> None:
        self.layout["showlegend"] = rows > 0
        if rows:
            self.layout["legend"] = {
                **{"orientation": "h", "entrywidth": self.entry - LEGEND_SYMBOL + 4, "tracegroupgap": 0},
                **{"font": {"size": LABEL_SIZE}, "title": {"text": ""}, "itemsizing": "constant"},
                **{"x": 0, "xanchor": "left", "y": -below, "yanchor": "top"},
            }

    def _write_texts(self, texts: Sequence[tuple[list[str], int]], margin: Json, under: float) -> None:
        (title, title_size), (subtitle, subtitle_size), (caption, caption_size) = texts
        shift = EDGE - margin["l"]
        top = margin["t"] - EDGE
        below = top - measure.height(title, title_size)
        for lines, size, y, yshift, opacity in (
            (title, title_size, 1, top, 1.0),
            (subtitle, subtitle_size, 1, below, 0.9),
            (caption, caption_size, 0, -under - EDGE, 0.85),
        ):
            place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": y, "yanchor": "top"}
            style = {"font": {"size": size}, "opacity": opacity, "align": "left", "showarrow": False, "borderpad": 0}
            shown = {"text": "<br>".join(lines), "xshift": shift, "yshift": yshift, **place, **style}
            self.annotations += [shown] if lines else []

    def _write_notes_and_labels(self, plot: float) -> None:
        """The notes that do not cover each other, and the labels of points: each where it covers nothing, or left out."""
        taken: list[Box] = []
        for note in self.about.notes:
            box = self._note_box(note, plot)
            if not any(overlaps(box, other) for other in taken):
                taken.append(box)
                self.annotations.append(note)
        for trace in self.document["data"]:
            if trace.get("meta") == "cells":
                self._fit_cells(trace)
            elif trace.get("meta") == "counts":
                self._fit_heat(trace)
        for place, (texts, position) in self.about.labels.items():
            self.document["data"][int(place)].update(text=texts, textposition=position)
        labelled = [self.document["data"][int(place)] for place in self.about.labels]
        axes = [{f"x{panel + 1}", "x" if panel == 0 else ""} for panel in range(self.count)]  # Plotly calls x1 x
        for panel in range(self.count):
            mine = taken if panel == 0 else []
            self._label_points([trace for trace in labelled if trace["xaxis"] in axes[panel]], panel, plot, mine)

    def _pixels(self, panel: int, x: Any, y: Any, plot: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions in pixels from the panel's left and bottom."""
        (left, right), (bottom, top) = self._axis("x", panel)["range"], self._axis("y", panel)["range"]
        across = (np.asarray(x, float) - left) / (right - left) * self.panel_width
        return across, (np.asarray(y, float) - bottom) / (top - bottom) * plot

    def _note_box(self, note: Json, plot: float) -> Box:
        if str(note["xref"]).endswith("domain"):
            x = note["x"] * self.panel_width
            _, y = self._pixels(0, [0.0], [note["y"]], plot)
            return text_box(x, float(y[0]), note)
        x, y = self._pixels(0, [note["x"]], [note["y"]], plot)
        return text_box(float(x[0]), float(y[0]), note)

    def _label_points(self, traces: Sequence[Json], panel: int, plot: float, taken: list[Box]) -> None:
        places = [self._pixels(panel, trace["x"], trace["y"], plot) for trace in traces]
        if str(panel) in self.about.x_limits and not self.layout.get("showlegend"):
            (last, _) = self._pixels(panel, [self.about.x_limits[str(panel)][1]], [0.0], plot)
            taken = [*taken, (float(last[0]) + LEADER - 4, 0.0, self.panel_width, plot)]
        points = [(x, y) for xs, ys in places for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        boxes, size = list(taken), (self.panel_width, plot)
        for trace, (xs, ys) in zip(traces, places, strict=True):
            wanted = trace["textposition"]
            found = [
                free_position(text, (x, y), wanted, points, boxes, size)
                for text, x, y in zip(trace["text"], xs.tolist(), ys.tolist(), strict=True)
            ]
            trace["text"] = [text if position else "" for text, position in zip(trace["text"], found, strict=True)]
            trace["textposition"] = [position or wanted for position in found]

    def _fit_cells(self, trace: Json) -> None:
        """Numbers of cells in a size that fits the columns; none where they would be too small to read."""
        size = self._cell_size(trace["text"], len(self.about.column_names))
        font = {**trace["textfont"], "size": size or LABEL_SIZE}
        trace.update(textfont=font, mode="markers+text" if size else "markers")

    def _fit_heat(self, trace: Json) -> None:
        size = self._cell_size([str(text) for row in trace["text"] for text in row], len(self.about.column_names))
        trace.update(textfont={"size": size or LABEL_SIZE}, texttemplate="%{text}" if size else "")

    def _cell_size(self, texts: Sequence[str], columns: int) -> float:
        widest = max((measure.width(text, 1.0) for text in texts), default=1.0)
        size = min((self.panel_width / columns - 3) / max(widest, 0.5), LABEL_SIZE)
        return size if size >= SMALLEST_CELL_TEXT else 0


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
