"""What is computed from result rows: pure functions on frames, shared by the pages and the command line.

Source of the measures: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 3.
Every function takes rows as ``sparse_core.results.store.Store.results`` gives them, one a run.
"""

import pandas as pd

from sparse_core.errors import unknown_name

BASELINE_KEY = ["source", "architecture", "upstream", "transfer", "protocol", "dataset", "dataset_hash", "metric"]
CONFIGURATION_KEY = [*BASELINE_KEY, "method", "sparsity"]
SUMMARY_KEY = ["source", "architecture", "upstream", "transfer", "protocol", "method", "sparsity"]

ACCURACIES = {"best": "accuracy_best", "final": "accuracy_final"}


def per_configuration(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Mean and sample standard deviation (n − 1) over the runs of each backbone on each task.

    ``accuracy`` is ``best`` (over epochs, the study's convention, optimistic) or ``final``. Returns one row a
    configuration with ``accuracy_mean``, ``accuracy_std`` (NaN where n = 1), ``runs`` (n) and ``error``, all as
    fractions of 1. Runs without that accuracy do not count.
    """
    column = _accuracy_column(accuracy)
    measured = results.dropna(subset=[column])
    grouped = measured.groupby(CONFIGURATION_KEY, observed=True, sort=True)[column]
    table = grouped.agg(accuracy_mean="mean", accuracy_std="std", runs="count").reset_index()
    table["error"] = 1 - table["accuracy_mean"]
    return table


def relative_error_increase(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """(err(D, sparse) − err(D, dense)) / err(D, dense) for each configuration, errors averaged over seeds first.

    Adds to ``per_configuration``: ``baseline_accuracy``, ``baseline_runs`` and ``relative_error_increase`` (0.1 means
    10 % more errors than dense). The dense baseline shares source, architecture, upstream, transfer, protocol, dataset
    and metric; where there is none, or it makes no error at all, the measure is NaN.
    """
    table = per_configuration(results, accuracy)
    dense = table[table["method"] == "Dense"][[*BASELINE_KEY, "accuracy_mean", "runs"]]
    dense = dense.rename(columns={"accuracy_mean": "baseline_accuracy", "runs": "baseline_runs"})
    table = table.merge(dense, on=BASELINE_KEY, how="left", validate="many_to_one")
    baseline_error = (1 - table["baseline_accuracy"]).where(lambda error: error > 0)
    table["relative_error_increase"] = (table["error"] - baseline_error) / baseline_error
    return table


def summary(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Mean over tasks of the relative error increase, for each backbone (the study's figure 2).

    ``standard_error`` is the sample standard deviation (n − 1) over √n, NaN where n = 1; ``tasks`` is n, the number of
    tasks with a dense baseline; ``runs`` counts the runs behind them. Dense rows are left out: they are 0 by definition.
    """
    table = relative_error_increase(results, accuracy)
    table = table[table["method"] != "Dense"]
    grouped = table.groupby(SUMMARY_KEY, observed=True, sort=True)
    means = grouped["relative_error_increase"].agg(
        mean_relative_error_increase="mean", standard_error="sem", tasks="count"
    )
    with_baseline = table[table["relative_error_increase"].notna()]
    means["runs"] = with_baseline.groupby(SUMMARY_KEY, observed=True)["runs"].sum()
    return means.fillna({"runs": 0}).astype({"runs": int}).reset_index()


def difference_to_dense(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """``relative_error_increase`` with ``difference``: accuracy minus the dense baseline's, NaN without one."""
    table = relative_error_increase(results, accuracy)
    table["difference"] = table["accuracy_mean"] - table["baseline_accuracy"]
    return table


def difficulty(results: pd.DataFrame, accuracy: str = "best") -> pd.DataFrame:
    """Task difficulty: dense full accuracy minus dense linear accuracy, by source, architecture, upstream and dataset.

    One row a task that has both, with ``full``, ``linear`` and ``difficulty`` (fractions of 1).
    """
    table = per_configuration(results, accuracy)
    dense = table[table["method"] == "Dense"]
    key = ["source", "architecture", "upstream", "dataset"]
    wide = dense.pivot_table(index=key, columns="transfer", values="accuracy_mean", observed=True)
    wide = wide.reindex(columns=["full", "linear"]).dropna()
    wide["difficulty"] = wide["full"] - wide["linear"]
    return wide.rename_axis(columns=None).reset_index()


def _accuracy_column(accuracy: str) -> str:
    if accuracy not in ACCURACIES:
        raise unknown_name("accuracy", accuracy, ACCURACIES)
    return ACCURACIES[accuracy]
