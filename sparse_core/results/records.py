"""Run records: the truth about every measured run, one folder a run, written whole or not at all.

A run's folder ``runs/<run_id>/`` holds ``spec.json`` (what was asked), ``events.jsonl`` (a line an epoch) and
``result.json`` (what came out); under full transfer ``networks/<run_id>/`` holds its finetuned network. Many folders are
compacted into Parquet files beside them; both read the same.
"""

import json
import logging
import os
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import atomic_file, atomic_folder, remove, write_text

COMPACT_ABOVE = 500
DOCUMENTS = ("spec.json", "events.jsonl", "result.json")
_RENAMED = {"train_pictures": "train_images", "test_pictures": "test_images"}  # in records of version 0.1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One finished run: ``spec`` (with its seed), ``result`` and ``events`` (one dictionary an epoch)."""

    run_id: str
    spec: dict[str, Any]
    result: dict[str, Any]
    events: list[dict[str, Any]]


class Records:
    """The run records in the folder ``home`` of a user's state. Safe to read while workers write.

    A folder among the runs that is no whole run, such as what a disk check leaves, is left out and named in the log.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home
        self.runs = self.folder / "runs"
        self.networks = self.folder / "networks"
        self.trash = self.folder / "trash"
        self.annotations = self.folder / "annotations"

    def write(self, record: Record) -> None:
        """Publish a finished run. Where a whole record of that name exists already, it stays as it is."""
        if _read_folder(self.runs / record.run_id) is None:
            remove(self.runs / record.run_id)
        with atomic_folder(self.runs / record.run_id) as temporary:
            _write_documents(temporary, record)

    def ids(self) -> set[str]:
        """The names of all finished runs."""
        return self._folders() | self._compacted()  # in this order: a run that is compacted meanwhile is in the second

    def read(self, run_id: str) -> Record:
        """One record. Raises InputError for a name that is not there."""
        found = self.read_many({run_id})
        if not found:
            raise unknown_name("run", run_id, self.ids() - {run_id})
        return found[0]

    def read_many(self, run_ids: set[str]) -> list[Record]:
        """The records of those names that are there, each file opened once."""
        folders = [_read_folder(self.runs / run_id) for run_id in sorted(run_ids & self._folders())]
        found = {record.run_id: record for record in folders if record}
        # A run may be in several Parquet files, or in a folder too, where compacting was cut off: it counts once.
        for file in self._compacted_files():
            if run_ids <= found.keys():
                break
            rows = pd.read_parquet(file, filters=[("run_id", "in", run_ids - found.keys())])
            found.update({row.run_id: _from_row(row) for _, row in rows.iterrows()})
        return list(found.values())

    def delete(self, run_id: str) -> None:
        """Move a run, and its finetuned network where it has one, into the trash, from which ``restore`` brings it back.

        The network goes last: until then it lies where a run that is still there, or restored, looks for it.
        """
        record = self.read(run_id)
        remove(self.trash / run_id)
        with atomic_folder(self.trash / run_id) as temporary:
            _write_documents(temporary, record)
        remove(self.runs / run_id)
        for file in self._compacted_files():
            rows = pd.read_parquet(file)
            if (rows.run_id == run_id).any():
                _write_parquet(file, rows[rows.run_id != run_id])
        if (self.networks / run_id).is_dir():
            os.rename(self.networks / run_id, self.trash / run_id / "network")

    def restore(self, run_id: str) -> None:
        """Bring a deleted run back. Raises InputError where the trash does not hold it."""
        if not (self.trash / run_id).is_dir():
            raise InputError(f"Run '{run_id}' is not in the trash, so it cannot be restored.")
        network = self.trash / run_id / "network"
        if network.is_dir() and not (self.networks / run_id).exists():  # the same run may have been made again
            self.networks.mkdir(parents=True, exist_ok=True)
            os.rename(network, self.networks / run_id)
        self.write(_read_documents(self.trash / run_id))
        remove(self.trash / run_id)

    def compact(self) -> int:
        """Gather all run folders into one Parquet file once they are more than ``COMPACT_ABOVE``; returns how many."""
        folders = self._folders()
        if len(folders) <= COMPACT_ABOVE:
            return 0
        records = [record for run_id in sorted(folders) if (record := _read_folder(self.runs / run_id))]
        rows = [{"run_id": record.run_id, **_documents(record)} for record in records]
        _write_parquet(self.runs / f"compacted-{uuid.uuid4().hex[:12]}.parquet", pd.DataFrame(rows))
        for record in records:
            remove(self.runs / record.run_id)
        return len(records)

    def fingerprint(self) -> tuple[int, ...]:
        """Changes whenever a run is added, deleted or compacted; cheap enough to ask on every page."""
        self.runs.mkdir(parents=True, exist_ok=True)
        return (self.runs.stat().st_mtime_ns, *(file.stat().st_mtime_ns for file in self._compacted_files()))

    def annotate(self, run_id: str, note: str, tags: list[str]) -> None:
        """Keep the user's own note and tags with a run; they outlive its deletion."""
        write_text(self.annotations / f"{run_id}.json", json.dumps({"note": note, "tags": sorted(set(tags))}))

    def annotation(self, run_id: str) -> tuple[str, list[str]]:
        """The user's note and tags on a run; empty where there are none."""
        file = self.annotations / f"{run_id}.json"
        if not file.is_file():
            return "", []
        document = json.loads(file.read_text(encoding="utf-8"))
        return document["note"], document["tags"]

    def _folders(self) -> set[str]:
        """The names of the folders that are whole runs."""
        if not self.runs.is_dir():
            return set()
        entries = [Path(entry) for entry in os.scandir(self.runs) if entry.is_dir() and not entry.name.startswith(".")]
        return {entry.name for entry in entries if _is_whole(entry)}

    def _compacted_files(self) -> list[Path]:
        return sorted(self.runs.glob("compacted-*.parquet"))

    def _compacted(self) -> set[str]:
        names = (pd.read_parquet(file, columns=["run_id"]).run_id for file in self._compacted_files())
        return set().union(*names)


def _documents(record: Record) -> dict[str, str]:
    return {
        "spec": json.dumps(record.spec, sort_keys=True),
        "result": json.dumps(record.result, sort_keys=True),
        "events": "".join(json.dumps(event) + "\n" for event in record.events),
    }


def _write_documents(folder: Path, record: Record) -> None:
    documents = _documents(record)
    (folder / "spec.json").write_text(documents["spec"], encoding="utf-8")
    (folder / "events.jsonl").write_text(documents["events"], encoding="utf-8")
    (folder / "result.json").write_text(documents["result"], encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    whole = all((folder / name).is_file() for name in DOCUMENTS)
    if not whole and folder.is_dir():  # else it was compacted or deleted meanwhile
        _warn_of(folder)
    return whole


def _read_folder(folder: Path) -> Record | None:
    """The run in a folder; None where it cannot be read, or was compacted meanwhile."""
    try:
        return _read_documents(folder)
    except (OSError, ValueError):
        if folder.is_dir():
            _warn_of(folder)
        return None


@cache  # once a process: pages look often
def _warn_of(folder: Path) -> None:
    log.warning("%s is left out: expected a run with %s that can be read.", folder, ", ".join(DOCUMENTS))


def _read_documents(folder: Path) -> Record:
    spec, events, result = ((folder / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    return _parse(folder.name, spec, result, events)


def _from_row(row: pd.Series) -> Record:
    return _parse(row.run_id, row.spec, row.result, row.events)


def _parse(run_id: str, spec: str, result: str, events: str) -> Record:
    outcome = {_RENAMED.get(name, name): value for name, value in json.loads(result).items()}
    return Record(run_id, json.loads(spec), outcome, [json.loads(line) for line in events.splitlines()])


def _write_parquet(target: Path, rows: pd.DataFrame) -> None:
    with atomic_file(target) as temporary:
        rows.to_parquet(temporary, index=False)
