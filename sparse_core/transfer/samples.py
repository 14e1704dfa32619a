"""Features with their labels, checked before a classifier is trained on them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sparse_core.errors import InputError

COPY_ROWS = 4096


class Samples(NamedTuple):
    """``features`` (N, D), float, memory-mapped ones included, and ``labels`` (N,), whole numbers."""

    features: np.ndarray
    labels: np.ndarray


def checked_labels(split: str, samples: Samples, classes: int) -> np.ndarray:
    """The labels as int64 (N,). Raises InputError unless they match the features and lie in [0, classes)."""
    features, labels = samples
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels):
        raise InputError(
            f"The {split} features must be (N, D) and the labels (N,); got {features.shape} and {labels.shape}. "
            "Give one label for each row."
        )
    if not features.size:
        raise InputError(f"The {split} features are empty, shape {features.shape}: give at least one sample.")
    if labels.dtype.kind not in "iu":
        raise InputError(f"The {split} labels must be whole numbers; got {labels.dtype}. Number the classes from 0.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"The {split} labels must lie in 0..{classes - 1}; {len(wrong)} do not, first {labels[wrong[0]]} in row "
            f"{wrong[0]}. Number the classes from 0."
        )
    return np.array(labels, dtype=np.int64)


def checked_training_labels(samples: Samples, classes: int) -> np.ndarray:
    """``checked_labels`` of training samples, which must have at least two classes."""
    labels = checked_labels("training", samples, classes)
    found = len(np.unique(labels))
    if found < 2:
        raise InputError(
            f"A classifier needs at least two classes in its training data; got {found} of {classes}. "
            "Add images of another class."
        )
    return labels


def checked_features(split: str, features: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The features (N, D) as a tensor of ``dtype``, copied in pieces so that a memory map is never loaded whole.

    Raises InputError for values that are not finite.
    """
    copied = torch.empty(features.shape, dtype=dtype)
    broken: list[int] = []
    for start in range(0, len(features), COPY_ROWS):
        rows = np.array(features[start : start + COPY_ROWS], dtype=np.float32)
        if not np.isfinite(rows.sum()):
            broken += (start + np.flatnonzero(~np.isfinite(rows).all(axis=1))).tolist()
        copied[start : start + COPY_ROWS] = torch.from_numpy(rows)
    if broken:
        raise InputError(
            f"The {split} features must be finite; {len(broken)} of {len(features)} rows are not, the first is row "
            f"{broken[0]}. Extract them again, or leave out those samples."
        )
    return copied
