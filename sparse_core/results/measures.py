"""The paper's measures, computed from result rows by DuckDB; shared by the pages and the command line.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 3.
Every function takes rows as ``sparse_core.results.store.Store.results`` returns them, one per run, and an ``accuracy``:
``best`` (over epochs, the paper's convention, optimistic) or ``final``. Runs without that accuracy do not count. All
accuracies, errors and differences are fractions of 1, and unknown values are NaN.
"""

import functools

import duckdb
import pandas as pd

from sparse_core.errors import unknown_name

BASELINE_KEY = ["source", "architecture", "upstream", "transfer", "protocol", "dataset", "dataset_hash", "metric"]
CONFIGURATION_KEY = [*BASELINE_KEY, "method", "sparsity"]
SUMMARY_KEY = ["source", "architecture", "upstream", "transfer", "protocol", "method", "sparsity"]
TASK_KEY = ["source", "architecture", "upstream", "dataset"]

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


def relative_error_increase(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """(err(D, sparse) − err(D, dense)) / err(D, dense) for each configuration, errors averaged over seeds first.

    Adds to ``per_configuration``: ``baseline_accuracy``, ``baseline_runs`` and ``relative_error_increase`` (0.1 means
    10 % more errors than dense). The dense baseline has the same ``BASELINE_KEY``; the measure is NaN if there is none or
    it makes no error.
    """
    return difference_to_dense(results, accuracy).drop(columns="difference")


def difference_to_dense(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """``relative_error_increase`` with ``difference``: accuracy minus the dense baseline's, NaN without one."""
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
