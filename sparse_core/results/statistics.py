"""Statistics of results: intervals and Pareto optimality. Pure functions on arrays and frames."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd


def wilson_interval(successes: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high end of the 95 % score interval of each proportion (Wilson 1927), in 0..1; fits small totals too.

    ``successes`` and ``totals`` (N,) are counts, totals above 0.
    """
    intervals = [_wilson_interval(int(k), int(n)) for k, n in zip(successes, totals, strict=True)]
    low, high = np.array(intervals).reshape(-1, 2).T
    return low, high


def per_class(counts: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """One row for each class that occurs, lowest first: ``accuracy`` and its 95 % interval (Wilson's), from counts (C, C)."""
    totals, hits = counts.sum(axis=1), np.diag(counts)
    present = totals > 0
    low, high = wilson_interval(hits[present], totals[present])
    names, accuracy = np.array(class_names, dtype=object)[present], hits[present] / totals[present]
    columns = {"class": names, "accuracy": accuracy, "lowest": low, "highest": high, "images": totals[present]}
    table = pd.DataFrame(columns)
    return table.sort_values("accuracy", kind="stable", ignore_index=True)


@functools.cache  # SciPy takes half a millisecond, and classes of the same size share most of their counts
def _wilson_interval(successes: int, total: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    # The p-value is not used: with the observed share as null hypothesis SciPy need not search for it.
    interval = binomtest(successes, total, successes / total).proportion_ci(method="wilson")
    return interval.low, interval.high


def pareto_optimal(table: pd.DataFrame, first: str, second: str) -> pd.Series:
    """True for the rows that no other row dominates: at least as large in both columns and larger in one.

    Larger is better in both columns, such as sparsity and accuracy. Rows with NaN are never Pareto-optimal.
    """
    points = table[[first, second]].to_numpy(float)
    at_least = (points[None] >= points[:, None]).all(axis=2)
    larger = (points[None] > points[:, None]).any(axis=2)
    dominated = (at_least & larger).any(axis=1)
    return pd.Series(~dominated & ~np.isnan(points).any(axis=1), index=table.index)
