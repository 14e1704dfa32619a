"""Networks of one series compared over the tasks they share: means with intervals, pairs, ranks, and what it takes to tell two
apart. What the page Compare and the verb ``compare`` show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparse_core.errors import InputError
from sparse_core.results import comparison, measures, resampling
from sparse_core.results.comparison import Interval, RankTest
from sparse_core.results.measures import BASELINE_KEY, NETWORK_KEY, SERIES_KEY
from sparse_core.results.statistics import welch_interval

INCREASE = "relative_error_increase"
# How the interval of a mean is made: Student's t, or a bootstrap of one of ``resampling.POPULATIONS``.
INTERVALS = ("t", *resampling.POPULATIONS)
MOST_NETWORKS = 20


@dataclass(frozen=True)
class Comparison:
    """``grid``: relative error increases on the shared tasks (rows), a column for each network, fewest errors first.

    ``means`` has a row for each network: ``name``, ``mean``, ``low``, ``high``, ``interval`` (its method), ``tasks``, ``runs``,
    and against dense the number of tasks ``won`` (more accurate beyond the 95 % interval over seeds), ``drawn``, ``lost`` and
    ``unknown`` (no interval). ``pairs`` is ``comparison.pairs`` with the counts of ``comparison.won_drawn_lost``; ``ranks`` is
    None, with a note, where there is nothing to rank. ``table`` are the rows of ``measures.difference_to_dense`` behind it, with
    ``name``.
    """

    grid: pd.DataFrame
    means: pd.DataFrame
    pairs: pd.DataFrame
    ranks: RankTest | None
    notes: list[str]
    table: pd.DataFrame


@dataclass(frozen=True)
class Pair:
    """Two networks on the tasks both have. ``tasks`` has a row for each: ``difference`` of the relative error increases, first −
    second, with ``low`` and ``high`` of its 95 % interval over seeds (Welch's t; NaN with fewer than three samples on a side).

    ``tasks_needed`` in all, and ``seeds_needed`` for each task and side, would tell them apart with a power of
    ``resampling.POWER`` if the differences are as observed; None: more than ``resampling.MOST``, or unknown.
    """

    tasks: pd.DataFrame
    mean: Interval
    tasks_needed: int | None
    seeds_needed: int | None


def series(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """The values of ``SERIES_KEY`` among the rows, those with most runs first; of equals, by name."""
    number, known = measures.grouped(rows, SERIES_KEY)
    counts = known.assign(size=np.bincount(number, minlength=len(known)))
    ordered = counts.sort_values(["size", *SERIES_KEY], ascending=[False, *[True] * len(SERIES_KEY)], kind="stable")
    return list(ordered[SERIES_KEY].itertuples(index=False, name=None))


def networks(table: pd.DataFrame) -> pd.DataFrame:
    """The sparse networks of a ``measures.difference_to_dense`` that have a baseline, with their number of ``tasks``."""
    known = table[table["method"] != "Dense"].dropna(subset=[INCREASE])
    return known.groupby([*SERIES_KEY, *NETWORK_KEY], as_index=False).agg(tasks=("dataset", "size"))


def asked_names(found: pd.DataFrame) -> list[str]:
    """Each row of ``networks`` as a user asks for it: method and sparsity in percent, or ``short_names`` where several share
    these."""
    names = pd.Series([f"{row.method} {100 * row.sparsity:.4g}" for row in found.itertuples()], dtype=object)
    return names.where(~names.duplicated(keep=False), short_names(found)).tolist()


def short_names(found: pd.DataFrame) -> list[str]:
    """Method and sparsity of each row of ``networks``, with network and hash where it has one: no two are equal."""
    return [
        f"{row.method} {100 * row.sparsity:.3g} %"
        + (f", {row.network_name} ({row.network[:6]})" if row.network else "")
        for row in found.itertuples()
    ]


def usual(found: pd.DataFrame, near: float = 0.9) -> pd.DataFrame:
    """The rows of ``networks`` to compare at first: all at the sparsity that most methods have, of equals the one nearest to
    ``near``; without LTH-T under linear transfer, which the paper leaves out."""
    kept = found[~measures.is_hidden_lottery_ticket(found)]
    if kept.empty:
        return kept
    counts = kept.groupby("sparsity")["method"].nunique()
    level = min(counts.index, key=lambda sparsity: (-counts[sparsity], abs(sparsity - near)))
    return kept[kept["sparsity"] == level].head(MOST_NETWORKS)


def compare(
    rows: pd.DataFrame,
    names: Mapping[tuple[object, ...], str],
    *,
    accuracy: str = "best",
    interval: str = "t",
    compared: pd.DataFrame | None = None,
) -> Comparison:
    """Compare the networks of ``names``, by their values of ``NETWORK_KEY``, over the tasks that all of them have.

    ``rows`` are runs of one series, ``measures.joined`` or not, with its dense ones; ``compared`` is
    ``measures.difference_to_dense`` of them, where that is known already. Raises InputError for fewer than two networks or more
    than ``MOST_NETWORKS``, and where they share no task.
    """
    if len(names) > MOST_NETWORKS:
        raise InputError(f"At most {MOST_NETWORKS} networks can be compared; got {len(names)}.")
    compared = measures.difference_to_dense(rows, accuracy) if compared is None else compared
    named = [names.get(tuple(key), "") for key in compared[NETWORK_KEY].itertuples(index=False, name=None)]
    table = compared.assign(name=named)
    table = table[table["name"] != ""].dropna(subset=[INCREASE])
    whole = comparison.grid(table, table["name"].tolist())
    values = comparison.shared(whole)
    values = values[values.mean().sort_values(kind="stable").index]
    on_shared = table[pd.MultiIndex.from_frame(table[comparison.CONTENT_KEY]).isin(values.index)]
    of_name = dict(list(on_shared.groupby("name")))
    intervals = _intervals(rows, names, values, accuracy, interval)
    means = [_mean_row(name, found, of_name[name]) for name, found in zip(values.columns, intervals, strict=True)]
    pairs = comparison.pairs(values)
    ranks, notes = _ranks(values, comparison.notes(whole))
    return Comparison(
        values, pd.DataFrame(means), pairs.join(comparison.won_drawn_lost(on_shared, pairs)), ranks, notes, on_shared
    )


def pair(found: Comparison, first: str, second: str) -> Pair:
    """Two networks of a comparison, by name, over its tasks."""
    one, other = (found.table[found.table["name"] == name] for name in (first, second))
    both = one.merge(other, on=BASELINE_KEY, suffixes=("", "_second"))
    scale = 1 - both["baseline_accuracy"]
    sides = [(both[f"accuracy_std{side}"] / scale, both[f"seeds{side}"]) for side in ("", "_second")]
    both["difference"] = both[INCREASE] - both[f"{INCREASE}_second"]
    both["low"], both["high"] = welch_interval(both["difference"], sides[0], sides[1])
    differences = both["difference"].to_numpy(float)
    mean = comparison.t_interval(differences)
    single = bool((both["networks"] == 1).all() and (both["networks_second"] == 1).all())
    deviations = [side.to_numpy(float) for side, _ in sides]
    seeds = resampling.seeds_needed(mean.mean, deviations) if single and not np.isnan(deviations).any() else None
    return Pair(both, mean, resampling.tasks_needed(differences), seeds)


def _intervals(
    rows: pd.DataFrame,
    names: Mapping[tuple[object, ...], str],
    values: pd.DataFrame,
    accuracy: str,
    interval: str,
) -> Sequence[Interval]:
    """The interval of each column's mean."""
    if interval == "t":
        return [comparison.t_interval(values[name]) for name in values.columns]
    number, networks = measures.grouped(rows, [*BASELINE_KEY, *NETWORK_KEY, *(["member"] if "member" in rows else [])])
    on_shared = pd.MultiIndex.from_frame(networks[comparison.CONTENT_KEY]).isin(values.index)
    keys = networks[NETWORK_KEY].itertuples(index=False, name=None)
    named = np.array([names.get(tuple(key), "") for key in keys], dtype=object)
    kept = (on_shared & ((named != "") | _is_baseline(networks)))[number]
    drawn = resampling.samples(rows[kept], named[number[kept]].tolist(), measures.ACCURACIES[accuracy])
    made = dict(zip(drawn.names, resampling.bootstrap(drawn, interval)[0], strict=True))
    return [made[name] for name in values.columns]


def _is_baseline(rows: pd.DataFrame) -> np.ndarray:
    """True (N,) for the dense rows that ``measures`` takes for the baseline: of several recipes that with most networks."""
    dense = rows[rows["method"] == "Dense"]
    key = [*BASELINE_KEY, "recipe"]
    member = "member" if "member" in dense else "network"
    counts = dense.groupby(key)[member].nunique().reset_index(name="alike")
    ordered = counts.sort_values(["alike", "recipe"], ascending=[False, True], kind="stable")
    usual_ones = pd.MultiIndex.from_frame(ordered.drop_duplicates(BASELINE_KEY)[key])
    return (rows["method"] == "Dense").to_numpy() & pd.MultiIndex.from_frame(rows[key]).isin(usual_ones)


def _mean_row(name: str, mean: Interval, rows: pd.DataFrame) -> dict[str, object]:
    ends = {"mean": mean.mean, "low": mean.low, "high": mean.high, "interval": mean.method}
    won, lost = int((rows["difference_low"] > 0).sum()), int((rows["difference_high"] < 0).sum())
    unknown = int(rows["difference_low"].isna().sum())
    counts = {"won": won, "drawn": len(rows) - won - lost - unknown, "lost": lost, "unknown": unknown}
    return {"name": name, **ends, "tasks": mean.n, "runs": int(rows["runs"].sum()), **counts}


def _ranks(values: pd.DataFrame, notes: list[str]) -> tuple[RankTest | None, list[str]]:
    try:
        return comparison.rank_test(values), notes
    except InputError as error:
        return None, [*notes, str(error)]
