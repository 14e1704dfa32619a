"""Datasets as Parquet files with columns image (bytes, or a struct of bytes and path) and label (integers or strings)."""

import io
import itertools
import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from sparse_core.datasets.contents import LAYOUTS, Contents, split_images
from sparse_core.datasets.dataset import Split
from sparse_core.datasets.image_copy import BATCH_ROWS, READ_BYTES, ImageCopy, open_copy
from sparse_core.errors import InputError

Label = int | str


def is_parquet(path: Path) -> bool:
    """True for a file, and for a folder that holds Parquet files."""
    return path.is_file() or any(path.glob("*.parquet"))


def find_images(path: Path) -> Contents[int]:
    """The rows of the Parquet files at ``path``, counted through all files in the order of their names.

    Raises InputError for unreadable files and labels that name no class.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if any(file.suffix != ".parquet" for file in files):
        raise InputError(f"Expected a folder or a .parquet file, got {path.name}. Layouts: {LAYOUTS}.")
    tables = {file: _read(file, "label") for file in files}
    labels = {file: _labels(file, table) for file, table in tables.items()}
    named = _names_in_metadata(list(tables.values()))
    classes: list[Any] = named or _classes_in_labels(labels)
    numbers: dict[Label, int] = {value: number for number, value in enumerate(classes)}
    if named:
        numbers |= {number: number for number in range(len(named))}  # labels may be numbers into the list of names
    for file in files:
        _require_known_labels(file, labels[file], numbers, named)
    rows, counted = {}, itertools.count()
    for file in files:
        rows[file] = [(next(counted), numbers[value]) for value in labels[file]]
    train = [row for file in files if file.name.startswith("train") for row in rows[file]]
    test = [row for file in files if file.name.startswith(("test", "val")) for row in rows[file]]
    layout = "train and test Parquet files"
    if not train or not test:
        train, test = split_images([row for file in files for row in rows[file]])
        layout = "Parquet, stratified split by seed 0"
    if classes and isinstance(classes[-1], int) and classes[-1] >= len(classes):
        layout += ", class numbers with gaps"
    return Contents([str(name) for name in classes], train, test, layout, files)


def open_images(home: Path, path: Path, files: list[Path]) -> ImageCopy:
    """The encoded images of all rows. Raises InputError for a column image of another kind."""
    batches = itertools.chain.from_iterable(map(_encoded_images, files))
    return open_copy(home, path, files, batches, sum(map(_unpacked_bytes, files)))


def open_split(rows: list[tuple[int, int]], images: ImageCopy, files: list[Path]) -> Split:
    """The split of these rows."""
    labels = np.array([label for _, label in rows], dtype=np.int64)
    places = np.array([row for row, _ in rows], dtype=np.int64)
    starts = np.cumsum([0, *map(_count_rows, files)])
    of_file = np.searchsorted(starts, places, side="right") - 1
    names = [
        f"{files[file].name} row {row}" for file, row in zip(of_file, (places - starts[of_file]).tolist(), strict=True)
    ]
    return Split(labels, lambda number: Image.open(io.BytesIO(images[int(places[number])])), names)


def _encoded_images(file: Path) -> Iterator[pa.Array]:
    """The images' bytes, a few rows at a time, from plain bytes or from structs of bytes and path as Hugging Face writes them."""
    for column in _batches(file):
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            column = pc.struct_field(column, "bytes")
        if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)) or column.null_count:
            raise InputError(
                f"{file.name} must hold images as bytes, or structs of bytes and path, in its column image."
            )
        yield column


def _batches(file: Path) -> Iterator[pa.Array]:
    """The column image of a file, ``BATCH_ROWS`` rows at a time."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False) as opened:
            for batch in opened.iter_batches(BATCH_ROWS, columns=["image"], use_threads=False):
                yield batch.column(0)
    except (OSError, pa.ArrowException) as error:
        raise _not_readable(file, error) from error


def _count_rows(file: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(file).num_rows


def _unpacked_bytes(file: Path) -> int:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def _read(file: Path, column: str) -> pa.Table:
    """One column of a file, with the file's metadata."""
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(file).names
        missing = sorted({"image", "label"} - set(columns))
        table = None if missing else pq.read_table(file, columns=[column])
    except Exception as error:
        raise _not_readable(file, error) from error
    if missing:
        raise InputError(f"{file.name} lacks the column {' and '.join(missing)}; it has {', '.join(columns)}.")
    return table


def _not_readable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file.name} is not a readable Parquet file ({type(error).__name__}).")


def _labels(file: Path, table: pa.Table) -> list[Label]:
    labels = table["label"].to_pylist()
    wrong = next((row for row, label in enumerate(labels) if not isinstance(label, (int, str))), None)
    if wrong is not None:
        raise InputError(
            f"The column label must hold integers or strings and no empty values; row {wrong} of {file.name} holds "
            f"{reprlib.repr(labels[wrong])}. Correct or remove such rows."
        )
    return labels


def _names_in_metadata(tables: list[pa.Table]) -> list[str]:
    """The class names that Hugging Face stores in the files' metadata, in the order of their numbers; often none."""
    found = set()
    for table in tables:
        metadata = (table.schema.metadata or {}).get(b"huggingface")
        label = json.loads(metadata).get("info", {}).get("features", {}).get("label") if metadata else None
        if isinstance(label, dict) and label.get("names"):
            found.add(tuple(label["names"]))
    if len(found) > 1:
        raise InputError("The Parquet files have different class names in their metadata. Write the same ones to all.")
    return list(*found)


def _classes_in_labels(labels: dict[Path, list[Label]]) -> list[Label]:
    """The different labels, sorted; negative numbers are no classes."""
    present = {label for column in labels.values() for label in column}
    if len({type(label) for label in present}) > 1:
        raise InputError("The column label must hold integers or strings, not both. Use one kind throughout.")
    return sorted(label for label in present if isinstance(label, str) or label >= 0)


def _require_known_labels(file: Path, labels: list[Label], numbers: dict[Label, int], named: list[str]) -> None:
    wrong = [row for row, label in enumerate(labels) if label not in numbers]
    if wrong:
        some = ", ".join(named[:5]) + (" …" if len(named) > 5 else "")
        by_name = f"0 to {len(named) - 1}, or a class name from its metadata ({some})"
        raise InputError(
            f"{len(wrong):,} of {len(labels):,} labels in {file.name} match no class, first {labels[wrong[0]]!r} in row "
            f"{wrong[0]}; expected {by_name if named else 'integers from 0'}. Correct or remove such rows."
        )
