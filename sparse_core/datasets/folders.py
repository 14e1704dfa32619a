"""Datasets as folders of images: one folder per class, with or without train and test folders above them."""

from pathlib import Path

import numpy as np
from PIL import Image

from sparse_core.datasets.contents import (
    LAYOUTS,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Contents,
    is_litter,
    left_out_note,
    listed,
    role_of,
    split_images,
    split_note,
    tested_split,
)
from sparse_core.datasets.dataset import Split
from sparse_core.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def find_images(path: Path) -> Contents[Path]:
    """The image files under ``path``. Raises InputError for another layout."""
    parts = {name: role_of(name) for name in _folders(path)}
    train = [name for name, role in parts.items() if role == TRAIN]
    if train and set(parts.values()) - {TRAIN, ""}:
        return _find_splits(path, train[0], parts)
    if train and len(parts) == 1:
        raise InputError(f"{path} has a train folder but no test folder. Expected {LAYOUTS}.")
    class_names = list(parts)
    images, left_out = _class_files(path, path, class_names)
    splits = split_images(images, class_names)
    layout = "one folder per class, stratified split by seed 0"
    return Contents(
        class_names, *splits, layout, [file for each in splits for file, _ in each], (*left_out_note(left_out),)
    )


def _find_splits(path: Path, train: str, parts: dict[str, str]) -> Contents[Path]:
    """The images of folders that are splits, of which two are used."""
    class_names = _folders(path / train)
    found = {role: [name for name in parts if parts[name] == role] for role in SPLITS}
    unusable: dict[str, str] = {}
    for role in (TEST, VALIDATION):
        extra = sorted({name for each in found[role][:1] for name in _folders(path / each)} - set(class_names))
        if extra:
            unusable[role] = f"{found[role][0]} has classes that {train} lacks: {listed(extra)}"
    tested = tested_split(found, unusable)
    if not tested:
        raise InputError(f"In {path}, {'; '.join(unusable.values())}. Remove them, or add images of them to {train}.")
    test = found[tested][0]
    (train_images, left_out), (test_images, more) = (
        _class_files(path, path / name, class_names) for name in (train, test)
    )
    others = [name for name in parts if name not in (train, test)]
    notes = [*split_note(train, test, others)]
    notes += [f"{reason[0].upper()}{reason[1:]}." for reason in unusable.values()]
    layout = f"{train} and {test} folders"
    files = [file for images in (train_images, test_images) for file, _ in images]
    return Contents(class_names, train_images, test_images, layout, files, (*notes, *left_out_note([*left_out, *more])))


def open_split(root: Path, images: list[tuple[Path, int]]) -> Split:
    """The split of these files; each is named by its path below ``root``."""
    labels = np.array([label for _, label in images], dtype=np.int64)
    return Split(labels, lambda row: Image.open(images[row][0]), [str(file.relative_to(root)) for file, _ in images])


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_litter(entry.name))


def _class_files(root: Path, folder: Path, class_names: list[str]) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images in the classes' folders with their labels, and what else lies there or beside, by its path below ``root``."""
    images, left_out = [], []
    for label, name in enumerate(class_names):
        for file in sorted((folder / name).iterdir()) if (folder / name).is_dir() else ():
            if file.suffix.lower() in SUFFIXES and file.is_file():
                images += [(file, label)] * (not is_litter(file.name))
            elif not is_litter(file.name):
                left_out.append(str(file.relative_to(root)))
    loose = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.is_dir()]
    left_out += sorted(str(file.relative_to(root)) for file in loose if not is_litter(file.name))
    return images, left_out
