"""Two or more networks over the tasks they share: differences, intervals, rank tests.

A ``grid`` is a frame with a row for each task and a column for each network, such as of relative error increases (lower is
better). The tests follow Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7 (2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from sparse_core.errors import InputError
from sparse_core.results.measures import CONTENT_KEY
from sparse_core.results.statistics import paired_interval, welch_interval

FEWEST_TASKS = 6  # Wilcoxon's exact two-sided p is at least 2 / 2^n: 0.0625 of five tasks, 0.03125 of six
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, ``n`` values and the interval's ``method``. ``low`` and ``high`` are NaN where there are too
    few values for one, or they do not vary."""

    mean: float
    low: float
    high: float
    n: int
    method: str

    @property
    def known(self) -> bool:
        return not np.isnan(self.low)


@dataclass(frozen=True)
class RankTest:
    """Friedman's test of whether networks differ, with Nemenyi's for each pair.

    ``ranks`` are the mean ranks over tasks, 1 is best; two networks differ where their ranks are more than
    ``critical_difference`` apart (5 % level). ``pairs`` are Nemenyi's p values; ``groups`` the largest sets of networks, by rank,
    that cannot be told apart: the bars of a critical-difference diagram.
    """

    statistic: float
    p: float
    tasks: int
    ranks: pd.Series
    critical_difference: float
    pairs: pd.DataFrame
    groups: list[list[str]]


def grid(table: pd.DataFrame, names: Sequence[str], value: str = "relative_error_increase") -> pd.DataFrame:
    """Values of ``measures.difference_to_dense`` as a row for each task and a column for each of ``names``.

    ``names`` (one for each row of the table) tell the networks apart. Tasks are (dataset, content hash, metric). NaN where a
    network has no such value. Raises InputError if one name has two rows on one task.
    """
    named = table.assign(name=list(names)).dropna(subset=[value])
    twice = named.duplicated([*CONTENT_KEY, "name"])
    if twice.any():
        row = named[twice].iloc[0]
        raise InputError(
            f"'{row['name']}' has two values on {row['dataset']}. Choose one architecture, transfer and protocol."
        )
    found = named.pivot(index=CONTENT_KEY, columns="name", values=value)
    return found.reindex(columns=list(dict.fromkeys(names)))


def shared(values: pd.DataFrame) -> pd.DataFrame:
    """The tasks of a grid that all of its networks have. Raises InputError if there is none, or fewer than two networks."""
    if values.shape[1] < 2:
        raise InputError(f"Expected two or more networks to compare; got {values.shape[1]}.")
    common = values.dropna()
    if common.empty:
        listed = ", ".join(f"{name} has {count}" for name, count in values.count().items())
        raise InputError(f"The networks share no task ({listed}). Choose others, or run the missing tasks.")
    return common


def t_interval(values: Sequence[float] | np.ndarray | pd.Series) -> Interval:
    """The mean of the values (N,) with its 95 % t interval (Student 1908): of tasks like these, if the values are of tasks."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) < 2 or not np.ptp(known):
        reason = "all values are equal" if len(known) > 1 else "one value" if len(known) else "no values"
        return Interval(float(known[0]) if len(known) else np.nan, np.nan, np.nan, len(known), f"none: {reason}")
    from scipy.special import stdtrit  # a page without intervals need not wait for SciPy

    mean = float(known.mean())
    half = float(stdtrit(len(known) - 1, 0.975) * known.std(ddof=1) / np.sqrt(len(known)))
    return Interval(mean, mean - half, mean + half, len(known), "t, over tasks")


def pair_intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of column i minus column j at (i, j), and the ends of its 95 % t interval over the rows that both have.

    ``values`` (rows, columns) are NaN where unknown, such as of tasks and networks; so are ends of fewer than two rows, or where
    the difference is always the same.
    """
    differences = values[:, :, None] - values[:, None, :]
    count = (~np.isnan(differences)).sum(axis=0)
    mean = np.divide(np.nansum(differences, axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
    squares = np.nansum((differences - mean) ** 2, axis=0)
    deviation = np.sqrt(np.divide(squares, count - 1, out=np.full(count.shape, np.nan), where=count > 1))
    deviation[np.isclose(deviation, 0, atol=1e-12)] = 0
    low, high = paired_interval(*(pd.Series(each.ravel()) for each in (mean, deviation, count)))
    return mean, low.to_numpy().reshape(mean.shape), high.to_numpy().reshape(mean.shape)


def pairs(values: pd.DataFrame) -> pd.DataFrame:
    """Each pair of networks of a grid, over the tasks that both have.

    Columns: ``first``, ``second``, ``tasks``; ``difference``, the mean of first − second, with ``low`` and ``high`` of its t
    interval over tasks; ``first_lower``, ``equal`` and ``first_higher``, numbers of tasks by the means alone; ``p`` of Wilcoxon's
    signed-rank test (zero differences dropped) and ``p_holm``, corrected for the number of pairs that were tested (Holm 1979).
    The p values are NaN below ``FEWEST_TASKS`` tasks.
    """
    lines = []
    means, lows, highs = pair_intervals(values.to_numpy(float))
    for i, j in combinations(range(values.shape[1]), 2):
        first, second = values.columns[i], values.columns[j]
        differences = (values[first] - values[second]).dropna().to_numpy()
        lines.append(
            {
                "first": first,
                "second": second,
                "tasks": len(differences),
                "difference": means[i, j],
                "low": lows[i, j],
                "high": highs[i, j],
                "first_lower": int((differences < 0).sum()),
                "equal": int((differences == 0).sum()),
                "first_higher": int((differences > 0).sum()),
                "p": signed_rank(differences),
            }
        )
    columns = ["first", "second", "tasks", "difference", "low", "high", "first_lower", "equal", "first_higher", "p"]
    table = pd.DataFrame(lines, columns=columns)
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


def signed_rank(differences: np.ndarray) -> float:
    """The two-sided p value of Wilcoxon's signed-rank test of differences (N,), exact for few; NaN below ``FEWEST_TASKS``, 1
    where all are zero."""
    if len(differences) < FEWEST_TASKS:
        return float("nan")
    if not np.any(differences):
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """P values (N,) corrected by Holm's step-down method for the number of those that are not NaN."""
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    stepped = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def won_drawn_lost(table: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """For each pair of ``compared`` (columns ``first`` and ``second``, names in the table's column ``name``), on how many shared
    tasks the first network is more accurate (``won``), less (``lost``), or not told apart (``drawn``).

    ``table`` is a table by configuration, with a row for each name and task. Told apart are accuracies by Welch's 95 % interval
    between samples (seeds, or networks where several are joined); without three samples on both sides a task is ``unknown``.
    """
    kept = table[["name", *CONTENT_KEY, "accuracy_mean", "accuracy_std", "seeds"]]
    numbered = compared[["first", "second"]].assign(pair=range(len(compared)))
    both = numbered.merge(kept, left_on="first", right_on="name")
    both = both.merge(kept, left_on=["second", *CONTENT_KEY], right_on=["name", *CONTENT_KEY], suffixes=("", "_second"))
    difference = both["accuracy_mean"] - both["accuracy_mean_second"]
    sides = [(both[f"accuracy_std{side}"], both[f"seeds{side}"]) for side in ("", "_second")]
    low, high = welch_interval(difference, sides[0], sides[1])
    each = {"won": low > 0, "drawn": (low <= 0) & (high >= 0), "lost": high < 0, "unknown": low.isna()}
    counts = pd.DataFrame(each).groupby(both["pair"]).sum()
    return counts.reindex(range(len(compared)), fill_value=0).set_axis(compared.index)


def rank_test(values: pd.DataFrame) -> RankTest:
    """Friedman's and Nemenyi's tests of three or more networks of a grid over the tasks they share; lower values rank first.

    Raises InputError for fewer than three networks or two tasks, and where all values of each task are equal.
    """
    common = shared(values)
    tasks, networks = common.shape
    if networks < 3 or tasks < 2:
        raise InputError(
            f"Friedman's test takes three or more networks on two or more tasks; got {networks} on {tasks}."
        )
    if (common.nunique(axis=1) == 1).all():
        raise InputError("All networks are equal on every task: there is nothing to rank.")
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, studentized_range

    found = friedmanchisquare(*common.to_numpy().T)
    ranks = common.rank(axis=1).mean().sort_values(kind="stable")
    quantile = studentized_range.ppf(1 - LEVEL, networks, np.inf) / np.sqrt(2)
    critical = float(quantile * np.sqrt(networks * (networks + 1) / (6 * tasks)))
    compared = posthoc_nemenyi_friedman(common.to_numpy())
    named = pd.DataFrame(compared.to_numpy(), common.columns, common.columns)
    groups = tied_groups(ranks, critical)
    return RankTest(float(found.statistic), float(found.pvalue), tasks, ranks, critical, named, groups)


def tied_groups(ranks: pd.Series, critical_difference: float) -> list[list[str]]:
    """The largest sets of networks whose sorted mean ranks lie within the critical difference; sets of one are left out."""
    groups: list[list[str]] = []
    last_end = 0
    for start in range(len(ranks)):
        end = int((ranks <= ranks.iloc[start] + critical_difference).sum())
        if end - start > 1 and end > last_end:
            groups.append(list(ranks.index[start:end]))
            last_end = end
    return groups


def notes(values: pd.DataFrame) -> list[str]:
    """What must be said of a comparison of a grid's networks: tasks left out, too few tasks for a test."""
    common, remarks = values.dropna(), []
    left_out = [task[0] for task in values.index.difference(common.index)]
    if left_out:
        remarks.append(f"Left out, because not all networks have them: {', '.join(sorted(left_out))}.")
    if len(common) == 1:
        remarks.append("One task: a difference between networks says nothing about other tasks.")
    elif len(common) < FEWEST_TASKS:
        remarks.append(
            f"{len(common)} tasks: with fewer than {FEWEST_TASKS}, Wilcoxon's test cannot reach p = {LEVEL}, so intervals only."
        )
    number = values.shape[1] * (values.shape[1] - 1) // 2
    smallest = number * 2 / 2 ** len(common)
    if len(common) >= FEWEST_TASKS and smallest > LEVEL:
        remarks.append(
            f"With {number} pairs on {len(common)} tasks, Holm's correction leaves p at {smallest:.2g} or more. "
            "Compare fewer networks."
        )
    return remarks
