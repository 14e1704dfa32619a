"""Images that cannot be decoded: found once per dataset content, then left out."""

import dataclasses
import json
import os
from pathlib import Path

from PIL import Image

from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.errors import InputError
from sparse_core.paths import write_text

LIMIT = 0.01  # share of the images from which on a dataset is refused


def without_unreadable(home: Path, dataset: Dataset) -> Dataset:
    """The dataset without the images that cannot be decoded, and with a note that names some of them.

    The first call for a content decodes every image and stores the result in ``home``. Raises InputError from ``LIMIT`` on.
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
    if len(names) >= LIMIT * total:
        raise InputError(f"{note} That is {100 * LIMIT:.0f} % or more: repair or remove them.")
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
