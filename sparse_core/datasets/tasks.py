"""The paper's twelve downstream tasks: downloaded by torchvision, or put in place by hand.

A task's files are in ``home/datasets/<task>``, in torchvision's own layout or in one of ``contents.LAYOUTS``. The splits are
those of the paper's own loaders, which follow Kornblith et al. (CVPR 2019) and Salman et al. (NeurIPS 2020).
"""

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core.catalog import TASKS
from sparse_core.datasets.contents import first_of_each_class, halves_of_each_class
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.local_files import content_hash, identity, laid_out_by_torchvision, open_path
from sparse_core.errors import InputError
from sparse_core.paths import atomic_folder

Options = dict[str, Any]


@dataclass(frozen=True)
class Download:
    """Torchvision's class of a task, with the options of the lists that make up the training and the test split.

    Without test lists torchvision has all images in one, which is split here: the ``first`` images of each class are for
    training, or the partition that the data set's authors published. ``split`` describes the paper's split to the user.
    """

    made_by: str
    split: str
    train: tuple[Options, ...] = ({},)
    test: tuple[Options, ...] = ()
    first: int = 0


DOWNLOADS = {
    "aircraft": Download("FGVCAircraft", "trainval and test lists", ({"split": "trainval"},), ({"split": "test"},)),
    "caltech101": Download("Caltech101", "the first 30 images of each class for training", first=30),
    "caltech256": Download("Caltech256", "the first 60 images of each class for training", first=60),
    "cifar10": Download("CIFAR10", "training and test images", ({"train": True},), ({"train": False},)),
    "cifar100": Download("CIFAR100", "training and test images", ({"train": True},), ({"train": False},)),
    "dtd": Download(
        "DTD",
        "partition 1, training and validation lists against the test list",
        ({"split": "train", "partition": 1}, {"split": "val", "partition": 1}),
        ({"split": "test", "partition": 1},),
    ),
    "flowers": Download(
        "Flowers102",
        "training and validation lists against the test list",
        ({"split": "train"}, {"split": "val"}),
        ({"split": "test"},),
    ),
    "food101": Download("Food101", "training and test lists", ({"split": "train"},), ({"split": "test"},)),
    "pets": Download("OxfordIIITPet", "trainval and test lists", ({"split": "trainval"},), ({"split": "test"},)),
    "sun397": Download("SUN397", "partition 1, 50 + 50 images of each class"),
}

# The lists of SUN397's partition 1, which torchvision does not download, and their archive.
PARTITION = ("Training_01.txt", "Testing_01.txt")
PARTITIONS_URL = "https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip"
PARTITIONS_MD5 = "29a205c0a0129d21f36cbecfefe81881"
WITHOUT_PARTITION = (
    f"This is not the paper's split of SUN397 but half of each class, drawn with seed 0. For the paper's, put {PARTITION[0]} "
    f"and {PARTITION[1]} of {PARTITIONS_URL} into {{folder}}."
)

# Private names of torchvision, which has no public way to the labels of most of these datasets without decoding every
# image, nor to the files of SUN397. tests/datasets/test_catalogue.py fails where a new version of torchvision renames them.
LABELS = {"caltech101": "y", "caltech256": "y", "cifar10": "targets", "cifar100": "targets"}
OTHER_LABELS = "_labels"
FILES = {"sun397": "_image_files"}
ARCHIVES = (".tar", ".tgz", ".gz", ".zip")  # the same images again


def task_folder(home: Path, name: str) -> Path:
    """Where the task's files are or belong."""
    return home / "datasets" / name


def open_task(home: Path, name: str, *, download: bool) -> Dataset:
    """A task of the paper by its id. Raises InputError where it is not on disk and cannot or must not be downloaded."""
    folder, task = task_folder(home, name), TASKS[name]
    if _is_put_by_hand(folder):
        return dataclasses.replace(open_path(home, folder, name, task.metric), task=name)
    if name not in DOWNLOADS:
        raise InputError(
            f"{task.name} cannot be downloaded: its authors took it down. Put the images at {folder} as train/CLASS/ and "
            "test/CLASS/."
        )
    if not folder.is_dir():
        if not download:
            raise InputError(f"{task.name} is not downloaded yet; this happens when the run starts.")
        _download(home, name)
    with laid_out_by_torchvision(task.name, folder, ", or put the images there as train/CLASS/ and test/CLASS/"):
        return _open_torchvision(home, name)


def _is_put_by_hand(folder: Path) -> bool:
    return any((folder / part).exists() for part in ("train", "test")) or any(folder.glob("*.parquet"))


def describe_split(home: Path, name: str) -> str:
    """Which split of a task's images is used, for the user."""
    folder = task_folder(home, name)
    if name not in DOWNLOADS or _is_put_by_hand(folder):
        return "your own train and test folders or Parquet files"
    if name == "sun397" and folder.is_dir() and not _partition_lists(folder):
        return "half of each class by seed 0, not the paper's split"
    return f"the paper's split: {DOWNLOADS[name].split}"


def _download(home: Path, name: str) -> None:
    folder = task_folder(home, name)
    with atomic_folder(folder) as temporary:
        try:
            for options in DOWNLOADS[name].train + DOWNLOADS[name].test:
                _torchvision(name, temporary, options, download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"Could not download {TASKS[name].name} ({error}). Without a network, put the images at {folder} as "
                "train/CLASS/ and test/CLASS/, or choose digits, which needs no download."
            ) from error
        if name == "sun397":
            _download_partitions(temporary)


def _download_partitions(folder: Path) -> None:
    """Without these lists the images can still be used, and the dataset's notes say how they are split."""
    from torchvision.datasets.utils import download_and_extract_archive

    with suppress(OSError, RuntimeError):
        download_and_extract_archive(PARTITIONS_URL, str(folder / "Partitions"), md5=PARTITIONS_MD5)


def _torchvision(name: str, root: Path, options: Options, *, download: bool = False) -> Any:
    """One of torchvision's datasets of a task."""
    from torchvision import datasets

    return getattr(datasets, DOWNLOADS[name].made_by)(root=str(root), download=download, **options)


def _open_torchvision(home: Path, name: str) -> Dataset:
    folder, source = task_folder(home, name), DOWNLOADS[name]
    lists = [[_torchvision(name, folder, options) for options in part] for part in (source.train, source.test)]
    class_names = _class_names(lists[0] + lists[1])
    images = [_Images(name, part) for part in lists if part]
    if len(images) == 2:
        rows = [np.arange(len(each.labels)) for each in images]
    else:
        rows, images = _split(folder, name, images[0]), 2 * images
    train, test = (each.split(chosen) for each, chosen in zip(images, rows, strict=True))
    classes = int(max(split.labels.max() for split in (train, test))) + 1
    names = class_names or [str(number) for number in range(1, classes + 1)]
    layout = describe_split(home, name)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix not in ARCHIVES)
    content = content_hash(home, folder, files)
    digest = identity(content, names, [chosen.tolist() for chosen in rows], train.labels, test.labels)
    notes = (WITHOUT_PARTITION.format(folder=folder),) if "not the paper's" in layout else ()
    return Dataset(name, TASKS[name].metric, names, train, test, digest, layout, notes, name)


def _class_names(lists: list[Any]) -> list[str]:
    """The names of the classes, the same in all of torchvision's datasets of a task; none where it has none."""
    named = [
        list(map(str, getattr(each, "classes", None) or getattr(each, "categories", None) or ())) for each in lists
    ]
    if any(names != named[0] for names in named):
        raise ValueError("its lists have different classes")  # torchvision numbers the classes of each list anew
    return named[0]


class _Images:
    """The images of one or more of torchvision's datasets, one after the other."""

    def __init__(self, name: str, lists: list[Any]) -> None:
        self.name, self.lists = name, lists
        self.starts = np.cumsum([0, *map(len, lists)])
        labels = [np.asarray(getattr(each, LABELS.get(name, OTHER_LABELS)), dtype=np.int64) for each in lists]
        self.labels = np.concatenate(labels)

    def split(self, rows: np.ndarray) -> Split:
        return Split(self.labels[rows], lambda row: self._open(int(rows[row])), [f"image {row}" for row in rows])

    def _open(self, row: int) -> Any:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.lists[number][row - int(self.starts[number])][0]

    def files(self, folder: Path) -> list[str]:
        """The file of each image, as a path below ``folder``."""
        return [Path(file).relative_to(folder).as_posix() for file in getattr(self.lists[0], FILES[self.name])]


def _split(folder: Path, name: str, images: _Images) -> list[np.ndarray]:
    """Rows for training and for test of a task whose images torchvision has in one list."""
    if name not in FILES:  # torchvision lists the Caltechs' images by class and file name
        return list(first_of_each_class(images.labels, DOWNLOADS[name].first))
    files = images.files(folder / "SUN397")
    lists = _partition_lists(folder)
    if lists:
        return [_rows_of_list(file, files) for file in lists]
    # Torchvision has the files in the arbitrary order of the disk.
    order = np.array(sorted(range(len(files)), key=files.__getitem__))
    return [order[chosen] for chosen in halves_of_each_class(images.labels[order])]


def _partition_lists(folder: Path) -> list[Path]:
    """The lists of SUN397's partition 1 for training and for test; empty where they are missing."""
    places = [folder / inner for inner in ("", "Partitions", "SUN397", "SUN397/Partitions")]
    found = ([place / name for name in PARTITION] for place in places)
    return next((files for files in found if all(file.is_file() for file in files)), [])


def _rows_of_list(file: Path, images: list[str]) -> np.ndarray:
    """The rows of the images that a list names, one path such as /a/abbey/sun_aaalbzqrimafwbiv.jpg per line."""
    rows = {image: row for row, image in enumerate(images)}
    named = [line.strip().lstrip("/") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    missing = [name for name in named if name not in rows]
    if missing or not named:
        what = f"{len(missing):,} of {len(named):,} images of" if named else "images in"
        raise InputError(f"Expected all {what} {file} to be there; first missing: {(missing or ['all'])[0]}. Add them.")
    return np.array([rows[name] for name in named])
