"""Run records: the source of truth about every measured run, one folder per run, written atomically.

A run's folder ``runs/<run_id>/`` holds ``spec.json`` (the request), ``events.jsonl`` (one line per epoch) and
``result.json``; under full transfer ``networks/<run_id>/`` holds the finetuned network. Many folders are compacted into
Parquet files beside them; both are read in the same way.
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

from sparse_core.catalog import UNKNOWN, built_in_dataset, listed_dataset
from sparse_core.errors import unknown_name
from sparse_core.paths import atomic_file, atomic_folder, remove, write_text
from sparse_core.trash import Trash

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
    """A home folder's run records, safe to read while workers write. Incomplete runs are skipped, and logged."""

    def __init__(self, home: Path) -> None:
        self.folder = home
        self.runs = self.folder / "runs"
        self.networks = self.folder / "networks"
        self.trash = Trash(self.folder / "trash")
        self.annotations = self.folder / "annotations"

    def write(self, record: Record) -> None:
        """Write a finished run. A complete record of the same id is kept as it is."""
        if _read_folder(self.runs / record.run_id) is None:
            remove(self.runs / record.run_id)
        with atomic_folder(self.runs / record.run_id) as temporary:
            for name, text in _documents(record).items():
                (temporary / name).write_text(text, encoding="utf-8")

    def ids(self) -> set[str]:
        """The ids of all finished runs."""
        return self._folders() | self._compacted()  # in this order: a run compacted in between is in the second

    def read(self, run_id: str) -> Record:
        """One record. Raises InputError for an unknown id."""
        found = self.read_many({run_id})
        if not found:
            raise unknown_name("run", run_id, self.ids() - {run_id})
        return found[0]

    def read_many(self, run_ids: set[str]) -> list[Record]:
        """The records with these ids, unknown ones skipped; each file is opened once."""
        folders = [_read_folder(self.runs / run_id) for run_id in sorted(run_ids & self._folders())]
        found = {record.run_id: record for record in folders if record}
        # After an interrupted compaction a run may be in several Parquet files, or in a folder too: it counts once.
        for file in self._compacted_files():
            if run_ids <= found.keys():
                break
            rows = pd.read_parquet(file, filters=[("run_id", "in", run_ids - found.keys())])
            texts = zip(rows["run_id"], rows["spec"], rows["result"], rows["events"], strict=True)
            found.update({run_id: _parse(run_id, *documents) for run_id, *documents in texts})
        return list(found.values())

    def delete(self, run_id: str) -> None:
        """Move a run, and its finetuned network if there is one, into the trash; ``restore`` moves them back.

        The network goes last: after a kill it is still where the run, existing or restored, looks for it.
        """
        self.write(self.read(run_id))  # a compacted run becomes a folder again
        self.trash.put(self.runs / run_id)
        for file in self._compacted_files():
            rows = pd.read_parquet(file)
            if (rows.run_id == run_id).any():
                _write_parquet(file, rows[rows.run_id != run_id])
        if (self.networks / run_id).is_dir():
            os.rename(self.networks / run_id, self.trash.folder / run_id / "network")

    def restore(self, run_id: str) -> None:
        """Move a deleted run back. Raises InputError if it is not in the trash or was repeated since."""
        network = self.trash.folder / run_id / "network"
        if network.is_dir() and not (self.networks / run_id).exists():
            self.networks.mkdir(parents=True, exist_ok=True)
            os.rename(network, self.networks / run_id)
        self.trash.restore(run_id, self.runs / run_id)
        remove(self.runs / run_id / "network")  # where there is a newer one

    def compact(self) -> int:
        """Move all run folders into one Parquet file if there are more than ``COMPACT_ABOVE``; returns their number."""
        folders = self._folders()
        if len(folders) <= COMPACT_ABOVE:
            return 0
        records = [record for run_id in sorted(folders) if (record := _read_folder(self.runs / run_id))]
        columns = ["run_id", *(Path(name).stem for name in DOCUMENTS)]
        rows = [[record.run_id, *_documents(record).values()] for record in records]
        target = self.runs / f"compacted-{uuid.uuid4().hex[:12]}.parquet"
        _write_parquet(target, pd.DataFrame(rows, columns=columns))
        for record in records:
            remove(self.runs / record.run_id)
        return len(records)

    def fingerprint(self) -> tuple[int, ...]:
        """Changes whenever a run is added, deleted or compacted; cheap enough for every page load."""
        self.runs.mkdir(parents=True, exist_ok=True)
        return (self.runs.stat().st_mtime_ns, *(file.stat().st_mtime_ns for file in self._compacted_files()))

    def annotate(self, run_id: str, note: str, tags: list[str]) -> None:
        """Store the user's note and tags on a run; they survive its deletion."""
        write_text(self.annotations / f"{run_id}.json", json.dumps({"note": note, "tags": sorted(set(tags))}))

    def annotation(self, run_id: str) -> tuple[str, list[str]]:
        """The user's note and tags on a run, empty if there are none."""
        file = self.annotations / f"{run_id}.json"
        if not file.is_file():
            return "", []
        document = json.loads(file.read_text(encoding="utf-8"))
        return document["note"], document["tags"]

    def _folders(self) -> set[str]:
        """The names of the folders that are complete runs."""
        if not self.runs.is_dir():
            return set()
        entries = [Path(entry) for entry in os.scandir(self.runs) if entry.is_dir() and not entry.name.startswith(".")]
        return {entry.name for entry in entries if _is_complete(entry)}

    def _compacted_files(self) -> list[Path]:
        return sorted(self.runs.glob("compacted-*.parquet"))

    def _compacted(self) -> set[str]:
        names = (pd.read_parquet(file, columns=["run_id"]).run_id for file in self._compacted_files())
        return set().union(*names)


def _documents(record: Record) -> dict[str, str]:
    """The texts of a run's files, by file name."""
    events = "".join(json.dumps(event) + "\n" for event in record.events)
    texts = (json.dumps(record.spec, sort_keys=True), events, json.dumps(record.result, sort_keys=True))
    return dict(zip(DOCUMENTS, texts, strict=True))


def _is_complete(folder: Path) -> bool:
    complete = all((folder / name).is_file() for name in DOCUMENTS)
    if not complete and folder.is_dir():  # otherwise it was compacted or deleted in between
        _warn_about(folder)
    return complete


def _read_folder(folder: Path) -> Record | None:
    """The run in a folder; None if it cannot be read or was compacted in between."""
    try:
        spec, events, result = ((folder / name).read_text(encoding="utf-8") for name in DOCUMENTS)
        return _parse(folder.name, spec, result, events)
    except (OSError, ValueError):
        if folder.is_dir():
            _warn_about(folder)
        return None


@cache  # once per process: pages read the runs often
def _warn_about(folder: Path) -> None:
    log.warning("%s is left out: expected a run with readable %s.", folder, ", ".join(DOCUMENTS))


def _parse(run_id: str, spec: str, result: str, events: str) -> Record:
    asked, outcome = json.loads(spec), {_RENAMED.get(name, name): value for name, value in json.loads(result).items()}
    if outcome.get("method") == "Dense" and outcome.get("sparsity"):
        _warn_about_dense(run_id, outcome["sparsity"])
        outcome["method"] = UNKNOWN
    if "dataset_name" in outcome:
        built_in = outcome.get("task") or built_in_dataset(asked.get("dataset", ""))
        outcome["dataset_name"] = listed_dataset(outcome["dataset_name"], built_in)
    return Record(run_id, asked, outcome, [json.loads(line) for line in events.splitlines()])


@cache
def _warn_about_dense(run_id: str, sparsity: float) -> None:
    log.warning(
        "Run %s calls a network of sparsity %g dense. Its method is shown as %s: it is no baseline.",
        run_id,
        sparsity,
        UNKNOWN,
    )


def _write_parquet(target: Path, rows: pd.DataFrame) -> None:
    with atomic_file(target) as temporary:
        rows.to_parquet(temporary, index=False)
