"""What a folder or Parquet file holds, found without opening an image, and its split into training and test images.
Splits are drawn with seed 0, so that every run of a dataset uses the same one."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from sparse_core.errors import InputError

TEST_SHARE = 0.2
# Shown as Markdown too, so without stars.
LAYOUTS = "images in D/train/CLASS/ and D/test/CLASS/, or in D/CLASS/, or Parquet files with columns image and label"

# The names of splits, in lower case; without a test split the validation split is tested on.
TRAIN, TEST, VALIDATION = "train", "test", "validation"
SPLITS = {TRAIN: (TRAIN, "training"), TEST: (TEST, "testing"), VALIDATION: (VALIDATION, "val", "valid", "dev", "eval")}
LISTED = 5  # names in a note
_LITTER = re.compile(r"\.|__MACOSX$|Thumbs\.db$|ehthumbs\.db$|desktop\.ini$|@eaDir$|\$RECYCLE\.BIN$", re.IGNORECASE)

Place = TypeVar("Place")  # where an image is: a file, or a row of Parquet files


@dataclass(frozen=True)
class Contents(Generic[Place]):
    """The images' places with their labels, by split. ``files`` are all files that the content hash covers."""

    class_names: list[str]
    train: list[tuple[Place, int]]
    test: list[tuple[Place, int]]
    layout: str
    files: list[Path]
    notes: tuple[str, ...] = ()

    def require_usable(self, path: Path) -> None:
        """Raises InputError where no classifier can be trained and tested on these images."""
        train, test = ({label for _, label in images} for images in (self.train, self.test))
        if not train or not test:
            which = "images in both splits" if train or test else "any images"
            raise InputError(f"Expected {which} in {path}, found none: {what_is_in(path)}. {_advice(path)}")
        if len(train) < 2:
            raise InputError(
                f"{path} has only one class; a classifier needs at least two. Found {what_is_in(path)}. {_advice(path)}"
            )
        if not train & test:
            raise InputError(f"No class of the test split of {path} has an image in training. Split the images again.")


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden or one that an operating system leaves behind."""
    return bool(_LITTER.match(name))


def role_of(name: str) -> str:
    """The split that a name stands for, in any case; "" for another name."""
    return next((role for role, names in SPLITS.items() if name.lower() in names), "")


def tested_split(found: Mapping[str, Sequence[object]], unusable: Mapping[str, str]) -> str:
    """The split to test on, of those found that are not ``unusable``: the test split, else the validation split; "" for none."""
    return next((role for role in (TEST, VALIDATION) if found.get(role) and role not in unusable), "")


def split_note(train: str, test: str, others: Sequence[str]) -> Iterable[str]:
    """The note on what each split is used for, where it is not only training on one and testing on the other."""
    if others or role_of(test) != TEST:
        rest = f"; not used: {listed(others)}" if others else ""
        yield f"Trained on {train}, tested on {test}{rest}."


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:LISTED]) + (" …" if len(names) > LISTED else "")


def what_is_in(path: Path) -> str:
    """What a folder holds at its top, in a few words: folders by name, files by kind."""
    entries = sorted(path.iterdir()) if path.is_dir() else []
    entries = [entry for entry in entries if not is_litter(entry.name)]
    folders = [entry.name for entry in entries if entry.is_dir()]
    kinds = Counter(entry.suffix.lower() or "without an ending" for entry in entries if not entry.is_dir())
    parts = [f"{len(folders):,} folder{'s' if len(folders) > 1 else ''} ({listed(folders)})"] if folders else []
    parts += [f"{count:,} file{'s' if count > 1 else ''} {kind}" for kind, count in kinds.most_common(3)]
    return " and ".join(parts) or "nothing"


def _advice(path: Path) -> str:
    """The next step for a folder whose layout is not known."""
    suffixes = {entry.suffix.lower() for entry in path.iterdir()} if path.is_dir() else set()
    if suffixes & {".tar", ".zip", ".tgz", ".gz"}:
        return f"Archives are not read: unpack them, with {LAYOUTS}."
    if suffixes & {".csv", ".tsv", ".txt", ".json", ".jsonl"}:
        return f"Lists of labels are not read: put each image into the folder of its class, with {LAYOUTS}."
    return f"Lay it out as {LAYOUTS}."


def left_out_note(names: Sequence[str]) -> Iterable[str]:
    """The note on files and folders that are no images."""
    if names:
        verb = "is no image" if len(names) == 1 else "are no images"
        yield f"{len(names):,} of the files and folders {verb} and left out: {listed(names)}."


def stratified(labels: np.ndarray, class_names: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for test, 80 to 20 in every class and at least one image per class in each part. Raises
    InputError where a class has a single image."""
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels)
    single = np.flatnonzero(counts == 1).tolist()
    if single:
        named = f": {listed([class_names[label] for label in single])}" if class_names else ""
        raise InputError(
            f"A class with a single image cannot be split into training and test{named}. Add images to it, or remove it."
        )
    test_count = max(math.ceil(TEST_SHARE * len(labels)), np.count_nonzero(counts))
    train, test = train_test_split(np.arange(len(labels)), test_size=test_count, stratify=labels, random_state=0)
    return np.sort(train), np.sort(test)


def split_images(
    images: list[tuple[Place, int]], class_names: Sequence[str]
) -> tuple[list[tuple[Place, int]], list[tuple[Place, int]]]:
    """Images with their labels, split as ``stratified`` does; two empty lists for none."""
    if not images:
        return [], []
    train, test = stratified(np.array([label for _, label in images]), class_names)
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
