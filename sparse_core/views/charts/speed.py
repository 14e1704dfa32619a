"""Charts of measured speed, from the tables of ``views.speed_tables``.

Filled markers are reliable measurements, hollow ones unreliable; a dotted line joins timing-only masks on random weights.
"""

import html
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.catalog import ENGINES, architecture_label, task_label
from sparse_core.views import speed_tables, times
from sparse_core.views.charts import panels as layout
from sparse_core.views.charts import style
from sparse_core.views.charts.captions import accuracy_hover
from sparse_core.views.charts.panels import Panels, percents
from sparse_core.views.charts.style import error_bars, marker, method_style, point_labels
from sparse_core.views.charts.tradeoffs import front_line
from sparse_core.views.labels import GAINS, counted, difference_interval, level_labels, percent, samples, sparsity_label
from sparse_core.views.speed_tables import EPOCH_PARTS

ENGINE_COLOURS = {"deepsparse": style.BLUE, "onnxruntime": style.ORANGE, "torch": style.VERMILLION}
ENGINE_COLOURS["torch bf16"] = style.PURPLE
MASK_SYMBOLS = {"uniform": "circle", "erk": "diamond"}
PART_COLOURS = {"backbone": style.BLUE, "classifier": style.GREEN, "waiting": style.ORANGE}
SPEED_AXES = {"milliseconds_per_image": "ms/image", "images_per_second": "images/s"}
SPEEDUP_TITLE = "Speedup over dense (×)"
FREE = 0.14  # share of an axis left free at its right, for the label of the dense line


def speedup(rows: pd.DataFrame, across: str) -> go.Figure:
    """Speedup over dense with 95 % intervals, against ``sparsity`` or ``batch_size``: a line for each engine and mask source.

    ``rows`` are from ``speed_tables.table``, of one machine and one number of threads. Intervals that include 1 are marked.
    """
    by_sparsity = across == "sparsity"
    x_title = layout.SPARSITY_TITLE if by_sparsity else "Batch size"
    panels = Panels([""], x_title, SPEEDUP_TITLE, legend_from=1)
    rank = {name: number for number, name in enumerate(ENGINES)}
    rows = rows.sort_values("engine", key=lambda names: names.map(rank), kind="stable")
    placed = rows.assign(x=100 * rows["sparsity"] if by_sparsity else np.log2(rows["batch_size"]))
    if by_sparsity:
        _, limits = layout.sparsity_axis(panels.x(0), rows["sparsity"], FREE)
    else:
        limits = layout.doubling_axis(panels.x(0), rows["batch_size"], FREE)
    top = 1.12 * max(rows["ratio_high"].max(), 1.0)
    panels.y(0)["range"] = [-0.06 * top, top]  # so that a note fits below an interval that reaches down to 0
    panels.dense_line(0, limits, (1, 1))
    for (engine, origin), line in placed.groupby(["engine_words", "origin"], sort=False):
        panels.add(0, f"{engine}, {origin}", _speedup_line(line.sort_values("x", kind="stable")))
    panels.note("1× (dense)", x=limits[1], y=1, xanchor="right", yanchor="bottom")
    _note_results(panels, placed)
    return panels.figure()


def training_against_accuracy(compared: pd.DataFrame) -> go.Figure:
    """Accuracy difference to dense against the speedup of online training (the paper's figure 4), a point for each backbone.

    ``compared`` are rows of ``speed_tables.training_with_accuracy`` that have a difference.
    """
    x_title = f"Training: {SPEEDUP_TITLE[0].lower()}{SPEEDUP_TITLE[1:]}"
    panels = Panels([""], x_title, "Accuracy difference to dense (points)", legend_from=1)
    named = compared.assign(series=speed_tables.series(compared), label=_highest_labels(compared))
    named = named.sort_values("reliable", ascending=False, kind="stable")  # the legend shows a line's first marker
    several = compared["threads"].nunique() > 1
    look = {name: number for number, name in enumerate(sorted(named["series"].unique()))}
    for (method, engine, dataset, threads, series), points in named.groupby(
        ["method", "engine_words", "dataset", "threads", "series"]
    ):
        on_threads = counted(int(threads), "thread") if several else ""
        colour, symbol = method_style(method)
        trace = {
            **{"mode": "markers+text", "x": points["ratio"].tolist(), "y": percents(points["difference"])},
            "error_x": _interval_bars(points),
            "error_y": _difference_bars(points),
            "marker": marker(colour, symbol, hollow=_unreliable(points), look=look[series]),
            **point_labels(points["label"].tolist(), "top right", colour),
            "hovertext": [_training_hover(row) for row in points.itertuples()],
        }
        panels.add(0, ", ".join(filter(None, [method, engine, task_label(dataset), on_threads, series])), trace)
    low, high = min(compared["ratio_low"].min(), 1.0), max(compared["ratio_high"].max(), 1.0)
    limits = [low - 0.08 * (high - low), high + 0.2 * (high - low)]  # labels are to the right
    ends = compared[["difference", "difference_low", "difference_high"]]
    height = 115 * max(ends.abs().max(axis=None), 0.01)
    panels.x(0)["range"], panels.y(0)["range"] = limits, [-height, height]
    panels.dense_line(0, limits)
    panels.dense_line(0, (1, 1), (-height, height))
    panels.note("dense", x=1, y=0, xanchor="left", yanchor="bottom", xshift=4)
    return panels.figure()


def accuracy_against_speed(table: pd.DataFrame, axis: str) -> go.Figure:
    """Accuracy on a task against speed, a point for each backbone, dense ones included, with the Pareto front.

    ``table`` is from ``speed_tables.speed_and_accuracy``; ``axis`` is one of ``SPEED_AXES``.
    """
    panels = Panels([""], SPEED_AXES[axis], "Accuracy (%)", legend_from=1)
    named = table.assign(series=speed_tables.series(table))
    several = named["series"].nunique() > 1
    for series, group in named[named["front"]].groupby("series"):
        panels.add(0, f"Pareto front, {series}" if several else "Pareto front", front_line(group, axis))
    prefix = table["architecture"].nunique() > 1
    look = {name: number for number, name in enumerate(sorted(named["series"].unique()))}
    for (method, series), points in named.groupby(["method", "series"], sort=False):
        colour, symbol = method_style(method)
        trace = {
            **{"mode": "markers+text", "x": points[axis].tolist(), "y": percents(points["accuracy_mean"])},
            "error_x": _quartile_bars(points, axis),
            "error_y": error_bars(100 * points["accuracy_std"]),
            "marker": marker(
                colour, symbol, hollow=_unreliable(points), look=look[series], size=16 if method == "Dense" else 10
            ),
            **point_labels(_labels(points, prefix), "top right", colour),
            "hovertext": [_speed_hover(row) for row in points.itertuples()],
        }
        panels.add(0, f"{method}, {series}" if several else method, trace)
    bars = _quartile_bars(table, axis)
    low, high = (table[axis] - bars["arrayminus"]).min(), (table[axis] + bars["array"]).max()
    span = high - low or high
    panels.x(0)["range"] = [low - 0.1 * span, high + 0.3 * span]  # labels are to the right
    return panels.figure()


def epoch_split(table: pd.DataFrame) -> go.Figure:
    """Time per epoch by part, from ``speed_tables.epoch_split``, dense above sparse; a mark shows decoding alone."""
    rows = list(range(len(table)))
    panels = Panels([""], "Time per epoch (s)", "", plot_height=44 * len(rows) + 20)
    hover = [_epoch_hover(row) for row in table.itertuples()]
    for part, name in EPOCH_PARTS.items():
        bars = {"type": "bar", "orientation": "h", "x": table[part].tolist(), "y": rows, "width": 0.6}
        panels.add(0, name, {**bars, "marker": {"color": PART_COLOURS[part]}, "hovertext": hover})
    marks = {"symbol": "line-ns", "size": 26, "opacity": 1, "line": {"color": style.PURPLE, "width": 4}}
    decode = {"mode": "markers", "x": table["decode"].tolist(), "y": rows, "marker": marks, "hovertext": hover}
    panels.add(0, "Decoding alone", decode)
    panels.name_rows([f"{_short_name(row)}\n{row.which}, {row.engine_words}" for row in table.itertuples()])
    longest = max(table[list(EPOCH_PARTS)].sum(axis=1).max(), table["decode"].max())
    panels.x(0)["range"] = [0.0, 1.05 * float(longest or 1)]  # that of the marks alone would cut the bars
    return panels.figure().update_layout(barmode="stack")


def layer_shares(layers: pd.DataFrame) -> go.Figure:
    """A bar for each layer: its share of the network's time. ``layers`` has ``name`` and ``share`` (0..1)."""
    panels = layout.layer_panel(len(layers), "Share of time (%)")
    hover = [f"{html.escape(row.name)}<br>{percent(row.share)} % of the time" for row in layers.itertuples(index=False)]
    bars = {"type": "bar", "x": list(range(1, len(layers) + 1)), "y": percents(layers["share"]), "width": 0.8}
    panels.add(0, "Share of time", {**bars, "marker": {"color": style.SKY}, "hovertext": hover})
    panels.y(0)["rangemode"] = "tozero"
    return panels.figure()


def _speedup_line(line: pd.DataFrame) -> dict[str, Any]:
    first = line.iloc[0]
    engine = f"{first['engine']} bf16" if first["precision"] == "bf16" else first["engine"]
    colour = ENGINE_COLOURS.get(engine, style.GREY)
    symbol = MASK_SYMBOLS.get(first["distribution"]) if first["timing_only"] else method_style(first["method"])[1]
    return {
        **{"mode": "lines+markers", "x": line["x"].tolist(), "y": line["ratio"].tolist()},
        "error_y": _interval_bars(line),
        "line": {"color": colour, "width": 2.2, "dash": "dot" if first["timing_only"] else "solid"},
        "marker": marker(colour, symbol or "circle", hollow=_unreliable(line)),
        "hovertext": [_speedup_hover(row) for row in line.itertuples()],
    }


def _note_results(panels: Panels, placed: pd.DataFrame) -> None:
    """A note below the lowest point at each position where some interval is not above 1, as far as the notes do not overlap."""
    for x, group in placed[placed["gain"] != "faster"].groupby("x"):
        text = " / ".join(dict.fromkeys(GAINS[gain] for gain in group.sort_values("ratio", ascending=False)["gain"]))
        panels.note(text, x=x, y=group["ratio_low"].min(), yanchor="top", yshift=-6)


def _short_name(row: Any) -> str:
    """A network's name within the left margin: the mask of a timing-only one is left to the pointer."""
    short = f"{architecture_label(row.architecture)} {sparsity_label(row.sparsity)}, {speed_tables.TIMING_ONLY}"
    return short if row.timing_only else row.network


def _unreliable(rows: pd.DataFrame) -> pd.Series:
    return ~rows["reliable"].astype(bool)


def _labels(points: pd.DataFrame, architecture: bool = False) -> list[str]:
    """The sparsity of each point, after the architecture if asked for."""
    prefixes = [f"{architecture_label(name)} " if architecture else "" for name in points["architecture"]]
    return [f" {prefix}{level}" for prefix, level in zip(prefixes, level_labels(points), strict=True)]


def _highest_labels(compared: pd.DataFrame) -> list[str]:
    """``_labels``, but of the points above each other, which share one measured speedup, only the highest has one."""
    highest = set(compared.groupby(["measurement", "engine_words"])["difference"].idxmax())
    return [label if row in highest else "" for row, label in zip(compared.index, _labels(compared), strict=True)]


def _interval_bars(rows: pd.DataFrame) -> dict[str, Any]:
    return error_bars(rows["ratio_high"] - rows["ratio"], rows["ratio"] - rows["ratio_low"])


def _difference_bars(rows: pd.DataFrame) -> dict[str, Any]:
    """The 95 % interval of the difference to dense, in points; none where a side has one seed."""
    low, high = rows["difference_low"], rows["difference_high"]
    return error_bars(100 * (high - rows["difference"]), 100 * (rows["difference"] - low))


def _quartile_bars(rows: pd.DataFrame, axis: str) -> dict[str, Any]:
    """From the lower to the upper quartile, of ms/image or the corresponding images/s."""
    low, middle, high = (rows[name] for name in ("quartile_low", "milliseconds_per_image", "quartile_high"))
    if axis == "images_per_second":
        low, middle, high = 1000 / high, 1000 / middle, 1000 / low
    return error_bars(high - middle, middle - low)


def _speedup_hover(row: Any) -> str:
    lines = [
        f"<b>{html.escape(row.network)}</b>",
        speed_tables.result(row),
        html.escape(speed_tables.setting(row)),
        f"{row.milliseconds_per_image:.3g} ms/image, dense {row.dense_milliseconds_per_image:.3g}",
        f"{counted(int(row.rounds), 'timed pair')}, {times.day(row.created_at)}",
    ]
    return "<br>".join(lines)


def _training_hover(row: Any) -> str:
    lines = [
        f"<b>{html.escape(row.network)}</b>",
        f"{speed_tables.result(row)} {html.escape(speed_tables.setting(row))}",
        f"accuracy {percent(row.accuracy_mean)} % ({samples(row)}), dense {percent(row.baseline_accuracy)} %",
        difference_interval(row),
    ]
    return "<br>".join(filter(None, lines))


def _speed_hover(row: Any) -> str:
    return accuracy_hover(
        f"{architecture_label(row.architecture)}, {row.method}",
        row,
        f"{row.milliseconds_per_image:.3g} ms/image, {row.images_per_second:.3g} images/s",
        f"{html.escape(row.engine_words)}, batch {row.batch_size:.0f}, {counted(int(row.threads), 'thread')}",
    )


def _epoch_hover(row: Any) -> str:
    parts = [f"{name}: {getattr(row, part):.3g} s" for part, name in EPOCH_PARTS.items()]
    total = sum(getattr(row, part) for part in EPOCH_PARTS)
    return (
        f"<b>{html.escape(row.network)}</b>, {row.which}<br>{total:.3g} s per epoch<br>"
        f"{'<br>'.join(parts)}<br>Decoding alone: {row.decode:.3g} s"
    )
