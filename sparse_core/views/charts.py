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

from sparse_core.catalog import METHODS, task_label
from sparse_core.results.statistics import wilson_interval
from sparse_core.views.labels import SERIES_KEY, SIZES, counted, series_names, sparsity_label

# The hues of Okabe and Ito that read on white and on dark alike; grey stands for the dense reference.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#808080"
HUES = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)

# A family shares a shape: progressive circles, regularisation squares and diamonds, lottery ticket triangles.
STYLES = {
    "Dense": (GREY, "line-ns"),
    "GMP": (SKY, "circle-x"),
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

# The look of a download: the dashboard puts its own theme in its place.
TEMPLATE = {
    "layout": {
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "font": {"color": "#262730", "family": "Source Sans, Helvetica, Arial, sans-serif"},
        "xaxis": {"gridcolor": "#E6EAF1", "linecolor": "#C9CFDA", "showline": True},
        "yaxis": {"gridcolor": "#E6EAF1"},
    }
}

PANEL_TITLES = {
    "linear": "<b>Linear transfer</b>: backbone frozen",
    "full": "<b>Full transfer</b>: unpruned weights train",
}
SPARSITY_TITLE = "Sparsity of the backbone (%)"

COLOUR_BAR = {"thickness": 12, "len": 1, "outlinewidth": 0}
COLOUR_BARS = {"accuracy_mean": "Accuracy (%)", "difference": "Points over dense"}

PLOT_HEIGHT = 340
NARROW = 720
LEGEND_ENTRY, LEGEND_ROW = 206, 20
TITLE_SIZE, SUBTITLE_SIZE, CAPTION_SIZE, LABEL_SIZE = 18, 13, 11, 12
TITLE_CHARACTERS, SUBTITLE_CHARACTERS, CAPTION_CHARACTERS = 64, 112, 140
LINE_HEIGHT = 1.3
EDGE = 8
AXIS_ROOM = 52
PANEL_TITLE_ROOM = 34
LABEL_GAP = 15

NUMBERED_CLASSES, NAMED_CLASSES = 25, 40
FEWEST_TICKS = 3
FEW_EPOCHS = 10

Series = tuple[str, str, str, str]


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


def with_caption(figure: go.Figure, title: str, subtitle: str = "", caption: str = "") -> go.Figure:
    """Write what the figure shows into it: ``title`` and ``subtitle`` above, ``caption`` below, each wrapped.

    Returns a new figure that is higher by the room the words take.
    """
    top, bottom, left = figure.layout.margin.t, figure.layout.margin.b, figure.layout.margin.l
    heading = _wrapped(title, TITLE_CHARACTERS)
    below_heading = _wrapped(subtitle, SUBTITLE_CHARACTERS)
    foot = _wrapped(caption, CAPTION_CHARACTERS)
    heading_height = LINE_HEIGHT * TITLE_SIZE * len(heading)
    above = 2 * EDGE + heading_height + LINE_HEIGHT * SUBTITLE_SIZE * len(below_heading)
    under = EDGE + LINE_HEIGHT * CAPTION_SIZE * len(foot)
    shift = EDGE - left
    words = [
        _words(heading, TITLE_SIZE, shift, 1, top + above - EDGE, 1.0),
        _words(below_heading, SUBTITLE_SIZE, shift, 1, top + above - EDGE - heading_height, 0.9),
        _words(foot, CAPTION_SIZE, shift, 0, -bottom, 0.8),
    ]
    document = figure.to_plotly_json()
    layout = document["layout"]
    layout["height"] += above + under
    layout["margin"].update(t=top + above, b=bottom + under)
    layout["annotations"] = [*layout.get("annotations", ()), *(entry for entry in words if entry["text"])]
    return go.Figure(document)


def _words(lines: list[str], size: int, xshift: float, y: int, yshift: float, opacity: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": y, "yanchor": "top"}
    style = {"font": {"size": size}, "opacity": opacity, "align": "left", "showarrow": False}
    return {"text": "<br>".join(lines), "xshift": xshift, "yshift": yshift, **place, **style}


def tradeoff(
    summary: pd.DataFrame,
    transfers: Sequence[str],
    absent: Mapping[str, str],
    selected: Iterable[str] = (),
    axis: str = "sparsity",
) -> go.Figure:
    """Mean relative error increase over dense against sparsity, a line a method, a panel a transfer (figure 2).

    ``summary`` is that of ``measures.summary`` with a column ``point`` that names each row; it has rows with a baseline
    for each of ``transfers``. ``absent`` are legend entries for methods that have no line, with the words that say why.
    ``selected`` are the names of points to stand out. ``axis`` is ``sparsity`` or one of ``views.SIZES``, a column of
    ``summary`` without NaN; sizes are spaced by their logarithm.
    """
    rows = summary.dropna(subset=["mean_relative_error_increase"])
    rows = rows.assign(place=_percents(rows[axis]) if axis == "sparsity" else _magnitudes(rows[axis], axis))
    panels = Panels(transfers, _size_title(axis) or SPARSITY_TITLE, "More errors than dense (%)")
    names, chosen = series_names(summary), set(selected)  # as in the caption
    for number, transfer in enumerate(transfers):
        panel = rows[rows["transfer"] == transfer]
        room = 0.32 if len(transfers) > 1 else 0.18
        last, limits = (
            sparsity_axis(panels.x(number), panel["sparsity"], room)
            if axis == "sparsity"
            else _size_axis(panels.x(number), panel["place"], room)
        )
        panels.y(number)["range"] = _limits(panel["mean_relative_error_increase"], panel["standard_error"])
        ends = [(last, 0.0, "dense", GREY)]
        for key, line in lines(panel):
            name = _joined(key[0], names[key[1:]])
            panels.add(number, name, _tradeoff_line(line, name, key[0], _dash(names[key[1:]], names), chosen, axis))
            end = line.loc[line["place"].idxmax()]
            height = 100 * end["mean_relative_error_increase"]
            ends.append((end["place"], height, name, method_style(key[0])[0]))
        panels.dense_line(number, limits[0], last)
        panels.label_ends(number, ends, last + 0.05 * (limits[1] - limits[0]))
    return panels.figure(absent)


def _tradeoff_line(
    line: pd.DataFrame, name: str, method: str, dash: str, chosen: set[str], axis: str
) -> dict[str, Any]:
    hover = [
        f"<b>{html.escape(name)}</b> at {sparsity_label(row.sparsity)}<br>"
        f"{percent(row.mean_relative_error_increase, signed=True)} % errors, {_standard_error(row)}<br>"
        f"{counted(row.tasks, 'task')}, {counted(row.runs, 'run')}{_size_in_words(row, axis)}"
        for row in line.itertuples()
    ]
    return {
        "x": line["place"].tolist(),
        "y": _percents(line["mean_relative_error_increase"]),
        "error_y": _error_bars(line["standard_error"]),
        "mode": "lines+markers",
        **_sparsity_labels(line, axis, "lines+markers+text"),
        "line": {"color": method_style(method)[0], "width": 2.2, "dash": dash},
        "marker": _marker(method, dash != "solid", [14 if point in chosen else 9 for point in line["point"]]),
        "customdata": line["point"].tolist(),
        "hovertext": hover,
    }


def accuracy_per_task(table: pd.DataFrame, transfers: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """Accuracy on each task, a row a task and a marker a method, a panel a transfer; error bars: standard deviation.

    ``table`` is that of ``views.task_table`` at one sparsity, with the dense rows; ``tasks`` from top to bottom.
    """
    panels = Panels(transfers, "Accuracy (%)", "", plot_height=max(200, 34 * len(tasks)), spacing=0.04, left=145)
    names = series_names(table)
    series = list(dict.fromkeys(key for key, _ in lines(table) if key[0] != "Dense"))
    offsets = dict(zip(series, np.linspace(0.3, -0.3, max(len(series), 2)), strict=False))
    place = {task: number for number, task in enumerate(reversed(tasks))}
    for number, transfer in enumerate(transfers):
        for key, line in lines(table[table["transfer"] == transfer]):
            name = _joined(key[0], names[key[1:]])
            trace = {
                "x": _percents(line["accuracy_mean"]),
                "y": [place[task] + offsets.get(key, 0.0) for task in line["task"]],
                "error_x": _error_bars(line["accuracy_std"]),
                "mode": "markers",
                "marker": _marker(key[0], key[1] == "measured", 24 if key[0] == "Dense" else 9),
                "customdata": line["point"].tolist(),
                "hovertext": line["hover"].tolist(),
            }
            panels.add(number, name, trace)
        panels.y(number).update(
            tickvals=list(place.values()),
            ticktext=[shortened(task, 20) for task in place],
            showticklabels=number == 0,
            range=[-0.6, len(place) - 0.4],
        )
    return panels.figure()


def pareto(
    table: pd.DataFrame, transfers: Sequence[str], selected: Iterable[str] = (), axis: str = "sparsity"
) -> go.Figure:
    """Accuracy against sparsity, a point a backbone, with the fronts that nothing beats in both; a panel a transfer.

    Sparsity is spaced by the logarithm of what remains, for 90 and 95 % differ by half the weights; so are sizes.

    ``table`` has ``accuracy_mean``, ``standard_error`` (NaN where it cannot be told), ``runs``, ``point`` and ``front``
    (true on the front of its own source, upstream and protocol); ``axis`` is ``sparsity`` or one of ``views.SIZES``, a
    column of it without NaN.
    """
    places = _remaining(_percents(table[axis])) if axis == "sparsity" else _magnitudes(table[axis], axis)
    table = table.assign(place=places)
    panels = Panels(transfers, _size_title(axis) or f"{SPARSITY_TITLE}, spaced by what remains", "Accuracy (%)")
    names, chosen = series_names(table), set(selected)
    for number, transfer in enumerate(transfers):
        panel = table[table["transfer"] == transfer]
        if axis == "sparsity":
            levels = sorted({100 * sparsity for sparsity in panel["sparsity"]})
            panels.x(number).update(tickvals=_remaining(levels), ticktext=[f"{level:.3g}" for level in levels])
        else:
            panels.x(number).update(_size_ticks(panel["place"].min(), panel["place"].max()))
        for key, front in sorted(panel[panel["front"]].groupby(SERIES_KEY), key=lambda item: item[0][0] != "published"):
            panels.add(number, _joined("Pareto front", names[key]), _front_line(front, _dash(names[key], names)))
        for key, points in lines(panel):
            name = _joined(key[0], names[key[1:]])
            panels.add(number, name, _pareto_points(points, name, key, chosen, axis))
    return panels.figure()


def _front_line(front: pd.DataFrame, dash: str) -> dict[str, Any]:
    ordered = front.sort_values("place")
    return {
        "x": ordered["place"].tolist(),
        "y": _percents(ordered["accuracy_mean"]),
        "mode": "lines",
        "line": {"color": GREY, "width": 5, "dash": dash},
        "opacity": 0.45,
        "hoverinfo": "skip",
    }


def _pareto_points(points: pd.DataFrame, name: str, key: Series, chosen: set[str], axis: str) -> dict[str, Any]:
    sizes = [
        18 if point in chosen else 13 if front else 8
        for point, front in zip(points["point"], points["front"], strict=True)
    ]
    marker = _marker(key[0], key[1] == "measured", sizes)
    verdicts = ["on the front" if front else "beaten by another" for front in points["front"]]
    hover = [f"{_accuracy_hover(name, row)}{_size_in_words(row, axis)}" for row in points.itertuples()]
    return {
        "x": points["place"].tolist(),
        "y": _percents(points["accuracy_mean"]),
        "error_y": _error_bars(points["standard_error"]),
        "mode": "markers",
        **_sparsity_labels(points, axis, "markers+text"),
        "marker": {**marker, "symbol": "line-ew-open"} if key[0] == "Dense" else marker,
        "customdata": points["point"].tolist(),
        "hovertext": [f"{words}<br>{verdict}" for words, verdict in zip(hover, verdicts, strict=True)],
    }


def heat_map(table: pd.DataFrame, value: str, rows: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """One number a backbone (row) and task (column), written in its cell.

    ``table`` is that of ``views.task_table``; ``value`` is ``accuracy_mean`` in a sequential scale, or ``difference``
    in a diverging one that is centred at 0 and saturates beyond what 85 % of the numbers reach (fractions of 1).
    ``rows`` from top to bottom, ``tasks`` from left to right.
    """
    grid = table.pivot(index="row", columns="task", values=value).reindex(index=rows, columns=tasks)
    numbers = 100 * grid.to_numpy(float)
    diverging = value == "difference"
    reach = float(np.nanpercentile(np.abs(numbers), 85)) or 1.0
    low, high = (-reach, reach) if diverging else (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    scale = [list(stop) for stop in DIVERGING] if diverging else SEQUENTIAL
    places = {row: number for number, row in enumerate(rows)}
    columns = {task: number for number, task in enumerate(tasks)}
    cells = table.dropna(subset=[value]).assign(
        x=lambda cells: [columns[task] for task in cells["task"]],
        y=lambda cells: [places[row] for row in cells["row"]],
        colour=lambda cells: _readable_on(scale, (100 * cells[value] - low) / ((high - low) or 1)),
    )
    heat = {
        **{"type": "heatmap", "z": numbers, "zmin": low, "zmax": high, "colorscale": scale, "xgap": 1, "ygap": 1},
        **{"hoverinfo": "skip", "colorbar": {"title": {"text": COLOUR_BARS[value], "side": "right"}, **COLOUR_BAR}},
    }
    figure = go.Figure([heat, *(_numbers(group, value, colour) for colour, group in cells.groupby("colour"))])
    figure.update_layout(
        template=TEMPLATE,
        height=28 * len(rows) + 110,
        margin={"t": 10, "b": 100, "l": 160, "r": 10},
        clickmode="event+select",
    )
    labels = [shortened(task, 20) for task in tasks]
    figure.update_xaxes(tickvals=list(columns.values()), ticktext=labels, tickangle=-45, range=[-0.5, len(tasks) - 0.5])
    figure.update_xaxes(showgrid=False, zeroline=False, showline=False)
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[shortened(row, 24) for row in rows],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        automargin=False,
    )
    return figure


def _numbers(cells: pd.DataFrame, value: str, colour: str) -> dict[str, Any]:
    """The numbers of those cells of a heat map on which this colour stands out; they can be selected."""
    return {
        **{"type": "scatter", "x": cells["x"].tolist(), "y": cells["y"].tolist(), "mode": "markers+text"},
        "text": [_cell(fraction, value == "difference") for fraction in cells[value]],
        "textfont": {"size": LABEL_SIZE, "color": colour},
        "unselected": {"textfont": {"color": colour}},
        "marker": {"symbol": "square", "size": 24, "opacity": 0},
        **{"customdata": cells["point"].tolist(), "hovertext": cells["hover"].tolist(), "hoverinfo": "text"},
        "showlegend": False,
    }


def learning_curves(events: pd.DataFrame, value: str = "top1") -> go.Figure:
    """One line a run of ``value`` (``top1``, ``mean_per_class``, both fractions of 1, or ``loss``) over the epochs.

    ``events`` has the columns ``run`` (the words for the run), ``epoch`` and ``value``.
    """
    titles = {"top1": "Top-1 accuracy (%)", "mean_per_class": "Mean per-class accuracy (%)", "loss": "Training loss"}
    panels = Panels([""], "Epoch", titles[value])
    if events["epoch"].max() <= FEW_EPOCHS:
        panels.x(0)["dtick"] = 1
    factor = 1 if value == "loss" else 100
    for number, (run, line) in enumerate(events.groupby("run", sort=False)):
        dash = ("solid", *MEASURED_DASHES)[number // len(HUES) % (1 + len(MEASURED_DASHES))]
        heights = (factor * line[value]).tolist()
        trace = {
            "x": line["epoch"].tolist(),
            "y": heights,
            "mode": "lines" if len(line) > 1 else "markers",
            "line": {"color": HUES[number % len(HUES)], "width": 1.8, "dash": dash},
            "hovertext": [
                f"{html.escape(str(run))}<br>epoch {epoch}: {height:.3g}"
                for epoch, height in zip(line["epoch"], heights, strict=True)
            ],
        }
        panels.add(0, str(run), trace)
    return panels.figure()


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> go.Figure:
    """How often images of each class (row) were taken for each class (column), in percent of the row.

    ``confusion`` holds counts, shape (classes, classes), true classes in rows. Up to 25 classes the counts stand in
    the cells, up to 40 the classes are named on the axes; beyond that the pointer names them.
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
            "%{customdata[2]:,} images, %{z:.3~g} % of the class<extra></extra>",
            text=np.where(counts > 0, counts.astype(int).astype(str), "") if classes <= NUMBERED_CLASSES else None,
            texttemplate="%{text}" if classes <= NUMBERED_CLASSES else None,
            xgap=1 if classes <= NAMED_CLASSES else 0,
            ygap=1 if classes <= NAMED_CLASSES else 0,
            colorbar={"title": {"text": "% of the class", "side": "right"}, **COLOUR_BAR},
        )
    )
    named = classes <= NAMED_CLASSES
    labels = [shortened(name, 16) for name in class_names]
    axis = {"tickvals": list(range(classes)), "ticktext": labels} if named else {"showticklabels": False}
    side = 26 if classes <= NUMBERED_CLASSES else 14
    room = 30 + (7 * max(map(len, labels)) if named else 0)
    figure.update_layout(
        template=TEMPLATE,
        height=max(240, min(side * classes, 700)) + room + 40,
        margin={"t": 10, "b": room + 30, "l": room + 20, "r": 10},
    )
    figure.update_xaxes(title="Taken for", tickangle=-90, showgrid=False, zeroline=False, **axis)
    figure.update_yaxes(title="True class", autorange="reversed", showgrid=False, zeroline=False, **axis)
    figure.update_yaxes(automargin=False)
    return figure


def per_class_accuracy(confusion: np.ndarray, class_names: Sequence[str]) -> go.Figure:
    """The share of each class's images that were recognised, worst first, with 95 % intervals (Wilson's).

    ``confusion`` holds counts, shape (classes, classes), true classes in rows; several runs may be added up. Up to 40
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
                f"{hits[present][i]:,.0f} of {totals[present][i]:,.0f} images"
                for i in order
            ],
            hoverinfo="text",
        )
    )
    labels = [shortened(str(names[i]), 24) for i in order]
    axis = {"tickvals": list(range(len(order))), "ticktext": labels} if named else {"showticklabels": False}
    figure.update_layout(
        template=TEMPLATE,
        height=max(160, 20 * len(order) if named else 480) + AXIS_ROOM + 10,
        margin={"t": 10, "b": AXIS_ROOM, "l": 30 + (7 * max(map(len, labels), default=0) if named else 20), "r": 20},
    )
    figure.update_xaxes(title="Accuracy (%)", range=[-2, 102], zeroline=False)
    figure.update_yaxes(range=[-0.7, len(order) - 0.3], showgrid=False, zeroline=False, automargin=False, **axis)
    if not named:
        figure.update_yaxes(title=f"{len(order)} classes, worst at the top")
    return figure


def layer_sparsity(layers: pd.DataFrame) -> go.Figure:
    """A bar a layer, in the order of ``layers``: its share of zero weights, and before it that of wholly pruned filters.

    ``layers`` has the columns ``name``, ``shape`` (words), ``sparsity`` (0..1), ``filters`` and ``filters_pruned``.
    """
    panels = Panels([""], "Layer, from the input on", "Share (%)", plot_height=260)
    panels.x(0).update(range=[0.3, len(layers) + 0.7], showgrid=False)
    panels.y(0).update(range=[0, 102])
    pruned = layers["filters_pruned"] / layers["filters"]
    hover = [
        f"{html.escape(layer.name)}, {layer.shape}<br>{percent(layer.sparsity)} % of its weights are 0<br>"
        f"{layer.filters_pruned:,} of {layer.filters:,} filters pruned"
        for layer in layers.itertuples(index=False)
    ]
    for name, shares, colour, width in (
        ("Weights that are 0", layers["sparsity"], SKY, 0.8),
        ("Filters wholly pruned", pruned, VERMILLION, 0.4),
    ):
        bars = {"type": "bar", "x": list(range(1, len(layers) + 1)), "y": (100 * shares).tolist(), "width": width}
        panels.add(0, name, {**bars, "marker": {"color": colour}, "hovertext": hover})
    figure = panels.figure()
    return figure.update_layout(barmode="overlay")


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float] | None:
    """Positions moved as little as needed to lie at least ``gap`` apart within low..high, in the same order.

    None where so many do not fit.
    """
    if (len(positions) - 1) * gap > high - low:
        return None
    order = np.argsort(positions, kind="stable")
    # Without the gaps the task is to keep the order: neighbours that collide share their mean.
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


class Panels:
    """A figure in the making: panels side by side, each with its own axes, above one legend that names each line once, where
    there are ``named_from`` or more.

    It is gathered as plain dictionaries and checked by Plotly once, at the end: checking each part as it comes takes
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
        entry: int = LEGEND_ENTRY,
        named_from: int = 2,
    ) -> None:
        self.data: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.shapes: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.plot_height, self.entry, self.named_from = plot_height, entry, named_from
        self.margin = {"t": PANEL_TITLE_ROOM if any(titles) else 10, "b": AXIS_ROOM, "l": left, "r": 12}
        self.axes: dict[str, dict[str, Any]] = {}
        width = (1 - spacing * (len(titles) - 1)) / len(titles)
        for number, title in enumerate(titles):
            low = number * (width + spacing)
            self.axes[f"xaxis{number + 1}"] = {
                "anchor": f"y{number + 1}",
                "domain": [low, low + width],
                **_axis(x_title),
            }
            self.axes[f"yaxis{number + 1}"] = {"anchor": f"x{number + 1}", **_axis("" if number else y_title)}
            self.annotations.append(_panel_title(PANEL_TITLES.get(title, title), low + width / 2))

    def x(self, number: int) -> dict[str, Any]:
        """The horizontal axis of a panel."""
        return self.axes[f"xaxis{number + 1}"]

    def y(self, number: int) -> dict[str, Any]:
        """The vertical axis of a panel."""
        return self.axes[f"yaxis{number + 1}"]

    def add(self, number: int, name: str, trace: dict[str, Any]) -> None:
        """Put a line into a panel; traces of one name share one legend entry."""
        axes = {"xaxis": f"x{number + 1}", "yaxis": f"y{number + 1}"}
        self.data.append({"hoverinfo": "text", **trace, **axes, **self._entry(name)})

    def dense_line(self, number: int, start: float, end: float, height: float = 0) -> None:
        """The dashed line, at 0 unless told, to which everything is compared."""
        line = {"color": GREY, "width": 1.5, "dash": "dash"}
        axes = {"xref": f"x{number + 1}", "yref": f"y{number + 1}"}
        self.shapes.append({"type": "line", "x0": start, "x1": end, "y0": height, "y1": height, "line": line, **axes})

    def label_ends(self, number: int, ends: Sequence[tuple[float, float, str, str]], right: float) -> None:
        """Write the name of each line (x, y, name, colour) at ``right``, apart from each other, or none if too many."""
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
        """The figure, with legend entries for the methods that have no line and the words that say why."""
        for method, words in (absent or {}).items():
            colour, symbol = method_style(method)
            style = {"line": {"color": colour}, "marker": {"symbol": symbol}, "visible": "legendonly"}
            self.data.append({"x": [None], "y": [None], **style, **self._entry(f"{method}: {words}")})
        columns = (NARROW - self.margin["l"] - self.margin["r"]) // self.entry
        rows = math.ceil(len(self.names) / columns) if len(self.names) >= self.named_from else 0
        legend = {
            **{
                "orientation": "h",
                "entrywidth": self.entry - 40,
                "tracegroupgap": 0,
                "itemsizing": "constant",
                "font": {"size": LABEL_SIZE},
            },
            **{"x": 0, "xanchor": "left", "y": -AXIS_ROOM / self.plot_height, "yanchor": "top", "title": {"text": ""}},
        }
        layout = {
            **{"template": TEMPLATE, "showlegend": rows > 0, "legend": legend},
            **{"hovermode": "closest", "clickmode": "event+select", "dragmode": False},
            "height": self.margin["t"] + self.plot_height + AXIS_ROOM + rows * LEGEND_ROW + EDGE,
            "margin": {**self.margin, "b": AXIS_ROOM + rows * LEGEND_ROW + EDGE},
            **{"annotations": self.annotations, "shapes": self.shapes},
            **self.axes,
        }
        return go.Figure({"data": [{"type": "scatter", **trace} for trace in self.data], "layout": layout})

    def _entry(self, name: str) -> dict[str, Any]:
        first = name not in self.names
        if first:
            self.names.append(name)
        return {"name": html.escape(name), "legendgroup": name, "showlegend": first}


def _axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "automargin": False, "zeroline": False}


def _panel_title(text: str, x: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": x, "xanchor": "center", "yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 6}
    return {"text": text, "font": {"size": 14}, "showarrow": False, **place}


def lines(rows: pd.DataFrame) -> list[tuple[Series, pd.DataFrame]]:
    """The rows of each (method, source, upstream, protocol), published first, in the catalog's order, by sparsity."""
    known = list(METHODS)
    groups = rows.sort_values("sparsity").groupby(["method", *SERIES_KEY], sort=False)
    rank = {name: number for number, name in enumerate(known)}
    return sorted(groups, key=lambda item: (item[0][1] != "published", rank.get(item[0][0], len(rank)), item[0]))


def _marker(method: str, measured: bool, size: Any) -> dict[str, Any]:
    colour, symbol = method_style(method)
    if method == "Dense":
        return {"symbol": f"{symbol}-open", "size": size, "color": colour, "opacity": 1, "line": {"width": 2.5}}
    shape = f"{symbol}-open" if measured else symbol
    return {"symbol": shape, "size": size, "color": colour, "opacity": 1, "line": {"width": 1.8 if measured else 0}}


def _dash(words: str, names: Mapping[Any, str]) -> str:
    measured = [word for word in names.values() if word]
    return MEASURED_DASHES[measured.index(words) % len(MEASURED_DASHES)] if words else "solid"


def _joined(method: str, words: str) -> str:
    return f"{method}, {words}" if words else method


def _percents(fractions: pd.Series) -> list[float]:
    return (100 * fractions).tolist()


def _remaining(percents: Sequence[float]) -> list[float]:
    """Sparsities (percent) as orders of magnitude by which the weights were reduced: 90 gives 1, 99 gives 2."""
    return [-math.log10(max(1 - percent / 100, 1e-4)) for percent in percents]


def _magnitudes(sizes: pd.Series, axis: str) -> list[float]:
    """Sizes as the logarithm (base 10) of their number in the unit of that axis."""
    return np.log10(sizes / SIZES[axis][2]).tolist()


def _size_title(axis: str) -> str:
    """What stands at an axis of sizes; nothing for sparsity."""
    if axis not in SIZES:
        return ""
    words, unit, _ = SIZES[axis]
    return f"{words} ({unit})"


def _sparsity_labels(rows: pd.DataFrame, axis: str, mode: str) -> dict[str, Any]:
    """The sparsity beside each point, where the axis does not tell it."""
    if axis == "sparsity":
        return {}
    labels = [
        "dense" if method == "Dense" else sparsity_label(level) for method, level in rows[["method", "sparsity"]].values
    ]
    style = {"textposition": "top center", "textfont": {"size": LABEL_SIZE}, "cliponaxis": False}
    return {"mode": mode, "text": labels, **style}


def _size_in_words(row: Any, axis: str) -> str:
    if axis not in SIZES:
        return ""
    words, unit, scale = SIZES[axis]
    return f"<br>{words}: {getattr(row, axis) / scale:.3g} {unit}"


def _size_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks at round sizes between two magnitudes: 1, 2 and 5 times powers of ten, or closer ones where few of these fit."""
    powers = [10.0**power for power in range(math.floor(low), math.ceil(high) + 1)]
    rounds = [digit * power for power in powers for digit in (1, 2, 5)]
    inside = [size for size in rounds if low <= math.log10(size) <= high]
    if len(inside) < FEWEST_TICKS and high > low:
        step = max(size for size in (*rounds, *(size / 100 for size in rounds)) if size <= (10**high - 10**low) / 3)
        inside = [step * count for count in range(math.ceil(10**low / step), math.floor(10**high / step) + 1)]
    inside = inside or [10**low]
    return {"tickvals": [math.log10(size) for size in inside], "ticktext": [f"{size:.3g}" for size in inside]}


def _error_bars(fractions: pd.Series) -> dict[str, Any]:
    return {"array": _percents(fractions.fillna(0)), "thickness": 1.2, "width": 4}


def _standard_error(row: Any) -> str:
    if math.isnan(row.standard_error):
        return "one task, so no standard error"
    return f"standard error {percent(row.standard_error)}"


def _accuracy_hover(name: str, row: Any) -> str:
    deviation = getattr(row, "accuracy_std", math.nan)
    around = "" if math.isnan(deviation) else f" ± {percent(deviation)}"
    where = f" on {html.escape(task_label(row.dataset))}" if hasattr(row, "dataset") else ""
    at = "" if row.sparsity == 0 else f" at {sparsity_label(row.sparsity)}"
    return (
        f"<b>{html.escape(name)}</b>{at}{where}<br>{percent(row.accuracy_mean)}{around} % ({counted(row.runs, 'run')})"
    )


def sparsity_axis(axis: dict[str, Any], sparsities: pd.Series, label_room: float) -> tuple[float, tuple[float, float]]:
    """Fit an axis to these sparsities with a share of it left free at the right; returns the largest and the limits."""
    levels = sorted({round(100 * sparsity, 4) for sparsity in sparsities})
    low, high = _with_room(levels[0], levels[-1], 10.0, label_room)
    axis.update(range=[low, high], tickvals=_ticks(levels, 0.05 * (high - low)))
    return levels[-1], (low, high)


def _size_axis(axis: dict[str, Any], places: pd.Series, label_room: float) -> tuple[float, tuple[float, float]]:
    """As ``sparsity_axis``, of sizes as magnitudes."""
    first, last = float(places.min()), float(places.max())
    low, high = _with_room(first, last, 0.3, label_room)
    axis.update(range=[low, high], **_size_ticks(low, last))
    return last, (low, high)


def _with_room(first: float, last: float, span: float, label_room: float) -> tuple[float, float]:
    """The limits of an axis from ``first`` to ``last``, or ``span`` wide where they are one, with a share free at the right."""
    margin = 0.08 * ((last - first) or span)
    low, high = first - margin, last + margin
    return low, high + (high - low) * label_room / (1 - label_room)


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


def shortened(text: str, characters: int) -> str:
    """The text cut to that many characters, as HTML."""
    short = text if len(text) <= characters else f"{text[: characters - 1]}…"
    return html.escape(short)


def _wrapped(text: str, characters: int) -> list[str]:
    lines = [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, characters)]
    return [html.escape(line, quote=False) for line in lines]
