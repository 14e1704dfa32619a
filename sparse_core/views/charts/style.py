"""Colours, markers and error bars that all charts share. What is coloured reads on white and on dark."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from plotly.colors import hex_to_rgb, sample_colorscale

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
THIN_SYMBOLS = ("cross-thin", "x-thin", "asterisk")
TINT = 0.35  # opacity of the inside of a tinted marker

SEQUENTIAL = "Cividis"
DIVERGING = ((0.0, "#B35806"), (0.25, "#F1A340"), (0.5, "#F7F7F7"), (0.75, "#67A9CF"), (1.0, "#2166AC"))
COLOUR_BAR = {"thickness": 12, "len": 1, "outlinewidth": 0}

# The look of a download: the dashboard replaces it with its own theme. Arial and its twins have the same widths everywhere.
FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"
LIGHT = {"background": "#FFFFFF", "text": "#262730", "grid": "#E6EAF1", "line": "#C9CFDA"}
DARK = {"background": "#0E1117", "text": "#FAFAFA", "grid": "#31333F", "line": "#555867"}

Line = tuple[str, str, str, str, str]  # method, source, upstream, protocol, name


def template(dark: bool = False) -> dict[str, Any]:
    """Plotly's template for a download on white or, ``dark``, on black."""
    colours = DARK if dark else LIGHT
    return {
        "layout": {
            **{"paper_bgcolor": colours["background"], "plot_bgcolor": colours["background"]},
            "font": {"color": colours["text"], "family": FONT},
            "xaxis": {"gridcolor": colours["grid"], "linecolor": colours["line"], "showline": True},
            "yaxis": {"gridcolor": colours["grid"]},
        }
    }


def method_style(method: str) -> tuple[str, str]:
    """The colour and the marker of a method, the same on every page. Methods not in the catalog share a grey star."""
    return STYLES.get(method, (GREY, "star"))


def marker(
    colour: str, symbol: str, *, hollow: bool | Iterable[bool] = False, size: Any = 10, look: int = 0
) -> dict[str, Any]:
    """A marker; ``hollow`` and ``size`` are for all points, or one for each. ``look`` (0, 1, …) tells lines of one method apart:
    plain, with a dot, tinted, tinted with a dot.

    Line symbols (dense) have no inside: their lines are thinner instead of hollow, and differ in number.
    """
    if symbol.startswith("line"):
        shape, width = (symbol, *THIN_SYMBOLS)[look % 4], 2.5 if hollow is False else 1.5
        return {"symbol": f"{shape}-open", "size": size, "color": colour, "opacity": 1, "line": {"width": width}}
    dot = "-dot" if look % 2 and not symbol.startswith("circle-") else ""  # circles with a cross have no such variant
    tinted = hollow is True and (look % 4 > 1 or (look % 2 == 1 and not dot))
    shapes: Any = f"{symbol}-open{dot}" if hollow is True and not tinted else f"{symbol}{dot}"
    if not isinstance(hollow, bool):
        shapes = [f"{symbol}-open{dot}" if each else f"{symbol}{dot}" for each in hollow]
    outline = {"width": 0 if hollow is False else 1.8, "color": colour}
    inside = f"rgba({', '.join(map(str, hex_to_rgb(colour)))}, {TINT})" if tinted else colour
    return {"symbol": shapes, "size": size, "color": inside, "opacity": 1, "line": outline}


def dash(name: str, names: Mapping[Any, str]) -> str:
    """The line style of a series: solid for the paper's results, whose name is empty, and for a series alone; else dashed."""
    own = list(dict.fromkeys(other for other in names.values() if other))
    return OWN_DASHES[own.index(name) % len(OWN_DASHES)] if name and len(names) > 1 else "solid"


def error_bars(above: ArrayLike, below: ArrayLike | None = None) -> dict[str, Any]:
    """Error bars in the units of the axis, symmetric unless ``below`` is given; none where NaN."""
    sides = {} if below is None else {"symmetric": False, "arrayminus": _lengths(below)}
    return {"array": _lengths(above), **sides, "thickness": 1.2, "width": 4}


def _lengths(side: ArrayLike) -> list[float]:
    return np.nan_to_num(np.asarray(side, dtype=float)).clip(min=0).tolist()


def point_labels(labels: Sequence[str], position: str, colour: str | None = None) -> dict[str, Any]:
    """A short text beside each point."""
    font = {"size": LABEL_SIZE, **({"color": colour} if colour else {})}
    text = [html.escape(label) for label in labels]
    return {"text": text, "textposition": position, "textfont": font, "cliponaxis": False, "meta": "labels"}


def by_line(rows: pd.DataFrame) -> list[tuple[Line, pd.DataFrame]]:
    """The rows of each line (``labels.name_lines``, in the column ``line``), published first, in the catalog's order, by
    sparsity."""
    groups = rows.sort_values("sparsity").groupby(["method", *SERIES_KEY, "line"], sort=False)
    rank = {name: number for number, name in enumerate(METHODS)}
    return sorted(groups, key=lambda item: (item[0][1] != "published", rank.get(item[0][0], len(rank)), item[0]))


def looks(rows: pd.DataFrame) -> dict[str, int]:
    """The ``look`` of the markers of each line (in the column ``line``): its number among those of its method, the paper's
    apart."""
    lines = rows[["method", "source", "line"]].drop_duplicates().sort_values("line")
    own = lines["source"] != "published"
    return dict(zip(lines["line"], lines.groupby([lines["method"], own]).cumcount(), strict=True))


def readable_on(scale: Any, shares: pd.Series) -> list[str]:
    """Black or white for each share (0..1) of a colour scale, whichever has more contrast (WCAG 2): at least 4.5 to 1."""
    colours = sample_colorscale(scale, shares.clip(0, 1).tolist(), colortype="tuple") if len(shares) else []
    values = np.array(colours, dtype=float).reshape(-1, 3)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where((luminance + 0.05) ** 2 > 0.05 * 1.05, "#000000", "#FFFFFF").tolist()
