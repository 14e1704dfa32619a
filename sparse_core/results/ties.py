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
        yield group, np.column_stack([increases[:, column[group]], np.zeros(len(contents))])


def on_task(table: pd.DataFrame, results: pd.DataFrame, names: Sequence[str], accuracy: str = "best") -> pd.DataFrame:
    """The rows of ``measures.difference_to_dense`` with ``rank`` and ``tied`` among the networks of the same task.

    ``results`` are the rows that it was made of, ``names`` how each row is called. Dense networks have no rank of their own.
    """
    table, kept = table.reset_index(drop=True), table.index
    named, rank, tied = list(names), np.full(len(table), np.nan), np.full(len(table), "", dtype=object)
    baselines, is_dense = grouped(table, BASELINE_KEY)[0], (table["method"] == "Dense").to_numpy()
    dense: dict[int, list[int]] = {}
    for row in np.flatnonzero(is_dense):
        dense.setdefault(baselines[row], []).append(int(row))
    groups = []
    for rows in _groups(table[~is_dense], BASELINE_KEY):
        reference = dense.get(baselines[rows[0]], [])
        groups.append((rows, reference if len(reference) == 1 else []))  # several are no single one to be tied with
    intervals = _on_task_pairs(table, [np.array([*rows, *reference]) for rows, reference in groups], results, accuracy)
    for (rows, reference), (low, high) in zip(groups, intervals, strict=True):
        size = len(rows)
        rank[rows] = 1.0 + (low > 0)[:size, :size].sum(axis=0)
        tied[rows] = _tied(low, high, [*(named[row] for row in rows), *[DENSE] * len(reference)])[:size]
    return table.assign(rank=rank, tied=tied).set_axis(kept)


def _groups(rows: pd.DataFrame, key: Sequence[str]) -> list[pd.Index]:
    """The index of the rows of each value of ``key`` and sparsity, sparsities closer than ``NEAR`` as one."""
    levels = np.sort(rows["sparsity"].unique())
    starts = np.concatenate([[0], np.cumsum(np.diff(levels) > NEAR)]) if len(levels) else levels
    level = rows["sparsity"].map(dict(zip(levels, starts, strict=True)))
    numbers, _ = grouped(rows.assign(level=level), [*key, "level"])
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return [rows.index[group] for group in groups if 0 < len(group) <= MOST]


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


def _on_task_pairs(
    table: pd.DataFrame, groups: Sequence[np.ndarray], results: pd.DataFrame, accuracy: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each group of rows (G,) the interval of accuracy i minus accuracy j, at (i, j). All groups are computed at once."""
    pairs = [np.stack(np.meshgrid(rows, rows, indexing="ij")).reshape(2, -1) for rows in groups]
    first, second = np.concatenate([np.empty((2, 0), dtype=int), *pairs], axis=1)
    mean, spread, count = (table[name].to_numpy(float) for name in ("accuracy_mean", "accuracy_std", "seeds"))
    sides = [(pd.Series(spread[side]), pd.Series(count[side])) for side in (first, second)]
    low, high = welch_interval(pd.Series(mean[first] - mean[second]), sides[0], sides[1])
    same, *differences = _paired(table, _samples(results, accuracy), first, second)
    ends = paired_interval(*map(pd.Series, differences))
    low[same], high[same] = ends[0].to_numpy(), ends[1].to_numpy()
    starts = np.cumsum([len(rows) ** 2 for rows in groups], dtype=int)[:-1]
    parts = (np.split(each.to_numpy(), starts) for each in (low, high))
    for rows, lows, highs in zip(groups, *parts, strict=False):  # without groups there is still one part, an empty one
        yield lows.reshape(len(rows), -1), highs.reshape(len(rows), -1)


def _paired(table: pd.DataFrame, samples: Samples, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which pairs of rows (P,) have the same seeds, two or more, and of these the mean, deviation and number of differences."""
    known = [samples.get(key) for key in table[CONFIGURATION_KEY].itertuples(index=False, name=None)]
    seeds = pd.Series([each[0].tobytes() if each and len(each[0]) > 1 else None for each in known], dtype=object)
    codes, _ = pd.factorize(seeds)
    together = (codes[first] == codes[second]) & (codes[first] >= 0) & (first != second)
    found = [np.empty((4, 0))]
    for code in np.unique(codes[first[together]]):
        rows, same = np.flatnonzero(codes == code), np.flatnonzero(together & (codes[first] == code))
        values = np.stack([samples_of[1] for row in rows if (samples_of := known[row])])
        one, other = np.searchsorted(rows, first[same]), np.searchsorted(rows, second[same])
        differences = values[one] - values[other]
        count = np.full(len(same), values.shape[1])
        found.append(np.stack([same, differences.mean(axis=1), differences.std(axis=1, ddof=1), count]))
    same, *statistics = np.concatenate(found, axis=1)
    return same.astype(int), *statistics


def _tied(low: np.ndarray, high: np.ndarray, names: Sequence[str]) -> list[str]:
    """For each row the names of those whose interval of the difference includes 0; their number where they are many."""
    together = (low <= 0) & (high >= 0) & ~np.eye(len(names), dtype=bool)
    return [_listed([name for name, tie in zip(names, ties, strict=True) if tie], len(names) - 1) for ties in together]


def _listed(names: Sequence[str], others: int) -> str:
    if len(names) <= MOST_NAMED:
        return "; ".join(names)
    dense = " with dense" if DENSE in names else ""
    return f"{len(names)} of {others} others{dense}" if len(names) < others else f"all {others} others{dense}"
