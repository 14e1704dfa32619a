"""Datasets as Parquet files with columns image (bytes, or structs of bytes and path) and label (integers or strings).

The columns may have the other names that Hugging Face's data sets use. Files lie in the folder itself or, as Hugging Face writes
them, in ``data/`` or in folders of a configuration and its splits.
"""

import io
import itertools
import json
import re
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from sparse_core.datasets.contents import (
    LAYOUTS,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Contents,
    is_litter,
    listed,
    role_of,
    split_images,
    split_note,
    tested_split,
)
from sparse_core.datasets.dataset import Split
from sparse_core.datasets.image_copy import BATCH_ROWS, READ_BYTES, ImageCopy, open_copy
from sparse_core.errors import InputError

Label = int | str
IMAGE_COLUMNS = ("image", "img")  # first choice first
LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "class")
MAX_FOLDERS = 20  # more are classes, not splits or configurations


def is_parquet(path: Path) -> bool:
    """True for a file, and for a folder that holds Parquet files."""
    return path.is_file() or bool(_files(path))


def find_images(path: Path) -> Contents[int]:
    """The rows of the Parquet files at ``path``, counted through all files that are used, in the order of their names.

    Raises InputError for unreadable files and labels that name no class.
    """
    files = [path] if path.is_file() else _files(path)
    if any(file.suffix != ".parquet" for file in files):
        raise InputError(f"Expected a folder or a .parquet file, got {path.name}. Layouts: {LAYOUTS}.")
    tables = {file: _read(file) for file in files}
    labels = {file: _labels(file, table) for file, table in tables.items()}
    named = _names_in_metadata(tables)
    parts = {role: [file for file in files if _role(path, file) == role] for role in SPLITS}
    unusable = {
        role: f"The labels of {role} match no class"
        for role in (TEST, VALIDATION)
        if parts[TRAIN] and parts[role] and all(_is_unlabelled(labels[file]) for file in parts[role])
    }
    tested = tested_split(parts, unusable) if parts[TRAIN] else ""
    used = [file for file in files if not parts[TRAIN] or _role(path, file) in (TRAIN, tested)]
    classes, numbers = _classes({file: labels[file] for file in used}, named)
    rows, counted = {}, itertools.count()
    for file in used:
        rows[file] = [(next(counted), numbers[value]) for value in labels[file]]
    if tested:
        train, test = ([row for file in parts[role] for row in rows[file]] for role in (TRAIN, tested))
        layout = "train and test Parquet files" if tested == TEST else "train and validation Parquet files"
    else:
        train, test = split_images([row for file in used for row in rows[file]], list(map(str, classes)))
        layout = "Parquet, stratified split by seed 0"
    if classes and isinstance(classes[-1], int) and classes[-1] >= len(classes):
        layout += ", class numbers with gaps"
    others = [role for role, found in parts.items() if found and role not in (TRAIN, tested)]
    notes = [*(split_note(TRAIN, tested, others) if tested else ()), *_notes(path, tables, files, used, unusable)]
    return Contents([str(name) for name in classes], train, test, layout, used, tuple(notes))


def _files(path: Path) -> list[Path]:
    """The Parquet files of a folder; those of ``data/``, or of a configuration's folder and its splits, where it has none itself.
    Raises InputError where there are several configurations."""
    found = _in_order(path.glob("*.parquet"))
    if found or not path.is_dir():
        return found
    folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and not is_litter(entry.name)]
    if len(folders) > MAX_FOLDERS:
        return []
    splits = [folder for folder in folders if role_of(folder.name)]
    if splits:
        return _in_order(file for folder in splits for file in folder.glob("*.parquet"))
    configurations = {folder: _in_order([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]) for folder in folders}
    configurations = {folder: files for folder, files in configurations.items() if files}
    if len(configurations) > 1:
        names = listed([folder.name for folder in configurations])
        raise InputError(f"{path} holds several folders of Parquet files: {names}. Give one of these folders.")
    return next(iter(configurations.values()), [])


def _in_order(files: Iterable[Path]) -> list[Path]:
    return sorted(file for file in files if not is_litter(file.name))


def _role(root: Path, file: Path) -> str:
    """The split of a file: as its name begins, else as the folder is called that it lies in; "" where nothing says."""
    beginning = re.match(r"[A-Za-z]*", file.stem)
    folder = role_of(file.parent.name) if file.parent != root else ""
    return (role_of(beginning[0]) if beginning else "") or folder


def _is_unlabelled(labels: list[Label]) -> bool:
    """Whether no row has a label; Hugging Face writes −1 for those of withheld test sets."""
    return all(isinstance(label, int) and label < 0 for label in labels)


def _classes(labels: dict[Path, list[Label]], named: list[str]) -> tuple[list[Any], dict[Label, int]]:
    """The classes in their order, and the number of each label. Raises InputError for labels that are no class."""
    classes: list[Any] = named or _classes_in_labels(labels)
    numbers: dict[Label, int] = {value: number for number, value in enumerate(classes)}
    if named:
        numbers |= {number: number for number in range(len(named))}  # labels may be numbers into the list of names
    for file, column in labels.items():
        _require_known_labels(file, column, numbers, named)
    return classes, numbers


def _notes(
    path: Path, tables: dict[Path, pa.Table], files: list[Path], used: list[Path], unusable: dict[str, str]
) -> Iterator[str]:
    """What the user should know about files and columns."""
    unused = [str(file.relative_to(path)) for file in files if file not in used]
    yield from (f"{reason}: not used." for reason in unusable.values())
    if unused:
        yield f"{len(unused):,} of {len(files):,} Parquet files are not used: {listed(unused)}."
    columns = {_columns(file, table.schema) for file, table in tables.items()}
    if columns != {("image", "label")}:
        yield "Columns: " + "; ".join(f"{image} and {label}" for image, label in sorted(columns)) + "."


def _columns(file: Path, schema: pa.Schema) -> tuple[str, str]:
    """The columns of images and of labels. Raises InputError where they cannot be told."""
    features = _features(schema)
    images = [name for name in IMAGE_COLUMNS if name in schema.names]
    images += [name for name, feature in features.items() if feature.get("_type") == "Image" and name in schema.names]
    labels = [name for name in LABEL_COLUMNS if name in schema.names]
    labels += [
        name for name, feature in features.items() if feature.get("_type") == "ClassLabel" and name in schema.names
    ]
    missing = [name for name, found in (("image", images), ("label", labels)) if not found]
    if missing:
        raise InputError(
            f"{file.name} lacks the column {' and '.join(missing)}; it has {', '.join(schema.names)}. Rename its columns of "
            "images and labels to image and label."
        )
    return images[0], labels[0]


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What Hugging Face stores about the columns in a file's metadata; often nothing."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
        return {str(name): feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


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
                f"{file.name} must hold images as bytes, or structs of bytes and path, in its column of images."
            )
        yield column


def _batches(file: Path) -> Iterator[pa.Array]:
    """The images of a file, ``BATCH_ROWS`` rows at a time."""
    import pyarrow.parquet as pq

    try:
        name, _ = _columns(file, pq.read_schema(file))
        with pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False) as opened:
            for batch in opened.iter_batches(BATCH_ROWS, columns=[name], use_threads=False):
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


def _read(file: Path) -> pa.Table:
    """The labels of a file, with its whole schema's metadata; its column of images is empty."""
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
        image, label = _columns(file, schema)
        labels = pq.read_table(file, columns=[label])[label]
    except InputError:
        raise
    except Exception as error:
        raise _not_readable(file, error) from error
    return pa.table({image: pa.nulls(len(labels)), label: labels}).replace_schema_metadata(schema.metadata)


def _not_readable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file.name} is not a readable Parquet file ({type(error).__name__}).")


def _labels(file: Path, table: pa.Table) -> list[Label]:
    _, name = _columns(file, table.schema)
    labels = table[name].to_pylist()
    wrong = next((row for row, label in enumerate(labels) if not isinstance(label, (int, str))), None)
    if wrong is not None:
        raise InputError(
            f"The column {name} must hold integers or strings and no empty values; row {wrong} of {file.name} holds "
            f"{reprlib.repr(labels[wrong])}. Correct or remove such rows."
        )
    return labels


def _names_in_metadata(tables: dict[Path, pa.Table]) -> list[str]:
    """The class names that Hugging Face stores in the files' metadata, in the order of their numbers; often none."""
    found: dict[tuple[str, ...], Path] = {}
    for file, table in tables.items():
        feature = _features(table.schema).get(_columns(file, table.schema)[1], {})
        if isinstance(feature.get("names"), list) and feature["names"]:
            found.setdefault(tuple(map(str, feature["names"])), file)
    if len(found) > 1:
        first, second, *_ = found.values()
        raise InputError(
            f"{first.name} and {second.name} have different class names in their metadata. Write the same ones to all files."
        )
    return list(*found)


def _classes_in_labels(labels: dict[Path, list[Label]]) -> list[Label]:
    """The different labels, sorted; negative numbers are no classes."""
    present = {label for column in labels.values() for label in column}
    if len({type(label) for label in present}) > 1:
        texts = next(file.name for file, column in labels.items() if any(isinstance(label, str) for label in column))
        raise InputError(
            f"The labels must be integers or strings, not both; {texts} holds strings. Use one kind throughout."
        )
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
