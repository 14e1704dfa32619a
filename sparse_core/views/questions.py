"""What the page says of answers to extended questions: names of their rows, tables."""

import pandas as pd

from sparse_core.catalog import TRANSFERS
from sparse_core.results.measures import CONTENT_KEY
from sparse_core.results.questions import GROUP_KEY, Answer
from sparse_core.views.labels import method_label, name_tasks, series_names

_ABOUT = [name for name in GROUP_KEY if name != "architecture"]
COLUMNS = ["row", "transfer", "setting_difference", "low", "high", "tasks", "runs"]


def names(rows: pd.DataFrame) -> list[str]:
    """Each row of an answer's ``means`` or ``tasks``: method, sparsity and settings, and what else sets the rows apart."""
    series = series_names(rows)
    several = {name for name in ("transfer", "recipe") if rows[name].nunique() > 1}
    return [
        ", ".join(
            filter(
                None,
                (
                    f"{method_label(row.method, row.sparsity)}: {row.setting} instead of {row.first}",
                    TRANSFERS[row.transfer].lower() if "transfer" in several else "",
                    row.recipe if "recipe" in several else "",
                    series[row.source, row.upstream, row.protocol],
                ),
            )
        )
        for row in rows.itertuples()
    ]


def grid(found: Answer) -> tuple[pd.DataFrame, list[str]]:
    """The differences with a row for each task and a column for each of ``names``, and the names of the tasks."""
    tasks = found.tasks.assign(name=names(found.tasks), task=name_tasks(found.tasks))
    table = tasks.pivot_table(index=CONTENT_KEY, columns="name", values="difference")
    shown = tasks.drop_duplicates(CONTENT_KEY).set_index(CONTENT_KEY)["task"]
    return table, shown.reindex(table.index).tolist()


def means(found: Answer) -> pd.DataFrame:
    """The answer's means with ``name``, ``row`` and ``setting_difference``; the clearest gain first within each sparsity."""
    ordered = found.means.sort_values(["sparsity", "mean"], ascending=[True, False], kind="stable")
    named = names(ordered)
    return ordered.assign(name=named, row=named, setting_difference=ordered["mean"]).reset_index(drop=True)


def tasks(found: Answer) -> pd.DataFrame:
    """A row for each difference on a task, with ``row`` and ``task``."""
    differences = found.tasks["difference"]
    table = found.tasks.assign(row=names(found.tasks), task=name_tasks(found.tasks), setting_difference=differences)
    return table[["row", "task", "setting_difference", "low", "high", "runs", *_ABOUT]]
