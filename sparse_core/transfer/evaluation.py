"""The scores of predictions, and the evaluation of linear classifiers on test features."""

import numpy as np
import torch
from torch import Tensor

COPY_ROWS = 4096  # converted at once, so that a memory map is never loaded whole


class Scores:
    """The scores of predictions (T,) on test labels (T,)."""

    def __init__(self, labels: np.ndarray, classes: int) -> None:
        self.classes = classes
        self.labels = torch.from_numpy(labels)
        counts = np.bincount(labels, minlength=classes)
        present = np.count_nonzero(counts)
        self.class_shares = torch.from_numpy(1 / (counts[labels] * present))

    def score(self, predictions: Tensor) -> tuple[float, float]:
        """Top-1 accuracy, and accuracy averaged over the classes that occur in the test set; both in 0..1."""
        right = (predictions == self.labels).double()
        return float(right.mean()), float(right @ self.class_shares)

    def confusion(self, predictions: Tensor) -> np.ndarray:
        """(C, C) int64 counts of predictions (T,), true classes in rows."""
        cells = torch.bincount(self.labels * self.classes + predictions, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes).numpy()


class EvaluationSet(Scores):
    """Test features (T, D) and labels (T,), with the scores of predictions on them.

    ``mean`` x̄ (D,), ``distances`` ‖x − x̄‖ and ``norms`` max(‖x‖, ‖x̄‖), both (T,), serve the bound of
    ``unchanged_predictions``; they are computed once for all classifiers.
    """

    def __init__(self, features: Tensor, labels: np.ndarray, classes: int) -> None:
        super().__init__(labels, classes)
        self.features = features
        chunks = features.split(COPY_ROWS)
        self.mean = torch.stack([rows.float().sum(dim=0) for rows in chunks]).sum(dim=0) / len(features)
        self.distances = torch.cat([(rows.float() - self.mean).norm(dim=1) for rows in chunks])
        lengths = torch.cat([rows.float().norm(dim=1) for rows in chunks])
        self.norms = lengths.clamp_min(float(self.mean.norm()))
