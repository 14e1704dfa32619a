"""Charts of what pruning left of networks, from the tables of ``views.tables``."""

import html
from collections.abc import Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.views.charts import style
from sparse_core.views.charts.captions import accuracy_hover, size_hover
from sparse_core.views.charts.panels import SPARSITY_TITLE, Panels, layer_panel, percents, sparsity_axis
from sparse_core.views.charts.style import (
    by_line,
    error_bars,
    looks,
    marker,
    method_style,
    point_labels,
)
from sparse_core.views.columns import COLUMNS
from sparse_core.views.labels import (
    SIZES,
    counted,
    level_labels,
    metric_name,
    metric_title,
    name_lines,
    percent,
    sparsity_label,
)
from sparse_core.views.tables import SHARES

SHARE_STYLES = {
    "mean_layer_filters_pruned_share": (style.BLUE, "circle", 0),
    "filters_pruned_share": (style.ORANGE, "square", 0),
    "filters_dead_share": (style.VERMILLION, "diamond-open", 2),
}
IMAGE_HEIGHT, IMAGE_WIDTH = 256, 512  # largest image of a mask, in cells
NETWORK_DASHES = ("solid", *style.OWN_DASHES)


def layer_sparsity(layers: pd.DataFrame) -> go.Figure:
    """A bar for each layer, in the order of ``layers``: its share of zero weights, and before it that of fully pruned filters.

    ``layers`` has the columns ``name``, ``shape`` (text), ``sparsity`` (0..1), ``filters`` and ``filters_pruned``.
    """
    panels = _layers(layers["name"], "Share (%)")
    hover = [
        f"{html.escape(layer.name)}, {layer.shape}<br>{percent(layer.sparsity)} % zero weights<br>"
        f"{layer.filters_pruned:,} of {layer.filters:,} filters fully pruned"
        for layer in layers.itertuples(index=False)
    ]
    for name, shares, colour, width in (
        ("Zero weights", layers["sparsity"], style.SKY, 0.8),
        ("Fully pruned filters", layers["filters_pruned"] / layers["filters"], style.VERMILLION, 0.4),
    ):
        bars = {"type": "bar", "x": list(range(1, len(layers) + 1)), "y": percents(shares), "width": width}
        panels.add(0, name, {**bars, "marker": {"color": colour}, "hovertext": hover})
    return panels.figure().update_layout(barmode="overlay")


def by_layer(table: pd.DataFrame, share: str, y_title: str) -> go.Figure:
    """The column ``share`` (0..1) of each layer, a line for each network of a ``tables.layers_by_network``.

    Layers are named where all networks have the same; else they are numbered. Networks of one method have its colour and marker
    and differ by the style of their line.
    """
    lines = list(table.groupby("series", sort=False))
    names = [tuple(rows["name"]) for _, rows in lines]
    longest = max(names, key=len)
    panels = _layers(longest if len(set(names)) == 1 else range(1, len(longest) + 1), y_title)
    drawn: list[str] = []
    for series, rows in lines:
        method = rows["method"].iloc[0]
        colour, symbol = method_style(method)
        trace = {
            **{"mode": "lines+markers", "x": rows["layer"].tolist(), "y": percents(rows[share])},
            "line": {"color": colour, "width": 2, "dash": NETWORK_DASHES[drawn.count(method) % len(NETWORK_DASHES)]},
            "marker": marker(colour, symbol, size=7),
            "hovertext": [
                f"<b>{html.escape(series)}</b><br>{html.escape(row.name)}<br>{html.escape(y_title)}: {value:.3g}"
                for row, value in zip(rows.itertuples(index=False), percents(rows[share]), strict=True)
            ],
        }
        panels.add(0, series, trace)
        drawn.append(method)
    return panels.figure()


def _layers(names: Iterable[str | int], y_title: str) -> Panels:
    """A panel with these layers on its horizontal axis, at 1, 2, …, and shares in percent on the other."""
    shown = [str(name) for name in names]
    panels = layer_panel(len(shown), y_title)
    panels.name_columns(shown)
    places = {"tickvals": list(range(1, len(shown) + 1)), "range": [0.3, len(shown) + 0.7]}
    panels.x(0).update(places, showgrid=False)
    panels.y(0).update(range=[0, 102])
    return panels


def filters_pruned(table: pd.DataFrame) -> go.Figure:
    """The shares of filters of each backbone, a row for each; ``table`` is from ``tables.comparison_table``."""
    panels = Panels([""], "Share of filters (%)", "", plot_height=34 * len(table) + 20)
    offsets = np.linspace(-0.2, 0.2, len(SHARES))  # so that equal shares do not hide each other
    for offset, share in zip(offsets, SHARES, strict=True):
        name = COLUMNS[share].heading
        colour, symbol, width = SHARE_STYLES[share]
        trace = {
            **{"mode": "markers", "x": percents(table[share]), "y": [row + offset for row in range(len(table))]},
            "marker": {"color": colour, "symbol": symbol, "size": 9, "opacity": 1, "line": {"width": width}},
            "hovertext": [
                f"<b>{html.escape(row.network)}</b><br>{name}: {percent(getattr(row, share))} %"
                for row in table.itertuples(index=False)
            ],
        }
        panels.add(0, name, trace)
    largest = max(100 * table[list(SHARES)].to_numpy().max(), 1)
    panels.x(0)["range"] = [-0.03 * largest, 1.06 * largest]
    panels.name_rows(
        [name.replace(": ", "\n", 1) for name in table["network"]]
    )  # of the library and the zoo: their own name first
    return panels.figure()


def filters_by_method(table: pd.DataFrame) -> go.Figure:
    """The mean share of fully pruned filters against sparsity, a line for each method of a ``tables.filters_by_method``."""
    panels = Panels([""], SPARSITY_TITLE, "Fully pruned filters, mean over layers (%)")
    last, limits = sparsity_axis(panels.x(0), table["sparsity"], 0.0)
    ends = []
    for method, line in table.groupby("method", sort=False):
        colour, symbol = method_style(method)
        trace = {
            **{"mode": "lines+markers", "x": percents(line["sparsity"]), "y": percents(line["share"])},
            "error_y": error_bars(100 * line["share_std"]),
            "line": {"color": colour, "width": 2.2},
            "marker": marker(colour, symbol),
            "hovertext": [
                f"<b>{method}</b>, {sparsity_label(row.sparsity)}<br>{percent(row.share)} % of the filters fully pruned "
                f"({counted(row.networks, 'network')})"
                for row in line.itertuples()
            ],
        }
        panels.add(0, method, trace)
        end = line.iloc[-1]
        ends.append((100 * end["sparsity"], 100 * end["share"], method, colour))
    top = max(100 * (table["share"] + table["share_std"].fillna(0)).max(), 1)
    panels.y(0)["range"] = [-0.04 * top, 1.08 * top]
    panels.label_ends(0, ends, (limits[0], last))
    return panels.figure()


def mask(image: np.ndarray, filters: int, weights: int) -> go.Figure:
    """A mask as an image: one or more filters per row, one or more weights per column, light where weights are kept.

    ``image`` (H, W) holds shares of kept weights, from ``structure.image``; ``filters`` and ``weights`` (of a filter) are the
    mask's own numbers.
    """
    height, width = image.shape
    across, down = weights / width, filters / height
    panels = Panels([""], "Weight of the filter", "Filter", plot_height=360)
    heat = {
        **{"type": "heatmap", "z": np.rint(100 * image).astype(np.uint8), "zmin": 0, "zmax": 100},
        **{"x0": across / 2, "dx": across, "y0": down / 2, "dy": down, "colorscale": style.SEQUENTIAL},
        "colorbar": {"title": {"text": "Weights kept (%)", "side": "right"}, **style.COLOUR_BAR},
        "hovertemplate": "filter %{y:.0f}, weight %{x:.0f}: %{z} % kept<extra></extra>",
    }
    panels.add(0, "mask", heat, legend=False)
    panels.x(0).update(range=[0, weights], showgrid=False)
    panels.y(0).update(range=[filters, 0], showgrid=False)
    return panels.figure()


def overlap(table: pd.DataFrame) -> go.Figure:
    """A bar for each layer of a ``tables.overlap_table``: the overlap, with a mark at the one expected at random."""
    panels = _layers(table["name"], "Mask overlap (IoU, %)")
    hover = [
        f"{html.escape(row.name)}<br>IoU {percent(row.overlap)} %, {percent(row.overlap_by_chance)} % expected at random"
        f"<br>{row.kept_in_both:,} kept in both, {row.kept_in_either:,} in either"
        for row in table.itertuples(index=False)
    ]
    mark = {"symbol": "line-ew", "size": 10, "opacity": 1, "line": {"color": style.VERMILLION, "width": 3}}
    bars = {"type": "bar", "width": 0.8, "marker": {"color": style.SKY}, "y": percents(table["overlap"])}
    marks = {"mode": "markers", "marker": mark, "y": percents(table["overlap_by_chance"])}
    for name, trace in (("Mask overlap", bars), ("Expected at random", marks)):
        panels.add(0, name, {**trace, "x": table["layer"].tolist(), "hovertext": hover})
    return panels.figure()


def accuracy(table: pd.DataFrame, size: str) -> go.Figure:
    """Accuracy on a task against a network's size, a point for each backbone, with the standard deviation over seeds.

    ``table`` is from ``tables.accuracy_table``; ``size`` is one of ``labels.SIZES``.
    """
    metric = metric_title(metric_name(table["metric"].unique()))
    panels = Panels([""], SIZES[size].title, f"{metric} (%)")
    table = table.assign(line=name_lines(table))
    sizes, found = table[size] / SIZES[size].scale, looks(table)
    for (method, *_, name), rows in by_line(table):
        colour, symbol = method_style(method)
        trace = {
            **{"mode": "markers+text", "x": sizes[rows.index].tolist(), "y": percents(rows["accuracy_mean"])},
            "error_y": {**error_bars(100 * rows["accuracy_std"]), "color": colour},
            "marker": marker(colour, symbol, hollow=True, size=16 if method == "Dense" else 10, look=found[name]),
            **point_labels([f" {level}" for level in level_labels(rows)], "middle right"),
            "hovertext": [
                accuracy_hover(name, row, *(size_hover(row, each) for each in SIZES))
                for row in rows.itertuples(index=False)
            ],
        }
        panels.add(0, name, trace)
    span = sizes.max() - sizes.min() or sizes.max() or 1
    panels.x(0)["range"] = [sizes.min() - 0.06 * span, sizes.max() + 0.12 * span]  # labels are to the right
    return panels.figure()
