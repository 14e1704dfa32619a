"""What the paper's statements ask of the rows: each query gives one figure with its interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import pandas as pd

from sparse_core.catalog import TASKS
from sparse_core.results import difficulty, network_facts
from sparse_core.results.comparison import Interval, t_interval
from sparse_core.results.evidence import Evidence
from sparse_core.results.statistics import welch_interval

INCREASE = "relative_error_increase"
WITHOUT = Interval(nan, nan, nan, 0, "none: no rows")


@dataclass(frozen=True)
class Figure:
    """A value with its interval, and the number of rows that it rests on."""

    interval: Interval
    rows: int


Query = Callable[[Evidence], Figure]


def over_dense(transfer: str, method: str, sparsity: float) -> Query:
    """The mean relative error increase over dense."""

    def query(evidence: Evidence) -> Figure:
        cells = evidence.of(transfer, method, sparsity)
        return Figure(t_interval(cells[INCREASE]), evidence.row_count(cells))

    return query


def between(transfer: str, first: str, second: str, sparsity: float, second_sparsity: float | None = None) -> Query:
    """The mean difference of two networks' relative error increases, over the tasks that both have."""

    def query(evidence: Evidence) -> Figure:
        one = evidence.of(transfer, first, sparsity)
        other = evidence.of(transfer, second, sparsity if second_sparsity is None else second_sparsity)
        shared = one.index.intersection(other.index)
        one, other = one.loc[shared], other.loc[shared]
        return Figure(t_interval(one[INCREASE] - other[INCREASE]), evidence.row_count(one, other))

    return query


def accuracy_on(task: str, transfer: str, first: str, second: str, sparsity: float) -> Query:
    """The difference of two accuracies on one task, with Welch's interval over seeds."""

    def query(evidence: Evidence) -> Figure:
        cells = [evidence.of(transfer, method, sparsity) for method in (first, second)]
        if any(task not in cell.index for cell in cells):
            return Figure(WITHOUT, 0)
        one, other = (cell.loc[[task]] for cell in cells)
        sides = [(cell["accuracy_std"], cell["seeds"]) for cell in (one, other)]
        difference = one["accuracy_mean"] - other["accuracy_mean"]
        low, high = welch_interval(difference, sides[0], sides[1])
        n = int(min(one["seeds"].iloc[0], other["seeds"].iloc[0]))
        interval = Interval(
            float(difference.iloc[0]), float(low.iloc[0]), float(high.iloc[0]), n, "Welch's t, over seeds"
        )
        return Figure(interval, evidence.row_count(one, other))

    return query


def best_of_all(transfer: str, method: str, sparsities: Sequence[float], tasks: Sequence[str]) -> Query:
    """A method's accuracy minus that of the best other method at the same sparsity, over pairs of task and sparsity."""

    def query(evidence: Evidence) -> Figure:
        values, used = [], []
        for sparsity in sparsities:
            cells = {name: evidence.of(transfer, name, sparsity) for name in evidence.methods(transfer)}
            own = cells.pop(method, None)
            for task in tasks:
                others = [cell for cell in cells.values() if task in cell.index]
                if own is not None and task in own.index and others:
                    best = max(cell["accuracy_mean"][task] for cell in others)
                    values.append(own["accuracy_mean"][task] - best)
                    used += [cell.loc[[task]] for cell in (own, *others)]
        interval = t_interval(values)
        return Figure(interval, evidence.row_count(*used) if used else 0)

    return query


def rho(method: str, sparsity: float) -> Query:
    """Spearman's rho of relative error increase and task difficulty, under linear transfer."""

    def query(evidence: Evidence) -> Figure:
        rho, n, cells = correlation(evidence, method, sparsity)
        low, high = difficulty.rho_interval(rho, n)
        return Figure(
            Interval(rho, low, high, n, "Fisher's z (Bonett and Wright), over tasks"), evidence.row_count(cells)
        )

    return query


def correlation(evidence: Evidence, method: str, sparsity: float) -> tuple[float, int, pd.DataFrame]:
    cells = evidence.of("linear", method, sparsity)
    cells = cells.loc[cells.index.intersection(evidence.difficulty.index)]
    line = difficulty.regression(evidence.difficulty.reindex(cells.index).to_numpy(), cells[INCREASE].to_numpy())
    return line.rho, line.n, cells


def rho_falls(first: float, second: float) -> Query:
    """The mean over methods of rho at the second sparsity minus rho at the first."""

    def query(evidence: Evidence) -> Figure:
        differences, used = [], []
        for method in evidence.methods("linear"):
            if method != "LTH-T":  # the paper leaves it out of its linear figures
                (before, _, cells), (after, _, more) = (correlation(evidence, method, s) for s in (first, second))
                differences.append(after - before)
                used += [cells, more]
        interval = t_interval(differences)
        named = Interval(
            interval.mean, interval.low, interval.high, interval.n, interval.method.replace("tasks", "methods")
        )
        return Figure(named, evidence.row_count(*used) if used else 0)

    return query


def specialised_are_harder(evidence: Evidence) -> Figure:
    """Mean difficulty of specialised tasks minus that of general ones, with Welch's interval over tasks."""
    known = evidence.difficulty
    sides = [
        known[[name for name in known.index if name in TASKS and TASKS[name].kind == kind]]
        for kind in ("specialised", "general")
    ]
    means, n = [side.mean() for side in sides], min(map(len, sides))
    spreads = [(pd.Series([side.std()]), pd.Series([len(side)])) for side in sides]
    low, high = welch_interval(pd.Series([means[0] - means[1]]), spreads[0], spreads[1])
    interval = Interval(float(means[0] - means[1]), float(low[0]), float(high[0]), n, "Welch's t, over tasks")
    names = [name for side in sides for name in side.index]
    runs = sum(evidence.dense_runs(transfer)[name] for transfer in ("linear", "full") for name in names)
    return Figure(interval, runs)


def full_beats_linear(evidence: Evidence) -> Figure:
    """The share of networks that are more accurate under full than under linear transfer, with a t interval over tasks."""
    key = ["method", "sparsity", "dataset"]
    full, linear = (evidence.cells[evidence.cells["transfer"] == name] for name in ("full", "linear"))
    both = full.merge(linear, on=key, suffixes=("", "_linear"))
    shares = (both["accuracy_mean"] > both["accuracy_mean_linear"]).astype(float).groupby(both["dataset"]).mean()
    return Figure(t_interval(shares), int(both["runs"].sum() + both["runs_linear"].sum()))


def worst_level(transfer: str, method: str, sparsity: float) -> Query:
    """A method's relative error increase at a sparsity minus that at its next worst one."""

    def query(evidence: Evidence) -> Figure:
        others = [level for level in evidence.levels(transfer, method) if abs(level - sparsity) > 1e-6]
        if not others:
            return Figure(WITHOUT, 0)
        worst = max(others, key=lambda level: evidence.of(transfer, method, level)[INCREASE].mean())
        return between(transfer, method, method, sparsity, worst)(evidence)

    return query


def speedup(mode: str, architecture: str, low: float, high: float) -> Query:
    """The mean speedup over dense, of inference or of online training, between two sparsities."""
    return lambda evidence: Figure(*network_facts.speedup(evidence.facts, mode, architecture, (low, high)))


def more_pruned_filters(method: str, sparsities: Sequence[float]) -> Query:
    """How many more of a method's filters are fully pruned than of the next method's."""
    return lambda evidence: Figure(
        *network_facts.more_pruned_filters(evidence.facts, evidence.rows, method, sparsities)
    )


def structured_at_equal_upstream(transfer: str) -> Query:
    """How much more accurate structured networks transfer than unstructured ones of the same upstream accuracy."""

    def query(evidence: Evidence) -> Figure:
        rows = evidence.rows[evidence.rows["transfer"] == transfer]
        return Figure(*network_facts.structured_at_equal_upstream(evidence.facts, rows, evidence.accuracy))

    return query


def first_upstream(first: Mapping[float, str], datasets: Sequence[str]) -> Query:
    """How much more accurate upstream the ``first`` method at each sparsity is than the next one, on these labels."""
    return lambda evidence: Figure(*network_facts.first_upstream(evidence.facts, "resnet50", first, datasets))


def maps_go_together(evidence: Evidence) -> Figure:
    """The slope of downstream against upstream mAP of detectors."""
    return Figure(*network_facts.slope_of_maps(evidence.facts, evidence.rows, evidence.accuracy))


def fall(transfer: str, method: str, first: float, second: float, tasks: Sequence[str]) -> Query:
    """How much accuracy a method loses between two sparsities, over these tasks."""

    def query(evidence: Evidence) -> Figure:
        before, after = evidence.of(transfer, method, first), evidence.of(transfer, method, second)
        shared = [task for task in tasks if task in before.index and task in after.index]
        before, after = before.loc[shared], after.loc[shared]
        return Figure(t_interval(before["accuracy_mean"] - after["accuracy_mean"]), evidence.row_count(before, after))

    return query
