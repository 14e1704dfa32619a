"""Charts: pure functions from frames to Plotly figures that can be understood wherever they end up.

A figure comes with its own height and margins; ``with_caption`` adds room for words above and below. All positions are
in pixels of a fixed height, so that nothing overlaps at any width from 640 pixels up. Text takes the theme's colour;
what is coloured reads on white and on dark.
"""

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from sparse_core.catalog import METHODS, task_label

# The hues of Okabe and Ito that read on white and on dark alike; grey stands for the dense reference.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#808080"
HUES = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)

# A family shares a shape: progressive circles, regularisation squares and diamonds, lottery ticket triangles.
STYLES = {
    "Dense": (GREY, "line-ns"),
    "GMP": (SKY, "circle-dot"),
    "WoodFisher": (BLUE, "circle"),
    "M-FAC": (GREEN, "circle-cross"),
    "STR": (ORANGE, "square"),
    "AC/DC": (VERMILLION, "square"),
    "RigL ERK 1x": (SKY, "diamond"),
    "RigL ERK 5x": (GREEN, "diamond"),
    "LTH-T": (PURPLE, "triangle-up"),
    "Magnitude": (PURPLE, "x"),
    "Structured": (ORANGE, "hexagon"),
}
MEASURED_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")

SEQUENTIAL = "Cividis"
DIVERGING = ((0.0, "#B35806"), (0.25, "#F1A340"), (0.5, "#F7F7F7"), (0.75, "#67A9CF"), (1.0, "#2166AC"))

PLOT_HEIGHT = 340
NARROW = 640
LEGEND_ENTRY, LEGEND_ROW = 190, 20
TITLE_SIZE, SUBTITLE_SIZE, CAPTION_SIZE, LABEL_SIZE = 18, 13, 11, 12
TITLE_CHARACTERS, SUBTITLE_CHARACTERS, CAPTION_CHARACTERS = 62, 88, 108
LINE_HEIGHT = 1.3
EDGE = 8
AXIS_ROOM = 52
LABEL_GAP = 15

NUMBERED_CLASSES, NAMED_CLASSES = 25, 60


def method_style(method: str) -> tuple[str, str]:
    """The colour and the marker of a method, the same on every page. Methods not in the catalog share a grey star."""
    return STYLES.get(method, (GREY, "star"))


def percent(fraction: float, *, signed: bool = False) -> str:
    """A fraction of 1 as percent with three significant digits and no sign for percent; a dash for NaN."""
    if math.isnan(fraction):
        return "–"
    value = 100 * fraction
    text = (
        f"{abs(value):.0f}"
        if abs(value) >= 99.95
        else f"{abs(value):.1f}"
        if abs(value) >= 9.995
        else f"{abs(value):.2f}"
    )
    sign = "−" if value < 0 else "+" if signed else ""
    return sign + text


def sparsity_label(sparsity: float) -> str:
    """A sparsity (0..1) as people write it, such as 90 % or 97.5 %."""
    return f"{100 * sparsity:.3g} %"


def with_caption(figure: go.Figure, title: str, subtitle: str = "", caption: str = "") -> go.Figure:
    """Write what the figure shows into it: ``title`` and ``subtitle`` above, ``caption`` below, each wrapped.

    The figure grows by the room the words take. Returns the same figure.
    """
    layout = figure.layout
    heading = _wrapped(title, TITLE_CHARACTERS)
    below_heading = _wrapped(subtitle, SUBTITLE_CHARACTERS)
    foot = _wrapped(caption, CAPTION_CHARACTERS)
    above = EDGE + LINE_HEIGHT * (TITLE_SIZE * len(heading) + SUBTITLE_SIZE * len(below_heading))
    under = EDGE + LINE_HEIGHT * CAPTION_SIZE * len(foot)
    small = f'<span style="font-size:{SUBTITLE_SIZE}px">{"<br>".join(below_heading)}</span>'
    top, bottom, left = layout.margin.t or 0, layout.margin.b or 0, layout.margin.l or 0
    figure.update_layout(
        height=(layout.height or PLOT_HEIGHT) + above + under,
        margin={"t": top + above, "b": bottom + under},
        title={
            "text": "<br>".join([*heading, small] if below_heading else heading),
            "font": {"size": TITLE_SIZE},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": EDGE, "t": EDGE},
        },
    )
    if foot:
        figure.add_annotation(
            text="<br>".join(foot),
            font={"size": CAPTION_SIZE},
            opacity=0.8,
            align="left",
            showarrow=False,
            xref="paper",
            x=0,
            xanchor="left",
            xshift=EDGE - left,
            yref="paper",
            y=0,
            yanchor="top",
            yshift=-bottom,
        )
    return figure


def series_names(frame: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """What the lines of each (source, upstream, protocol) are called besides their method.

    Published ones need no word. Measured ones are "measured", numbered where several protocols or upstreams are shown,
    for those are never averaged together.
    """
    keys = frame[["source", "upstream", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
    ordered = sorted(keys)
    measured = [key for key in ordered if key[0] == "measured"]
    numbered = {key: f"measured {number}" for number, key in enumerate(measured, start=1)}
    words = numbered if len(measured) > 1 else dict.fromkeys(measured, "measured")
    return {key: words.get(key, "") for key in ordered}


def tradeoff(
    summary: pd.DataFrame, transfers: Sequence[str], absent: Mapping[str, str], selected: Iterable[str] = ()
) -> go.Figure:
    """Mean relative error increase over dense against sparsity, a line a method, a panel a transfer (the study's fig. 2).

    ``summary`` is that of ``measures.summary`` with a column ``point`` that names each row; rows without a baseline are
    left out. ``absent`` are legend entries for methods that have no line, with the words that say why. ``selected`` are
    the names of points to stand out.
    """
    rows = summary.dropna(subset=["mean_relative_error_increase"])
    figure, legend = _panels(transfers, "Errors compared with dense (%)", "Sparsity of the backbone (%)"), _Legend()
    names, chosen = series_names(rows), set(selected)
    for column, transfer in enumerate(transfers, start=1):
        panel = rows[rows["transfer"] == transfer]
        ends = [(0.0, 0.0, "dense", GREY)]
        for (method, *series), line in _lines(panel):
            words = names[tuple(series)]
            figure.add_trace(_tradeoff_line(line, method, words, names, chosen, legend), row=1, col=column)
            last = line.iloc[-1]
            ends.append(
                (100 * last["sparsity"], 100 * last["mean_relative_error_increase"], _joined(method, words), "")
            )
        _sparsity_axis(figure, panel["sparsity"], column, label_room=0.32 if len(transfers) > 1 else 0.18)
        limits = _limits(panel["mean_relative_error_increase"], panel["standard_error"])
        figure.update_yaxes(range=limits, row=1, col=column)
        figure.add_hline(y=0, line={"dash": "dash", "color": GREY, "width": 1.5}, row=1, col=column)
        _label_ends(figure, ends, limits, column)
    return legend.finish(figure, absent)


def _tradeoff_line(
    line: pd.DataFrame, method: str, words: str, names: dict, chosen: set[str], legend: "_Legend"
) -> go.Scatter:
    colour, _ = method_style(method)
    name = _joined(method, words)
    hover = [
        f"<b>{html.escape(name)}</b> at {sparsity_label(row.sparsity)}<br>"
        f"{percent(row.mean_relative_error_increase, signed=True)} % errors, {_standard_error(row)}<br>"
        f"{row.tasks} {'task' if row.tasks == 1 else 'tasks'}, {row.runs:,} {'run' if row.runs == 1 else 'runs'}"
        for row in line.itertuples()
    ]
    return go.Scatter(
        x=100 * line["sparsity"],
        y=100 * line["mean_relative_error_increase"],
        error_y={"array": 100 * line["standard_error"].fillna(0), "thickness": 1.2, "width": 4},
        mode="lines+markers",
        line={"color": colour, "width": 2.2, "dash": _dash(words, names)},
        marker=_marker(method, words, [15 if point in chosen else 9 for point in line["point"]]),
        customdata=line["point"],
        hovertext=hover,
        hoverinfo="text",
        **legend.entry(name),
    )


def accuracy_per_task(table: pd.DataFrame, transfers: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """Accuracy on each task, a row a task and a marker a method, a panel a transfer; error bars: standard deviation.

    ``table`` is that of ``measures.per_configuration`` at one sparsity, with the dense rows; ``tasks`` from top to bottom.
    """
    figure, legend = _panels(transfers, "", "Accuracy (%)", shared_y=True), _Legend()
    names = series_names(table)
    series = list(dict.fromkeys(key for key, _ in _lines(table)))
    offsets = dict(zip(series, np.linspace(-0.32, 0.32, max(len(series), 2)), strict=False))
    place = {task: number for number, task in enumerate(reversed(tasks))}
    for column, transfer in enumerate(transfers, start=1):
        for key, line in _lines(table[table["transfer"] == transfer]):
            method, words = key[0], names[key[1:]]
            name = _joined(method, words)
            figure.add_trace(
                go.Scatter(
                    x=100 * line["accuracy_mean"],
                    y=line["dataset"].map(place) - (0 if method == "Dense" else offsets[key]),
                    error_x={"array": 100 * line["accuracy_std"].fillna(0), "thickness": 1.2, "width": 3},
                    mode="markers",
                    marker={**_marker(method, words, 9), **({"size": 22} if method == "Dense" else {})},
                    hovertext=[_accuracy_hover(name, row) for row in line.itertuples()],
                    hoverinfo="text",
                    **legend.entry(name),
                ),
                row=1,
                col=column,
            )
    labels = [_shortened(task_label(task), 20) for task in place]
    figure.update_yaxes(tickvals=list(place.values()), ticktext=labels, range=[-0.6, len(place) - 0.4], zeroline=False)
    figure.update_layout(height=max(PLOT_HEIGHT, 34 * len(place) + 130), margin_l=145)
    return legend.finish(figure)


def pareto(table: pd.DataFrame, transfers: Sequence[str], selected: Iterable[str] = ()) -> go.Figure:
    """Accuracy against sparsity, a point a backbone, with the fronts that nothing beats in both; a panel a transfer.

    ``table`` has ``accuracy_mean``, ``standard_error`` (NaN where it cannot be told), ``front`` (true on the front of its
    own source, upstream and protocol) and ``point``.
    """
    figure, legend = _panels(transfers, "Accuracy (%)", "Sparsity of the backbone (%)"), _Legend()
    names, chosen = series_names(table), set(selected)
    for column, transfer in enumerate(transfers, start=1):
        panel = table[table["transfer"] == transfer]
        for key, group in panel[panel["front"]].groupby(["source", "upstream", "protocol"], sort=True):
            front = group.sort_values("sparsity")
            name = _joined("Pareto front", names[key])
            line = {"color": GREY, "width": 5, "dash": _dash(names[key], names)}
            figure.add_trace(
                go.Scatter(
                    x=100 * front["sparsity"],
                    y=100 * front["accuracy_mean"],
                    mode="lines",
                    line=line,
                    opacity=0.45,
                    hoverinfo="skip",
                    **legend.entry(name),
                ),
                row=1,
                col=column,
            )
        for key, points in _lines(panel):
            method, words = key[0], names[key[1:]]
            name = _joined(method, words)
            marker = _marker(method, words, [16 if point in chosen else 11 for point in points["point"]])
            figure.add_trace(
                go.Scatter(
                    x=100 * points["sparsity"],
                    y=100 * points["accuracy_mean"],
                    error_y={"array": 100 * points["standard_error"].fillna(0), "thickness": 1.2, "width": 4},
                    mode="markers",
                    marker={**marker, "opacity": np.where(points["front"], 1.0, 0.5)},
                    customdata=points["point"],
                    hovertext=[
                        f"{_accuracy_hover(name, row)}<br>{'on the front' if row.front else 'beaten by another'}"
                        for row in points.itertuples()
                    ],
                    hoverinfo="text",
                    **legend.entry(name),
                ),
                row=1,
                col=column,
            )
        _sparsity_axis(figure, panel["sparsity"], column, label_room=0.0)
    return legend.finish(figure)


def heat_map(table: pd.DataFrame, value: str, rows: Sequence[str], tasks: Mapping[str, str], hover: str) -> go.Figure:
    """One number a backbone (row) and task (column), written in its cell.

    ``table`` has ``row``, ``dataset``, ``point``, the column ``hover`` (words on a cell) and ``value``, a fraction of 1:
    ``accuracy_mean`` in a sequential scale, or ``difference`` in a diverging one that is centred at 0. ``rows`` from top
    to bottom; ``tasks`` maps each data set to its label, from left to right.
    """
    grid = table.pivot(index="row", columns="dataset", values=value).reindex(index=rows, columns=list(tasks))
    numbers = 100 * grid.to_numpy(float)
    diverging = value == "difference"
    reach = float(np.nanmax(np.abs(numbers))) if np.isfinite(numbers).any() else 1.0
    low, high = (-reach, reach) if diverging else (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    scale = [list(stop) for stop in DIVERGING] if diverging else SEQUENTIAL
    cells = table.dropna(subset=[value])
    places = {row: number for number, row in enumerate(rows)}
    columns = {task: number for number, task in enumerate(tasks)}
    shares = (100 * cells[value] - low) / ((high - low) or 1)
    figure = go.Figure(
        [
            go.Heatmap(
                z=numbers,
                zmin=low,
                zmax=high,
                colorscale=scale,
                xgap=1,
                ygap=1,
                hoverinfo="skip",
                colorbar={
                    "title": {"text": "Points over dense" if diverging else "Accuracy (%)", "side": "right"},
                    "thickness": 12,
                    "len": 1,
                    "outlinewidth": 0,
                },
            ),
            go.Scatter(
                x=cells["dataset"].map(columns),
                y=cells["row"].map(places),
                text=[_cell(fraction, diverging) for fraction in cells[value]],
                textfont={"size": LABEL_SIZE, "color": _readable_on(scale, shares)},
                mode="markers+text",
                marker={"symbol": "square", "size": 24, "opacity": 0},
                customdata=cells["point"],
                hovertext=cells[hover],
                hoverinfo="text",
                showlegend=False,
            ),
        ]
    )
    figure.update_layout(
        template="plotly_white",
        height=28 * len(rows) + 110,
        margin={"t": 10, "b": 100, "l": 160, "r": 10},
        clickmode="event+select",
    )
    labels = [_shortened(label, 18) for label in tasks.values()]
    figure.update_xaxes(tickvals=list(columns.values()), ticktext=labels, tickangle=-45, showgrid=False, zeroline=False)
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[_shortened(row, 24) for row in rows],
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        automargin=False,
    )
    return figure


def learning_curves(events: pd.DataFrame, value: str = "top1") -> go.Figure:
    """One line a run of ``value`` (``top1``, ``mean_per_class``, both fractions of 1, or ``loss``) over the epochs.

    ``events`` has the columns ``run`` (the words for the run), ``epoch`` and ``value``.
    """
    titles = {"top1": "Top-1 accuracy (%)", "mean_per_class": "Mean per-class accuracy (%)", "loss": "Training loss"}
    figure, legend = _panels([""], titles[value], "Epoch"), _Legend()
    factor = 1 if value == "loss" else 100
    for number, (run, line) in enumerate(events.groupby("run", sort=False)):
        figure.add_trace(
            go.Scatter(
                x=line["epoch"],
                y=factor * line[value],
                mode="lines" if len(line) > 1 else "markers",
                line={
                    "color": HUES[number % len(HUES)],
                    "width": 1.8,
                    "dash": ("solid", *MEASURED_DASHES)[number // len(HUES) % 6],
                },
                hovertemplate=f"{html.escape(str(run))}<br>epoch %{{x}}: %{{y:.3~g}}<extra></extra>",
                **legend.entry(str(run)),
            )
        )
    return legend.finish(figure)


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> go.Figure:
    """How often pictures of each class (row) were taken for each class (column), in percent of the row.

    ``confusion`` holds counts, shape (classes, classes), true classes in rows. Up to 25 classes the counts stand in
    the cells, up to 60 the classes are named on the axes; beyond that the pointer names them.
    """
    counts = np.asarray(confusion, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    classes = len(class_names)
    scale = [[0.0, "#F7FBFF"], [0.5, "#6BAED6"], [1.0, "#08306B"]]
    names = [html.escape(name) for name in class_names]
    true_names = np.repeat(np.array(names, dtype=object)[:, None], classes, axis=1)
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            zmin=0,
            zmax=100,
            colorscale=scale,
            customdata=np.dstack([true_names, true_names.T, counts.astype(int).astype(object)]),
            hovertemplate="%{customdata[0]} taken for %{customdata[1]}<br>"
            "%{customdata[2]:,} pictures, %{z:.3~g} % of the class<extra></extra>",
            text=np.where(counts > 0, counts.astype(int).astype(str), "") if classes <= NUMBERED_CLASSES else None,
            texttemplate="%{text}" if classes <= NUMBERED_CLASSES else None,
            xgap=1 if classes <= NAMED_CLASSES else 0,
            ygap=1 if classes <= NAMED_CLASSES else 0,
            colorbar={"title": {"text": "% of the class", "side": "right"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    named = classes <= NAMED_CLASSES
    labels = [_shortened(name, 16) for name in class_names]
    axis = {"tickvals": list(range(classes)), "ticktext": labels} if named else {"showticklabels": False}
    side = 26 if classes <= NUMBERED_CLASSES else 14
    room = 30 + (7 * max(map(len, labels)) if named else 0)
    figure.update_layout(
        template="plotly_white",
        height=max(240, min(side * classes, 700)) + room + 40,
        margin={"t": 10, "b": room + 30, "l": room + 20, "r": 10},
    )
    figure.update_xaxes(title="Taken for", tickangle=-90, showgrid=False, zeroline=False, **axis)
    figure.update_yaxes(title="True class", autorange="reversed", showgrid=False, zeroline=False, **axis)
    figure.update_yaxes(automargin=False)
    return figure


def per_class_accuracy(confusion: np.ndarray, class_names: Sequence[str]) -> go.Figure:
    """The share of each class's pictures that were recognised, worst first, with 95 % intervals (Wilson's).

    ``confusion`` holds counts, shape (classes, classes), true classes in rows; several runs may be added up. Up to 60
    classes are named on the axis; beyond that the pointer names them.
    """
    counts = np.asarray(confusion, dtype=float)
    totals, hits = counts.sum(axis=1), np.diag(counts)
    present = totals > 0
    names = np.array(class_names, dtype=object)[present]
    accuracy = hits[present] / totals[present]
    low, high = wilson_interval(hits[present], totals[present])
    order = np.argsort(-accuracy, kind="stable")
    named = len(order) <= NAMED_CLASSES
    figure = go.Figure(
        go.Scatter(
            x=100 * accuracy[order],
            y=np.arange(len(order)),
            error_x={
                "array": 100 * (high - accuracy)[order],
                "arrayminus": 100 * (accuracy - low)[order],
                "symmetric": False,
                "thickness": 1,
                "width": 0,
            },
            mode="markers",
            marker={"color": BLUE, "size": 8 if named else 5},
            hovertext=[
                f"{html.escape(str(names[i]))}: {percent(accuracy[i])} %<br>"
                f"{hits[present][i]:,.0f} of {totals[present][i]:,.0f} pictures"
                for i in order
            ],
            hoverinfo="text",
        )
    )
    labels = [_shortened(str(names[i]), 24) for i in order]
    axis = {"tickvals": list(range(len(order))), "ticktext": labels} if named else {"showticklabels": False}
    figure.update_layout(
        template="plotly_white",
        height=max(160, 20 * len(order) if named else 480) + AXIS_ROOM + 10,
        margin={"t": 10, "b": AXIS_ROOM, "l": 30 + (7 * max(map(len, labels), default=0) if named else 20), "r": 20},
    )
    figure.update_xaxes(title="Accuracy (%)", range=[-2, 102], zeroline=False)
    figure.update_yaxes(range=[-0.7, len(order) - 0.3], showgrid=False, zeroline=False, automargin=False, **axis)
    if not named:
        figure.update_yaxes(title=f"{len(order)} classes, worst at the top")
    return figure


def wilson_interval(hits: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % score interval of a proportion (Wilson 1927), which stays in 0..1 and holds for few pictures."""
    z = 1.959964
    share = hits / totals
    centre = (share + z**2 / (2 * totals)) / (1 + z**2 / totals)
    half = z / (1 + z**2 / totals) * np.sqrt(share * (1 - share) / totals + z**2 / (4 * totals**2))
    return centre - half, centre + half


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float] | None:
    """Positions moved as little as needed to lie at least ``gap`` apart within low..high, in the same order.

    None where so many do not fit.
    """
    if (len(positions) - 1) * gap > high - low:
        return None
    order = np.argsort(positions, kind="stable")
    # Without the gaps the task is to keep the order: neighbours that collide share their mean (pool adjacent violators).
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([positions[index] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, size = blocks.pop()
            before, count = blocks[-1]
            blocks[-1] = [(before * count + value * size) / (count + size), count + size]
    free = [value for value, size in blocks for _ in range(int(size))]
    placed = [0.0] * len(order)
    for rank, index in enumerate(order):
        placed[index] = float(np.clip(free[rank], low, high - (len(order) - 1) * gap)) + rank * gap
    return placed


class _Legend:
    """Collects what stands in the legend, each name once, and leaves room for it at the narrowest width."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def entry(self, name: str) -> dict[str, Any]:
        """The trace properties that put this name into the legend the first time and join it afterwards."""
        first = name not in self.names
        if first:
            self.names.append(name)
        return {"name": html.escape(name), "legendgroup": name, "showlegend": first}

    def finish(self, figure: go.Figure, absent: Mapping[str, str] | None = None) -> go.Figure:
        """Add the entries without a line, and place the legend under the axes."""
        for method, words in (absent or {}).items():
            colour, symbol = method_style(method)
            trace = go.Scatter(x=[None], y=[None], mode="lines+markers", visible="legendonly")
            trace.update(line={"color": colour}, marker={"symbol": symbol}, **self.entry(f"{method}: {words}"))
            figure.add_trace(trace)
        bottom = figure.layout.margin.b
        plot = figure.layout.height - figure.layout.margin.t - bottom
        rows = math.ceil(len(self.names) / (NARROW // LEGEND_ENTRY)) if len(self.names) > 1 else 0
        figure.update_layout(
            height=figure.layout.height + rows * LEGEND_ROW,
            margin_b=bottom + rows * LEGEND_ROW,
            showlegend=rows > 0,
            legend={
                "orientation": "h",
                "entrywidth": LEGEND_ENTRY - 40,
                "x": 0,
                "xanchor": "left",
                "y": -bottom / plot,
                "yanchor": "top",
                "font": {"size": LABEL_SIZE},
                "title": {"text": ""},
            },
        )
        return figure


def _panels(transfers: Sequence[str], y_title: str, x_title: str, *, shared_y: bool = False) -> go.Figure:
    words = {
        "linear": "<b>Linear transfer</b>: backbone frozen",
        "full": "<b>Full transfer</b>: unpruned weights train",
    }
    figure = make_subplots(
        rows=1,
        cols=len(transfers),
        subplot_titles=[words.get(transfer, transfer) for transfer in transfers],
        horizontal_spacing=0.04 if shared_y else 0.1,
        shared_yaxes=shared_y,
    )
    titled = any(transfers)
    figure.update_annotations(font_size=14)
    figure.update_layout(
        template="plotly_white",
        height=PLOT_HEIGHT + AXIS_ROOM + (34 if titled else 10),
        margin={"t": 34 if titled else 10, "b": AXIS_ROOM, "l": 62, "r": 12},
        hovermode="closest",
        clickmode="event+select",
        dragmode="select",
    )
    figure.update_xaxes(title={"text": x_title, "standoff": 8}, automargin=False, zeroline=False)
    figure.update_yaxes(automargin=False, zeroline=False)
    figure.update_yaxes(title={"text": y_title, "standoff": 8}, col=1)
    return figure


def _lines(rows: pd.DataFrame) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows of each method of each source, upstream and protocol, in the catalog's order, by sparsity."""
    known = list(METHODS)
    groups = rows.sort_values("sparsity").groupby(["method", "source", "upstream", "protocol"], sort=False)
    ranked = sorted(groups, key=lambda item: (item[0][1] != "published", _rank(known, item[0][0]), item[0]))
    return [(key, group) for key, group in ranked]


def _rank(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)


def _marker(method: str, words: str, size: Any) -> dict[str, Any]:
    colour, symbol = method_style(method)
    if method == "Dense":
        return {"symbol": symbol, "size": size, "color": GREY, "line": {"width": 2.5, "color": GREY}}
    return {
        "symbol": f"{symbol}-open" if words else symbol,
        "size": size,
        "color": colour,
        "line": {"width": 1.8 if words else 0},
    }


def _dash(words: str, names: Mapping[Any, str]) -> str:
    measured = [word for word in names.values() if word]
    return MEASURED_DASHES[measured.index(words) % len(MEASURED_DASHES)] if words else "solid"


def _joined(method: str, words: str) -> str:
    return f"{method}, {words}" if words else method


def _standard_error(row: Any) -> str:
    return (
        "one task: no error bar" if math.isnan(row.standard_error) else f"standard error {percent(row.standard_error)}"
    )


def _accuracy_hover(name: str, row: Any) -> str:
    deviation = getattr(row, "accuracy_std", math.nan)
    spread_words = f" ± {percent(deviation)}" if not math.isnan(deviation) else ""
    where = f" on {html.escape(task_label(row.dataset))}" if hasattr(row, "dataset") else ""
    return (
        f"<b>{html.escape(name)}</b> at {sparsity_label(row.sparsity)}{where}<br>"
        f"{percent(row.accuracy_mean)}{spread_words} % ({row.runs:,} {'run' if row.runs == 1 else 'runs'})"
    )


def _sparsity_axis(figure: go.Figure, sparsities: pd.Series, column: int, label_room: float) -> None:
    levels = sorted({round(100 * sparsity, 4) for sparsity in sparsities})
    span = (levels[-1] - levels[0]) if len(levels) > 1 else 10.0
    low, high = levels[0] - 0.08 * span, levels[-1] + 0.08 * span
    high += (high - low) * label_room / (1 - label_room)
    figure.update_xaxes(range=[low, high], tickvals=_ticks(levels, 0.05 * (high - low)), row=1, col=column)


def _ticks(levels: Sequence[float], distance: float) -> list[float]:
    """As many levels as can stand side by side, round ones first."""
    kept: list[float] = []
    for level in sorted(levels, key=lambda level: (level % 10 != 0, level % 5 != 0, level)):
        if all(abs(level - other) >= distance for other in kept):
            kept.append(level)
    return sorted(kept)


def _limits(values: pd.Series, errors: pd.Series) -> tuple[float, float]:
    reach = errors.fillna(0)
    low, high = min(100 * (values - reach).min(), 0), max(100 * (values + reach).max(), 0)
    margin = 0.06 * ((high - low) or 1)
    return low - margin, high + margin


def _label_ends(
    figure: go.Figure, ends: list[tuple[float, float, str, str]], limits: tuple[float, float], column: int
) -> None:
    """Write each line's name at its right end, apart from each other, or nothing where they do not fit."""
    low, high = limits
    unit = (high - low) / PLOT_HEIGHT
    heights = spread([end[1] for end in ends], LABEL_GAP * unit, low + 6 * unit, high - 6 * unit)
    if heights is None:
        return
    suffix = "" if column == 1 else str(column)
    axis = figure.layout[f"xaxis{suffix}"]
    right = max(end[0] for end in ends[1:]) + 0.06 * (axis.range[1] - axis.range[0])
    for (x, y, name, colour), height in zip(ends, heights, strict=True):
        style = colour or method_style(name.split(", measured")[0])[0]
        figure.add_annotation(
            x=x or right - 0.04 * (axis.range[1] - axis.range[0]),
            y=y,
            ax=right,
            ay=height,
            xref=f"x{suffix}",
            yref=f"y{suffix}",
            axref=f"x{suffix}",
            ayref=f"y{suffix}",
            text=html.escape(name),
            xanchor="left",
            font={"size": LABEL_SIZE},
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=style,
            standoff=6,
        )


def _cell(fraction: float, signed: bool) -> str:
    value = round(100 * fraction, 1)
    digits = 0 if abs(value) >= 99.95 else 1
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return f"{sign}{abs(value):.{digits}f}"


def _readable_on(scale: Any, shares: pd.Series) -> list[str]:
    """Black or white for each share (0..1) of a colour scale, whichever stands out more."""
    colours = sample_colorscale(scale, shares.clip(0, 1).tolist(), colortype="tuple") if len(shares) else []
    luminance = np.array(colours).reshape(-1, 3) @ [0.299, 0.587, 0.114]
    return ["#000000" if light > 0.5 else "#FFFFFF" for light in luminance]


def _shortened(text: str, characters: int) -> str:
    short = text if len(text) <= characters else f"{text[: characters - 1]}…"
    return html.escape(short)


def _wrapped(text: str, characters: int) -> list[str]:
    lines = [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, characters)]
    return [html.escape(line, quote=False) for line in lines]
