"""Which networks can be told apart: the difference of each pair with its 95 % interval, and from these ranks and ties.

Compared are networks of one series (source, architecture, upstream, transfer, protocol) at one sparsity, and the dense baseline.
Over tasks the pairs are tasks; on one task they are seeds where both are the user's runs with the same seeds, else Welch's
interval counts. Intervals are those of single pairs, not widened for their number.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from sparse_core.results.comparison import pair_intervals
from sparse_core.results.measures import (
    ACCURACIES,
    BASELINE_KEY,
    CONFIGURATION_KEY,
    CONTENT_KEY,
    NEAR,
    OURS,
    SERIES_KEY,
    SUMMARY_KEY,
    grouped,
)
from sparse_core.results.statistics import paired_interval, welch_interval

MOST_NAMED = 6  # ties in a list
MOST = 40  # networks of a group, beyond which no pairs are compared
DENSE = "dense"
Samples = dict[tuple[object, ...], tuple[np.ndarray, np.ndarray]]  # seeds (S,), in their order, and accuracies (S,)


def over_tasks(means: pd.DataFrame, compared: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The rows of ``measures.summary`` with ``increase_low`` and ``increase_high``, the 95 % interval of the mean increase (t
    over tasks, NaN with fewer than two), ``rank`` (1 + the number of networks that are better beyond their interval), ``tied``.

    ``compared`` is ``measures.compared`` of the same rows, ``names`` how each row is called in ``tied``.
    """
    places, named = {row: place for place, row in enumerate(means.index)}, np.array(list(names), dtype=object)
    low, high, rank = (np.full(len(means), np.nan) for _ in range(3))
    tied = np.full(len(means), "", dtype=object)
    for group, values in _increases(means, compared):
        rows = [places[row] for row in group]
        _, lows, highs = pair_intervals(values)
        low[rows], high[rows] = lows[:-1, -1], highs[:-1, -1]
        rank[rows] = 1.0 + (highs < 0)[:-1, :-1].sum(axis=0)
        tied[rows] = _tied(lows, highs, [*named[rows], DENSE])[:-1]
    return means.assign(increase_low=low, increase_high=high, rank=rank, tied=tied)


def _increases(means: pd.DataFrame, compared: pd.DataFrame) -> Iterator[tuple[pd.Index, np.ndarray]]:
    """Of each group the index of its rows, and their increases: (tasks, rows + 1), NaN where unknown, the last column dense."""
    placed = means.dropna(subset=["mean_relative_error_increase"])
    of_task = compared[compared["method"] != "Dense"].dropna(subset=["relative_error_increase"])
    numbers, _ = grouped(pd.concat([placed[SUMMARY_KEY], of_task[SUMMARY_KEY]]), SUMMARY_KEY)
    tasks, contents = grouped(of_task, CONTENT_KEY)
    increases = np.full((len(contents), numbers.max(initial=-1) + 1), np.nan)
    increases[tasks, numbers[len(placed) :]] = of_task["relative_error_increase"]
    column = pd.Series(numbers[: len(placed)], index=placed.index)
    for group in _groups(placed, SERIES_KEY):
        yield group.index, np.column_stack([increases[:, column[group.index]], np.zeros(len(contents))])


def on_task(table: pd.DataFrame, results: pd.DataFrame, names: Sequence[str], accuracy: str = "best") -> pd.DataFrame:
    """The rows of ``measures.difference_to_dense`` with ``rank`` and ``tied`` among the networks of the same task.

    ``results`` are the rows that it was made of, ``names`` how each row is called. Dense networks have no rank of their own.
    """
    found = table.assign(rank=np.nan, tied="")
    named = pd.Series(list(names), index=table.index)
    samples = _samples(results, accuracy)
    dense = dict(list(table[table["method"] == "Dense"].groupby(BASELINE_KEY)))
    for group in _groups(table[table["method"] != "Dense"], BASELINE_KEY):
        reference = dense.get(tuple(group.iloc[0][BASELINE_KEY]))
        # Several dense networks are no single one to be tied with.
        rows = group if reference is None or len(reference) != 1 else pd.concat([group, reference])
        low, high = _on_task_pairs(rows, samples)
        size = len(group)
        found.loc[group.index, "rank"] = 1.0 + (low > 0)[:size, :size].sum(axis=0)
        called = [*named[group.index], *[DENSE] * (len(rows) - size)]
        found.loc[group.index, "tied"] = _tied(low, high, called)[:size]
    return found


def _groups(rows: pd.DataFrame, key: Sequence[str]) -> list[pd.DataFrame]:
    """The rows of each value of ``key`` and sparsity, sparsities closer than ``NEAR`` as one."""
    levels = np.sort(rows["sparsity"].unique())
    starts = np.concatenate([[0], np.cumsum(np.diff(levels) > NEAR)]) if len(levels) else levels
    level = rows["sparsity"].map(dict(zip(levels, starts, strict=True)))
    numbers, _ = grouped(rows.assign(level=level), [*key, "level"])
    return [group for _, group in rows.groupby(numbers) if len(group) <= MOST]


def _samples(results: pd.DataFrame, accuracy: str) -> Samples:
    """The accuracy of each seed of our networks, by configuration; of joined networks there are none."""
    own = results[results["source"].isin(OURS)].dropna(subset=[ACCURACIES[accuracy]])
    number, configurations = grouped(own, [*CONFIGURATION_KEY, *(["member"] if "member" in own else [])])
    means = own[ACCURACIES[accuracy]].groupby([number, own["seed"].to_numpy()]).mean()
    single = configurations.get("member", configurations["network"]) == configurations["network"]
    keys = configurations[CONFIGURATION_KEY].itertuples(index=False, name=None)
    return {
        tuple(key): (part.index.get_level_values(1).to_numpy(), part.to_numpy())
        for (_, part), key, one in zip(means.groupby(level=0), keys, single, strict=True)
        if one
    }


def _on_task_pairs(rows: pd.DataFrame, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """The interval of accuracy i minus accuracy j, at (i, j)."""
    size = len(rows)
    first, second = (index.ravel() for index in np.indices((size, size)))
    mean, spread, count = (rows[name].to_numpy(float) for name in ("accuracy_mean", "accuracy_std", "seeds"))
    sides = [(pd.Series(spread[side]), pd.Series(count[side])) for side in (first, second)]
    low, high = welch_interval(pd.Series(mean[first] - mean[second]), sides[0], sides[1])
    none: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))
    known = [samples.get(tuple(row), none) for row in rows[CONFIGURATION_KEY].itertuples(index=False, name=None)]
    differences = {
        pair: known[one][1] - known[other][1]
        for pair, (one, other) in enumerate(zip(first, second, strict=True))
        if one != other and len(known[one][0]) > 1 and np.array_equal(known[one][0], known[other][0])
    }
    if differences:
        paired = [(each.mean(), each.std(ddof=1), len(each)) for each in differences.values()]
        ends = paired_interval(*(pd.Series(column) for column in zip(*paired, strict=True)))
        low[list(differences)], high[list(differences)] = ends[0].to_numpy(), ends[1].to_numpy()
    return low.to_numpy().reshape(size, size), high.to_numpy().reshape(size, size)


def _tied(low: np.ndarray, high: np.ndarray, names: Sequence[str]) -> list[str]:
    """For each row the names of those whose interval of the difference includes 0; their number where they are many."""
    together = (low <= 0) & (high >= 0) & ~np.eye(len(names), dtype=bool)
    return [_listed([name for name, tie in zip(names, ties, strict=True) if tie], len(names) - 1) for ties in together]


def _listed(names: Sequence[str], others: int) -> str:
    if len(names) <= MOST_NAMED:
        return "; ".join(names)
    dense = " with dense" if DENSE in names else ""
    return f"{len(names)} of {others} others{dense}" if len(names) < others else f"all {others} others{dense}"
