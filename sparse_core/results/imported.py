"""Results of others, from a CSV or Parquet file: each import is a source of its own, never averaged with another.

``imported/NAME.parquet`` below the home folder holds the rows of one source, in the columns of the relation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparse_core import stored
from sparse_core.catalog import ARCHITECTURES, BUILT_IN, DETECTORS, METHODS, METRICS, TRANSFERS
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import atomic_file, remove

REQUIRED = ("architecture", "transfer", "method", "sparsity", "dataset", "accuracy")
OPTIONAL = ("seed", "upstream", "protocol", "metric", "accuracy_final", "network_name")
KEY = [
    "architecture",
    "upstream",
    "transfer",
    "protocol",
    "method",
    "sparsity",
    "network_name",
    "dataset",
    "metric",
    "seed",
]
LARGEST_FILE = 500_000_000  # bytes
PREFIX = "imported-"  # before run ids
_OURS = ("published", "shipped", "measured", "all", "paper results", "shipped results", "your runs")
_NAME = re.compile(r"[\w][\w .+-]{0,59}")


# The paper's own text files, raw_results/*.txt of IST-DASLab/sparse-imagenet-transfer: columns, and tasks named otherwise.
RAW_COLUMNS = {"dset": "dataset", "model": "method", "val_acc": "accuracy"}
RAW_TASKS = {"SUN": "sun397"}


def _key(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[\W_]", "", name.casefold())


# The ids of what the product knows, by the keys of their ids and of their usual names: ResNet-50 is resnet50, CIFAR-10 cifar10.
_IDS = {
    field: {_key(name): each for each, usual in ids.items() for name in (each, usual)}
    for field, ids in {
        "architecture": ARCHITECTURES | DETECTORS,
        "method": {name: name for name in METHODS},
        "dataset": BUILT_IN,
        "metric": METRICS,
    }.items()
}


@dataclass(frozen=True)
class Import:
    """Rows of one source, ready for the relation. ``duplicates`` are the numbers of rows (from 1) that repeat the key of an
    earlier one: they are kept, and count as one seed."""

    source: str
    rows: pd.DataFrame
    duplicates: list[int] = field(default_factory=list)


def read(file: Path, mapping: Mapping[str, str], source: str) -> Import:
    """Read and check a file. ``mapping`` gives for a field, one of ``REQUIRED`` or ``OPTIONAL``, the name of its column where
    they differ; one that begins with "=" is a value for all rows, such as "=linear". The paper's raw text layout is recognised by
    its columns; its file's name says transfer and architecture. The product's architectures, methods, tasks and metrics are known
    in any case and punctuation. Sparsity and accuracies are fractions of 1. Raises InputError, which names the first row that is
    wrong."""
    if not _NAME.fullmatch(source) or source.lower() in _OURS:
        raise InputError(
            f"A source's name has letters, digits, spaces, dots and dashes, and is none of ours; got '{source}'."
        )
    table = _table(file)
    if set(RAW_COLUMNS) <= set(table.columns):
        table = _from_raw(table, file.name)
    table = table.assign(**{column: column[1:] for column in mapping.values() if column.startswith("=")})
    fields = _fields(table, mapping)
    if table.empty:
        raise InputError(f"{file} has no rows.")
    usual = {"upstream": "ImageNet", "protocol": f"as reported by {source}", "metric": "accuracy", "network_name": ""}
    columns: dict[str, Any] = {name: table[column] for name, column in fields.items()}
    for name in ("architecture", "method", "dataset", "transfer", *(name for name in usual if name in fields)):
        texts = _texts(columns[name], name, required=name not in usual)
        texts = texts.replace("", usual[name]) if name in usual else texts
        columns[name] = _known(texts, name)
    for name in ("sparsity", "accuracy"):
        columns[name] = _fractions(columns[name], name)
    if "accuracy_final" in fields:
        columns["accuracy_final"] = _fractions(columns["accuracy_final"], "accuracy_final", required=False)
    dense = (columns["method"] == "Dense") & (columns["sparsity"] > 0)
    _refuse(dense, columns["sparsity"], "sparsity", "0 for the method Dense, the baseline of the others")
    columns["seed"] = _seeds(columns["seed"]) if "seed" in fields else 0
    columns["transfer"] = columns["transfer"].str.lower()
    _refuse(
        ~columns["transfer"].isin(list(TRANSFERS)), columns["transfer"], "transfer", f"one of {', '.join(TRANSFERS)}"
    )
    rows = pd.DataFrame({**usual, **columns}, index=table.index).rename(columns={"accuracy": "accuracy_best"})
    rows["replicate"] = rows.groupby(KEY).cumcount()
    rows["run_id"] = [f"{PREFIX}{source}-{number}" for number in range(1, len(rows) + 1)]
    rows = rows.assign(source=source, recipe="", network="", dataset_hash="", backbone="", spec="{}")
    duplicates = [int(number) + 1 for number in np.flatnonzero(rows["replicate"])]
    return Import(source, rows, duplicates)


def keep(home: Path, made: Import, columns: Sequence[str], *, replace: bool = False) -> Path:
    """Write an import, all of it or nothing, with these columns. Raises InputError if its source is there already."""
    target = _file(home, made.source)
    if target.exists() and not replace:
        raise InputError(f"There are results of '{made.source}' already. Give another --source, or --replace them.")
    with atomic_file(target) as temporary:
        made.rows.reindex(columns=list(columns)).to_parquet(temporary, index=False)
    return target


def delete(home: Path, source: str) -> None:
    """Delete the results of one imported source. Raises InputError for an unknown one."""
    if source not in sources(home):
        raise unknown_name("source", source, sources(home))
    remove(_file(home, source))


def sources(home: Path) -> list[str]:
    """The names of the imported sources, sorted."""
    return sorted(file.stem for file in _files(home))


def fingerprint(home: Path) -> tuple[int, ...]:
    """Changes whenever a source is imported, replaced or deleted."""
    return tuple(value for file in _files(home) for value in (file.stat().st_mtime_ns, file.stat().st_ino))


def rows(home: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of all imported sources; a damaged file is left out, and named."""
    found = []
    for file in _files(home):
        with stored.reading(file):
            table = pd.read_parquet(file)[list(columns)]
            if not (table["source"] == file.stem).all():
                raise InputError("it has rows of another source")
            found.append(table)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(columns))


def _file(home: Path, source: str) -> Path:
    return home / "imported" / f"{source}.parquet"


def _files(home: Path) -> list[Path]:
    return sorted(file for file in (home / "imported").glob("*.parquet") if not file.name.startswith("."))


def _table(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"There is no file at {file}. Name a CSV or Parquet file.")
    if file.stat().st_size > LARGEST_FILE:
        raise InputError(f"{file} is larger than {LARGEST_FILE // 1_000_000} MB.")
    try:
        if file.suffix.lower() == ".parquet":
            return pd.read_parquet(file).reset_index(drop=True)
        # commas, semicolons or tabs; a spreadsheet may begin its file with a byte order mark
        return pd.read_csv(file, sep=None, engine="python", skipinitialspace=True, encoding="utf-8-sig")
    except Exception as error:  # pandas, pyarrow and csv raise errors of many kinds
        raise InputError(f"{file} cannot be read as CSV or Parquet: {error}") from error


def columns(file: Path) -> list[str]:
    """The names of the columns that ``read`` finds in a file."""
    table = _table(file)
    raw = set(RAW_COLUMNS) <= set(table.columns)
    return [str(name) for name in (_from_raw(table, file.name) if raw else table).columns]


def _from_raw(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The paper's raw text layout in the names of fields. ``name`` is the file's, such as full_mobilenet_transfer_results.txt."""
    found = table.rename(columns=RAW_COLUMNS).replace({"dataset": RAW_TASKS})
    if "seed" in found:
        found["seed"] = found["seed"].astype("str").str.removeprefix("seed_")
    found["architecture"] = "mobilenet_v1" if "mobilenet" in name else "resnet50"
    transfer = next((each for each in TRANSFERS if name.startswith(each)), None)
    return found.assign(transfer=transfer) if transfer else found


def _fields(table: pd.DataFrame, mapping: Mapping[str, str]) -> dict[str, str]:
    """The column of each field."""
    for name, column in mapping.items():
        if name not in (*REQUIRED, *OPTIONAL):
            raise unknown_name("field", name, (*REQUIRED, *OPTIONAL))
        if column not in table.columns:
            raise unknown_name("column", column, map(str, table.columns))
    found = {name: mapping.get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    missing = [name for name in REQUIRED if found[name] not in table.columns]
    if missing:
        listed = ", ".join(map(str, table.columns))
        name = missing[0]
        raise InputError(
            f"No column for {', '.join(missing)}; the file has {listed}. Choose it (--map {name}=COLUMN), or give one value for "
            f"all rows (--map {name}==VALUE)."
        )
    return {name: column for name, column in found.items() if column in table.columns}


def _texts(values: pd.Series, name: str, *, required: bool) -> pd.Series:
    texts = values.astype("str").str.strip().where(values.notna(), "")
    if required:
        _refuse(texts == "", values, name, "a name")
    return texts


def _known(texts: pd.Series, name: str) -> pd.Series:
    """Texts with the ids of what is known of this field in place of other spellings."""
    ids = _IDS.get(name, {})
    return texts.map({text: ids.get(_key(text), text) for text in texts.unique()})


def _fractions(values: pd.Series, name: str, *, required: bool = True) -> pd.Series:
    numbers = _numbers(values)
    wrong = ~numbers.between(0, 1) & (values.notna() | required)
    _refuse(wrong, values, name, "a fraction from 0 to 1")
    return numbers


def _seeds(values: pd.Series) -> pd.Series:
    numbers = _numbers(values)
    whole = numbers.notna() & (numbers % 1 == 0) & numbers.abs().lt(2**31)
    _refuse(~whole, values, "seed", "a whole number")
    return numbers.astype("int64")


def _numbers(values: pd.Series) -> pd.Series:
    """Values as floats, NaN for what is none; truth values are none."""
    texts = values.map(str) if values.dtype in ("bool", "boolean") else values
    return pd.to_numeric(texts, errors="coerce").astype(float)


def _refuse(wrong: pd.Series, values: pd.Series, name: str, expected: str) -> None:
    """Raises InputError for the first row that is ``wrong``; rows count from 1, without the header."""
    if wrong.any():
        number = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"Row {number + 1}: {name} takes {expected}, got '{values.iloc[number]}'. Nothing was imported."
        )
