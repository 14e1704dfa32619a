"""Accuracy by task: markers for each method, and a heat map of backbones and tasks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.views.charts import style
from sparse_core.views.charts.panels import Panels, percents
from sparse_core.views.charts.style import (
    by_line,
    error_bars,
    looks,
    marker,
    method_style,
    readable_on,
)
from sparse_core.views.labels import metric_name, metric_title

DIFFERENCE = "Difference to dense (points)"
FEW_ROWS = 5  # a colour bar beside so few is too low for its title


def accuracy_per_task(table: pd.DataFrame, transfers: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """Accuracy on each task, a row for each task and a marker for each line, a panel for each transfer; error bars: std.

    ``table`` is from ``tables.task_table`` at one sparsity, with the dense rows; ``tasks`` from top to bottom.
    """
    panels = Panels(transfers, f"{_title(table)} (%)", "", plot_height=max(200, 34 * len(tasks)), spacing=0.04)
    lines = list(dict.fromkeys(key for key, _ in by_line(table) if key[0] != "Dense"))
    offsets = dict(zip(lines, np.linspace(0.3, -0.3, max(len(lines), 2)), strict=False))
    found = looks(table)
    place = {task: number for number, task in enumerate(reversed(tasks))}
    for number, transfer in enumerate(transfers):
        for key, line in by_line(table[table["transfer"] == transfer]):
            colour, symbol = method_style(key[0])
            trace = {
                "x": percents(line["accuracy_mean"]),
                "y": [place[task] + offsets.get(key, 0.0) for task in line["task"]],
                "error_x": error_bars(100 * line["accuracy_std"]),
                "mode": "markers",
                "marker": marker(
                    colour,
                    symbol,
                    hollow=key[1] != "published",
                    size=24 if key[0] == "Dense" else 9,
                    look=found[key[4]],
                ),
                "customdata": line["point"].tolist(),
                "hovertext": line["hover"].tolist(),
            }
            panels.add(number, key[4], trace)
        panels.y(number).update(
            tickvals=list(place.values()), showticklabels=number == 0, range=[-0.6, len(place) - 0.4]
        )
        panels.x(number).update({"matches": "x"} if number else {})
    panels.name_rows(list(place), list(place.values()))
    return panels.figure()


def heat_map(table: pd.DataFrame, value: str, rows: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """One number for each network (row) and task (column), written in its cell.

    ``table`` is from ``tables.task_table``; ``value`` is ``accuracy_mean`` in a sequential scale, or ``difference`` in a
    diverging one that is centred at 0 and saturates at the 85th percentile of absolute values (fractions of 1). ``rows`` from
    top to bottom, ``tasks`` from left to right.
    """
    grid = table.pivot(index="row", columns="task", values=value).reindex(index=rows, columns=tasks)
    numbers = 100 * grid.to_numpy(float)
    diverging = value == "difference"
    limit = float(np.nanpercentile(np.abs(numbers), 85)) or 1.0
    low, high = (-limit, limit) if diverging else (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    scale = [list(stop) for stop in style.DIVERGING] if diverging else style.SEQUENTIAL
    row_places = {row: number for number, row in enumerate(rows)}
    task_places = {task: number for number, task in enumerate(tasks)}
    cells = table.dropna(subset=[value]).assign(
        x=lambda cells: [task_places[task] for task in cells["task"]],
        y=lambda cells: [row_places[row] for row in cells["row"]],
        colour=lambda cells: readable_on(scale, (100 * cells[value] - low) / ((high - low) or 1)),
    )
    panels = Panels([""], "", "", plot_height=28 * len(rows), legend_from=99)
    unit = DIFFERENCE if diverging else f"{_title(table)} (%)"
    heat = {
        **{"type": "heatmap", "z": numbers, "zmin": low, "zmax": high, "colorscale": scale, "xgap": 1, "ygap": 1},
        "hoverinfo": "skip",
        "colorbar": {
            "title": {"text": "" if len(rows) <= FEW_ROWS else unit, "side": "right"},
            **style.COLOUR_BAR,
            "nticks": 1 + min(len(rows), 5),
        },
    }
    panels.add(0, "cells", heat, legend=False)
    for colour, group in cells.groupby("colour"):
        panels.add(0, "numbers", _numbers(group, value, str(colour)), legend=False)
    panels.x(0).update(range=[-0.5, len(tasks) - 0.5], showline=False)
    panels.name_columns(tasks)
    panels.name_rows(rows)
    panels.y(0)["ticks"] = ""
    return panels.figure().update_layout(dragmode="zoom")


def _numbers(cells: pd.DataFrame, value: str, colour: str) -> dict[str, Any]:
    """The numbers of those cells of a heat map on which this colour is readable; they can be selected."""
    return {
        **{"x": cells["x"].tolist(), "y": cells["y"].tolist(), "mode": "markers+text", "meta": "cells"},
        "text": [_cell(fraction, value == "difference") for fraction in cells[value]],
        "textfont": {"size": style.LABEL_SIZE, "color": colour},
        "unselected": {"textfont": {"color": colour}},
        "marker": {"symbol": "square", "size": 24, "opacity": 0},
        **{"customdata": cells["point"].tolist(), "hovertext": cells["hover"].tolist()},
    }


def _title(table: pd.DataFrame) -> str:
    return metric_title(metric_name(table["metric"].unique()))


def _cell(fraction: float, signed: bool) -> str:
    value = round(100 * fraction, 1)
    digits = 0 if abs(value) >= 99.95 else 1
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return f"{sign}{abs(value):.{digits}f}"
