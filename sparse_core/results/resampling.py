"""A hierarchical bootstrap of mean relative error increases, and the power of comparisons, by simulation.

Source of the resampling: Davison and Hinkley, "Bootstrap Methods and their Application" (1997), sections 2.3 and 3.8; of the
expanded percentiles: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparse_core.errors import InputError
from sparse_core.results.comparison import Interval
from sparse_core.results.measures import CONTENT_KEY, grouped

RESAMPLES = 10_000
POPULATIONS = {"new": "new tasks like these", "these": "these tasks"}
FEWEST_NETWORKS = 6  # fewer say too little of how networks differ
FEWEST_DEGREES = 5  # of freedom, such as of six tasks: below, the interval covers less than 93 % (simulated)
POWER = 0.8
SIMULATIONS = 2000
MOST = 200  # tasks or seeds; more are not worth asking for
MANY_SEEDS = 100  # means of so many draws are normally distributed, to less than what 10,000 resamples vary by


@dataclass(frozen=True)
class Samples:
    """Errors (M networks' names, T tasks, K networks of a name, S seeds), NaN where there is none, and those of the dense
    baseline (T, K, S)."""

    names: list[str]
    errors: np.ndarray
    dense: np.ndarray


def samples(rows: pd.DataFrame, names: Sequence[str], accuracy: str = "accuracy_best") -> Samples:
    """The errors of the rows (one a run, of one series) by name, task, network and seed; on tasks that all names and dense have.

    ``names`` has one name for each row, "" for rows of the dense baseline. Runs that repeat a seed are averaged. Raises
    InputError if no task is shared.
    """
    member = rows["member"] if "member" in rows else rows["network"]
    table = rows[[*CONTENT_KEY, "seed", accuracy]].assign(name=list(names), member=member).dropna(subset=[accuracy])
    key = [*CONTENT_KEY, "name", "member"]
    number, cells_of = grouped(table, key)
    by_seed = 1 - table[accuracy].groupby([number, table["seed"].to_numpy()]).mean()
    starts = np.flatnonzero(np.diff(by_seed.index.get_level_values(0))) + 1
    cells: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    values = np.split(by_seed.to_numpy(), starts)
    for (*cell, member), errors in zip(cells_of[key].itertuples(index=False, name=None), values, strict=False):
        cells.setdefault(tuple(cell), {})[member] = errors
    ordered = list(dict.fromkeys(name for name in names if name))
    by_task = cells_of.groupby(CONTENT_KEY)["name"].agg(set)
    tasks = list(by_task.index[[set(ordered) | {""} <= found for found in by_task]])
    if not tasks or not ordered:
        raise InputError("The networks and their dense baseline share no task.")
    made = [_padded([cells[(*task, name)] for task in tasks]) for name in (*ordered, "")]
    depth, seeds = (max(array.shape[axis] for array in made) for axis in (1, 2))
    whole = [np.full((len(tasks), depth, seeds), np.nan) for _ in made]
    for target, array in zip(whole, made, strict=True):
        target[:, : array.shape[1], : array.shape[2]] = array
    return Samples(ordered, np.stack(whole[:-1]), whole[-1])


def _padded(cells: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """The cells of tasks, errors over seeds by member, as (T, K, S); a network has one place on all tasks."""
    members = sorted({member for cell in cells for member in cell})
    array = np.full((len(cells), len(members), max(len(each) for cell in cells for each in cell.values())), np.nan)
    for place, cell in enumerate(cells):
        for number, member in enumerate(members):
            if member in cell:
                array[place, number, : len(cell[member])] = cell[member]
    return array


def bootstrap(
    given: Samples, population: str = "new", resamples: int = RESAMPLES, seed: int = 0
) -> tuple[list[Interval], np.ndarray]:
    """The mean relative error increase of each name with a 95 % bootstrap interval, and all resampled means (M, R).

    ``population`` "new": the tasks are a sample of tasks like them, and are drawn with replacement; their seeds come with them,
    because the spread between tasks has that of the seeds in it (drawing those again would count it twice). "these": the tasks
    stay, and the seeds of each network on each task are drawn, on the dense side too. In both, networks of a name are
    drawn if there are ``FEWEST_NETWORKS`` or more, the same ones for all tasks; else they stay.

    Residuals are scaled by √(n / (n − 1)), and the percentiles are expanded to those of a t distribution, so that intervals cover
    95 % with few samples too. No interval (NaN) below ``FEWEST_DEGREES`` degrees of freedom: fewer than six tasks, or, for these
    tasks, too few seeds.
    """
    if population not in POPULATIONS:
        raise InputError(f"Unknown population '{population}'. Known: {', '.join(POPULATIONS)}.")
    random = np.random.default_rng(seed)
    drawn = _draw_tasks(given, random, resamples) if population == "new" else _draw_seeds(given, random, resamples)
    drawn = drawn + _network_shifts(given, random, resamples)
    means = _increases(_cell_means(given.errors), _cell_means(given.dense)).mean(axis=1)
    drawn_from = "tasks" if population == "new" else "seeds"
    intervals = []
    for mean, values, degrees in zip(means, drawn, _freedom(given, population), strict=True):
        low, high = _expanded_percentiles(values, degrees)
        method = f"bootstrap over {drawn_from}" if low < high else f"none: too few {drawn_from}"
        intervals.append(Interval(float(mean), low, high, given.errors.shape[1], method))
    return intervals, drawn


def _cell_means(errors: np.ndarray) -> np.ndarray:
    """Errors (…, K, S) to the mean over networks of their means over seeds (…)."""
    return np.nanmean(_seed_means(errors), axis=-1)


def _seed_means(errors: np.ndarray) -> np.ndarray:
    """Errors (…, S) to means over seeds, NaN where there is none."""
    counts = (~np.isnan(errors)).sum(axis=-1)
    return np.where(counts > 0, np.nansum(errors, axis=-1) / np.maximum(counts, 1), np.nan)


def _increases(errors: np.ndarray, dense: np.ndarray) -> np.ndarray:
    return (errors - dense) / dense


def _draw_tasks(given: Samples, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Means (M, R) over tasks that were drawn with replacement."""
    increases = _increases(_cell_means(given.errors), _cell_means(given.dense))  # (M, T)
    tasks = increases.shape[1]
    if tasks == 1:
        return np.repeat(increases, resamples, axis=1)
    chosen = random.integers(tasks, size=(resamples, tasks))
    mean = increases.mean(axis=1, keepdims=True)
    scale = np.sqrt(tasks / (tasks - 1))
    return mean + scale * (increases[:, chosen].mean(axis=2) - mean)


def _draw_seeds(given: Samples, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Means (M, R) over the tasks, with the seeds of each cell drawn with replacement, those of dense for all names alike."""
    dense = _drawn_cells(given.dense, random, resamples)  # (T, R)
    total = np.zeros((len(given.errors), resamples))
    for number, errors in enumerate(given.errors):
        total[number] = _increases(_drawn_cells(errors, random, resamples), dense).mean(axis=0)
    return total


def _drawn_cells(errors: np.ndarray, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Errors (T, K, S) to the means (T, R) of resampled seeds: mean + √(n / (n − 1)) · (mean of drawn − mean)."""
    counts = (~np.isnan(errors)).sum(axis=-1)  # (T, K); seeds come first, NaN after
    centres = _seed_means(errors)
    scale = np.sqrt(counts / np.maximum(counts - 1, 1))
    residuals = np.nan_to_num((errors - centres[..., None]) * scale[..., None])
    tasks, networks = errors.shape[:2]
    total = np.zeros((tasks, resamples))
    for task in range(tasks):
        for network in range(networks):
            n = int(counts[task, network])
            if n > 1:
                total[task] += _drawn_means(residuals[task, network, :n], random, resamples)
    present = (counts > 0).sum(axis=1)
    return _cell_means(errors)[:, None] + total / present[:, None]


def _drawn_means(residuals: np.ndarray, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Means (R,) of n residuals (n,) around 0, drawn with replacement."""
    n = len(residuals)
    if n > MANY_SEEDS:
        return random.normal(0.0, residuals.std() / np.sqrt(n), resamples)
    return residuals[random.integers(n, size=(n, resamples))].mean(axis=0)


def _network_means(given: Samples) -> np.ndarray:
    """Mean relative error increases (M, K) of each network over the tasks, NaN for a network that lacks a task."""
    dense = _cell_means(given.dense)
    return ((_seed_means(given.errors) - dense[None, :, None]) / dense[None, :, None]).mean(axis=1)


def _network_shifts(given: Samples, random: np.random.Generator, resamples: int) -> np.ndarray:
    """What drawing networks adds to each resampled mean (M, R); 0 for fewer than ``FEWEST_NETWORKS``."""
    shifts = np.zeros((len(given.names), resamples))
    for number, means in enumerate(_network_means(given)):
        known = means[~np.isnan(means)]
        if (n := len(known)) >= FEWEST_NETWORKS:
            residuals = (known - known.mean()) * np.sqrt(n / (n - 1))
            shifts[number] = _drawn_means(residuals, random, resamples)
    return shifts


def _freedom(given: Samples, population: str) -> np.ndarray:
    """Degrees of freedom (M,) of each mean's variance, of all that was drawn (Satterthwaite 1946); 0 for too few samples."""
    freedom = []
    means = _increases(_cell_means(given.errors), _cell_means(given.dense))
    for number, (errors, networks) in enumerate(zip(given.errors, _network_means(given), strict=True)):
        parts = _task_part(means[number]) if population == "new" else _seed_parts(errors, given.dense)
        known = networks[~np.isnan(networks)]
        if len(known) >= FEWEST_NETWORKS:
            parts = [*parts, (known.var(ddof=1) / len(known), len(known) - 1)]
        total = sum(variance for variance, _ in parts)
        square = sum(variance**2 / degrees for variance, degrees in parts)
        enough = sum(degrees for _, degrees in parts) >= FEWEST_DEGREES
        freedom.append(total**2 / square if enough and square > 0 else 0.0)
    return np.array(freedom)


def _task_part(increases: np.ndarray) -> list[tuple[float, float]]:
    tasks = len(increases)
    return [(float(increases.var(ddof=1)) / tasks, tasks - 1)] if tasks > 1 else []


def _seed_parts(errors: np.ndarray, dense: np.ndarray) -> list[tuple[float, float]]:
    """The part of each cell of a name and of dense, to first order: variance of the mean over tasks, degrees of freedom."""
    base = _cell_means(dense)
    ratio = _cell_means(errors) / base
    parts = []
    for values, weight in ((errors, 1 / base), (dense, ratio / base)):
        networks = (~np.isnan(values)).any(axis=-1).sum(axis=-1)
        for cells, share in zip(values, weight / networks / len(base), strict=True):
            for cell in cells:
                known = cell[~np.isnan(cell)]
                if len(known) > 1:
                    parts.append((float(share**2 * known.var(ddof=1) / len(known)), float(len(known) - 1)))
    return parts


def _expanded_percentiles(values: np.ndarray, freedom: float) -> tuple[float, float]:
    """The percentiles of resampled means (R,) that a t interval would take; NaN without degrees of freedom."""
    if not freedom:
        return float("nan"), float("nan")
    from scipy.special import ndtr, stdtrit

    tail = float(ndtr(-stdtrit(freedom, 0.975)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def tasks_needed(differences: np.ndarray, *, seed: int = 0) -> int | None:
    """How many tasks in all a t test would need to tell two networks apart with a power of ``POWER``, if the true mean and spread
    of the differences (T,) are the observed ones; None if more than ``MOST``, or unknown."""
    known = differences[~np.isnan(differences)]
    if len(known) < 2:
        return None
    return _enough(float(known.mean()), float(known.var(ddof=1)), np.arange(1, MOST + 1) - 1.0, seed)


def seeds_needed(difference: float, deviations: Sequence[np.ndarray], *, seed: int = 0) -> int | None:
    """How many seeds for each task and side would tell two networks apart on these very tasks with a power of ``POWER``.

    ``difference`` is the mean over tasks; ``deviations`` are the standard deviations (T,) between seeds of the two sides, in the
    difference's unit. None if more than ``MOST``, or unknown.
    """
    tasks = len(deviations[0])
    variance = float(sum(np.square(side).sum() for side in deviations)) / tasks**2
    return _enough(difference, variance, 2.0 * tasks * (np.arange(1, MOST + 1) - 1.0), seed)


def _enough(difference: float, variance: float, freedom: np.ndarray, seed: int) -> int | None:
    """The smallest n with which a t test tells ``difference`` from 0 in ``POWER`` of simulations. A mean of n samples has the
    variance ``variance`` / n, which is estimated with the degrees of freedom ``freedom`` (N,) of n = 1 … N."""
    if not difference or not np.isfinite(difference) or not variance > 0:
        return None
    from scipy.special import stdtrit

    random = np.random.default_rng(seed)
    n, known = np.arange(1, len(freedom) + 1), np.maximum(freedom, 1)
    means = difference + np.sqrt(variance / n) * random.standard_normal((SIMULATIONS, 1))
    estimates = variance * random.chisquare(known, (SIMULATIONS, len(n))) / known
    power = (np.abs(means) / np.sqrt(estimates / n) > stdtrit(known, 0.975)).mean(axis=0)
    enough = np.flatnonzero((freedom > 0) & (power >= POWER))
    return int(n[enough[0]]) if len(enough) else None
