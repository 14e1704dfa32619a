"""Datasets by name or path: which there are, a first look at one, and opening one."""

import dataclasses
import functools
import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from sparse_core.catalog import BOX_TASKS, TASKS, VOC
from sparse_core.datasets import box_layouts, voc
from sparse_core.datasets.boxes import METRIC, BoxDataset
from sparse_core.datasets.contents import LAYOUTS
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.local_files import look_into, open_boxes, open_path, without_unreadable
from sparse_core.datasets.tasks import DOWNLOADS, describe_split, open_task, task_folder
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import REPOSITORY

DIGITS = "digits"
DIGITS_LAYOUT = "stratified split by seed 0"
WITH_BOXES = "images with boxes, which only detectors are finetuned on, such as yolov3_tiny"
DIGITS_TEST_ROWS = REPOSITORY / "data" / "digits_test_rows.txt"


@dataclass(frozen=True)
class DatasetCard:
    """A named dataset. ``kind`` is offline, download or folder; ``ready`` means that its images are on this machine."""

    id: str
    name: str
    metric: str
    classes: int
    kind: str
    note: str
    ready: bool


@dataclass(frozen=True)
class Summary:
    """A first look at a dataset: a short description of its layout, and numbers of images."""

    layout: str
    class_names: list[str]
    train: int
    test: int


def available(home: Path) -> list[DatasetCard]:
    """The named datasets: digits, then the paper's twelve tasks."""
    note = "1,797 digits, 8 × 8 pixels, scikit-learn"
    cards = [DatasetCard(DIGITS, "Digits", "top1", 10, "offline", note, True)]
    for name, task in TASKS.items():
        kind = "download" if name in DOWNLOADS else "folder"
        missing = "downloaded on first use" if name in DOWNLOADS else f"put it at {task_folder(home, name)}"
        ready = task_folder(home, name).is_dir()
        note = f"{'on this machine' if ready else missing}; {describe_split(home, name)}"
        cards.append(DatasetCard(name, task.name, task.metric, task.classes, kind, note, ready))
    return cards


def with_boxes(home: Path) -> list[DatasetCard]:
    """The named datasets for detectors, as ``available`` has those of networks that classify images."""
    ready = voc.folder(home).is_dir()
    note = f"{'on this machine' if ready else f'{voc.SIZE}, downloaded on first use'}; {voc.SPLIT}"
    return [DatasetCard(VOC, BOX_TASKS[VOC], METRIC, 20, "download", note, ready)]


def describe(home: Path, name: str) -> Summary:
    """A first look at a dataset, a folder or a Parquet file, without decoding. Raises InputError if it cannot be used."""
    if name == DIGITS:
        return Summary(DIGITS_LAYOUT, [str(digit) for digit in range(10)], 1437, 360)  # without importing scikit-learn
    path = None if name in TASKS or name in BOX_TASKS else _existing(name)
    if path:
        _refuse_boxes(path)
        found = look_into(path)
        return Summary(found.layout, found.class_names, len(found.train), len(found.test))
    dataset = _open(home, name, download=False)
    return Summary(dataset.layout, dataset.class_names, len(dataset.train.labels), len(dataset.test.labels))


def load(home: Path, name: str) -> Dataset:
    """Open a dataset by name, folder or Parquet file; a task of the paper is downloaded where it is missing.

    The first time, every image is decoded: unreadable ones are left out, and named in the notes, if they are under 1 %.
    Raises InputError for an unknown name, an empty or one-class dataset, too many unreadable images, a failed download.
    """
    dataset = _open(home, name, download=True)
    if name != DIGITS:
        dataset = without_unreadable(home, dataset)
    return dataclasses.replace(dataset, notes=(*dataset.notes, *_notes_on_missing_classes(dataset)))


def has_boxes(name: str) -> bool:
    """Whether this names images with boxes."""
    path = None if name == DIGITS or name in TASKS or name in BOX_TASKS else _existing(name)
    return name in BOX_TASKS or (path is not None and bool(box_layouts.layout_of(path)))


def load_boxes(home: Path, name: str, *, download: bool = True) -> BoxDataset:
    """Open images with boxes, by name, folder or COCO file. Raises InputError where there are none, and unless ``download``
    where they would have to be downloaded. With it, every image is decoded the first time, as ``load`` does."""
    dataset = _open_boxes(home, name, download)
    return cast(BoxDataset, without_unreadable(home, dataset)) if download else dataset


def _open_boxes(home: Path, name: str, download: bool) -> BoxDataset:
    if name == VOC:
        return voc.open_voc(home, download=download)
    path = None if name == DIGITS or name in TASKS else _existing(name)
    if path is None:
        there = f"There is no folder or file at {name}." if os.sep in name else f"'{name}' has no boxes."
        raise InputError(f"{there} A detector needs {VOC}, or the path of images with boxes: {box_layouts.LAYOUTS}.")
    return open_boxes(home, path)


def load_present(home: Path, name: str, *, checked: bool = True) -> Dataset:
    """As ``load``, of images that are on this machine: nothing is downloaded. Unless ``checked``, none is decoded, and those that
    cannot be read are still in it. Raises InputError where they are not here."""
    dataset = _open(home, name, download=False)
    return dataset if name == DIGITS or not checked else without_unreadable(home, dataset)


@functools.lru_cache(maxsize=1)
def _digits() -> Dataset:
    """scikit-learn's digits: 1,797 images of 8 × 8 pixels, split as ``contents.stratified`` does. That split is kept in a file:
    importing scikit-learn would take longer than the probe."""
    table = np.loadtxt(_digits_file(), delimiter=",")
    pixels, labels = (
        (table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8),
        table[:, -1].astype(np.int64),
    )
    test = np.loadtxt(DIGITS_TEST_ROWS, dtype=np.int64)
    train = np.setdiff1d(np.arange(len(labels)), test)

    def split(rows: np.ndarray) -> Split:
        return Split(labels[rows], lambda row: Image.fromarray(pixels[rows[row]]))

    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes() + test.tobytes()).hexdigest()
    names = [str(name) for name in range(10)]
    return Dataset(DIGITS, "top1", names, split(train), split(test), digest, DIGITS_LAYOUT, task=DIGITS)


def _digits_file() -> Path:
    """Where ``sklearn.datasets.load_digits`` finds them."""
    package = importlib.util.find_spec("sklearn")
    assert package and package.origin
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _open(home: Path, name: str, *, download: bool) -> Dataset:
    if name == DIGITS:
        return _digits()
    if name in TASKS:
        return open_task(home, name, download=download)
    if name in BOX_TASKS:
        raise InputError(f"{BOX_TASKS[name]} has {WITH_BOXES}.")
    path = _existing(name)
    if path:
        _refuse_boxes(path)
        return open_path(home, path, path.stem if path.is_file() else path.resolve().name, "top1")
    if os.sep in name:
        raise InputError(f"There is no folder or file at {name}. Give one laid out as {LAYOUTS}.")
    raise unknown_name("dataset", name, [card.id for card in available(home)])


def _refuse_boxes(path: Path) -> None:
    if box_layouts.layout_of(path):
        raise InputError(f"{path} holds {WITH_BOXES}.")


def _existing(name: str) -> Path | None:
    """The folder or file of that name; None if there is none."""
    if not name.strip():
        raise InputError("Expected the name or the path of a dataset, got an empty one. Try digits.")
    path = os.path.expanduser(name)
    # Path's own methods raise for names that no file can have, on some versions of Python; these functions never do.
    return Path(path) if os.path.isdir(path) or os.path.isfile(path) else None


def _notes_on_missing_classes(dataset: Dataset) -> list[str]:
    classes = set(range(len(dataset.class_names)))
    not_in_train, not_in_test = (classes - set(split.labels.tolist()) for split in (dataset.train, dataset.test))
    notes = {
        "Neither split has an image of {}.": not_in_train & not_in_test,
        "The training split has no image of {}. Their test images all count as wrong.": not_in_train - not_in_test,
        "The test split has no image of {}.": not_in_test - not_in_train,
    }
    return [note.format(_list_classes(dataset, missing)) for note, missing in notes.items() if missing]


def _list_classes(dataset: Dataset, labels: set[int]) -> str:
    names = ", ".join(dataset.class_names[label] for label in sorted(labels)[:5])
    return f"{len(labels)} of the classes: {names}{' …' if len(labels) > 5 else ''}"
