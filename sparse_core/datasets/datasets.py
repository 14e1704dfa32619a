"""Datasets to transfer to: scikit-learn's digits, the study's twelve tasks, a user's own folder or Parquet files.

Listing and describing need no torch. Images are opened one by one, turned upright, and come as RGB: grey ones are
repeated, transparent ones laid on white.
"""

import functools
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from sparse_core.catalog import TASKS
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import write_text

DIGITS = "digits"
TEST_SHARE = 0.2
UNREADABLE_SHARE = 0.01
ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
TRAINING_IMAGES = {"caltech101": 30, "caltech256": 60}
# Pages show these words as Markdown, in which a star would be lost.
LAYOUTS = "images in D/train/CLASS/ and D/test/CLASS/, or in D/CLASS/, or Parquet files with columns image and label"


@dataclass(frozen=True)
class DatasetCard:
    """What a dataset is. ``kind`` is offline, download or folder; ``ready`` means that its images are here."""

    id: str
    name: str
    metric: str
    classes: int
    kind: str
    note: str
    ready: bool


@dataclass(frozen=True)
class Summary:
    """A first look at a dataset: its layout in words and its counts, without opening an image."""

    layout: str
    class_names: list[str]
    train: int
    test: int


@dataclass
class Split:
    """Images with labels (N,) int64. ``load(i)`` gives image i as an upright RGB ``PIL.Image``."""

    labels: np.ndarray
    open: Callable[[int], Image.Image]
    names: list[str] = field(default_factory=list)

    def load(self, row: int) -> Image.Image:
        return upright_rgb(self.open(row))


@dataclass
class Dataset:
    """A dataset to transfer to. ``hash`` follows the content: images, labels and split. ``notes`` are for the user."""

    id: str
    metric: str
    class_names: list[str]
    train: Split
    test: Split
    hash: str
    notes: list[str]


def available(home: Path) -> list[DatasetCard]:
    """The datasets that have a name: the offline one, then the study's twelve tasks."""
    digits = DatasetCard(DIGITS, "Digits", "top1", 10, "offline", "1,797 digits, 8 × 8 pixels, scikit-learn", True)
    return [digits, *(_task_card(home, name) for name in TASKS)]


def describe(home: Path, name: str) -> Summary:
    """A first look, quick and without decoding. Raises InputError for what could not be used."""
    if name == DIGITS:
        return Summary("stratified split by seed 0", [str(digit) for digit in range(10)], 1437, 360)
    path = None if name in TASKS else _existing(name)
    if path:
        found = _look_into(path)
        return Summary(found.layout, [str(name) for name in found.class_names], len(found.train), len(found.test))
    dataset = _open(home, name, download=False)
    return Summary(dataset.notes[0], dataset.class_names, len(dataset.train.labels), len(dataset.test.labels))


def load(home: Path, name: str) -> Dataset:
    """Open a dataset by name, folder or Parquet file, downloading a task of the study where it is not here yet.

    Every image is looked at: unreadable ones are left out and named in the notes where they are under 1 %. Raises
    InputError for an unknown name, an empty or one-class dataset, too many unreadable images, a failed download.
    """
    dataset = _open(home, name, download=True)
    dataset.notes = []
    _leave_out_unreadable(home, dataset)
    dataset.notes += _notes_on_absent_classes(dataset)
    return dataset


def upright_rgb(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says, in RGB; transparent parts become white, 16-bit grey is scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        return Image.fromarray((values / (257 if values.max() > 255 else 1)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once the image is turned as its EXIF says, told without decoding it."""
    lies = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return image.size[::-1] if lies else image.size


def _task_card(home: Path, name: str) -> DatasetCard:
    task = TASKS[name]
    folder = _task_folder(home, name)
    by_folder = name in ("birds", "cars")
    note = "here" if folder.is_dir() else f"put it at {folder}" if by_folder else "downloaded at first use"
    return DatasetCard(
        name, task.name, task.metric, task.classes, "folder" if by_folder else "download", note, folder.is_dir()
    )


def _task_folder(home: Path, name: str) -> Path:
    return home / "datasets" / name


def _open(home: Path, name: str, *, download: bool) -> Dataset:
    if name == DIGITS:
        return _digits()
    if name in TASKS:
        return _task(home, name, download)
    path = _existing(name)
    if path:
        return _from_path(home, path, path.stem if path.is_file() else path.resolve().name, "top1")
    if os.sep in name:
        raise InputError(f"There is no folder or file at {name}. Give one laid out as {LAYOUTS}.")
    raise unknown_name("dataset", name, [card.id for card in available(home)])


def _existing(name: str) -> Path | None:
    """The folder or file of that name; None where there is none, or none can be of such a name."""
    if not name.strip():
        raise InputError("Expected a dataset's name or the path of one, got an empty one. Try digits.")
    path = os.path.expanduser(name)
    # Unlike those of Path, these functions never raise, whatever the Python.
    return Path(path) if os.path.isdir(path) or os.path.isfile(path) else None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what the system says of a file or folder under ``path`` that cannot be read into one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise InputError(f"{where} cannot be read ({error.strerror}). Make it readable, or leave it out.") from error


def _shortened(words: str) -> str:
    return words if len(words) <= 80 else f"{words[:60]} … ({len(words)} characters)"


def _notes_on_absent_classes(dataset: Dataset) -> list[str]:
    classes = set(range(len(dataset.class_names)))
    untrained, untested = (classes - set(split.labels.tolist()) for split in (dataset.train, dataset.test))
    gaps = {
        "Neither split has an image of {}.": untrained & untested,
        "The training split has no image of {}. Their test images all count as wrong.": untrained - untested,
        "The test split has no image of {}.": untested - untrained,
    }
    return [words.format(_classes_in_words(dataset, absent)) for words, absent in gaps.items() if absent]


def _classes_in_words(dataset: Dataset, labels: set[int]) -> str:
    named = ", ".join(dataset.class_names[label] for label in sorted(labels)[:5])
    return f"{len(labels)} of the classes: {named}{' …' if len(labels) > 5 else ''}"


@functools.lru_cache(maxsize=1)
def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = (loaded.images * (255 / 16)).round().astype(np.uint8)
    train, test = _stratified(loaded.target.astype(np.int64))

    def split(rows: np.ndarray) -> Split:
        return Split(loaded.target[rows].astype(np.int64), lambda row: Image.fromarray(pixels[rows[row]]))

    digest = hashlib.sha256(pixels.tobytes() + loaded.target.tobytes() + test.tobytes()).hexdigest()
    names = [str(digit) for digit in range(10)]
    return Dataset(DIGITS, "top1", names, split(train), split(test), digest, ["stratified split by seed 0"])


def _task(home: Path, name: str, download: bool) -> Dataset:
    folder, metric = _task_folder(home, name), TASKS[name].metric
    if any((folder / ready).exists() for ready in ("train", "test")) or any(folder.glob("*.parquet")):
        return _from_path(home, folder, name, metric)
    if not folder.is_dir():
        if not download:
            raise InputError(f"{TASKS[name].name} is not here yet; it is fetched when the run starts.")
        _download(home, name, folder)
    return _from_torchvision(home, name, folder, metric)


def _torchvision_splits(home: Path, name: str, root: Path, download: bool) -> tuple[Any, Any]:
    """Both splits as torchvision has them; None for the second where the study splits the one by itself."""
    from torchvision import datasets as tv

    options: dict[str, Any] = {"root": str(root), "download": download}
    makers: dict[str, Callable[[], tuple[Any, Any]]] = {
        "aircraft": lambda: (tv.FGVCAircraft(split="trainval", **options), tv.FGVCAircraft(split="test", **options)),
        "caltech101": lambda: (tv.Caltech101(**options), None),
        "caltech256": lambda: (tv.Caltech256(**options), None),
        "cifar10": lambda: (tv.CIFAR10(train=True, **options), tv.CIFAR10(train=False, **options)),
        "cifar100": lambda: (tv.CIFAR100(train=True, **options), tv.CIFAR100(train=False, **options)),
        "dtd": lambda: (tv.DTD(split="train", partition=1, **options), tv.DTD(split="test", partition=1, **options)),
        "flowers": lambda: (tv.Flowers102(split="train", **options), tv.Flowers102(split="test", **options)),
        "food101": lambda: (tv.Food101(split="train", **options), tv.Food101(split="test", **options)),
        "pets": lambda: (tv.OxfordIIITPet(split="trainval", **options), tv.OxfordIIITPet(split="test", **options)),
        "sun397": lambda: (tv.SUN397(**options), None),
    }
    if name not in makers:
        raise InputError(
            f"{TASKS[name].name} cannot be downloaded: its makers took it down. Put the images at {_task_folder(home, name)} as "
            "train/CLASS/ and test/CLASS/."
        )
    return makers[name]()


def _download(home: Path, name: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as temporary:
        try:
            _torchvision_splits(home, name, Path(temporary), download=True)
        except InputError:
            raise
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"Could not download {TASKS[name].name} ({error}). With no network, put the images at {folder} as "
                "train/CLASS/ and test/CLASS/, or choose digits, which needs none."
            ) from error
        os.rename(temporary, folder)
        os.mkdir(temporary)  # for the context manager to remove


def _from_torchvision(home: Path, name: str, folder: Path, metric: str) -> Dataset:
    train, test = _torchvision_splits(home, name, folder, download=False)
    labels = [_labels(part) for part in (train, test) if part is not None]
    count = int(max(values.max() for values in labels)) + 1
    class_names = _class_names(train, count)
    if test is None:
        order = _file_order(train)
        rows = _rows_by_class(labels[0][order], TRAINING_IMAGES.get(name))
        train_split, test_split = (_subset(train, labels[0], order[chosen]) for chosen in rows)
    else:
        whole = (np.arange(len(values)) for values in labels)
        train_split, test_split = (
            _subset(part, values, rows) for part, values, rows in zip((train, test), labels, whole, strict=True)
        )
    digest = hashlib.sha256(train_split.labels.tobytes() + test_split.labels.tobytes())
    digest.update(_content_hash(home, folder, _files(folder)).encode())
    return Dataset(name, metric, class_names, train_split, test_split, digest.hexdigest(), ["the study's split"])


def _subset(part: Any, labels: np.ndarray, rows: np.ndarray) -> Split:
    return Split(labels[rows], lambda row: part[int(rows[row])][0], [f"image {row}" for row in rows])


def _file_order(part: Any) -> np.ndarray:
    """Rows by the names of their files: torchvision lists SUN397's in the order in which the disk happens to hold them."""
    files = getattr(part, "_image_files", None)
    if files is None:
        return np.arange(len(part))
    return np.array(sorted(range(len(files)), key=lambda row: files[row]))


def _labels(part: Any) -> np.ndarray:
    for attribute in ("targets", "_labels", "y"):
        if hasattr(part, attribute):
            return np.asarray(getattr(part, attribute), dtype=np.int64)
    raise TypeError(f"{type(part).__name__} does not tell its labels")


def _class_names(part: Any, count: int) -> list[str]:
    names = getattr(part, "classes", None) or getattr(part, "categories", None) or range(1, count + 1)
    return [str(name) for name in names]


def _rows_by_class(labels: np.ndarray, training: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train and to test on: ``training`` images of each class by seed 0 and the rest, or half and half."""
    generator = np.random.default_rng(0)
    train, test = [], []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        cut = training or len(rows) // 2
        train.append(rows[:cut])
        test.append(rows[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


@dataclass(frozen=True)
class _Contents:
    """What a path holds, with no image opened: a row is where an image is and its label."""

    class_names: list[Any]
    train: list[tuple[Any, int]]
    test: list[tuple[Any, int]]
    layout: str
    files: list[Path]


def _from_path(home: Path, path: Path, name: str, metric: str) -> Dataset:
    found = _look_into(path)
    if _is_parquet(path):
        images = {file: _encoded(file) for file in found.files}
        train, test = (_parquet_split(rows, images) for rows in (found.train, found.test))
        digest = hashlib.sha256(
            (_content_hash(home, path.parent if path.is_file() else path, found.files) + found.layout).encode()
        )
    else:
        train, test = (_folder_split(path, rows) for rows in (found.train, found.test))
        digest = hashlib.sha256(_content_hash(home, path, found.files).encode())
        digest.update(json.dumps([len(found.train), len(found.test)]).encode())
    class_names = [str(value) for value in found.class_names]
    return Dataset(name, metric, class_names, train, test, digest.hexdigest(), [found.layout])


def _look_into(path: Path) -> _Contents:
    """Raises InputError for a layout that is not one of ``LAYOUTS`` and for contents that no classifier can use."""
    with _readable(path):
        found = _in_parquet(path) if _is_parquet(path) else _in_folder(path)
    _require_usable(path, [[label for _, label in part] for part in (found.train, found.test)])
    return found


def _is_parquet(path: Path) -> bool:
    return path.is_file() or any(path.glob("*.parquet"))


def _in_folder(path: Path) -> _Contents:
    train = path / "train"
    test = next((path / part for part in ("test", "val", "validation") if (path / part).is_dir()), None)
    if train.is_dir() and test is None:
        raise InputError(f"{path} has a train folder but no test folder. Expected {LAYOUTS}.")
    if train.is_dir() and test is not None:
        class_names = _class_folders(train)
        only_tested = set(_class_folders(test)) - set(class_names)
        if only_tested:
            raise InputError(
                f"The test split has classes that the training split lacks: {', '.join(sorted(only_tested)[:5])}."
            )
        parts = [_class_files(part, class_names) for part in (train, test)]
        layout = "train and test folders"
    else:
        class_names = _class_folders(path)
        parts = _split_list(_class_files(path, class_names))
        layout = "one folder a class, stratified split by seed 0"
    return _Contents(class_names, parts[0], parts[1], layout, [file for part in parts for file, _ in part])


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _class_files(folder: Path, class_names: list[str]) -> list[tuple[Path, int]]:
    return [
        (file, label)
        for label, name in enumerate(class_names)
        if (folder / name).is_dir()
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
    ]


def _split_list(items: list[tuple[Any, int]]) -> list[list[tuple[Any, int]]]:
    if not items:
        return [[], []]
    parts = _stratified(np.array([label for _, label in items]))
    return [[items[row] for row in rows] for rows in parts]


def _stratified(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels)
    if (counts[counts > 0] < 2).any():
        raise InputError("A class with a single image cannot be split into training and test. Add some to it.")
    tested = max(math.ceil(TEST_SHARE * len(labels)), int((counts > 0).sum()))
    train, test = train_test_split(np.arange(len(labels)), test_size=tested, stratify=labels, random_state=0)
    return np.sort(train), np.sort(test)


def _folder_split(root: Path, files: list[tuple[Path, int]]) -> Split:
    labels = np.array([label for _, label in files], dtype=np.int64)
    names = [str(file.relative_to(root)) for file, _ in files]
    return Split(labels, lambda row: Image.open(files[row][0]), names)


def _in_parquet(path: Path) -> _Contents:

    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if any(file.suffix != ".parquet" for file in files):
        raise InputError(f"Expected a folder or a .parquet file, got {path.name}. Layouts: {LAYOUTS}.")
    values = {file: _parquet_labels(file) for file in files}
    stated = _stated_classes(files)
    class_names = stated or _occurring_classes(values)
    numbers = {value: number for number, value in enumerate(class_names)}
    if stated:
        numbers |= {number: number for number in range(len(stated))}  # where there are names, numbers stand for them
    for file in files:
        _require_known_labels(file, values[file], numbers, stated)
    rows = {file: [((file, row), numbers[value]) for row, value in enumerate(values[file])] for file in files}
    train = [row for file in files if file.name.startswith("train") for row in rows[file]]
    test = [row for file in files if file.name.startswith(("test", "val")) for row in rows[file]]
    layout = "train and test Parquet files"
    if not train or not test:
        train, test = _split_list([row for file in files for row in rows[file]])
        layout = "Parquet, stratified split by seed 0"
    if class_names and isinstance(class_names[-1], int) and class_names[-1] >= len(class_names):
        layout += ", class numbers with gaps"
    return _Contents(class_names, train, test, layout, files)


@contextmanager
def _parquet_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise InputError(f"{file.name} is not a Parquet file that can be read ({type(error).__name__}).") from error


def _parquet_labels(file: Path) -> list[int | str]:
    import pyarrow.parquet as pq

    with _parquet_errors(file):
        columns = pq.read_schema(file).names
    lacking = {"image", "label"} - set(columns)
    if lacking:
        raise InputError(f"{file.name} lacks the column {' and '.join(sorted(lacking))}; it has {', '.join(columns)}.")
    with _parquet_errors(file):
        labels = pq.read_table(file, columns=["label"])["label"].to_pylist()
    wrong = next((row for row, label in enumerate(labels) if not isinstance(label, (int, str))), None)
    if wrong is not None:
        raise InputError(
            f"The column label must hold whole numbers or words, none of them empty; row {wrong} of {file.name} holds "
            f"{_shortened(repr(labels[wrong]))}. Correct or remove such rows."
        )
    return labels


def _stated_classes(files: list[Path]) -> list[str]:
    """The class names that Hugging Face keeps in the files' metadata, in the order of their numbers; often none."""
    stated = {tuple(names) for names in map(_names_in_metadata, files) if names}
    if len(stated) > 1:
        raise InputError(
            "The Parquet files state different class names. Put them apart, or write them anew with the same."
        )
    return list(*stated)


def _names_in_metadata(file: Path) -> list[str]:
    import pyarrow.parquet as pq

    metadata = (pq.read_schema(file).metadata or {}).get(b"huggingface")
    label = json.loads(metadata).get("info", {}).get("features", {}).get("label") if metadata else None
    return label.get("names") or [] if isinstance(label, dict) else []


def _occurring_classes(labels: dict[Path, list[int | str]]) -> list[Any]:
    """The numbers from 0 or the words that occur as labels, sorted."""
    present = {label for column in labels.values() for label in column}
    if len({type(label) for label in present}) > 1:
        raise InputError("The column label must hold whole numbers or words, not both. Write them all in one way.")
    return sorted(label for label in present if isinstance(label, str) or label >= 0)


def _require_known_labels(file: Path, labels: list[int | str], numbers: dict[Any, int], stated: list[str]) -> None:
    wrong = [row for row, label in enumerate(labels) if label not in numbers]
    if not wrong:
        return
    expected = "whole numbers from 0"
    if stated:
        named = ", ".join(stated[:5]) + (" …" if len(stated) > 5 else "")
        expected = f"0 to {len(stated) - 1}, or a class name of its metadata ({named})"
    raise InputError(
        f"{len(wrong):,} of {len(labels):,} labels in {file.name} name no class, first {labels[wrong[0]]!r} in row "
        f"{wrong[0]}; expected {expected}. Correct or remove such rows."
    )


def _encoded(file: Path) -> Any:
    """The images' bytes as an Arrow column, from plain bytes or from structs of bytes and path as Hugging Face writes them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _parquet_errors(file):
        column = pq.read_table(file, columns=["image"])["image"]
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)) or column.null_count:
        raise InputError(f"{file.name} must hold images as bytes, or structs of bytes and path, in its column image.")
    return column


def _parquet_split(rows: list[tuple[tuple[Path, int], int]], images: dict[Path, Any]) -> Split:
    labels = np.array([label for _, label in rows], dtype=np.int64)

    def open_row(number: int) -> Image.Image:
        file, row = rows[number][0]
        return Image.open(io.BytesIO(images[file][row].as_py()))

    return Split(labels, open_row, [f"{file.name} row {row}" for (file, row), _ in rows])


def _require_usable(path: Path, labels: list[list[int]]) -> None:
    if not labels[0] or not labels[1]:
        which = "any images" if not labels[0] and not labels[1] else "images in both splits"
        raise InputError(f"Expected {which} in {path}, found none. Lay it out as {LAYOUTS}.")
    if len(set(labels[0])) < 2:
        raise InputError(f"{path} has one class only; a classifier needs at least two. Add a folder for another class.")
    if not set(labels[0]) & set(labels[1]):
        raise InputError(f"No class of the test split of {path} has an image in training. Split the images anew.")


def _leave_out_unreadable(home: Path, dataset: Dataset) -> None:
    """Look at every image's data once per content, and drop those that cannot be read."""
    if dataset.id == DIGITS:
        return
    file = home / "datasets" / "unreadable" / f"{dataset.hash[:32]}.json"
    if not file.is_file():
        write_text(file, json.dumps([_unreadable(dataset.train), _unreadable(dataset.test)]))
    bad = json.loads(file.read_text(encoding="utf-8"))
    names = [split.names[row] for split, rows in zip((dataset.train, dataset.test), bad, strict=True) for row in rows]
    if not names:
        return
    total = len(dataset.train.labels) + len(dataset.test.labels)
    listed = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    told = f"{len(names):,} of {total:,} images cannot be read: {listed}"
    if len(names) >= UNREADABLE_SHARE * total:
        raise InputError(f"{told}. That is 1 % or more: mend or remove them.")
    dataset.notes.append(f"{told}. They were left out.")
    dataset.train, dataset.test = (
        _without(split, rows) for split, rows in zip((dataset.train, dataset.test), bad, strict=True)
    )


def _unreadable(split: Split) -> list[int]:
    from concurrent.futures import ThreadPoolExecutor

    def fails(row: int) -> bool:
        try:
            split.open(row).load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return True
        return False

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [row for row, failed in enumerate(pool.map(fails, range(len(split.labels)))) if failed]


def _without(split: Split, dropped: list[int]) -> Split:
    kept = np.setdiff1d(np.arange(len(split.labels)), dropped)
    return Split(split.labels[kept], lambda row: split.open(int(kept[row])), [split.names[row] for row in kept])


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _content_hash(home: Path, root: Path, files: list[Path]) -> str:
    """A hash of names and bytes; remembered for as long as names, sizes and times of change stay the same."""
    with _readable(root):
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    listing = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    kept = home / "datasets" / "hashes" / f"{listing[:32]}.txt"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    digest = hashlib.sha256()
    for file in files:
        with _readable(file):
            content = file.read_bytes()
        digest.update(f"{file.relative_to(root)}\0".encode() + hashlib.sha256(content).digest())
    write_text(kept, digest.hexdigest())
    return digest.hexdigest()
