"""Tables and charts of what pruning left of networks. Needs no torch; figures follow the rules of ``views.charts``."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.networks import packed_masks
from sparse_core.networks.cards import BackboneCard
from sparse_core.networks.packed_masks import Shapes
from sparse_core.networks.structure import Structure
from sparse_core.views import charts
from sparse_core.views.labels import SERIES_KEY, SIZES, backbone_label, counted, file_size, series_names, sparsity_label

SHARES = {
    "mean_layer_filters_pruned_share": ("Filters pruned, mean over layers", charts.BLUE, "circle", 0),
    "filters_pruned_share": ("Filters pruned, of all", charts.ORANGE, "square", 0),
    "filters_dead_share": ("Filters that can be removed", charts.VERMILLION, "diamond-open", 2),
}
IMAGE_HEIGHT, IMAGE_WIDTH = 256, 512
NAME_CHARACTERS = 34
ENTRY_WIDTH, RIGHT = 200, 16


def layer_table(structure: Structure) -> pd.DataFrame:
    """A row a convolution, from the input on; shapes as words, ``sparsity`` 0..1."""
    return pd.DataFrame(
        [
            {
                "layer": number,
                "name": layer.name,
                "shape": " × ".join(map(str, layer.shape)),
                "output": " × ".join(map(str, layer.output)),
                "sparsity": layer.sparsity,
                "filters": layer.filters,
                "filters_pruned": layer.filters_pruned,
                "filters_removable": layer.filters_dead,
                "channels": layer.channels,
                "channels_pruned": layer.channels_pruned,
                "channels_removable": layer.channels_dead,
                "parameters": layer.parameters,
                "nonzero": layer.nonzero,
                "multiply_adds": layer.multiply_adds,
                "multiply_adds_sparse": layer.multiply_adds_sparse,
                "groups": layer.groups,
            }
            for number, layer in enumerate(structure.layers, start=1)
        ]
    )


def comparison_table(found: Sequence[tuple[BackboneCard, Structure]]) -> pd.DataFrame:
    """A row a backbone, by measured sparsity: the shares of filters of the study's table 4, 0..1, and its sizes."""
    return pd.DataFrame(
        [
            {
                "network": backbone_label(card),
                "method": card.method,
                "measured_sparsity": structure.sparsity,
                **{share: getattr(structure, share) for share in SHARES},
                "nonzero_parameters": structure.nonzero,
                "parameters": structure.parameters,
                "multiply_adds_sparse": structure.multiply_adds_sparse,
                "multiply_adds": structure.multiply_adds,
                "file_size": structure.bytes_sparse,
                "parameters_removable": structure.parameters_removable,
                "multiply_adds_removable": structure.multiply_adds_removable,
            }
            for card, structure in sorted(found, key=lambda pair: pair[1].sparsity)
        ]
    )


def overlap_table(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], shapes: Shapes) -> pd.DataFrame:
    """A row a weight of two packed masks of these shapes: ``kept_first``, ``kept_second``, ``kept_in_both``,
    ``kept_in_either``, ``overlap`` (IoU, 0..1) and ``overlap_by_chance``.

    By chance, two masks that keep shares p and q of a layer independently have pq / (p + q − pq) in common.
    """
    rows = []
    for number, (name, (both, either)) in enumerate(packed_masks.overlaps(a, b).items(), start=1):
        first, second, size = packed_masks.count(a[name]), packed_masks.count(b[name]), math.prod(shapes[name])
        chance = first * second / size
        rows.append(
            {
                "layer": number,
                "name": name.removesuffix(".weight"),
                "kept_first": first,
                "kept_second": second,
                "kept_in_both": both,
                "kept_in_either": either,
                "overlap": packed_masks.iou([(both, either)]),
                "overlap_by_chance": chance / (first + second - chance) if either else 1.0,
            }
        )
    return pd.DataFrame(rows)


def accuracy_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a measured backbone: its sizes, and mean and standard deviation (NaN for one run) of the best accuracy.

    ``runs`` are the store's rows of one architecture, task, metric and transfer; those whose sizes are unknown are left
    out. Runs of different protocols or upstream data are never averaged together.
    """
    known = runs.dropna(subset=list(SIZES))
    grouped = known.groupby(["method", "sparsity", *SERIES_KEY, "backbone", *SIZES])["accuracy_best"]
    table = grouped.agg(accuracy_mean="mean", accuracy_std="std", runs="size").reset_index()
    return table.sort_values(["sparsity", "method"], ignore_index=True)


def filters_pruned(table: pd.DataFrame) -> go.Figure:
    """The shares of filters of each backbone, a row a backbone, a marker a share. ``table``: ``comparison_table``'s."""
    rows = list(range(len(table)))
    offsets = np.linspace(-0.2, 0.2, len(SHARES))  # so that equal shares do not hide each other
    traces = [
        {
            **{"type": "scatter", "mode": "markers", "name": words, "hoverinfo": "text"},
            **{"x": (100 * table[share]).tolist(), "y": [row + offset for row in rows]},
            "marker": {"color": colour, "symbol": symbol, "size": 9, "opacity": 1, "line": {"width": width}},
            "hovertext": [
                f"<b>{html.escape(row.network)}</b><br>{words}: {charts.percent(getattr(row, share))} %"
                for row in table.itertuples(index=False)
            ],
        }
        for offset, (share, (words, colour, symbol, width)) in zip(offsets, SHARES.items(), strict=True)
    ]
    largest = 100 * table[list(SHARES)].to_numpy().max()
    left = 30 + round(6.6 * min(NAME_CHARACTERS, table["network"].str.len().max()))
    layout = _layout(34 * len(table) + 20, left, "Share of filters (%)", "", entries=len(traces))
    layout["xaxis"].update(range=[-0.03 * max(largest, 1), 1.06 * max(largest, 1)])
    layout["yaxis"].update(
        tickvals=rows, ticktext=[_shortened(name) for name in table["network"]], range=[len(rows) - 0.5, -0.5]
    )
    return go.Figure({"data": traces, "layout": layout})


def mask(image: np.ndarray, filters: int, weights: int) -> go.Figure:
    """A mask as an image: a row a filter or several, a column a weight or several, light where weights are kept.

    ``image`` is that of ``structure.image``; ``filters`` and ``weights`` (of a filter) are the mask's own numbers.
    """
    height, width = image.shape
    step, across = filters / height, weights / width
    heat = {
        **{"type": "heatmap", "z": np.rint(100 * image).astype(np.uint8), "zmin": 0, "zmax": 100},
        **{"x0": across / 2, "dx": across, "y0": step / 2, "dy": step, "colorscale": charts.SEQUENTIAL},
        "colorbar": {"title": {"text": "Weights kept (%)", "side": "right"}, **charts.COLOUR_BAR},
        "hovertemplate": "filter %{y:.0f}, weight %{x:.0f}: %{z} % kept<extra></extra>",
    }
    layout = _layout(360, 62, "Weight of the filter", "Filter")
    layout["xaxis"].update(range=[0, weights], showgrid=False)
    layout["yaxis"].update(range=[filters, 0], showgrid=False)
    return go.Figure({"data": [heat], "layout": layout})


def overlap(table: pd.DataFrame) -> go.Figure:
    """A bar a layer: how much two masks have in common, with a mark at what chance gives. ``table``: ``overlap_table``'s."""
    layers = table["layer"].tolist()
    hover = [
        f"{html.escape(row.name)}<br>{charts.percent(row.overlap)} % in common, "
        f"{charts.percent(row.overlap_by_chance)} % by chance<br>"
        f"{row.kept_in_both:,} kept in both, {row.kept_in_either:,} in either"
        for row in table.itertuples(index=False)
    ]
    bars = {
        "type": "bar",
        "width": 0.8,
        "name": "In common",
        "marker": {"color": charts.SKY},
    }
    marks = {
        **{"type": "scatter", "mode": "markers", "name": "By chance"},
        "marker": {"symbol": "line-ew", "size": 10, "opacity": 1, "line": {"color": charts.VERMILLION, "width": 3}},
    }
    data = [
        {**trace, "x": layers, "y": (100 * table[column]).tolist(), "hovertext": hover, "hoverinfo": "text"}
        for trace, column in ((bars, "overlap"), (marks, "overlap_by_chance"))
    ]
    layout = _layout(260, 62, "Layer, from the input on", "In common (%)", entries=2)
    layout["xaxis"].update(range=[0.3, len(table) + 0.7], showgrid=False)
    layout["yaxis"].update(range=[0, 102])
    return go.Figure({"data": data, "layout": layout})


def accuracy(table: pd.DataFrame, size: str) -> go.Figure:
    """Accuracy on a task against a network's size, a point a backbone, with the standard deviation over seeds.

    ``table`` is that of ``accuracy_table``; ``size`` is one of ``SIZES``.
    """
    words, unit, scale = SIZES[size]
    names = series_names(table)
    data = []
    for (method, *series), rows in table.groupby(["method", *SERIES_KEY], sort=False):
        colour, symbol = charts.method_style(method)
        name = f"{method}, {names[tuple(series)]}"
        data.append(
            {
                **{"type": "scatter", "mode": "markers+text", "name": html.escape(name), "hoverinfo": "text"},
                **{"x": (rows[size] / scale).tolist(), "y": (100 * rows["accuracy_mean"]).tolist()},
                "error_y": {
                    "array": (100 * rows["accuracy_std"].fillna(0)).tolist(),
                    **{"thickness": 1.2, "width": 4, "color": colour},
                },
                "marker": _marker(method, colour, symbol),
                "text": [" dense" if method == "Dense" else f" {sparsity_label(level)}" for level in rows["sparsity"]],
                **{"textposition": "middle right", "textfont": {"size": charts.LABEL_SIZE}, "cliponaxis": False},
                "hovertext": [_accuracy_hover(name, row) for row in rows.itertuples(index=False)],
            }
        )
    layout = _layout(charts.PLOT_HEIGHT, 62, f"{words} ({unit})", "Accuracy (%)", entries=len(data))
    sizes = table[size].to_numpy() / scale
    span = sizes.max() - sizes.min() or sizes.max() or 1
    layout["xaxis"]["range"] = [sizes.min() - 0.06 * span, sizes.max() + 0.12 * span]  # labels stand to the right
    return go.Figure({"data": data, "layout": layout})


def amount(part: float, whole: float) -> str:
    """Part of a whole, both counted, in the whole's unit: "1.69 of 3.37 million"."""
    unit, scale = next(pair for pair in _UNITS if whole >= pair[1])
    return f"{part / scale:.3g} of {whole / scale:.3g}{unit}"


_UNITS: Sequence[tuple[str, float]] = ((" billion", 1e9), (" million", 1e6), (" thousand", 1e3), ("", 1))


def _accuracy_hover(name: str, row: Any) -> str:
    around = "" if math.isnan(row.accuracy_std) else f" ± {charts.percent(row.accuracy_std)}"
    return (
        f"<b>{html.escape(name)}</b> at {sparsity_label(row.sparsity)}<br>"
        f"{charts.percent(row.accuracy_mean)}{around} % ({counted(row.runs, 'run')})<br>"
        f"{row.nonzero_parameters / 1e6:.3g} million nonzero parameters, {row.multiply_adds / 1e6:.3g} million "
        f"multiply-adds, {file_size(row.file_size)}"
    )


def _marker(method: str, colour: str, symbol: str) -> dict[str, Any]:
    """The method's marker, open as that of every measured point."""
    width, size = (2.5, 16) if method == "Dense" else (1.8, 10)
    return {"symbol": f"{symbol}-open", "size": size, "color": colour, "opacity": 1, "line": {"width": width}}


def _layout(plot_height: int, left: int, x_title: str, y_title: str, *, entries: int = 0) -> dict[str, Any]:
    """Axes and margins in pixels, with room below for a legend of ``entries`` where there are several."""
    columns = max((charts.NARROW - left - RIGHT) // (ENTRY_WIDTH + 40), 1)
    rows = math.ceil(entries / columns) if entries > 1 else 0
    below = charts.AXIS_ROOM + rows * charts.LEGEND_ROW + charts.EDGE
    legend = {
        **{"orientation": "h", "font": {"size": charts.LABEL_SIZE}, "tracegroupgap": 0, "itemsizing": "constant"},
        **{
            "entrywidth": ENTRY_WIDTH,
            "x": 0,
            "xanchor": "left",
            "yanchor": "top",
            "y": -charts.AXIS_ROOM / plot_height,
        },
    }
    axis = {"automargin": False, "zeroline": False}
    return {
        **{"template": charts.TEMPLATE, "showlegend": rows > 0, "legend": legend},
        **{"hovermode": "closest", "dragmode": False, "height": 10 + plot_height + below},
        "margin": {"t": 10, "b": below, "l": left, "r": RIGHT},
        "xaxis": {"title": {"text": x_title, "standoff": 8}, **axis},
        "yaxis": {"title": {"text": y_title, "standoff": 8}, **axis},
    }


def _shortened(name: str) -> str:
    return html.escape(name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…")
