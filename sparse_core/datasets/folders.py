"""Datasets as folders of images: one folder per class, with or without train and test folders above them."""

from pathlib import Path

import numpy as np
from PIL import Image

from sparse_core.datasets.contents import LAYOUTS, Contents, split_images
from sparse_core.datasets.dataset import Split
from sparse_core.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def find_images(path: Path) -> Contents[Path]:
    """The image files under ``path``. Raises InputError for another layout."""
    train = path / "train"
    test = next((path / name for name in ("test", "val", "validation") if (path / name).is_dir()), None)
    if train.is_dir() and test is None:
        raise InputError(f"{path} has a train folder but no test folder. Expected {LAYOUTS}.")
    if train.is_dir() and test is not None:
        class_names = _class_names(train)
        only_in_test = sorted(set(_class_names(test)) - set(class_names))
        if only_in_test:
            raise InputError(f"The test split has classes the training split lacks: {', '.join(only_in_test[:5])}.")
        splits = _class_files(train, class_names), _class_files(test, class_names)
        layout = "train and test folders"
    else:
        class_names = _class_names(path)
        splits = split_images(_class_files(path, class_names))
        layout = "one folder per class, stratified split by seed 0"
    return Contents(class_names, *splits, layout, [file for images in splits for file, _ in images])


def open_split(root: Path, images: list[tuple[Path, int]]) -> Split:
    """The split of these files; each is named by its path below ``root``."""
    labels = np.array([label for _, label in images], dtype=np.int64)
    return Split(labels, lambda row: Image.open(images[row][0]), [str(file.relative_to(root)) for file, _ in images])


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _class_files(folder: Path, class_names: list[str]) -> list[tuple[Path, int]]:
    return [
        (file, label)
        for label, name in enumerate(class_names)
        if (folder / name).is_dir()
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]
