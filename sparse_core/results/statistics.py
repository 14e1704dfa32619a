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


def paired_interval(mean: pd.Series, deviation: pd.Series, pairs: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Low and high end of the 95 % t interval of each mean difference of pairs (Student 1908).

    ``deviation`` is the sample standard deviation (n − 1) of the differences, ``pairs`` their number. NaN with fewer than two
    pairs, and where all differences are the same: then nothing is known of how they vary.
    """
    return _t_interval(mean, _squared_error(deviation, pairs), pairs - 1)


def welch_interval(
    difference: pd.Series, first: tuple[pd.Series, pd.Series], second: tuple[pd.Series, pd.Series]
) -> tuple[pd.Series, pd.Series]:
    """Low and high end of the 95 % t interval of each difference of two means with unequal variances (Welch 1947).

    ``first`` and ``second`` are the sample standard deviations (n − 1) of the two sides and their numbers of samples. NaN where
    none of them varies, and where a side has fewer than three samples: with two the interval covers as little as 90 %.
    """
    (first_error, first_size), (second_error, second_size) = (
        (_squared_error(*side), side[1]) for side in (first, second)
    )
    error = (first_error + second_error).where((first_size > 2) & (second_size > 2))
    freedom = error**2 / (first_error**2 / (first_size - 1) + second_error**2 / (second_size - 1))
    return _t_interval(difference, error, freedom)


def ratio_error(
    error: pd.Series,
    baseline: pd.Series,
    first: tuple[pd.Series, pd.Series],
    second: tuple[pd.Series, pd.Series],
    covariance: pd.Series,
) -> pd.Series:
    """The standard error of each ``error / baseline`` by the delta method, to first order: (s₁²/n₁ + r² s₂²/n₂ − 2 r c) / b²
    squared, with r the ratio and b the baseline.

    ``first`` and ``second`` as in ``welch_interval``; ``covariance`` is that of the two means, 0 where samples are not paired.
    NaN with fewer than two samples on a side, where the baseline is 0, and where nothing varies.
    """
    ratio = error / baseline
    squares = _squared_error(*first) + ratio**2 * _squared_error(*second) - 2 * ratio * covariance
    return np.sqrt(squares.where(squares > 0)) / baseline.where(baseline > 0)


def _squared_error(deviation: pd.Series, size: pd.Series) -> pd.Series:
    """The squared standard error of a mean, NaN with fewer than two samples."""
    return deviation.where(size > 1) ** 2 / size


def _t_interval(mean: pd.Series, squared_error: pd.Series, freedom: pd.Series) -> tuple[pd.Series, pd.Series]:
    squares, half = squared_error.to_numpy(float), np.full(len(mean), np.nan)
    known = squares > 0
    if known.any():
        from scipy.special import stdtrit  # a page without intervals need not wait for SciPy

        half[known] = stdtrit(freedom.to_numpy(float)[known], 0.975) * np.sqrt(squares[known])
    return mean - half, mean + half


def pareto_optimal(table: pd.DataFrame, first: str, second: str) -> pd.Series:
    """True for the rows that no other row dominates: at least as large in both columns and larger in one.

    Larger is better in both columns, such as sparsity and accuracy. Rows with NaN are never Pareto-optimal.
    """
    points = table[[first, second]].to_numpy(float)
    at_least = (points[None] >= points[:, None]).all(axis=2)
    larger = (points[None] > points[:, None]).any(axis=2)
    dominated = (at_least & larger).any(axis=1)
    return pd.Series(~dominated & ~np.isnan(points).any(axis=1), index=table.index)
