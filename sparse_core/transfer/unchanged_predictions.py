"""Test predictions of a linear classifier in training, computed again only where they may have changed.

Testing after every epoch would be nearly half of a probe's arithmetic; a bound on the logits spares most of it. Since all
logits were last computed, that of class c on x has moved by ΔW_c · x + Δb_c = (ΔW_c · x̄ + Δb_c) + ΔW_c · (x − x̄), with x̄ the
mean test feature. The first part is known; the second is at most ‖ΔW_c‖ ‖x − x̄‖ (Cauchy–Schwarz). Where this cannot close
the margin between the first and the second class, not even with the largest possible rounding error, the first class is
still the prediction.
"""

import math
from typing import Any

import torch
from torch import Tensor

from sparse_core.transfer.evaluation import EvaluationSet

EVALUATION_ROWS = 256  # matrix libraries slow down where one factor is much longer than the other
_STATE = ("computed", "computed_since_all", "weight", "bias", "size", "classes", "margin")


class Predictions:
    """One classifier's predictions on a test set. ``computed`` counts the predictions that had to be computed."""

    def __init__(self, test: EvaluationSet) -> None:
        self.test = test
        summing = test.features.shape[1] * 2.0**-24
        storing = 2.0**-9 if test.features.dtype == torch.bfloat16 else 0.0
        self.rounding = 8 * summing + 2 * storing  # of four logits, two drifts, and the bounds themselves
        self.computed = 0
        self.computed_since_all = 0
        self.classes = torch.empty(0, dtype=torch.int64)

    def state(self) -> dict[str, Any]:
        """What ``resume`` needs to continue bit by bit. Its tensors are not changed later."""
        return {name: getattr(self, name) for name in _STATE}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a former ``state``."""
        for name, value in state.items():
            setattr(self, name, value)

    def update(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Predicted classes (T,) of the classifier with weight (C, D), in the precision of the products, and bias (C, 1)."""
        rows = self.uncertain(weight, bias) if len(self.classes) else None
        if rows is None or self.computed_since_all + len(rows) > len(self.test.features):
            self._compute_all(weight, bias)
            return self.classes
        self.computed_since_all += len(rows)
        self.computed += len(rows)
        predicted = self.classes.clone()
        for chunk in rows.split(EVALUATION_ROWS):
            logits = torch.mm(weight, self.test.features[chunk].T) + bias
            predicted[chunk] = logits.max(dim=0).indices
        return predicted

    def uncertain(self, weight: Tensor, bias: Tensor) -> Tensor:
        """The rows whose prediction may differ from when all were last computed."""
        change = weight.float() - self.weight
        drift = torch.mv(change, self.test.mean) + (bias - self.bias)[:, 0]
        moved = change.norm(dim=1)
        size = self.size + _largest_row(weight)
        first = self.classes
        left = self.margin + drift[first] - drift.max() - self.test.distances * (moved[first] + moved.max())
        return torch.logical_not(left > self.rounding * size * self.test.norms).nonzero()[:, 0]

    def _compute_all(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.float().clone(), bias.clone()
        self.size = _largest_row(weight)
        self.computed_since_all = 0
        self.computed += len(self.test.features)
        classes, margins = [], []
        for chunk in self.test.features.split(EVALUATION_ROWS):
            logits = torch.mm(weight, chunk.T) + bias
            first = logits.max(dim=0)
            second = logits.scatter_(0, first.indices[None], -math.inf).amax(dim=0)
            classes.append(first.indices)
            margins.append(first.values - second)
        self.classes, self.margin = torch.cat(classes), torch.cat(margins)


def _largest_row(weight: Tensor) -> float:
    return float(weight.float().norm(dim=1).max())
