"""What single runs gave: accuracy and loss by epoch, confusion matrix, accuracy by class."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from sparse_core.results.statistics import per_class
from sparse_core.views.charts.panels import Panels, percents
from sparse_core.views.charts.style import BLUE, COLOUR_BAR, GREY, HUES, OWN_DASHES, VERMILLION, error_bars
from sparse_core.views.labels import percent

NUMBERED_CLASSES, NAMED_CLASSES = 25, 40
FEW_EPOCHS = 10
MOST_SELECTABLE = 4000  # cells
BAND = 0.2  # opacity of the area of ± one standard deviation
CURVES = {"top1": "Top-1 accuracy (%)", "mean_per_class": "Mean per-class accuracy (%)", "loss": "Training loss"}
CURVES |= {"mAP@0.5": "mAP@0.5 (%)", "mAP@[.5:.95]": "mAP@[.5:.95] (%)"}
BLUES = [[0.0, "#F7FBFF"], [0.5, "#6BAED6"], [1.0, "#08306B"]]


def learning_curves(events: pd.DataFrame, value: str = "top1", *, mean: bool = False, log: bool = False) -> go.Figure:
    """``value`` (one of ``CURVES``, all 0..1 but ``loss``) by ``epoch``: a line for each ``run`` (label), or with
    ``mean`` one for each ``group`` (label) of runs, their mean, within a band of ± one standard deviation (n − 1).

    With ``log`` the vertical axis is logarithmic. The pointer shows all lines at one epoch.
    """
    panels = Panels([""], "Epoch", f"{CURVES[value]}{', log scale' if log else ''}")
    if events["epoch"].max() <= FEW_EPOCHS:
        panels.x(0)["dtick"] = 1
    if log:
        panels.y(0).update(type="log", dtick="D2" if value == "loss" else None)
    dashes = ("solid", *OWN_DASHES)
    for number, (name, rows) in enumerate(events.groupby("group" if mean else "run", sort=False)):
        colour = HUES[number % len(HUES)]
        style = {"color": colour, "width": 1.8, "dash": dashes[number // len(HUES) % len(dashes)]}
        line = _course(rows, value)
        if line["std"].notna().any():
            panels.add(0, f"{name} ± SD", _band(line, colour), legend=False)
        panels.add(0, str(name), _curve(str(name), line, style))
    return panels.figure().update_layout(hovermode="x unified")


def _course(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Mean, standard deviation (NaN for one run) and number of runs by epoch, in the units of the axis."""
    values = rows[value] * (1 if value == "loss" else 100)
    return values.groupby(rows["epoch"]).agg(mean="mean", std="std", runs="size").reset_index()


def _curve(name: str, line: pd.DataFrame, style: dict[str, Any]) -> dict[str, Any]:
    spreads = [f" ± {row.std:.2g} (n = {row.runs})" if row.std == row.std else "" for row in line.itertuples()]
    return {
        **{"x": line["epoch"].tolist(), "y": line["mean"].tolist(), "line": style},
        "mode": "lines" if len(line) > 1 else "markers",
        "hovertext": [
            f"{html.escape(name)}: {height:.3g}{spread}" for height, spread in zip(line["mean"], spreads, strict=True)
        ],
    }


def _band(line: pd.DataFrame, colour: str) -> dict[str, Any]:
    """The area between one standard deviation above the mean and one below it."""
    spread, epochs = line["std"].fillna(0), line["epoch"].tolist()
    heights = [*(line["mean"] + spread), *(line["mean"] - spread)[::-1]]
    fill = f"rgba({', '.join(map(str, hex_to_rgb(colour)))}, {BAND})"
    area = {"fill": "toself", "fillcolor": fill, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip"}
    return {"x": [*epochs, *epochs[::-1]], "y": heights, **area}


def confusion_matrix(
    confusion: np.ndarray,
    class_names: Sequence[str],
    beside: tuple[str, str, np.ndarray] | None = None,
    cell_names: Mapping[tuple[int, int], str] = {},
) -> go.Figure:
    """How often images of each true class (row) were predicted as each class (column), in percent of the row.

    ``confusion`` holds counts, shape (classes, classes), true classes in rows. Up to 25 classes the counts are written in the
    cells, up to 40 the classes are named on the axes; beyond that the pointer names them. ``beside``: the titles of two panels
    and the counts for the second one. The cells of the first panel that have ``cell_names``, by true and predicted class, can be
    selected by a click; the name is what a selection gives.
    """
    counts = [np.asarray(confusion, dtype=float), *([np.asarray(beside[2], dtype=float)] if beside else [])]
    classes = len(class_names)
    numbered, named = classes <= NUMBERED_CLASSES, classes <= NAMED_CLASSES
    height = max(240, min((26 if numbered else 14) * classes, 700))
    titles = [html.escape(title) for title in beside[:2]] if beside else [""]
    panels = Panels(titles, "Predicted class", "True class", plot_height=height, spacing=0.03)
    for number, cells in enumerate(counts):
        panels.add(number, "cells", _cells(cells, class_names, numbered, number == 0), legend=False)
        if not number and cell_names:
            panels.add(0, "wrong", _wrong_cells(cells, class_names, cell_names), legend=False)
        panels.x(number).update(ticks="", showgrid=False, range=[-0.5, classes - 0.5], showticklabels=named)
        panels.x(number)["tickvals"] = list(range(classes)) if named else None
        panels.y(number).update(
            ticks="", showgrid=False, range=[classes - 0.5, -0.5], showticklabels=named and not number
        )
    if named:
        panels.name_columns(class_names)
        panels.name_rows(class_names)
    return panels.figure().update_layout(dragmode="zoom")


def _cells(counts: np.ndarray, class_names: Sequence[str], numbered: bool, scale: bool) -> dict[str, Any]:
    totals, classes = counts.sum(axis=1, keepdims=True), len(class_names)
    true_names = np.repeat(np.array([html.escape(name) for name in class_names], dtype=object)[:, None], classes, 1)
    gap = int(classes <= NAMED_CLASSES)
    heat = {
        "type": "heatmap",
        "z": 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0),
        **{"zmin": 0, "zmax": 100, "colorscale": BLUES, "xgap": gap, "ygap": gap, "showscale": scale},
        "customdata": np.dstack([true_names, true_names.T, counts.astype(int).astype(object)]),
        "hovertemplate": "true %{customdata[0]}, predicted %{customdata[1]}<br>"
        "%{customdata[2]:,} images, %{z:.3~g} % of the true class<extra></extra>",
        "colorbar": {"title": {"text": "% of the true class", "side": "right"}, **COLOUR_BAR},
    }
    if numbered:
        heat |= {"text": np.where(counts > 0, counts.astype(int).astype(str), ""), "texttemplate": "%{text}"}
        heat["meta"] = "counts"
    return heat


def _wrong_cells(
    counts: np.ndarray, class_names: Sequence[str], cell_names: Mapping[tuple[int, int], str]
) -> dict[str, Any]:
    """A marker on each named cell that is not empty, seen once it is selected: a heat map itself cannot be."""
    named = [cell for cell in cell_names if counts[cell] > 0]
    named = sorted(named, key=lambda cell: -counts[cell])[:MOST_SELECTABLE]
    texts = [
        f"true {html.escape(class_names[true])}, predicted {html.escape(class_names[guess])}<br>"
        f"{counts[true, guess]:,.0f} images, {100 * counts[true, guess] / counts[true].sum():.3g} % of the true class"
        for true, guess in named
    ]
    return {
        **{"x": [guess for _, guess in named], "y": [true for true, _ in named], "mode": "markers"},
        "marker": {"symbol": "square-open", "size": 18, "color": VERMILLION, "opacity": 0, "line": {"width": 3}},
        **{"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 0}}},
        **{
            "text": texts,
            "hovertemplate": "%{text}<extra></extra>",
            "customdata": [cell_names[cell] for cell in named],
        },
    }


def per_class_accuracy(
    confusion: np.ndarray, class_names: Sequence[str], beside: tuple[str, str, np.ndarray] | None = None
) -> go.Figure:
    """The share of each class's images that were recognised, lowest first, with 95 % intervals (Wilson's).

    ``confusion`` holds counts, shape (classes, classes), true classes in rows; several runs may be added up. Up to 40
    classes are named on the axis; beyond that the pointer names them. ``beside``: the names of this network and of another, whose
    counts follow, to stand in the same rows.
    """
    table = per_class(np.asarray(confusion), class_names)
    table = table.sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)
    named = len(table) <= NAMED_CLASSES
    y_title = "" if named else f"{len(table)} classes, lowest accuracy at the top"
    rows = 26 if beside else 20
    panels = Panels([""], "Accuracy (%)", y_title, plot_height=max(160, rows * len(table) if named else 480))
    places = {name: float(place) for place, name in enumerate(table["class"])}
    first = beside[0] if beside else "accuracy"
    panels.add(0, first, _class_points(table, places, BLUE, "circle", 0.17 if beside else 0.0, named))
    ends = [table]
    if beside:
        other = per_class(np.asarray(beside[2]), class_names)
        other = other[other["class"].isin(places)]
        panels.add(0, beside[1], _class_points(other, places, GREY, "diamond-open", -0.17, named))
        ends.append(other)
    low = min(100 * each["lowest"].min() for each in ends)
    high = max(100 * each["highest"].max() for each in ends)
    room = 0.03 * (high - low) + 0.3
    panels.x(0)["range"] = [max(low - room, -2), min(high + room, 102)]
    panels.y(0).update(range=[-0.7, len(table) - 0.3], showgrid=False, showticklabels=named)
    if named:
        panels.name_rows(list(places), list(places.values()))
    return panels.figure()


def _class_points(
    table: pd.DataFrame, places: dict[str, float], colour: str, symbol: str, offset: float, named: bool
) -> dict[str, Any]:
    accuracy = table["accuracy"]
    bars = error_bars(100 * (table["highest"] - accuracy), 100 * (accuracy - table["lowest"]))
    return {
        **{"x": percents(accuracy), "y": [places[name] + offset for name in table["class"]]},
        **{"error_x": {**bars, "thickness": 1, "width": 0}, "mode": "markers"},
        "marker": {"color": colour, "symbol": symbol, "size": 8 if named else 5},
        "hovertext": [
            f"{html.escape(name)}: {percent(share)} %<br>{share * total:,.0f} of {total:,.0f} images"
            for name, share, total in zip(table["class"], accuracy, table["images"], strict=True)
        ],
    }
