"""The paper's twelve downstream tasks: downloaded by torchvision, or put in place by hand. A task's files are in
``home/datasets/<task>``, in torchvision's own layout or in one of ``contents.LAYOUTS``."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core.catalog import TASKS
from sparse_core.datasets.contents import per_class
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.local_files import content_hash, open_path
from sparse_core.errors import InputError

# Torchvision's class of each task and its options for the training and the test split; without the latter torchvision has
# all images in one part, and the split is made here, with ``TRAINING_IMAGES`` per class or half of each class.
DOWNLOADS: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "aircraft": ("FGVCAircraft", {"split": "trainval"}, {"split": "test"}),
    "caltech101": ("Caltech101", {}, None),
    "caltech256": ("Caltech256", {}, None),
    "cifar10": ("CIFAR10", {"train": True}, {"train": False}),
    "cifar100": ("CIFAR100", {"train": True}, {"train": False}),
    "dtd": ("DTD", {"split": "train", "partition": 1}, {"split": "test", "partition": 1}),
    "flowers": ("Flowers102", {"split": "train"}, {"split": "test"}),
    "food101": ("Food101", {"split": "train"}, {"split": "test"}),
    "pets": ("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
    "sun397": ("SUN397", {}, None),
}
TRAINING_IMAGES = {"caltech101": 30, "caltech256": 60}

# Private names of torchvision, which has no public way to the labels of most of these datasets without decoding every
# image, nor to the files of SUN397. tests/datasets/test_tasks.py fails where a new version of torchvision renames them.
LABELS = {"caltech101": "y", "caltech256": "y", "cifar10": "targets", "cifar100": "targets"}
OTHER_LABELS = "_labels"
FILES = {"sun397": "_image_files"}


def task_folder(home: Path, name: str) -> Path:
    """Where the task's files are or belong."""
    return home / "datasets" / name


def open_task(home: Path, name: str, *, download: bool) -> Dataset:
    """A task of the paper by its id. Raises InputError where it is not on disk and cannot or must not be downloaded."""
    folder, task = task_folder(home, name), TASKS[name]
    if any((folder / part).exists() for part in ("train", "test")) or any(folder.glob("*.parquet")):
        return open_path(home, folder, name, task.metric)
    if not folder.is_dir():
        if not download:
            raise InputError(f"{task.name} is not downloaded yet; this happens when the run starts.")
        _download(home, name)
    return _open_torchvision(home, name)


def _torchvision_parts(home: Path, name: str, root: Path, download: bool) -> list[Any]:
    """Torchvision's datasets for training and test, or the only one."""
    from torchvision import datasets

    if name not in DOWNLOADS:
        raise InputError(
            f"{TASKS[name].name} cannot be downloaded: its authors took it down. Put the images at "
            f"{task_folder(home, name)} as train/CLASS/ and test/CLASS/."
        )
    made_by, train, test = DOWNLOADS[name]
    return [
        getattr(datasets, made_by)(root=str(root), download=download, **options)
        for options in (train, test)
        if options is not None
    ]


def _download(home: Path, name: str) -> None:
    folder = task_folder(home, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as temporary:
        try:
            _torchvision_parts(home, name, Path(temporary), download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"Could not download {TASKS[name].name} ({error}). Without a network, put the images at {folder} as "
                "train/CLASS/ and test/CLASS/, or choose digits, which needs no download."
            ) from error
        os.rename(temporary, folder)
        os.mkdir(temporary)  # for the context manager to remove


def _open_torchvision(home: Path, name: str) -> Dataset:
    folder = task_folder(home, name)
    parts = _torchvision_parts(home, name, folder, download=False)
    labels = [np.asarray(getattr(part, LABELS.get(name, OTHER_LABELS)), dtype=np.int64) for part in parts]
    if len(parts) == 1:
        order = _file_order(name, parts[0])
        rows = [order[chosen] for chosen in per_class(labels[0][order], TRAINING_IMAGES.get(name))]
        parts, labels = 2 * parts, 2 * labels
    else:
        rows = [np.arange(len(values)) for values in labels]
    train, test = (_rows_of(*arguments) for arguments in zip(parts, labels, rows, strict=True))
    count = int(max(values.max() for values in labels)) + 1
    names = getattr(parts[0], "classes", None) or getattr(parts[0], "categories", None) or range(1, count + 1)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    digest = hashlib.sha256(train.labels.tobytes() + test.labels.tobytes())
    digest.update(content_hash(home, folder, files).encode())
    metric, classes = TASKS[name].metric, list(map(str, names))
    return Dataset(name, metric, classes, train, test, digest.hexdigest(), "the paper's split")


def _rows_of(part: Any, labels: np.ndarray, rows: np.ndarray) -> Split:
    return Split(labels[rows], lambda row: part[int(rows[row])][0], [f"image {row}" for row in rows])


def _file_order(name: str, part: Any) -> np.ndarray:
    """The rows in the order of file names: torchvision lists SUN397's files in the arbitrary order of the disk."""
    if name not in FILES:
        return np.arange(len(part))
    files = getattr(part, FILES[name])
    return np.array(sorted(range(len(files)), key=lambda row: files[row]))
