"""Tables of results by task: one row for each backbone and task, and the layout of the paper's tables C.1 and C.2."""

import html
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.results.measures import difference_to_dense
from sparse_core.views.labels import (
    counted,
    distinct,
    marked_series_names,
    marked_task_names,
    method_order,
    name_backbones,
    name_tasks,
    percent,
    series_names,
)


def task_table(rows: pd.DataFrame, accuracy: str, difficulties: dict[str, float]) -> pd.DataFrame:
    """``measures.difference_to_dense`` with names: backbones in the catalog's order, tasks in that of ``difficulties``.

    Adds ``row`` (the backbone's name), ``task`` (with part of its content hash where several datasets have one name),
    ``difficulty``, ``point`` (backbone and task, as links name them) and ``hover`` (a description of the cell, as HTML).
    """
    table = difference_to_dense(rows, accuracy)
    task_rank = {task: number for number, task in enumerate(difficulties)}
    method_rank = {method: number for number, method in enumerate(method_order(table["method"].unique()))}
    order = {
        "difficulty": table["dataset"].map(difficulties),
        "task_rank": table["dataset"].map(task_rank),
        "own": table["source"] != "published",
        "method_rank": table["method"].map(method_rank),
    }
    table = table.assign(**order).sort_values(
        ["own", "method_rank", "sparsity", "protocol", "task_rank"], kind="stable", ignore_index=True
    )
    table["row"] = name_backbones(table, series_names(table))
    table["task"] = name_tasks(table)
    names = zip(name_backbones(table, marked_series_names(table)), marked_task_names(table), strict=True)
    table["point"] = [f"{backbone} on {task}" for backbone, task in names]
    table["hover"] = [_hover(cell) for cell in table.itertuples()]
    by_rank = table.sort_values(["task_rank", "task"])["task"].unique()
    table["task"] = pd.Categorical(table["task"], by_rank, ordered=True)
    return table.drop(columns=["task_rank", "own", "method_rank"])


def paper_layout(table: pd.DataFrame) -> pd.DataFrame:
    """A ``task_table`` as the paper's tables C.1 and C.2: a row for each backbone, "mean ± std (n)" in percent for each task."""
    deviations = ["" if np.isnan(deviation) else f" ± {100 * deviation:.1f}" for deviation in table["accuracy_std"]]
    parts = zip(table["accuracy_mean"], deviations, table["runs"], strict=True)
    cells = [f"{100 * mean:04.1f}{deviation} ({runs})" for mean, deviation, runs in parts]
    wide = table.assign(cell=cells).pivot(index="row", columns="task", values="cell")
    return wide.reindex(distinct(table["row"])).rename_axis("Network").rename_axis(columns=None).reset_index()


def _hover(cell: Any) -> str:
    deviation = "" if np.isnan(cell.accuracy_std) else f" ± {percent(cell.accuracy_std)}"
    lines = [
        f"<b>{html.escape(cell.row)}</b> on {html.escape(cell.task)}",
        f"{100 * cell.accuracy_mean:.1f}{deviation} % ({counted(cell.runs, 'run')})",
    ]
    if cell.method != "Dense" and not np.isnan(cell.difference):
        lines.append(f"dense {100 * cell.baseline_accuracy:.1f} %, difference {100 * cell.difference:+.1f} points")
    if not np.isnan(cell.difficulty):
        lines.append(f"difficulty: dense gains {100 * cell.difficulty:.1f} points from full over linear transfer")
    return "<br>".join(lines)
