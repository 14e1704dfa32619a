"""Comparisons of backbones: means over the same tasks, sizes, Pareto fronts, and the runs that a mean rests on."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sparse_core.catalog import task_label
from sparse_core.results.measures import BASELINE_KEY, SUMMARY_KEY, difficulty
from sparse_core.results.statistics import pareto_optimal

BACKBONE_KEY = ["method", "sparsity"]
SERIES_KEY = [name for name in SUMMARY_KEY if name not in BACKBONE_KEY]
SIZES = ["nonzero_parameters", "multiply_adds", "file_size"]


def over_same_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of each backbone over the tasks that all backbones of its series have, so that the means compare.

    ``table`` is from ``measures.per_configuration``. Returns a row for each backbone with ``accuracy_mean``, ``tasks``,
    ``runs`` and ``standard_error`` of the mean over seeds: √(Σ std²/n) over the number of tasks, NaN where a task has one run.
    """
    task = ["dataset", "dataset_hash", "metric"]
    backbones = table.drop_duplicates([*SERIES_KEY, *BACKBONE_KEY]).groupby(SERIES_KEY).size().rename("backbones")
    table = table.join(backbones, on=SERIES_KEY)
    shared = table.groupby([*SERIES_KEY, *task])["method"].transform("size") == table["backbones"]
    means = table[shared].assign(variance=lambda rows: rows["accuracy_std"] ** 2 / rows["runs"])
    grouped = means.groupby([*SERIES_KEY, *BACKBONE_KEY])
    found = grouped.agg(accuracy_mean=("accuracy_mean", "mean"), tasks=("dataset", "size"), runs=("runs", "sum"))
    variance = grouped["variance"].agg(lambda values: values.sum(skipna=False))
    found["standard_error"] = np.sqrt(variance) / found["tasks"]
    return found.reset_index()


def with_sizes(means: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The means, a row for each backbone, with the columns ``SIZES``: averages over ``runs``, NaN where unknown.

    Published runs have no sizes, because the paper's networks were not published with them.
    """
    return means.join(runs.groupby(SUMMARY_KEY)[SIZES].mean(), on=SUMMARY_KEY)


def with_front(table: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The table with ``front``: whether a row is Pareto-optimal within its series and transfer.

    Compared are ``accuracy_mean`` and ``axis``, which is ``sparsity`` (larger is better) or one of ``SIZES`` (smaller is).
    """
    ranked = table.assign(saved=table[axis] if axis == "sparsity" else -table[axis])
    fronts = [pareto_optimal(group, "saved", "accuracy_mean") for _, group in ranked.groupby(SERIES_KEY)]
    return table.assign(front=pd.concat(fronts))


def ordered_tasks(results: pd.DataFrame, order: str = "difficulty") -> dict[str, float]:
    """The tasks of these rows with their difficulty (NaN where unknown), easiest first; ``order`` may be ``name``.

    Where several sources know a task's difficulty, the published one counts. Tasks of unknown difficulty come last.
    """
    known = difficulty(results).sort_values("source").groupby("dataset")["difficulty"].last()
    tasks = {task: float(known.get(task, np.nan)) for task in sorted(results["dataset"].unique(), key=task_label)}
    if order == "name":
        return tasks
    return dict(sorted(tasks.items(), key=lambda item: (np.isnan(item[1]), item[1])))


def underlying_runs(rows: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """The runs that these rows of a summary or task table average, and the dense runs they are compared with."""
    baseline = [name for name in BASELINE_KEY if name in means]
    runs = rows.merge(means[[*baseline, *BACKBONE_KEY]].drop_duplicates())
    dense = rows[rows["method"] == "Dense"].merge(means[baseline].drop_duplicates())
    return pd.concat([runs, dense]).drop_duplicates("run_id")


def present(transfers: Iterable[str], rows: pd.DataFrame) -> list[str]:
    """Those of the transfers that the rows have."""
    return [transfer for transfer in transfers if (rows["transfer"] == transfer).any()]


def has_disputed_rows(rows: pd.DataFrame) -> bool:
    """Whether there are published rows that the paper's text contradicts: RigL under full transfer."""
    rigl = rows["method"].str.startswith("RigL") & (rows["transfer"] == "full") & (rows["source"] == "published")
    return bool(rigl.any())


def is_hidden_lottery_ticket(rows: pd.DataFrame) -> pd.Series:
    """True for LTH-T under linear transfer, which the paper leaves out of its figures."""
    return (rows["method"] == "LTH-T") & (rows["transfer"] == "linear")
