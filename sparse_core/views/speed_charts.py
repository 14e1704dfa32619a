"""Charts of measured speed, from the frames of ``sparse_core.views.speed_tables``. Needs no torch; figures follow the rules of
``sparse_core.views.charts``.

Filled markers are reliable measurements and hollow ones unreliable; a dotted line joins masks that were made for timing only.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.catalog import ENGINES, architecture_label, task_label
from sparse_core.views import charts, speed_tables
from sparse_core.views.labels import counted, sparsity_label
from sparse_core.views.speed_tables import SPLIT, verdict

ENGINE_COLOURS = {
    "deepsparse": charts.BLUE,
    "onnxruntime": charts.ORANGE,
    "torch": charts.VERMILLION,
    "torch bf16": charts.PURPLE,
}
MASK_SYMBOLS = {"uniform": "circle", "erk": "diamond"}
SPLIT_COLOURS = {"backbone": charts.BLUE, "classifier": charts.GREEN, "waiting": charts.ORANGE}
SPEED_AXES = {"milliseconds_per_image": "Milliseconds an image", "images_per_second": "Images a second"}
SPEEDUP_TITLE = "Times as fast as dense"
WIDE_ENTRY = 320
LABEL_ROOM = 76  # pixels that "no gain here" takes
FREE = 0.14  # share of an axis left free at its right, where the dense line is named


def speedup(rows: pd.DataFrame, across: str) -> go.Figure:
    """How many times as fast as dense, with 95 % intervals, against ``sparsity`` or ``batch_size``: a line an engine and origin.

    ``rows`` are those of ``speed_tables.table`` for one machine and one number of threads. Where an interval includes 1 the
    chart says so.
    """
    x_title = charts.SPARSITY_TITLE if across == "sparsity" else "Images in a batch"
    panels = charts.Panels([""], x_title, SPEEDUP_TITLE, entry=WIDE_ENTRY, named_from=1)
    order = {name: rank for rank, name in enumerate(ENGINES)}
    rows = rows.sort_values("engine", key=lambda names: names.map(order), kind="stable")
    placed = rows.assign(x=100 * rows["sparsity"] if across == "sparsity" else np.log2(rows["batch_size"]))
    if across == "sparsity":
        _, limits = charts.sparsity_axis(panels.x(0), rows["sparsity"], FREE)
    else:
        limits = _doubling_axis(panels.x(0), rows["batch_size"])
    top = 1.12 * max(rows["ratio_high"].max(), 1.0)
    panels.y(0)["range"] = [-0.06 * top, top]  # so that a word fits under an interval that reaches down to 0
    panels.dense_line(0, *limits, height=1)
    for (words, origin), line in placed.groupby(["engine_words", "origin"], sort=False):
        panels.add(0, f"{words}, {origin}", _speedup_line(line.sort_values("x", kind="stable")))
    panels.annotations += _no_gain(placed, limits)
    panels.annotations.append(_at_dense(limits[1]))
    return panels.figure()


def training_against_accuracy(compared: pd.DataFrame) -> go.Figure:
    """Accuracy difference to dense against the speedup of online training (the study's figure 4), a point a backbone.

    ``compared`` are those rows of ``speed_tables.against_accuracy`` that have a difference.
    """
    panels = charts.Panels(
        [""], f"Training: {SPEEDUP_TITLE.lower()}", "Accuracy over dense (points)", entry=WIDE_ENTRY, named_from=1
    )
    named = compared.assign(series=speed_tables.series(compared))
    several = compared["threads"].nunique() > 1
    key = ["method", "engine_words", "dataset", "threads", "series"]
    for (method, engine, dataset, threads, words), points in named.groupby(key):
        counted_threads = counted(int(threads), "thread") if several else ""
        name = ", ".join(filter(None, [method, engine, task_label(dataset), counted_threads, words]))
        trace = {
            **{"mode": "markers+text", "x": points["ratio"].tolist(), "y": (100 * points["difference"]).tolist()},
            "error_x": _interval_bars(points),
            "error_y": _bars(100 * points["accuracy_std"].fillna(0)),
            "marker": _marker(*charts.method_style(method), points["reliable"]),
            **_labels(points, charts.method_style(method)[0]),
            "hovertext": [_training_hover(row) for row in points.itertuples()],
        }
        panels.add(0, name, trace)
    low, high = min(compared["ratio_low"].min(), 1.0), max(compared["ratio_high"].max(), 1.0)
    limits = [low - 0.08 * (high - low), high + 0.2 * (high - low)]  # labels stand to the right
    reach = 115 * max((compared["difference"].abs() + compared["accuracy_std"].fillna(0)).max(), 0.01)
    panels.x(0)["range"], panels.y(0)["range"] = limits, [-reach, reach]
    panels.dense_line(0, *limits)
    dense = {"type": "line", "xref": "x1", "yref": "y1", "x0": 1, "x1": 1, "y0": -reach, "y1": reach}
    panels.shapes.append({**dense, "line": {"color": charts.GREY, "width": 1.5, "dash": "dash"}})
    panels.annotations.append({**_small("dense"), "x": 1, "y": 0, "xanchor": "left", "yanchor": "bottom", "xshift": 4})
    return panels.figure()


def accuracy_against_speed(table: pd.DataFrame, axis: str) -> go.Figure:
    """Accuracy on a task against speed, a point a backbone, dense ones included, with the front that nothing beats in both.

    ``table`` is that of ``speed_tables.speed_and_accuracy``; ``axis`` is one of ``SPEED_AXES``.
    """
    panels = charts.Panels([""], SPEED_AXES[axis], "Accuracy (%)", entry=WIDE_ENTRY, named_from=1)
    named = table.assign(series=speed_tables.series(table))
    for words, group in named[named["front"]].groupby("series"):
        line = group.sort_values("images_per_second")
        style = {"mode": "lines", "line": {"color": charts.GREY, "width": 5}, "opacity": 0.45, "hoverinfo": "skip"}
        name = "Pareto front" if named["series"].nunique() == 1 else f"Pareto front, {words}"
        panels.add(0, name, {"x": line[axis].tolist(), "y": (100 * line["accuracy_mean"]).tolist(), **style})
    several = table["architecture"].nunique() > 1
    for (method, words), points in named.groupby(["method", "series"], sort=False):
        colour, symbol = charts.method_style(method)
        trace = {
            **{"mode": "markers+text", "x": points[axis].tolist(), "y": (100 * points["accuracy_mean"]).tolist()},
            "error_x": _quartile_bars(points, axis),
            "error_y": _bars(100 * points["accuracy_std"].fillna(0)),
            "marker": _marker(colour, symbol, points["reliable"]),
            **_labels(points, colour, several),
            "hovertext": [_speed_hover(row) for row in points.itertuples()],
        }
        panels.add(0, method if named["series"].nunique() == 1 else f"{method}, {words}", trace)
    bars = _quartile_bars(table, axis)
    low, high = (table[axis] - bars["arrayminus"]).min(), (table[axis] + bars["array"]).max()
    span = high - low or high
    panels.x(0)["range"] = [low - 0.1 * span, high + 0.3 * span]  # labels stand to the right
    return panels.figure()


def epoch_split(table: pd.DataFrame) -> go.Figure:
    """Seconds an epoch of online training, dense above sparse, in their parts; a mark shows what decoding takes alone.

    ``table`` is that of ``speed_tables.epoch_split``.
    """
    rows = list(range(len(table)))
    panels = charts.Panels([""], "Seconds an epoch", "", plot_height=44 * len(rows) + 20, left=235)
    hover = [_split_hover(row) for row in table.itertuples()]
    for part, words in SPLIT.items():
        bars = {"type": "bar", "orientation": "h", "x": table[part].tolist(), "y": rows, "width": 0.6}
        panels.add(0, words, {**bars, "marker": {"color": SPLIT_COLOURS[part]}, "hovertext": hover})
    marks = {"symbol": "line-ns", "size": 26, "opacity": 1, "line": {"color": charts.PURPLE, "width": 4}}
    decode = {"mode": "markers", "x": table["decode"].tolist(), "y": rows, "marker": marks, "hovertext": hover}
    panels.add(0, "Decoding alone", decode)
    names = [f"{_short(row)}<br>{row.which}, {row.engine_words}" for row in table.itertuples()]
    panels.y(0).update(tickvals=rows, ticktext=names, range=[len(rows) - 0.5, -0.5], showgrid=False)
    panels.x(0)["rangemode"] = "tozero"
    return panels.figure().update_layout(barmode="stack")


def layer_shares(layers: pd.DataFrame) -> go.Figure:
    """A bar a layer, from the input on: its share of the network's time. ``layers`` has ``name`` and ``share`` (0..1)."""
    panels = charts.Panels([""], "Layer, from the input on", "Share of time (%)", plot_height=260)
    hover = [
        f"{html.escape(row.name)}<br>{charts.percent(row.share)} % of the time"
        for row in layers.itertuples(index=False)
    ]
    bars = {"type": "bar", "x": list(range(1, len(layers) + 1)), "y": (100 * layers["share"]).tolist(), "width": 0.8}
    panels.add(0, "Share of time", {**bars, "marker": {"color": charts.SKY}, "hovertext": hover})
    panels.x(0).update(range=[0.3, len(layers) + 0.7], showgrid=False)
    panels.y(0)["rangemode"] = "tozero"
    return panels.figure()


def _speedup_line(line: pd.DataFrame) -> dict[str, Any]:
    first = line.iloc[0]
    engine = f"{first['engine']} bf16" if first["precision"] == "bf16" else first["engine"]
    colour = ENGINE_COLOURS.get(engine, charts.GREY)
    symbol = (
        MASK_SYMBOLS.get(first["distribution"]) if first["timing_only"] else charts.method_style(first["method"])[1]
    )
    return {
        **{"mode": "lines+markers", "x": line["x"].tolist(), "y": line["ratio"].tolist()},
        "error_y": _interval_bars(line),
        "line": {"color": colour, "width": 2.2, "dash": "dot" if first["timing_only"] else "solid"},
        "marker": _marker(colour, symbol or "circle", line["reliable"]),
        "hovertext": [_speedup_hover(row) for row in line.itertuples()],
    }


def _no_gain(placed: pd.DataFrame, limits: Sequence[float]) -> list[dict[str, Any]]:
    """A word under the lowest point of each place at which some interval includes 1, as far as they stand apart."""
    apart = LABEL_ROOM / (charts.NARROW - 80) * (limits[1] - limits[0])
    words: list[dict[str, Any]] = []
    for x, group in placed[placed["gain"] == "no gain"].groupby("x"):
        if not words or x - words[-1]["x"] >= apart:
            place = {"x": x, "y": group["ratio_low"].min(), "yanchor": "top", "yshift": -6}
            words.append({**_small("no gain here"), **place})
    return words


def _at_dense(right: float) -> dict[str, Any]:
    return {**_small("as fast as dense"), "x": right, "y": 1, "xanchor": "right", "yanchor": "bottom"}


def _short(row: Any) -> str:
    """A network in few words: the mask of a timing-only one is left to the pointer."""
    words = f"{architecture_label(row.architecture)} {sparsity_label(row.sparsity)}, {speed_tables.TIMING_ONLY}"
    return charts.shortened(words if row.timing_only else row.network, 36)


def _small(text: str) -> dict[str, Any]:
    return {"text": text, "xref": "x1", "yref": "y1", "showarrow": False, "font": {"size": charts.LABEL_SIZE}}


def _doubling_axis(axis: dict[str, Any], sizes: pd.Series) -> tuple[float, float]:
    """Batch sizes spaced by how often they double; returns the limits."""
    levels = sorted(sizes.unique())
    low, high = math.log2(levels[0]) - 0.5, math.log2(levels[-1]) + 0.5
    high += (high - low) * FREE / (1 - FREE)
    axis.update(
        range=[low, high], tickvals=[math.log2(size) for size in levels], ticktext=[f"{size:g}" for size in levels]
    )
    return low, high


def _marker(colour: str, symbol: str, reliable: pd.Series) -> dict[str, Any]:
    if symbol.startswith("line"):  # that of dense, which has no inside
        return {"symbol": f"{symbol}-open", "size": 16, "color": colour, "opacity": 1, "line": {"width": 2.5}}
    symbols = [symbol if trusted else f"{symbol}-open" for trusted in reliable]
    return {"symbol": symbols, "size": 10, "color": colour, "opacity": 1, "line": {"width": 1.8, "color": colour}}


def _labels(points: pd.DataFrame, colour: str, architecture: bool = False) -> dict[str, Any]:
    """The sparsity beside each point, after the architecture where there are several."""
    words = ["dense" if row.method == "Dense" else sparsity_label(row.sparsity) for row in points.itertuples()]
    if architecture:
        words = [f"{architecture_label(name)} {word}" for name, word in zip(points["architecture"], words, strict=True)]
    style = {"textposition": "top right", "textfont": {"size": charts.LABEL_SIZE, "color": colour}, "cliponaxis": False}
    return {"text": [f" {html.escape(word)}" for word in words], **style}


def _interval_bars(rows: pd.DataFrame) -> dict[str, Any]:
    above, below = rows["ratio_high"] - rows["ratio"], rows["ratio"] - rows["ratio_low"]
    return _bars(above, below)


def _quartile_bars(rows: pd.DataFrame, axis: str) -> dict[str, Any]:
    """From the lower to the upper quartile, of milliseconds or of the images a second that they make."""
    low, middle, high = (rows[name] for name in ("quartile_low", "milliseconds_per_image", "quartile_high"))
    if axis == "images_per_second":
        low, middle, high = 1000 / high, 1000 / middle, 1000 / low
    return _bars((high - middle).fillna(0), (middle - low).fillna(0))


def _bars(above: pd.Series, below: pd.Series | None = None) -> dict[str, Any]:
    sides = {} if below is None else {"symmetric": False, "arrayminus": below.clip(lower=0).tolist()}
    return {"array": above.clip(lower=0).tolist(), **sides, "thickness": 1.2, "width": 4}


def _speedup_hover(row: Any) -> str:
    lines = [
        f"<b>{html.escape(row.network)}</b>",
        f"{verdict(row)}",
        html.escape(speed_tables.where(row)),
        f"{row.milliseconds_per_image:.3g} ms an image, dense {row.dense_milliseconds_per_image:.3g}",
        f"{counted(int(row.rounds), 'pair')} of times, {row.created_at:%Y-%m-%d}",
    ]
    return "<br>".join(lines)


def _training_hover(row: Any) -> str:
    return (
        f"<b>{html.escape(row.network)}</b><br>{verdict(row)} {html.escape(speed_tables.where(row))}<br>"
        f"accuracy {charts.percent(row.accuracy_mean)} % ({counted(int(row.runs), 'run')}), "
        f"dense {charts.percent(row.baseline_accuracy)} %"
    )


def _speed_hover(row: Any) -> str:
    around = "" if math.isnan(row.accuracy_std) else f" ± {charts.percent(row.accuracy_std)}"
    sparse = "dense" if row.method == "Dense" else f"{html.escape(row.method)} {sparsity_label(row.sparsity)}"
    return (
        f"<b>{architecture_label(row.architecture)}, {sparse}</b><br>"
        f"{charts.percent(row.accuracy_mean)}{around} % ({counted(row.runs, 'run')})<br>"
        f"{row.milliseconds_per_image:.3g} ms an image, {row.images_per_second:.3g} images a second<br>"
        f"{row.engine_words}, batch {row.batch_size:.0f}, {counted(int(row.threads), 'thread')}"
    )


def _split_hover(row: Any) -> str:
    parts = [f"{words}: {getattr(row, part):.3g} s" for part, words in SPLIT.items()]
    total = sum(getattr(row, part) for part in SPLIT)
    return (
        f"<b>{html.escape(row.network)}</b>, {row.which}<br>{total:.3g} s an epoch<br>"
        f"{'<br>'.join(parts)}<br>Decoding alone: {row.decode:.3g} s"
    )
