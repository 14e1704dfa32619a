"""Networks compared over shared tasks: mean increases with intervals, differences by task, and critical differences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sparse_core.results.comparison import RankTest
from sparse_core.views.charts.panels import Panels, percents
from sparse_core.views.charts.style import GREY, error_bars, marker, method_style
from sparse_core.views.labels import percent

ROW = 30
FAINT = 0.35
INCREASE = "Relative error increase over dense (%)"
NO_INTERVAL = "no interval"


def means_over_tasks(
    means: pd.DataFrame,
    grid: pd.DataFrame,
    tasks: Sequence[str],
    methods: Mapping[str, str],
    title: str = INCREASE,
    unit: str = "%",
) -> go.Figure:
    """The mean of each row over tasks with its interval, such as of relative error increases; faint points are single tasks.

    ``means`` has ``name``, ``mean``, ``low`` and ``high``, fractions of 1; ``grid`` a column for each name and a row for each
    task, which ``tasks`` names; ``methods`` gives the method of each name, whose colour it gets.
    """
    names = means["name"].tolist()
    panels = Panels([""], title, "", plot_height=max(150, ROW * len(names)), legend_from=99)
    for place, row in enumerate(means.itertuples()):
        colour, symbol = method_style(methods[row.name])
        values = grid[row.name].dropna()
        points = {
            **{"x": percents(values), "y": [float(place)] * len(values), "mode": "markers", "opacity": FAINT},
            "marker": marker(colour, symbol, size=6),
            "hovertext": [
                f"<b>{row.name}</b> on {task}: {percent(value, signed=True)} {unit}"
                for task, value in zip(tasks, grid[row.name], strict=True)
                if not np.isnan(value)
            ],
        }
        panels.add(0, f"{row.name}, by task", points, legend=False)
        ends = pd.Series([100 * (row.high - row.mean)]), pd.Series([100 * (row.mean - row.low)])
        mean = {
            **{"x": [100 * row.mean], "y": [float(place)], "mode": "markers", "error_x": error_bars(*ends)},
            "marker": marker(colour, symbol, size=12),
            "hovertext": [
                f"<b>{row.name}</b>: {percent(row.mean, signed=True)} {unit}, {interval_text(row.low, row.high)}"
            ],
        }
        panels.add(0, row.name, mean, legend=False)
    panels.dense_line(0, (0, 0), (-0.6, len(names) - 0.4))
    panels.name_rows(names)
    return panels.figure()


def differences(table: pd.DataFrame, tasks: Sequence[str], mean: tuple[float, float, float], first: str) -> go.Figure:
    """The difference of two networks' relative error increases on each task, with its interval over seeds; the mean with its
    interval over tasks below.

    ``table`` is ``side_by_side.Pair.tasks``, ``tasks`` names its rows; ``mean`` is mean, low and high; ``first`` names the
    network that has fewer errors on the left.
    """
    order = np.argsort(table["difference"].to_numpy(), kind="stable")
    rows, names = table.iloc[order], [tasks[place] for place in order]
    panels = Panels(
        [""], "Difference of relative error increases (points)", "", plot_height=ROW * (len(rows) + 1), legend_from=99
    )
    hover = [
        f"<b>{name}</b>: {percent(row.difference, signed=True)} points, {interval_text(row.low, row.high)} over seeds"
        for name, row in zip(names, rows.itertuples(), strict=True)
    ]
    values = {"x": percents(rows["difference"]), "y": list(range(len(rows))), "mode": "markers", "hovertext": hover}
    bars = error_bars(100 * (rows["high"] - rows["difference"]), 100 * (rows["difference"] - rows["low"]))
    panels.add(0, first, {**values, "error_x": bars, "marker": marker(GREY, "circle", size=9)}, legend=False)
    middle, low, high = mean
    ends = pd.Series([100 * (high - middle)]), pd.Series([100 * (middle - low)])
    summary = {"x": [100 * middle], "y": [len(rows)], "mode": "markers", "error_x": error_bars(*ends)}
    text = f"<b>Mean</b>: {percent(middle, signed=True)} points, {interval_text(low, high)} over tasks"
    panels.add(0, "Mean", {**summary, "marker": marker(GREY, "diamond", size=14), "hovertext": [text]}, legend=False)
    panels.dense_line(0, (0, 0), (-0.6, len(rows) + 0.6))
    panels.name_rows([*names, "Mean over tasks"])
    return panels.figure()


def critical_difference(ranks: RankTest, methods: Mapping[str, str]) -> go.Figure:
    """A critical-difference diagram (Demšar 2006): each network at its mean rank; a bar joins those that cannot be told apart."""
    names = list(ranks.ranks.index)
    top = -0.9 - 0.3 * (len(ranks.groups) + 1)
    panels = Panels([""], "Mean rank (1 is best)", "", plot_height=ROW * (len(names) + 2), legend_from=99)
    for place, (name, rank) in enumerate(ranks.ranks.items()):
        colour, symbol = method_style(methods[str(name)])
        path = {"x": [0.5, rank, rank], "y": [place, place, top], "mode": "lines", "hoverinfo": "skip"}
        panels.add(0, f"{name}, line", {**path, "line": {"color": colour, "width": 1.5}}, legend=False)
        point = {"x": [rank], "y": [place], "mode": "markers", "marker": marker(colour, symbol, size=10)}
        panels.add(0, str(name), {**point, "hovertext": [f"<b>{name}</b>: mean rank {rank:.2f}"]}, legend=False)
    for number, group in enumerate(ranks.groups):
        height, ends = -0.6 - 0.3 * number, [ranks.ranks[group[0]] - 0.04, ranks.ranks[group[-1]] + 0.04]
        bar = {"x": ends, "y": [height, height], "mode": "lines", "line": {"color": GREY, "width": 6}}
        panels.add(
            0, f"group {number}", {**bar, "hovertext": [f"not told apart: {', '.join(group)}"] * 2}, legend=False
        )
    width = ranks.critical_difference
    scale = {
        "x": [0.6, 0.6 + width],
        "y": [top + 0.15, top + 0.15],
        "mode": "lines",
        "line": {"color": GREY, "width": 3},
    }
    text = f"critical difference {width:.2f}"
    panels.add(0, "critical difference", {**scale, "hovertext": [text] * 2}, legend=False)
    panels.note(text, x=0.6, y=top + 0.15, xanchor="left", yanchor="bottom")
    panels.name_rows(names)
    panels.y(0)["range"] = [len(names) - 0.5, top - 0.7]
    panels.x(0)["range"] = [0.5, max(len(names) + 0.2, 0.7 + width)]
    panels.x(0)["dtick"] = 1
    return panels.figure()


def interval_text(low: float, high: float) -> str:
    """A 95 % interval in percent, or that there is none."""
    if np.isnan(low):
        return NO_INTERVAL
    return f"95 % interval {percent(low, signed=True)} to {percent(high, signed=True)}"
