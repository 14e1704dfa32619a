"""Splits into training and test images, always by seed 0 so that every run of a dataset uses the same one."""

import math

import numpy as np

from sparse_core.errors import InputError

TEST_SHARE = 0.2


def stratified(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for test, 80 to 20 in every class and at least one image per class in each part.

    Raises InputError where a class has a single image.
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels)
    if (counts[counts > 0] < 2).any():
        raise InputError("A class with a single image cannot be split into training and test. Add images to it.")
    test_count = max(math.ceil(TEST_SHARE * len(labels)), int((counts > 0).sum()))
    train, test = train_test_split(np.arange(len(labels)), test_size=test_count, stratify=labels, random_state=0)
    return np.sort(train), np.sort(test)


def per_class(labels: np.ndarray, training: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for test: ``training`` images of each class and the rest, or half of each where None."""
    generator = np.random.default_rng(0)
    train, test = [], []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        cut = training or len(rows) // 2
        train.append(rows[:cut])
        test.append(rows[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))
