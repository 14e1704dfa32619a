"""The paper's measures, computed from result rows by DuckDB, and comparisons of backbones.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 3.
Measures take rows as ``sparse_core.results.store.Store.results`` returns them, one per run, and an ``accuracy``:
``best`` (over epochs, the paper's convention, optimistic) or ``final``. Runs without that accuracy do not count. All
accuracies, errors and differences are fractions of 1, and unknown values are NaN.
"""

import functools
from collections.abc import Iterable

import duckdb
import numpy as np
import pandas as pd

from sparse_core.catalog import task_label
from sparse_core.errors import unknown_name
from sparse_core.results.statistics import pareto_optimal

BASELINE_KEY = ["source", "architecture", "upstream", "transfer", "protocol", "dataset", "dataset_hash", "metric"]
CONFIGURATION_KEY = [*BASELINE_KEY, "method", "sparsity"]
SUMMARY_KEY = ["source", "architecture", "upstream", "transfer", "protocol", "method", "sparsity"]
BACKBONE_KEY = ["method", "sparsity"]
SERIES_KEY = [name for name in SUMMARY_KEY if name not in BACKBONE_KEY]
TASK_KEY = ["source", "architecture", "upstream", "dataset"]

SIZES = ["nonzero_parameters", "multiply_adds", "file_size"]
ACCURACIES = {"best": "accuracy_best", "final": "accuracy_final"}

# favg sums by Kahan's method, so a mean does not depend on the order of its rows: the command line prints what a page shows.
_CONFIGURATIONS = f"""
    SELECT {", ".join(CONFIGURATION_KEY)}, favg(accuracy) AS accuracy_mean, stddev_samp(accuracy) AS accuracy_std,
           count(*) AS runs, 1 - favg(accuracy) AS error
    FROM runs GROUP BY ALL"""

_COMPARED = f"""
    WITH configurations AS ({_CONFIGURATIONS}),
    dense AS (
        SELECT {", ".join(BASELINE_KEY)}, favg(accuracy) AS baseline_accuracy, count(*) AS baseline_runs,
               CASE WHEN favg(accuracy) < 1 THEN 1 - favg(accuracy) END AS baseline_error
        FROM runs WHERE method = 'Dense' GROUP BY ALL)
    SELECT configurations.*, baseline_accuracy, baseline_runs,
           (error - baseline_error) / baseline_error AS relative_error_increase,
           accuracy_mean - baseline_accuracy AS difference
    FROM configurations LEFT JOIN dense USING ({", ".join(BASELINE_KEY)})"""

_SUMMARY = f"""
    SELECT {", ".join(SUMMARY_KEY)}, avg(relative_error_increase) AS mean_relative_error_increase,
           stddev_samp(relative_error_increase) / sqrt(count(relative_error_increase)) AS standard_error,
           count(relative_error_increase) AS tasks,
           coalesce(sum(runs) FILTER (relative_error_increase IS NOT NULL), 0)::BIGINT AS runs
    FROM ({_COMPARED}) WHERE method != 'Dense' GROUP BY ALL"""

_DIFFICULTY = f"""
    SELECT {", ".join(TASK_KEY)}, avg(accuracy_mean) FILTER (transfer = 'full') AS "full",
           avg(accuracy_mean) FILTER (transfer = 'linear') AS linear, "full" - linear AS difficulty
    FROM ({_CONFIGURATIONS}) WHERE method = 'Dense' GROUP BY ALL HAVING difficulty IS NOT NULL"""


def per_configuration(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Mean and sample standard deviation (n − 1) over the runs of each backbone on each task.

    Returns one row per configuration with ``accuracy_mean``, ``accuracy_std`` (NaN if n = 1), ``runs`` (n) and ``error``.
    """
    return _query(results, accuracy, _CONFIGURATIONS, CONFIGURATION_KEY)


def difference_to_dense(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """(err(D, sparse) − err(D, dense)) / err(D, dense) for each configuration, errors averaged over seeds first.

    Adds to ``per_configuration``: ``baseline_accuracy``, ``baseline_runs``, ``relative_error_increase`` (0.1 means 10 % more
    errors than dense) and ``difference`` (of the accuracies). The dense baseline has the same ``BASELINE_KEY``; the measures
    are NaN if there is none, and the increase if it makes no error.
    """
    return _query(results, accuracy, _COMPARED, CONFIGURATION_KEY)


def summary(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Mean over tasks of the relative error increase, for each sparse backbone (the paper's figure 2).

    ``standard_error`` is the sample standard deviation (n − 1) over √n, NaN if n = 1; ``tasks`` is n, the number of
    tasks with a dense baseline; ``runs`` is the number of runs on those tasks.
    """
    return _query(results, accuracy, _SUMMARY, SUMMARY_KEY)


def difficulty(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Task difficulty: dense full accuracy minus dense linear accuracy, by source, architecture, upstream and dataset.

    One row per task that has both, with ``full``, ``linear`` and ``difficulty``.
    """
    return _query(results, accuracy, _DIFFICULTY, TASK_KEY)


def over_same_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of each backbone over the tasks that all backbones of its series have, so that the means compare.

    ``table`` is from ``per_configuration``. Returns a row for each backbone with ``accuracy_mean``, ``tasks``,
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
    """The means, a row for each backbone, with columns ``SIZES``, averaged over ``runs``: NaN for published ones."""
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


def _query(results: pd.DataFrame, accuracy: str, query: str, key: list[str]) -> pd.DataFrame:
    """The query over ``runs``, the rows that have the chosen accuracy, sorted by ``key``."""
    if accuracy not in ACCURACIES:
        raise unknown_name("accuracy", accuracy, ACCURACIES)
    rows = results[[*CONFIGURATION_KEY, ACCURACIES[accuracy]]].dropna(subset=[ACCURACIES[accuracy]])
    with _memory().cursor() as cursor:
        cursor.register("runs", rows.set_axis([*CONFIGURATION_KEY, "accuracy"], axis=1))
        found = cursor.execute(f"{query} ORDER BY {', '.join(key)}").df()
    # DuckDB returns empty text columns as objects, and counts with gaps as nullable integers.
    kinds = {name: results[name].dtype for name in key if found[name].dtype != results[name].dtype}
    kinds |= {name: float for name in found if found[name].dtype == "Int64"}
    return found.astype(kinds) if kinds else found


@functools.cache
def _memory() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()
