"""Datasets on disk, as folders or Parquet files: what they hold, the hash of their content, images that cannot be decoded."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from sparse_core.datasets import folders, parquet
from sparse_core.datasets.contents import Contents
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.errors import InputError
from sparse_core.paths import write_text

UNREADABLE_LIMIT = 0.01  # share of the images from which on a dataset is refused


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
        images = {file: parquet.encoded_images(file) for file in contents.files}
        train, test = (parquet.open_split(rows, images) for rows in (contents.train, contents.test))
        root, split = path.parent if path.is_file() else path, contents.layout
    else:
        train, test = (folders.open_split(path, rows) for rows in (contents.train, contents.test))
        root, split = path, json.dumps([len(contents.train), len(contents.test)])
    digest = hashlib.sha256((content_hash(home, root, contents.files) + split).encode()).hexdigest()
    return Dataset(name, metric, contents.class_names, train, test, digest, contents.layout)


def content_hash(home: Path, root: Path, files: list[Path]) -> str:
    """SHA-256 over the files' bytes and their names below ``root``. Cached in ``home``; a changed list of names, sizes
    or modification times computes it again."""
    with _readable(root):
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    listing = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    cached = home / "datasets" / "hashes" / f"{listing[:32]}.txt"
    if cached.is_file():
        return cached.read_text(encoding="utf-8")
    digest = hashlib.sha256()
    for file in files:
        with _readable(file):
            content = file.read_bytes()
        digest.update(f"{file.relative_to(root)}\0".encode() + hashlib.sha256(content).digest())
    write_text(cached, digest.hexdigest())
    return digest.hexdigest()


def without_unreadable(home: Path, dataset: Dataset) -> Dataset:
    """The dataset without the images that cannot be decoded, and with a note that names some of them.

    The first call for a content decodes every image and stores the result in ``home``. Raises InputError from
    ``UNREADABLE_LIMIT`` on.
    """
    file = home / "datasets" / "unreadable" / f"{dataset.hash[:32]}.json"
    splits = dataset.train, dataset.test
    if not file.is_file():
        write_text(file, json.dumps([_unreadable_rows(split) for split in splits]))
    found = json.loads(file.read_text(encoding="utf-8"))
    names = [split.names[row] for split, rows in zip(splits, found, strict=True) for row in rows]
    if not names:
        return dataset
    total = sum(len(split.labels) for split in splits)
    listed = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    note = f"{len(names):,} of {total:,} images cannot be read: {listed}."
    if len(names) >= UNREADABLE_LIMIT * total:
        raise InputError(f"{note} That is {100 * UNREADABLE_LIMIT:.0f} % or more: repair or remove them.")
    train, test = (split.without(rows) for split, rows in zip(splits, found, strict=True))
    return dataclasses.replace(dataset, train=train, test=test, notes=(*dataset.notes, f"{note} They are left out."))


def _unreadable_rows(split: Split) -> list[int]:
    from concurrent.futures import ThreadPoolExecutor

    def fails(row: int) -> bool:
        try:
            split.open(row).load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return True
        return False

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [row for row, failed in enumerate(pool.map(fails, range(len(split.labels)))) if failed]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the system's error about a file or folder under ``path`` that cannot be read into an InputError."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise InputError(f"{where} cannot be read ({error.strerror}). Make it readable, or remove it.") from error
