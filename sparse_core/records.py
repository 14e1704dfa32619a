"""Run records: the truth about every measured run, one folder a run, written whole or not at all.

A run's folder ``runs/<run_id>/`` holds ``spec.json`` (what was asked), ``events.jsonl`` (a line an epoch) and
``result.json`` (what came out); under full transfer ``networks/<run_id>/`` holds its finetuned network. Many folders are
compacted into Parquet files beside them; both read the same.
"""

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import atomic_file, atomic_folder, home, write_text

COMPACT_ABOVE = 500


@dataclass(frozen=True)
class Record:
    """One finished run: ``spec`` (with its seed), ``result`` and ``events`` (one dictionary an epoch)."""

    run_id: str
    spec: dict[str, Any]
    result: dict[str, Any]
    events: list[dict[str, Any]]


class Records:
    """The run records under ``folder`` (by default the user's own). Safe to read while workers write."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home()
        self.runs = self.folder / "runs"
        self.networks = self.folder / "networks"
        self.trash = self.folder / "trash"
        self.annotations = self.folder / "annotations"

    def write(self, record: Record) -> None:
        """Publish a finished run. Where a record of that name exists already, it stays as it is."""
        with atomic_folder(self.runs / record.run_id) as temporary:
            _write_documents(temporary, record)

    def ids(self) -> set[str]:
        """The names of all finished runs."""
        return self._folders() | set(self._compacted())

    def read(self, run_id: str) -> Record:
        """One record. Raises InputError for a name that is not there."""
        folder = self.runs / run_id
        if run_id in self._folders():
            return _read_documents(folder)
        file = self._compacted().get(run_id)
        if file is None:
            raise unknown_name("run", run_id, self.ids())
        return _from_row(pd.read_parquet(file, filters=[("run_id", "==", run_id)]).iloc[0])

    def read_many(self, run_ids: set[str]) -> list[Record]:
        """The records of those names that are there, each file opened once."""
        found = [_read_documents(self.runs / run_id) for run_id in sorted(run_ids & self._folders())]
        missing = run_ids - {record.run_id for record in found}
        for file in self._compacted_files() if missing else []:
            rows = pd.read_parquet(file)
            found += [_from_row(row) for _, row in rows[rows.run_id.isin(missing)].iterrows()]
        return found

    def delete(self, run_id: str) -> None:
        """Move a run, and its finetuned network where it has one, into the trash, from which ``restore`` brings it back."""
        record = self.read(run_id)
        shutil.rmtree(self.trash / run_id, ignore_errors=True)
        with atomic_folder(self.trash / run_id) as temporary:
            _write_documents(temporary, record)
        if (self.networks / run_id).is_dir():
            os.rename(self.networks / run_id, self.trash / run_id / "network")
        if run_id in self._folders():
            leaving = self.runs / f".{run_id}.{uuid.uuid4().hex[:8]}"
            os.rename(self.runs / run_id, leaving)
            shutil.rmtree(leaving)
        file = self._compacted().get(run_id)
        if file is not None:
            rows = pd.read_parquet(file)
            _write_parquet(file, rows[rows.run_id != run_id])

    def restore(self, run_id: str) -> None:
        """Bring a deleted run back. Raises InputError where the trash does not hold it."""
        if not (self.trash / run_id).is_dir():
            raise InputError(f"Run '{run_id}' is not in the trash, so it cannot be restored.")
        network = self.trash / run_id / "network"
        if network.is_dir() and not (self.networks / run_id).exists():  # the same run may have been made again
            self.networks.mkdir(parents=True, exist_ok=True)
            os.rename(network, self.networks / run_id)
        self.write(_read_documents(self.trash / run_id))
        shutil.rmtree(self.trash / run_id)

    def compact(self) -> int:
        """Gather all run folders into one Parquet file once they are more than ``COMPACT_ABOVE``; returns how many."""
        folders = self._folders()
        if len(folders) <= COMPACT_ABOVE:
            return 0
        records = [_read_documents(self.runs / run_id) for run_id in sorted(folders)]
        rows = [{"run_id": record.run_id, **_documents(record)} for record in records]
        _write_parquet(self.runs / f"compacted-{uuid.uuid4().hex[:12]}.parquet", pd.DataFrame(rows))
        for run_id in folders:
            shutil.rmtree(self.runs / run_id)
        return len(folders)

    def fingerprint(self) -> tuple[int, ...]:
        """Changes whenever a run is added, deleted or compacted; cheap enough to ask on every page."""
        self.runs.mkdir(parents=True, exist_ok=True)
        return (self.runs.stat().st_mtime_ns, *(file.stat().st_mtime_ns for file in self._compacted_files()))

    def annotate(self, run_id: str, note: str, tags: list[str]) -> None:
        """Keep the user's own note and tags with a run (published ones too)."""
        write_text(self.annotations / f"{run_id}.json", json.dumps({"note": note, "tags": sorted(set(tags))}))

    def annotation(self, run_id: str) -> tuple[str, list[str]]:
        """The user's note and tags on a run; empty where there are none."""
        file = self.annotations / f"{run_id}.json"
        if not file.is_file():
            return "", []
        document = json.loads(file.read_text(encoding="utf-8"))
        return document["note"], document["tags"]

    def _folders(self) -> set[str]:
        if not self.runs.is_dir():
            return set()
        return {entry.name for entry in os.scandir(self.runs) if entry.is_dir() and not entry.name.startswith(".")}

    def _compacted_files(self) -> list[Path]:
        return sorted(self.runs.glob("compacted-*.parquet"))

    def _compacted(self) -> dict[str, Path]:
        names: dict[str, Path] = {}
        for file in self._compacted_files():
            names.update(dict.fromkeys(pd.read_parquet(file, columns=["run_id"]).run_id, file))
        return names


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


def _read_documents(folder: Path) -> Record:
    return _parse(
        folder.name,
        (folder / "spec.json").read_text(encoding="utf-8"),
        (folder / "result.json").read_text(encoding="utf-8"),
        (folder / "events.jsonl").read_text(encoding="utf-8"),
    )


def _from_row(row: pd.Series) -> Record:
    return _parse(row.run_id, row.spec, row.result, row.events)


def _parse(run_id: str, spec: str, result: str, events: str) -> Record:
    return Record(run_id, json.loads(spec), json.loads(result), [json.loads(line) for line in events.splitlines()])


def _write_parquet(target: Path, rows: pd.DataFrame) -> None:
    with atomic_file(target) as temporary:
        rows.to_parquet(temporary, index=False)
