"""Datasets on disk, as folders or Parquet files: what they hold, the hash of their content, images that cannot be decoded."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core import linux
from sparse_core.datasets import box_layouts, boxes, folders, parquet
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.contents import Contents, listed
from sparse_core.datasets.dataset import Dataset, Split, UnknownRangeError, upright_size
from sparse_core.errors import InputError
from sparse_core.paths import printable, write_text

CHECK = 2  # of the images: another number makes it again
UNREADABLE_LIMIT = 0.01  # share of the images from which on a dataset is refused


@contextmanager
def laid_out_by_torchvision(name: str, folder: Path, otherwise: str = "") -> Iterator[None]:
    """Reading the files that torchvision keeps of a dataset: raises InputError where they are not as it lays them out, with what
    to do, and ``otherwise``."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        raise InputError(
            f"The files of {name} in {folder} are not as torchvision lays them out ({error}). Remove the folder to download them "
            f"again{otherwise}."
        ) from error


def look_into(path: Path) -> Contents[Any]:
    """What is at ``path``. Raises InputError for a layout not in ``LAYOUTS`` and contents that cannot be used."""
    with _readable(path):
        contents: Contents[Any] = parquet.find_images(path) if parquet.is_parquet(path) else folders.find_images(path)
    contents.require_usable(path)
    return contents


def open_path(home: Path, path: Path, name: str, metric: str) -> Dataset:
    """The dataset at ``path``. Raises InputError as ``look_into`` does."""
    contents = look_into(path)
    if parquet.is_parquet(path):
        images = parquet.open_images(home, path, contents.files)
        train, test = (parquet.open_split(rows, images, contents.files) for rows in (contents.train, contents.test))
        content, split = images.digest, [[row for row, _ in rows] for rows in (contents.train, contents.test)]
    else:
        train, test = (folders.open_split(path, rows) for rows in (contents.train, contents.test))
        content, split = content_hash(home, path, contents.files), [[len(contents.train)], [len(contents.test)]]
    digest = identity(content, contents.class_names, split, train.labels, test.labels)
    class_names = [printable(each) for each in contents.class_names]
    return Dataset(
        printable(name),
        metric,
        class_names,
        train,
        test,
        digest,
        contents.layout,
        tuple(map(printable, contents.notes)),
    )


def open_boxes(home: Path, path: Path) -> BoxDataset:
    """The images with boxes at ``path``, a folder or a COCO file. Raises InputError for a layout not in
    ``box_layouts.LAYOUTS``."""
    with _readable(path):
        found = box_layouts.read(path)
    root = path.parent if path.is_file() else path
    images = {each.image for each in (*found.train, *found.test) if each.image.is_file()}
    inside = sorted(file for file in {*images, *found.files} if file.is_relative_to(root))
    content = content_hash(home, root, inside)
    return boxes.dataset(printable(path.stem if path.is_file() else path.resolve().name), root, found, content)


def identity(content: str, class_names: list[str], split: list[list[int]], *labels: np.ndarray) -> str:
    """The hash of a dataset: ``content`` is that of its images; ``split`` says which of them are for training and for test."""
    digest = hashlib.sha256(json.dumps([content, class_names, split]).encode())
    for values in labels:
        digest.update(values.astype("<i8").tobytes())
    return digest.hexdigest()


def content_hash(home: Path, root: Path, files: list[Path]) -> str:
    """SHA-256 over the files' bytes and their names below ``root``. Cached in ``home``; a changed list of names, sizes
    or modification times computes it again."""
    with _readable(root):
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    listing = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    cached = home / "datasets" / "hashes" / f"{listing[:32]}.txt"
    with suppress(OSError, ValueError):
        known = cached.read_text(encoding="utf-8")
        if re.fullmatch(r"[0-9a-f]{64}", known):
            return known
    digest = hashlib.sha256()
    for file in files:
        with _readable(file), file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        digest.update(os.fsencode(file.relative_to(root)) + b"\0" + content)
    write_text(cached, digest.hexdigest())
    return digest.hexdigest()


def without_unreadable(home: Path, dataset: Dataset) -> Dataset:
    """The dataset without the images that cannot be decoded, and with a note that names some of them.

    The first call for a content decodes every image and stores the result in ``home``. Raises InputError from
    ``UNREADABLE_LIMIT`` on.
    """
    file = home / "datasets" / "unreadable" / f"{dataset.hash[:32]}-{CHECK}.json"
    splits = dataset.train, dataset.test
    found = _recall_unreadable(file, splits)
    if found is None:
        found = [_unreadable_rows(split) for split in splits]
        write_text(file, json.dumps(found))
    names = [split.names[row] for split, rows in zip(splits, found, strict=True) for row in rows]
    if not names:
        return dataset
    total = sum(len(split.labels) for split in splits)
    note = f"{len(names):,} of {total:,} images cannot be read: {listed([printable(name) for name in names])}."
    note += "".join(f" {reason}" for reason in _reasons(splits, found))
    if len(names) >= UNREADABLE_LIMIT * total:
        raise InputError(f"{note} That is {100 * UNREADABLE_LIMIT:.0f} % or more: repair or remove them.")
    train, test = (split.without(rows) for split, rows in zip(splits, found, strict=True))
    return dataclasses.replace(dataset, train=train, test=test, notes=(*dataset.notes, f"{note} They are left out."))


def _recall_unreadable(file: Path, splits: tuple[Split, Split]) -> list[list[int]] | None:
    """The rows in the file, by split; None where it is missing or damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        known = [
            [row for row in rows if 0 <= row < len(split.labels)] for rows, split in zip(found, splits, strict=True)
        ]
        return known if known == found and all(type(row) is int for rows in found for row in rows) else None
    except (OSError, ValueError, TypeError):
        return None


def _unreadable_rows(split: Split) -> list[int]:
    from concurrent.futures import ThreadPoolExecutor

    def fails(row: int) -> bool:
        try:
            upright_size(split.open(row))
            split.load(row)
        except MemoryError:
            raise
        except Exception:  # Pillow raises a dozen kinds on damaged images; whatever it is, the image cannot be used
            return True
        return False

    with ThreadPoolExecutor(linux.cores()) as pool:
        return [row for row, failed in enumerate(pool.map(fails, range(len(split.labels)))) if failed]


def _reasons(splits: tuple[Split, Split], found: list[list[int]]) -> Iterator[str]:
    """Why the first unreadable image cannot be used, where it is not damaged."""
    first = next(((split, rows[0]) for split, rows in zip(splits, found, strict=True) if rows), None)
    try:
        if first:
            first[0].load(first[1])
    except UnknownRangeError as error:
        yield str(error)
    except Exception:
        return


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the system's error about a file or folder under ``path`` that cannot be read into an InputError."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise InputError(f"{where} cannot be read ({error.strerror}). Make it readable, or remove it.") from error
