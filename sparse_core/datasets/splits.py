"""Splits into training and test images, always by seed 0 so that every run of a dataset uses the same one."""

import math
from typing import TypeVar

import numpy as np

from sparse_core.errors import InputError

TEST_SHARE = 0.2

Place = TypeVar("Place")


def stratified(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for test, 80 to 20 in every class and at least one image per class in each part.

    Raises InputError where a class has a single image.
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels)
    if (counts == 1).any():
        raise InputError("A class with a single image cannot be split into training and test. Add images to it.")
    test_count = max(math.ceil(TEST_SHARE * len(labels)), np.count_nonzero(counts))
    train, test = train_test_split(np.arange(len(labels)), test_size=test_count, stratify=labels, random_state=0)
    return np.sort(train), np.sort(test)


def split_images(images: list[tuple[Place, int]]) -> tuple[list[tuple[Place, int]], list[tuple[Place, int]]]:
    """Images with their labels, split as ``stratified`` does; two empty lists for none."""
    if not images:
        return [], []
    train, test = stratified(np.array([label for _, label in images]))
    return [images[row] for row in train], [images[row] for row in test]


def per_class(labels: np.ndarray, training: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for test: ``training`` images of each class and the rest, or half of each where None."""
    generator = np.random.default_rng(0)
    classes = [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    parts = [np.split(rows, [training or len(rows) // 2]) for rows in classes]
    train, test = (np.sort(np.concatenate(part)) for part in zip(*parts, strict=True))
    return train, test
