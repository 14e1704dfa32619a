"""Backbones by a score, best on top."""

import html

import pandas as pd
import plotly.graph_objects as go

from sparse_core.views.charts.panels import Panels
from sparse_core.views.charts.style import marker, method_style


def scores(rows: pd.DataFrame, x_title: str, scale: float) -> go.Figure:
    """A point for each backbone (``row``, ``method``, ``score``), in the order of the rows from top to bottom."""
    panels = Panels([""], x_title, "", plot_height=max(120, 24 * len(rows)), legend_from=99)
    for place, row in enumerate(rows.itertuples()):
        colour, symbol = method_style(row.method)
        text = f"<b>{html.escape(row.row)}</b>: {scale * row.score:.4g}"
        point = {"x": [scale * row.score], "y": [float(place)], "mode": "markers", "hovertext": [text]}
        panels.add(0, row.row, {**point, "marker": marker(colour, symbol, size=11)}, legend=False)
    panels.name_rows(rows["row"].tolist())
    return panels.figure()
