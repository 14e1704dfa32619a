"""The cache of extracted features, one folder per backbone, data, transform, engine and precision.

``features/<key>/`` holds ``train.npy`` and ``test.npy`` (N, D) float32, their labels, and a manifest with a checksum of each
file. An extraction writes them in a hidden folder beside it, row by row as they come, so that memory holds few of them and a
killed extraction goes on where it was; the folder takes its name at the end, whole or not at all. Shards, parts that several
machines extract side by side, are such hidden folders too, and the extraction takes their rows over.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core import stored
from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import write_text

SPLITS = ("train", "test")
FILES = {f"{name}{kind}.npy" for name in SPLITS for kind in ("", "_labels")}
DAMAGED = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)  # what odd JSON may lead to
JOURNAL = "journal.jsonl"  # of an unfinished extraction: its identity, then a line for each chunk


@dataclass(frozen=True)
class Features:
    """Features (N, D) float32, memory mapped, and labels (N,) int64 of both splits. ``engine`` made them; ``seconds``
    and ``images_per_second`` are of the extraction when it was made, without interruptions."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]
    metric: str
    cached: bool
    seconds: float
    images_per_second: float
    engine: str
    engine_version: str
    notes: list[str]


def folder(home: Path, backbone: Backbone, dataset: Dataset, engine: str, precision: str) -> Path:
    """Where these features are cached, whether they exist or not."""
    key = json.dumps([backbone.hash, dataset.hash, repr(backbone.transform), engine, precision])
    return home / "features" / hashlib.sha256(key.encode()).hexdigest()[:32]


def unfinished(folder: Path) -> Path:
    """The folder of an extraction that has not ended."""
    return folder.parent / f".{folder.name}.parts"


def read(folder: Path, dataset: Dataset, *, cached: bool, notes: list[str]) -> Features | None:
    """The cached features of the dataset; None where they are missing or damaged."""
    known: dict[str, Any] = {}
    with stored.reading(folder):
        manifest = json.loads((folder / "manifest.json").read_bytes())
        sums = manifest["checksums"]
        if set(sums) != FILES or any(_checksum(folder / name) != kept for name, kept in sums.items()):
            return None
        known = {name: float(manifest[name]) for name in ("seconds", "images_per_second")}
        known |= {name: str(manifest[name]) for name in ("engine", "engine_version")}
    if not known:
        return None
    # "c" maps for reading: torch accepts arrays only that could be written to, and no change reaches the file.
    train, test = (np.load(folder / f"{name}.npy", mmap_mode="c") for name in SPLITS)
    train_labels, test_labels = (np.load(folder / f"{name}_labels.npy") for name in SPLITS)
    known |= {"class_names": dataset.class_names, "metric": dataset.metric, "cached": cached, "notes": notes}
    return Features(train, train_labels, test, test_labels, **known)


def shard(folder: Path, number: int) -> Path:
    """Where one part of these features, made by itself, would be cached; it never is, for it stays ``unfinished``."""
    return folder.with_name(f"{folder.name}.shard{number}")


def shards(folder: Path) -> list[Path]:
    """The parts of these features, made by themselves, that wait to be joined."""
    found = folder.parent.glob(f".{folder.name}.shard*.parts")
    return sorted(folder.with_name(entry.name.removeprefix(".").removesuffix(".parts")) for entry in found)


class Unfinished:
    """The features of an extraction that goes on, or goes on again, in ``unfinished(folder)``.

    The file of each split has room for all of its rows (N, D); a journal has a line for each chunk of rows that was
    written, with its checksum. ``identity`` is what all rows must share, such as the engine's version: those of another one
    are dropped. Only one process may use it at a time.
    """

    def __init__(self, folder: Path, rows: Mapping[str, int], dimensions: int, identity: Mapping[str, Any]) -> None:
        self.folder, self.rows, self.dimensions = unfinished(folder), rows, dimensions
        self._target, self._identity = folder, json.dumps(identity, sort_keys=True)
        self._journal = self.folder / JOURNAL
        self.folder.mkdir(parents=True, exist_ok=True)
        chunks = self._chunks_of_journal()
        self._offsets = {name: self._make_room(name) for name in SPLITS}
        self._chunks = [chunk for chunk in chunks if self._is_intact(chunk)]
        lines = [self._identity, *map(json.dumps, self._chunks)]
        write_text(self._journal, "\n".join(lines) + "\n")

    @property
    def seconds(self) -> float:
        """The time that the rows which are there took."""
        return sum(chunk["seconds"] for chunk in self._chunks)

    def missing(self, name: str) -> list[range]:
        """The rows of a split that are not there yet."""
        found, start = [], 0
        chunks = sorted((chunk for chunk in self._chunks if chunk["split"] == name), key=lambda chunk: chunk["start"])
        for chunk in [*chunks, {"start": self.rows[name], "rows": 0}]:
            if start < chunk["start"]:
                found.append(range(start, chunk["start"]))
            start = max(start, chunk["start"] + chunk["rows"])
        return found

    def write(self, name: str, start: int, values: np.ndarray, seconds: float) -> None:
        """Keep the features (N, D) float32 of the rows from ``start``, which took so many seconds."""
        content = np.ascontiguousarray(values, np.float32).data.cast("B")
        with open(self._file(name), "r+b", buffering=0) as file:
            file.seek(self._offsets[name] + start * self._row_bytes)
            written = 0
            while written < len(content):
                written += file.write(content[written:])
        chunk = {"split": name, "start": start, "rows": len(values), "seconds": seconds}
        chunk["checksum"] = hashlib.blake2b(content).hexdigest()
        with open(self._journal, "a", encoding="utf-8") as journal:
            journal.write(json.dumps(chunk) + "\n")
        self._chunks.append(chunk)

    def adopt(self, other: "Unfinished") -> None:
        """Copy the rows of another extraction of the same features, chunk by chunk."""
        for chunk in other._chunks:
            self.write(chunk["split"], chunk["start"], other._values(chunk), chunk["seconds"])

    def finish(self, labels: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
        """Give the folder its name, once no row is missing."""
        for name in SPLITS:
            np.save(self.folder / f"{name}_labels.npy", labels[name])
        document = {**manifest, "checksums": {name: _checksum(self.folder / name) for name in sorted(FILES)}}
        write_text(self.folder / "manifest.json", json.dumps(document, indent=1))
        os.rename(self.folder, self._target)
        for file in self._target.iterdir():
            if file.name not in FILES | {"manifest.json"}:
                file.unlink(missing_ok=True)

    @property
    def _row_bytes(self) -> int:
        return 4 * self.dimensions

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _chunks_of_journal(self) -> list[dict[str, Any]]:
        """The chunks that the journal names, if it is of this ``identity``; a line cut off by a kill is left out."""
        try:
            first, *lines = self._journal.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return []
        return [chunk for line in lines if (chunk := self._chunk(line))] if first == self._identity else []

    def _chunk(self, line: str) -> dict[str, Any] | None:
        """One line of the journal; None where it is damaged, or no chunk of rows that these features have."""
        with suppress(*DAMAGED):
            values = json.loads(line)
            kinds = {"split": str, "start": int, "rows": int, "seconds": float, "checksum": str}
            chunk = {name: kind(values[name]) for name, kind in kinds.items()}
            inside = 0 <= chunk["start"] < chunk["start"] + chunk["rows"] <= self.rows[chunk["split"]]
            return chunk if inside and chunk["seconds"] >= 0 else None
        return None

    def _make_room(self, name: str) -> int:
        """Makes the file of a split, or mends its length, and returns where its first row begins."""
        file, shape = self._file(name), (self.rows[name], self.dimensions)
        header = _header(shape)
        with open(file, "a+b") as stream:
            stream.seek(0)
            if stream.read(len(header)) != header:
                stream.truncate(0)
                stream.write(header)
            stream.truncate(len(header) + shape[0] * self._row_bytes)
        return len(header)

    def _is_intact(self, chunk: Mapping[str, Any]) -> bool:
        return hashlib.blake2b(self._content(chunk)).hexdigest() == chunk["checksum"]

    def _values(self, chunk: Mapping[str, Any]) -> np.ndarray:
        return np.frombuffer(self._content(chunk), np.float32).reshape(-1, self.dimensions)

    def _content(self, chunk: Mapping[str, Any]) -> bytes:
        with open(self._file(chunk["split"]), "rb") as file:
            file.seek(self._offsets[chunk["split"]] + chunk["start"] * self._row_bytes)
            return file.read(chunk["rows"] * self._row_bytes)


def rows_done(folder: Path) -> int:
    """The rows that an interrupted extraction and its shards say they have written."""
    rows = 0
    for part in (folder, *shards(folder)):
        with suppress(OSError, ValueError):
            lines = (unfinished(part) / JOURNAL).read_text(encoding="utf-8").splitlines()[1:]
            for line in lines:
                with suppress(*DAMAGED):
                    rows += int(json.loads(line)["rows"])
    return rows


def _header(shape: tuple[int, int]) -> bytes:
    """The header of a .npy file of float32 values."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _checksum(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
