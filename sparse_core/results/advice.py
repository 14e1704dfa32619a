"""Which sparse network to transfer: candidates ranked by the rows there are, each with its evidence.

Nothing here says which method is good: each answer is computed from transfer rows by the functions of ``comparison``. Accuracies
upstream, and networks that were pruned without any training after it (one-shot), are never evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sparse_core.catalog import TASKS, TRANSFERS, architecture_label, task_label
from sparse_core.errors import InputError
from sparse_core.results import measures
from sparse_core.results.comparison import Interval, pair_intervals, t_interval
from sparse_core.results.evidence import Evidence
from sparse_core.specs.checks import require_known

KINDS = ("all", "general", "specialised")
NEAREST = 6  # tasks that stand for one of a given difficulty
MOST_NAMED = 5  # tied networks that the sentence names; the table names all
MEETS, OPEN, FAILS = "meets the budget", "not enough evidence", "exceeds the accepted loss"


@dataclass(frozen=True)
class Request:
    """What a user needs. ``kind`` of task, or its measured ``difficulty`` (dense full minus dense linear accuracy), which then
    counts; ``loss`` of accuracy over dense that one accepts, in [0, 1); at least ``sparsity``, in [0, 1); at most ``file_size``
    bytes; at least ``speedup`` times as fast as dense. None: no such need. ``source`` and ``architecture`` name the rows."""

    transfer: str = "linear"
    kind: str = "all"
    difficulty: float | None = None
    loss: float = 0.01
    sparsity: float | None = None
    file_size: float | None = None
    speedup: float | None = None
    source: str = "published"
    architecture: str = "resnet50"

    def __post_init__(self) -> None:
        require_known("transfer", self.transfer, TRANSFERS)
        require_known("kind of task", self.kind, KINDS)
        for name, value in (("loss", self.loss), ("sparsity", self.sparsity)):
            if value is not None and not 0 <= value < 1:
                raise InputError(f"{name} takes a fraction in [0, 1), such as 0.01; got {value}.")
        if self.difficulty is not None and not -1 <= self.difficulty <= 1:
            raise InputError(
                f"difficulty takes a difference of accuracies from -1 to 1, such as 0.1; got {self.difficulty}."
            )
        for name, value in (("file_size", self.file_size), ("speedup", self.speedup)):
            if value is not None and not value > 0:
                raise InputError(f"{name} takes a number above 0; got {value}.")


@dataclass(frozen=True)
class Speedup:
    """A measured speed over dense in the same engine: the ratio with its 95 % interval, how it was measured, and whether with a
    mask on random weights that was made for timing only."""

    ratio: float
    low: float
    high: float
    how: str
    timing_only: bool = False


Speedups = Mapping[tuple[str, float], Speedup]  # by method, "" for masks made for timing, and sparsity


@dataclass(frozen=True)
class Answer:
    """One network with its evidence. ``loss`` is dense minus sparse accuracy over the tasks; ``increase`` the relative error
    increase. ``tasks_for`` lie within the accepted loss, ``tasks_against`` do not. ``tied_with`` names the candidates from which
    the rows cannot tell it apart; ``rows`` is the number of runs used, dense ones included. ``speedup`` is a measured one and
    ``file_size`` the mean of the networks' files in bytes; None where not known."""

    method: str
    sparsity: float
    verdict: str
    loss: Interval
    increase: Interval
    tasks_for: tuple[str, ...]
    tasks_against: tuple[str, ...]
    tied_with: tuple[str, ...]
    rows: int
    speedup: Speedup | None = None
    file_size: float | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {100 * self.sparsity:.3g} %"


@dataclass(frozen=True)
class Advice:
    """Answers, best first; ``notes`` say what was left out and why; ``tasks`` are those that stand for the user's."""

    answers: list[Answer]
    tasks: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One sentence: what to take, or why there is no answer."""
        best = [answer for answer in self.answers if answer.verdict == MEETS]
        if best:
            names = best[0].tied_with
            others = ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} of {len(self.answers) - 1} others"
            return f"Take {best[0].name}{f'; tied with {others}' if names else ''}."
        if not self.tasks:
            return "Not enough evidence: there are no results of such tasks."
        if not self.answers:
            return "No network in these rows fits the needs."
        if any(answer.verdict == OPEN for answer in self.answers):
            return "Not enough evidence: no network is shown to stay within the accepted loss."
        return "Every network that fits exceeds the accepted loss."


def advise(rows: pd.DataFrame, request: Request, speedups: Speedups | None = None) -> Advice:
    """Rank the networks of ``request.source`` that fit the request.

    ``speedups`` are measured ones; a mask made for timing stands for every method at its sparsity that was not measured. An
    answer meets the budget if the whole 95 % t interval of its loss over tasks lies within the accepted loss, and exceeds it if
    none of it does. Order: that verdict, then the mean relative error increase. Ties: the interval of the difference of two
    networks' increases over shared tasks includes 0.
    """
    evidence = Evidence(measures.selected(rows, rows["source"] == request.source), request.architecture, only=True)
    notes: list[str] = []
    tasks = _tasks(evidence, request, notes)
    known = {key: _facts(evidence, key, speedups or {}) for key in _networks(evidence, request.transfer)}
    candidates = _candidates(evidence, request, known, notes)
    notes += _without_baseline(evidence, request)
    cells = {key: cell.loc[cell.index.intersection(tasks)] for key, cell in candidates.items()}
    cells = {key: cell for key, cell in cells.items() if len(cell)}
    answers = [_answer(evidence, key, cell, request, known[key]) for key, cell in cells.items()]
    ties = _ties({answer.name: cells[answer.method, answer.sparsity] for answer in answers})
    answers = [Answer(**{**vars(answer), "tied_with": tuple(ties.get(answer.name, ()))}) for answer in answers]
    order = (MEETS, OPEN, FAILS)
    answers.sort(key=lambda answer: (order.index(answer.verdict), answer.increase.mean, answer.name))
    return Advice(answers, tasks, notes)


def _tasks(evidence: Evidence, request: Request, notes: list[str]) -> list[str]:
    """The tasks that stand for the user's: all of its kind, or the nearest in difficulty."""
    has = evidence.cells[evidence.cells["transfer"] == request.transfer]
    known = sorted(has["dataset"].unique())
    if request.difficulty is not None:
        difficulty = evidence.difficulty.reindex(known).dropna()
        if difficulty.empty:
            notes.append("No task's difficulty is known: that takes dense runs under both transfers. All tasks count.")
            return known
        nearest = (difficulty - request.difficulty).abs().sort_values(kind="stable").index[:NEAREST]
        notes.append(f"The {len(nearest)} tasks nearest in difficulty count.")
        return sorted(nearest)
    if request.kind == "all":
        return known
    if unknown := [task for task in known if task not in TASKS]:
        listed = ", ".join(map(task_label, unknown))
        notes.append(f"Whether these are general or specialised is not known, so they do not count: {listed}.")
    return [task for task in known if task in TASKS and TASKS[task].kind == request.kind]


Network = tuple[str, float]  # method and sparsity


@dataclass(frozen=True)
class _Facts:
    """What is known of a network beside its accuracies."""

    speedup: Speedup | None
    file_size: float | None


def _networks(evidence: Evidence, transfer: str) -> list[Network]:
    return [(method, level) for method in evidence.methods(transfer) for level in evidence.levels(transfer, method)]


def _facts(evidence: Evidence, network: Network, speedups: Speedups) -> _Facts:
    size = evidence.file_sizes.get(network)
    return _Facts(speedups.get(network) or speedups.get(("", network[1])), None if size is None else float(size))


def _candidates(
    evidence: Evidence, request: Request, known: Mapping[Network, _Facts], notes: list[str]
) -> dict[Network, pd.DataFrame]:
    """The networks that are sparse, small and fast enough, as far as that is known; others are named in ``notes``."""
    found: dict[Network, pd.DataFrame] = {}
    left_out: dict[str, list[str]] = {}
    for (method, level), facts in known.items():
        if request.sparsity is not None and level < request.sparsity - 1e-9:
            continue
        cell = evidence.of(request.transfer, method, level)
        if reason := _excluded(cell, facts, request):
            left_out.setdefault(reason, []).append(f"{method} {100 * level:.3g} %")
        else:
            found[method, level] = cell
    notes += [f"{reason}: {', '.join(names)}." for reason, names in left_out.items()]
    if not found and request.sparsity is not None and known:
        highest = max(level for _, level in known)
        if highest < request.sparsity:
            notes.append(f"The rows end at {100 * highest:.3g} % sparsity.")
    return found


def _without_baseline(evidence: Evidence, request: Request) -> list[str]:
    """That there are no results at all, or which networks have none of a dense one beside them, or one without errors."""
    rows = evidence.cells[evidence.cells["transfer"] == request.transfer]
    if rows.empty:
        name = architecture_label(request.architecture)
        return [f"There are no results of {name} under {request.transfer} transfer here."]
    sparse = rows[rows["method"] != "Dense"]
    known = sparse.groupby(["method", "sparsity"])["relative_error_increase"].count()
    names = [f"{method} {100 * level:.3g} %" for (method, level), tasks in known.items() if not tasks]
    return [f"No dense baseline to compare with, or one without errors: {', '.join(names)}."] if names else []


def _excluded(cell: pd.DataFrame, facts: _Facts, request: Request) -> str:
    """Why a network that is sparse enough is none of the candidates; empty if it is one."""
    if cell["recipe"].str.startswith("0 epochs").any():
        return "Pruned without training after it, so no evidence"
    if request.file_size is not None and facts.file_size is None:
        return "File size not known"
    if request.file_size is not None and facts.file_size is not None and facts.file_size > request.file_size:
        return "Too large"
    if request.speedup is not None and facts.speedup is None:
        return "Speed not measured"
    if request.speedup is not None and facts.speedup is not None and facts.speedup.ratio < request.speedup:
        return "Too slow"
    return ""


def _answer(
    evidence: Evidence,
    key: Network,
    cell: pd.DataFrame,
    request: Request,
    facts: _Facts,
) -> Answer:
    loss = t_interval(-cell["difference"])
    within = cell["difference"] >= -request.loss
    verdict = OPEN
    if loss.known and loss.high <= request.loss:
        verdict = MEETS
    elif loss.known and loss.low > request.loss:
        verdict = FAILS
    names: Sequence[str] = list(cell.index)
    return Answer(
        *key,
        verdict,
        loss,
        t_interval(cell["relative_error_increase"]),
        tuple(name for name, fits in zip(names, within, strict=True) if fits),
        tuple(name for name, fits in zip(names, within, strict=True) if not fits),
        (),
        evidence.row_count(cell),
        facts.speedup,
        facts.file_size,
    )


def _ties(cells: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """The candidates from which the rows cannot tell each one apart: no interval, or one that includes 0."""
    if len(cells) < 2:
        return {}
    grid = pd.DataFrame({name: cell["relative_error_increase"] for name, cell in cells.items()})
    _, low, high = pair_intervals(grid.to_numpy(float))
    apart = (low > 0) | (high < 0) | np.eye(len(low), dtype=bool)
    names = np.array(list(grid), dtype=object)
    return {name: names[~row].tolist() for name, row in zip(names, apart, strict=True)}
