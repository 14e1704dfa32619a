"""The state of an unfinished training in a file, from which it resumes after a crash."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from sparse_core.errors import Cancelled, InputError
from sparse_core.paths import atomic_file


class Diverged(InputError):
    """The training left the finite numbers, so that no state of it is worth keeping."""


class TrainingState:
    """Saves a training's state to ``file`` and loads it again; without a file it does nothing.

    ``identity`` says what is trained (data, spec, seeds): the state of another training is not loaded. ``save`` writes
    atomically, and no more often than every ``seconds_between``. As a context manager it removes the file when the training
    ends, is cancelled or diverges; any other exception leaves it to be resumed from.
    """

    def __init__(self, file: Path | None, identity: str, seconds_between: float = 0.0) -> None:
        self.file, self.identity, self.seconds_between = file, identity, seconds_between
        self.saved_at = time.monotonic()

    def load(self) -> dict[str, Any]:
        """The saved values; empty where the file is missing, damaged or of another training."""
        try:
            saved = torch.load(self.file, weights_only=True) if self.file else {}
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return {}
        return saved if saved.get("fingerprint") == self.identity else {}

    def save(self, values: Callable[[], dict[str, Any]]) -> None:
        """Write what ``values`` returns, unless the last save is too recent."""
        if self.file is None or time.monotonic() - self.saved_at < self.seconds_between:
            return
        with atomic_file(self.file) as temporary:
            torch.save({"fingerprint": self.identity, **values()}, temporary)
        self.saved_at = time.monotonic()

    def __enter__(self) -> "TrainingState":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.file and (error is None or isinstance(error, Cancelled | Diverged)):
            self.file.unlink(missing_ok=True)
