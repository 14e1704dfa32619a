"""The result of training one seed, the same for every kind of transfer."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
Curves = dict[str, list[float]]


@dataclass(frozen=True)
class Result(Generic[Network]):
    """One seed's network after its last epoch, and its history.

    ``curves`` hold a value per epoch: ``loss`` (mean training cross entropy), ``top1`` and ``mean_per_class`` (test accuracy,
    0..1), and what else the transfer measures. ``confusion`` is (C, C) int64 after the last epoch, true classes in rows.
    ``network`` is all that was trained: the classifier for a probe, backbone and classifier for finetuning. ``seconds``
    has a value per epoch, its test included; seeds trained together each get an equal share. ``details`` are the fields of
    the run's record that only this kind of transfer has.
    """

    seed: int
    learning_rate: float
    curves: Curves
    confusion: np.ndarray
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
