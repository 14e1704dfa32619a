"""Datasets on disk: a folder of images or Parquet files, looked into or opened."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sparse_core.datasets import folders, parquet
from sparse_core.datasets.content_hash import content_hash
from sparse_core.datasets.contents import Contents, readable
from sparse_core.datasets.dataset import Dataset


def look_into(path: Path) -> Contents[Any]:
    """What is at ``path``. Raises InputError for a layout not in ``LAYOUTS`` and contents that cannot be used."""
    with readable(path):
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
