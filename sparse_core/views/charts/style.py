"""Colours, markers and error bars that all charts share. What is coloured reads on white and on dark."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from plotly.colors import sample_colorscale

from sparse_core.catalog import METHODS
from sparse_core.views.labels import SERIES_KEY

# The hues of Okabe and Ito that read on white and on dark alike; grey is for the dense reference.
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
OWN_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
LABEL_SIZE = 12

SEQUENTIAL = "Cividis"
DIVERGING = ((0.0, "#B35806"), (0.25, "#F1A340"), (0.5, "#F7F7F7"), (0.75, "#67A9CF"), (1.0, "#2166AC"))
COLOUR_BAR = {"thickness": 12, "len": 1, "outlinewidth": 0}

# The look of a download: the dashboard replaces it with its own theme.
TEMPLATE = {
    "layout": {
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "font": {"color": "#262730", "family": "Source Sans, Helvetica, Arial, sans-serif"},
        "xaxis": {"gridcolor": "#E6EAF1", "linecolor": "#C9CFDA", "showline": True},
        "yaxis": {"gridcolor": "#E6EAF1"},
    }
}

Line = tuple[str, str, str, str, str]  # method, source, upstream, protocol, name


def method_style(method: str) -> tuple[str, str]:
    """The colour and the marker of a method, the same on every page. Methods not in the catalog share a grey star."""
    return STYLES.get(method, (GREY, "star"))


def marker(
    colour: str, symbol: str, *, hollow: bool | Iterable[bool] = False, size: Any = 10, dotted: bool = False
) -> dict[str, Any]:
    """A marker; ``hollow`` and ``size`` are for all points, or one for each. ``dotted`` tells lines of one method apart.

    Line symbols (dense) have no inside.
    """
    if symbol.startswith("line"):
        return {"symbol": f"{symbol}-open", "size": size, "color": colour, "opacity": 1, "line": {"width": 2.5}}
    dot = "-dot" if dotted and not symbol.startswith("circle-") else ""  # circles with a cross have no such variant
    solid_symbol, hollow_symbol = f"{symbol}{dot}", f"{symbol}-open{dot}"
    shapes: Any = hollow_symbol if hollow is True else solid_symbol
    if not isinstance(hollow, bool):
        shapes = [hollow_symbol if each else solid_symbol for each in hollow]
    width = 0 if hollow is False else 1.8
    return {"symbol": shapes, "size": size, "color": colour, "opacity": 1, "line": {"width": width, "color": colour}}


def dash(name: str, names: Mapping[Any, str]) -> str:
    """The line style of a series: solid for the paper's results, whose name is empty, and for a series alone; else dashed."""
    own = [other for other in names.values() if other]
    return OWN_DASHES[own.index(name) % len(OWN_DASHES)] if name and len(names) > 1 else "solid"


def error_bars(above: pd.Series, below: pd.Series | None = None) -> dict[str, Any]:
    """Error bars in the units of the axis, symmetric unless ``below`` is given; none where NaN."""
    sides = {} if below is None else {"symmetric": False, "arrayminus": below.fillna(0).clip(lower=0).tolist()}
    return {"array": above.fillna(0).clip(lower=0).tolist(), **sides, "thickness": 1.2, "width": 4}


def point_labels(labels: Sequence[str], position: str, colour: str | None = None) -> dict[str, Any]:
    """A short text beside each point."""
    font = {"size": LABEL_SIZE, **({"color": colour} if colour else {})}
    text = [html.escape(label) for label in labels]
    return {"text": text, "textposition": position, "textfont": font, "cliponaxis": False}


def by_line(rows: pd.DataFrame) -> list[tuple[Line, pd.DataFrame]]:
    """The rows of each line (``labels.name_lines``, in the column ``line``), published first, in the catalog's order, by
    sparsity."""
    groups = rows.sort_values("sparsity").groupby(["method", *SERIES_KEY, "line"], sort=False)
    rank = {name: number for number, name in enumerate(METHODS)}
    return sorted(groups, key=lambda item: (item[0][1] != "published", rank.get(item[0][0], len(rank)), item[0]))


def dotted_lines(rows: pd.DataFrame) -> set[str]:
    """The names of every second line of a method and series, whose markers are dotted."""
    lines = rows[["method", *SERIES_KEY, "line"]].drop_duplicates().sort_values("line")
    return set(lines.loc[lines.groupby(["method", *SERIES_KEY]).cumcount() % 2 == 1, "line"])


def readable_on(scale: Any, shares: pd.Series) -> list[str]:
    """Black or white for each share (0..1) of a colour scale, whichever has more contrast."""
    colours = sample_colorscale(scale, shares.clip(0, 1).tolist(), colortype="tuple") if len(shares) else []
    luminance = (0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in colours)
    return ["#000000" if light > 0.5 else "#FFFFFF" for light in luminance]


def shortened(text: str, characters: int) -> str:
    """The text cut to that many characters, as HTML."""
    return html.escape(text if len(text) <= characters else f"{text[: characters - 1]}…")
