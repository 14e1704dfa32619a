"""Charts of what detectors gave: precision against recall."""

import html

import pandas as pd
import plotly.graph_objects as go

from sparse_core.catalog import architecture_label
from sparse_core.views.charts.panels import Panels, percents
from sparse_core.views.charts.style import HUES, OWN_DASHES, point_labels


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


def upstream_map(points: pd.DataFrame) -> go.Figure:
    """mAP@0.5 after transfer against that before, of ``relations.detector_map``: a line for each architecture, a marker for each
    method."""
    panels = Panels([""], "Upstream mAP@0.5 on COCO (%)", "Downstream mAP@0.5 on VOC (%)")
    symbols = dict(zip(dict.fromkeys(points["method"]), ("circle", "square", "diamond"), strict=False))
    for number, (name, rows) in enumerate(points.groupby("architecture", sort=False)):
        rows = rows.sort_values("upstream_map")
        colour = HUES[number % len(HUES)]
        shapes = [symbols.get(method, "star") for method in rows["method"]]
        trace = {
            **{"x": percents(rows["upstream_map"]), "y": percents(rows["transfer_map"]), "mode": "lines+markers+text"},
            **{"line": {"color": colour, "width": 1.5}, "marker": {"symbol": shapes, "size": 10, "color": colour}},
            **{"hovertext": rows["hover"].tolist(), **point_labels(rows["method"].tolist(), "top left")},
        }
        panels.add(0, architecture_label(str(name)), trace)
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
