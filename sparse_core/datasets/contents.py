"""What a folder or Parquet file holds, found without opening an image, and its split into training and test images.
Splits are drawn with seed 0, so that every run of a dataset uses the same one."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from sparse_core.errors import InputError

TEST_SHARE = 0.2
# Shown as Markdown too, so without stars.
LAYOUTS = "images in D/train/CLASS/ and D/test/CLASS/, or in D/CLASS/, or Parquet files with columns image and label"

Place = TypeVar("Place")  # where an image is: a file, or a row of Parquet files


@dataclass(frozen=True)
class Contents(Generic[Place]):
    """The images' places with their labels, by split. ``files`` are all files that the content hash covers."""

    class_names: list[str]
    train: list[tuple[Place, int]]
    test: list[tuple[Place, int]]
    layout: str
    files: list[Path]

    def require_usable(self, path: Path) -> None:
        """Raises InputError where no classifier can be trained and tested on these images."""
        train, test = ({label for _, label in images} for images in (self.train, self.test))
        if not train or not test:
            which = "images in both splits" if train or test else "any images"
            raise InputError(f"Expected {which} in {path}, found none. Lay it out as {LAYOUTS}.")
        if len(train) < 2:
            raise InputError(f"{path} has only one class; a classifier needs at least two. Add a folder for another.")
        if not train & test:
            raise InputError(f"No class of the test split of {path} has an image in training. Split the images again.")


def stratified(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for test, 80 to 20 in every class and at least one image per class in each part. Raises
    InputError where a class has a single image."""
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


def first_of_each_class(labels: np.ndarray, training: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training, the first ``training`` of each class, and for test, the rest; both in ascending order."""
    return _parts_of_classes([np.flatnonzero(labels == label) for label in np.unique(labels)], training)


def halves_of_each_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for test: half of each class each, drawn with seed 0; in ascending order."""
    generator = np.random.default_rng(0)
    return _parts_of_classes([generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])


def _parts_of_classes(classes: list[np.ndarray], first: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    parts = [np.split(rows, [len(rows) // 2 if first is None else first]) for rows in classes]
    train, test = (np.sort(np.concatenate(part)) for part in zip(*parts, strict=True))
    return train, test
