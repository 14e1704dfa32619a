"""Charts of what detectors gave: precision against recall."""

import html

import pandas as pd
import plotly.graph_objects as go

from sparse_core.views.charts.panels import Panels
from sparse_core.views.charts.style import HUES, OWN_DASHES


def precision_recall(table: pd.DataFrame) -> go.Figure:
    """``precision`` against ``recall`` (both 0..1), a line for each ``class``, a panel for each ``network``."""
    networks = list(dict.fromkeys(table["network"]))
    titles = [f"<b>{html.escape(name)}</b>" for name in networks] if len(networks) > 1 else [""]
    panels = Panels(titles, "Recall (%)", "Precision (%)")
    for number, name in enumerate(networks):
        _add_classes(panels, number, table[table["network"] == name])
        panels.x(number).update(range=[0, 101])
        panels.y(number).update(range=[0, 101])
    return panels.figure()


def _add_classes(panels: Panels, panel: int, table: pd.DataFrame) -> None:
    dashes = ("solid", *OWN_DASHES)
    for number, (name, rows) in enumerate(table.groupby("class", sort=False)):
        line = {"color": HUES[number % len(HUES)], "width": 1.8, "dash": dashes[number // len(HUES) % len(dashes)]}
        texts = [
            f"{html.escape(str(name))}: precision {100 * row.precision:.3g} % at recall {100 * row.recall:.3g} %"
            for row in rows.itertuples()
        ]
        values = {"x": (100 * rows["recall"]).tolist(), "y": (100 * rows["precision"]).tolist()}
        panels.add(panel, str(name), {**values, "mode": "lines", "line": line, "hovertext": texts})
