"""What every training shares: what its seed decides, its progress reports, its saved state, and its result."""

import dataclasses
import math
import pickle
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sparse_core.errors import Cancelled, InputError
from sparse_core.paths import atomic_file, unfinished
from sparse_core.specs.progress import Progress, Report

SECONDS_BETWEEN = 0.2  # reports

Network = TypeVar("Network", bound=nn.Module)
Curves = dict[str, list[float]]


class Diverged(InputError):
    """The training left the finite numbers, so that no state of it is worth keeping."""


def shuffled_rows(seed: int, epoch: int, rows: int) -> np.ndarray:
    """The order (rows,) of the training rows in ``epoch`` (from 0); it depends on the arguments only."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def initial_classifier(seed: int, classes: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) as torch.nn.Linear draws them (Kaiming uniform with a = √5): U(−1/√D, 1/√D)."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(dimensions)
    weight = torch.empty(classes, dimensions).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator)
    return weight, bias


@dataclass(frozen=True)
class Result(Generic[Network]):
    """One seed's network after its last epoch, and its history.

    ``curves`` hold a value per epoch: ``loss`` (mean training cross entropy), ``top1`` and ``mean_per_class`` (test accuracy,
    0..1), and what else the transfer measures. ``confusion`` is (C, C) int64 after the last epoch, true classes in rows.
    ``predicted`` is (T,), the class of each test image then, in the order of the test split.
    ``network`` is all that was trained: the classifier for a probe, backbone and classifier for finetuning. ``seconds``
    has a value per epoch, its test included; seeds trained together each get an equal share. ``details`` are the fields of
    the run's record that only this kind of transfer has.
    """

    seed: int
    learning_rate: float
    curves: Curves
    confusion: np.ndarray
    predicted: np.ndarray
    network: Network
    seconds: list[float]
    details: dict[str, Any]

    def best(self, metric: str) -> float:
        """The best epoch of ``top1`` or ``mean_per_class``: the paper's convention, optimistic as it is selected on test data."""
        return max(self.curves[metric])

    def final(self, metric: str) -> float:
        """The accuracy after the last epoch."""
        return self.curves[metric][-1]


def epoch_values(curves: Curves, epoch: int) -> dict[str, Any]:
    """The values of one epoch (from 1), with its number."""
    return {"epoch": epoch, **{name: values[epoch - 1] for name, values in curves.items()}}


def no_report(progress: Progress) -> None:
    """For callers that do not follow the work."""


class Reporter:
    """Reports progress towards ``total`` units a few times per second, whenever an epoch has ended, and at the end. Epochs that
    end faster are reported together.

    The time left follows from the pace since this object was made, counted from ``start`` units (where a resumed work
    starts), plus ``seconds_after`` for the stages that follow.
    """

    def __init__(self, report: Report, total: int, start: int = 0, seconds_after: float = 0.0) -> None:
        self.report, self.total, self.start, self.seconds_after = report, total, start, seconds_after
        self.started = time.perf_counter()
        self.reported_at = self.epoch_reported_at = -math.inf
        self.epochs_reported = 0
        self.latest = Progress("")

    def update(self, stage: str, done: float, curves: Mapping[int, Curves] | None = None) -> None:
        """Report ``done`` units if a report is due; ``curves`` (by seed) have a value per epoch that has ended."""
        ended = min([int(done), *(len(curve["loss"]) for curve in curves.values())]) if curves else 0
        epochs = tuple(
            {"seed": seed, **epoch_values(curve, epoch)}
            for epoch in range(self.epochs_reported + 1, ended + 1)
            for seed, curve in (curves or {}).items()
        )
        now = time.monotonic()
        since = now - (self.epoch_reported_at if epochs else self.reported_at)
        if done < self.total and since < SECONDS_BETWEEN:
            return
        self.reported_at, self.epochs_reported = now, ended
        self.epoch_reported_at = now if epochs else self.epoch_reported_at
        left = None
        if done > self.start:
            pace = (time.perf_counter() - self.started) / (done - self.start)
            left = pace * (self.total - done) + self.seconds_after
        self.latest = Progress(stage, math.ceil(done), self.total, left, done / self.total, epochs)
        self.report(self.latest)

    def saved(self) -> None:
        """Report that the work done so far was saved: a restart continues from here."""
        self.report(dataclasses.replace(self.latest, epochs=(), saved=True))


class TrainingState:
    """Saves a training's state to ``file`` and loads it again; without a file it does nothing.

    ``identity`` says what is trained (data, spec, seed): the state of another training is not loaded. ``save`` writes
    atomically. As a context manager it deletes the file when the training is cancelled or diverges. Whoever keeps the result
    of a training that ends calls ``discard`` once the result is on disk; any other exception leaves the file to be resumed
    from.
    """

    def __init__(self, file: Path | None, identity: str) -> None:
        self.file, self.identity = file, identity
        self._open = ExitStack()

    def load(self) -> dict[str, Any]:
        """The saved values; empty where the file is missing, damaged or of another training."""
        try:
            saved = torch.load(self.file, weights_only=True) if self.file else {}
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return {}
        return saved if isinstance(saved, dict) and saved.get("fingerprint") == self.identity else {}

    def save(self, values: dict[str, Any]) -> None:
        """Write these values in place of those saved before."""
        if self.file is not None:
            with atomic_file(self.file) as temporary:
                torch.save({"fingerprint": self.identity, **values}, temporary)

    def __enter__(self) -> "TrainingState":
        if self.file:
            self._open.enter_context(unfinished(self.file))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._open.close()
        if self.file and isinstance(error, Cancelled | Diverged):
            discard(self.file)


def discard(state: Path) -> None:
    """Delete the saved state of a training that will not be resumed."""
    state.unlink(missing_ok=True)
