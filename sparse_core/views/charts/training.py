"""What single runs gave: accuracy and loss by epoch, confusion matrix, accuracy by class."""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.results.statistics import per_class
from sparse_core.views.charts.panels import Panels, percents
from sparse_core.views.charts.style import BLUE, COLOUR_BAR, HUES, OWN_DASHES, error_bars, shortened
from sparse_core.views.labels import percent

NUMBERED_CLASSES, NAMED_CLASSES = 25, 40
FEW_EPOCHS = 10
CURVES = {"top1": "Top-1 accuracy (%)", "mean_per_class": "Mean per-class accuracy (%)", "loss": "Training loss"}
BLUES = [[0.0, "#F7FBFF"], [0.5, "#6BAED6"], [1.0, "#08306B"]]


def learning_curves(events: pd.DataFrame, value: str = "top1") -> go.Figure:
    """A line for each ``run`` (label): ``value`` (``top1``, ``mean_per_class``, both 0..1, or ``loss``) by ``epoch``."""
    panels = Panels([""], "Epoch", CURVES[value])
    if events["epoch"].max() <= FEW_EPOCHS:
        panels.x(0)["dtick"] = 1
    factor = 1 if value == "loss" else 100
    dashes = ("solid", *OWN_DASHES)
    for number, (run, line) in enumerate(events.groupby("run", sort=False)):
        heights = (factor * line[value]).tolist()
        style = {"color": HUES[number % len(HUES)], "width": 1.8, "dash": dashes[number // len(HUES) % len(dashes)]}
        trace = {
            **{"x": line["epoch"].tolist(), "y": heights, "line": style},
            "mode": "lines" if len(line) > 1 else "markers",
            "hovertext": [
                f"{html.escape(str(run))}<br>epoch {epoch}: {height:.3g}"
                for epoch, height in zip(line["epoch"], heights, strict=True)
            ],
        }
        panels.add(0, str(run), trace)
    return panels.figure()


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str]) -> go.Figure:
    """How often images of each true class (row) were predicted as each class (column), in percent of the row.

    ``confusion`` holds counts, shape (classes, classes), true classes in rows. Up to 25 classes the counts are written in the
    cells, up to 40 the classes are named on the axes; beyond that the pointer names them.
    """
    counts = np.asarray(confusion, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    classes = len(class_names)
    numbered, named = classes <= NUMBERED_CLASSES, classes <= NAMED_CLASSES
    true_names = np.repeat(np.array([html.escape(name) for name in class_names], dtype=object)[:, None], classes, 1)
    labels = [shortened(name, 16) for name in class_names]
    room = 30 + (7 * max(map(len, labels)) if named else 0)
    height = max(240, min((26 if numbered else 14) * classes, 700))
    panels = Panels([""], "Predicted class", "True class", plot_height=height, left=room + 20, bottom=room + 22)
    heat = {
        "type": "heatmap",
        "z": 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0),
        **{"zmin": 0, "zmax": 100, "colorscale": BLUES, "xgap": int(named), "ygap": int(named)},
        "customdata": np.dstack([true_names, true_names.T, counts.astype(int).astype(object)]),
        "hovertemplate": "true %{customdata[0]}, predicted %{customdata[1]}<br>"
        "%{customdata[2]:,} images, %{z:.3~g} % of the true class<extra></extra>",
        "colorbar": {"title": {"text": "% of the true class", "side": "right"}, **COLOUR_BAR},
    }
    if numbered:
        heat |= {"text": np.where(counts > 0, counts.astype(int).astype(str), ""), "texttemplate": "%{text}"}
    panels.add(0, "cells", heat)
    names = {"tickvals": list(range(classes)), "ticktext": labels} if named else {"showticklabels": False}
    panels.x(0).update(tickangle=-90, ticks="", showgrid=False, **names)
    panels.y(0).update(autorange="reversed", ticks="", showgrid=False, **names)
    return panels.figure().update_layout(dragmode="zoom")


def per_class_accuracy(confusion: np.ndarray, class_names: Sequence[str]) -> go.Figure:
    """The share of each class's images that were recognised, lowest first, with 95 % intervals (Wilson's).

    ``confusion`` holds counts, shape (classes, classes), true classes in rows; several runs may be added up. Up to 40
    classes are named on the axis; beyond that the pointer names them.
    """
    table = per_class(np.asarray(confusion), class_names)
    table = table.sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)
    places, accuracy = list(range(len(table))), table["accuracy"]
    named = len(table) <= NAMED_CLASSES
    labels = [shortened(name, 24) for name in table["class"]]
    left = 30 + (7 * max(map(len, labels), default=0) if named else 20)
    y_title = "" if named else f"{len(table)} classes, lowest accuracy at the top"
    height = max(160, 20 * len(table) if named else 480)
    panels = Panels([""], "Accuracy (%)", y_title, plot_height=height, left=left)
    bars = error_bars(100 * (table["highest"] - accuracy), 100 * (accuracy - table["lowest"]))
    trace = {
        **{"x": percents(accuracy), "y": places, "error_x": {**bars, "thickness": 1, "width": 0}},
        **{"mode": "markers", "marker": {"color": BLUE, "size": 8 if named else 5}},
        "hovertext": [
            f"{html.escape(name)}: {percent(share)} %<br>{share * total:,.0f} of {total:,.0f} images"
            for name, share, total in zip(table["class"], accuracy, table["images"], strict=True)
        ],
    }
    panels.add(0, "accuracy", trace)
    ticks = {"tickvals": places, "ticktext": labels} if named else {"showticklabels": False}
    panels.x(0)["range"] = [-2, 102]
    panels.y(0).update(range=[-0.7, len(table) - 0.3], showgrid=False, **ticks)
    return panels.figure()
