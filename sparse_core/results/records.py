"""Run records: the source of truth about every measured run, one folder per run, written atomically.

A run's folder ``runs/<run_id>/`` holds ``spec.json`` (the request), ``events.jsonl`` (one line per epoch) and
``result.json``; under full transfer ``networks/<run_id>/`` holds the finetuned network. Many folders are compacted into
Parquet files beside them; both are read in the same way.
"""

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core import stored
from sparse_core.catalog import METRICS, UNKNOWN, built_in_dataset, listed_dataset
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import atomic_file, atomic_folder, remove
from sparse_core.results.annotations import Annotations
from sparse_core.specs.checks import require_known
from sparse_core.specs.identity import record_document, recorded
from sparse_core.specs.transfer import TASK
from sparse_core.stored import NUMBER, require
from sparse_core.trash import Trash

COMPACT_ABOVE = 500
DOCUMENTS = ("spec.json", "events.jsonl", "result.json")
_RENAMED = {"train_pictures": "train_images", "test_pictures": "test_images"}  # in records of version 0.1.0

# What pages and tables show of a result; records of version 0.1.0 have all of it.
_RESULT: stored.Kinds = {
    **dict.fromkeys(("architecture", "upstream", "method", "protocol", "metric", "dataset_name", "created_at"), str),
    **dict.fromkeys(("sparsity", "backbone_sparsity", "learning_rate", "seconds_training"), NUMBER),
    **{f"accuracy_{when}": NUMBER for when in ("best", "final")},
    **{"train_images": int, "test_images": int, "class_names": list, "notes": list},
}
_CLASSIFIED: stored.Kinds = {
    **{f"{name}_{when}": NUMBER for name in ("top1", "mean_per_class") for when in ("best", "final")},
    "confusion": list,
}
_DETECTED: stored.Kinds = {
    **{f"{name}_{when}": NUMBER for name in ("map50", "map") for when in ("best", "final")},
    **{"precision_by_class": list, "precision_curves": list, "detections": list},
}
_SIZES: stored.Kinds = dict.fromkeys(("nonzero_parameters", "multiply_adds", "file_size"), int)
_OPTIONAL: stored.Kinds = {
    **_SIZES,
    "validation": dict,
    "images_per_second": NUMBER,
    "seconds_features": NUMBER,
    "task": str,
    "recipe": str,
    "predicted": str,
}
_FINETUNED: stored.Kinds = {"sparsity_before": NUMBER, "sparsity_after": NUMBER, "mask_violations": int}
_EVENT: stored.Kinds = {"epoch": int, "loss": NUMBER}
_EVENT_CLASSIFIED: stored.Kinds = {**_EVENT, "top1": NUMBER, "mean_per_class": NUMBER}
_EVENT_DETECTED: stored.Kinds = {**_EVENT, "map50": NUMBER, "map": NUMBER}


@dataclass(frozen=True)
class Record:
    """One finished run: ``spec`` (with its seed), ``result`` and ``events`` (one dictionary an epoch)."""

    run_id: str
    spec: dict[str, Any]
    result: dict[str, Any]
    events: list[dict[str, Any]]


class Records:
    """A home folder's run records, safe to read while workers write. What cannot be read is left out: see ``stored``."""

    def __init__(self, home: Path) -> None:
        self.folder = home
        self.runs = self.folder / "runs"
        self.networks = self.folder / "networks"
        self.trash = Trash(self.folder / "trash")
        self.annotations = Annotations(self.folder / "annotations")

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
            found.update({record.run_id: record for record in _read_compacted(file, run_ids - found.keys())})
        return list(found.values())

    def delete(self, *run_ids: str) -> None:
        """Move runs, each with its finetuned network if there is one, into the trash; ``restore`` moves them back.

        The network goes last: after a kill it is still where the run, existing or restored, looks for it.
        """
        gone = set(run_ids)
        for record in self.read_many(gone) or [self.read(run_id) for run_id in run_ids]:
            self.write(record)  # a compacted run becomes a folder again
            self.trash.put(self.runs / record.run_id)
        for file in self._compacted_files():
            with stored.reading(file):
                rows = pd.read_parquet(file)
                if rows.run_id.isin(gone).any():
                    _write_parquet(file, rows[~rows.run_id.isin(gone)])
        for run_id in gone:
            if (self.networks / run_id).is_dir() and (self.trash.folder / run_id).is_dir():
                os.rename(self.networks / run_id, self.trash.folder / run_id / "network")

    def restore(self, *run_ids: str) -> None:
        """Move deleted runs back. Raises InputError for one that is not in the trash or was repeated since."""
        for run_id in run_ids:
            self._restore(run_id)

    def _restore(self, run_id: str) -> None:
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
        write_compacted(self.runs / f"compacted-{uuid.uuid4().hex[:12]}.parquet", records)
        for record in records:
            remove(self.runs / record.run_id)
        return len(records)

    def fingerprint(self) -> tuple[int, ...]:
        """Changes whenever a run is added, deleted or compacted; cheap enough for every page load."""
        return tuple(_modified(entry) for entry in (self.runs, *self._compacted_files()))

    def annotate(self, run_id: str, note: str, tags: list[str]) -> None:
        """Store the user's note and tags on a run; they survive its deletion."""
        self.annotations.write(run_id, replace(self.annotations.read(run_id), note=note, tags=tuple(tags)))

    def annotation(self, run_id: str) -> tuple[str, list[str]]:
        """The user's note and tags on a run, empty if there are none."""
        found = self.annotations.read(run_id)
        return found.note, list(found.tags)

    def _folders(self) -> set[str]:
        """The names of the folders that are complete runs."""
        with stored.reading(self.runs), os.scandir(self.runs) as entries:
            folders = [Path(entry) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
            return {folder.name for folder in folders if _is_complete(folder)}
        return set()

    def _compacted_files(self) -> list[Path]:
        return sorted(self.runs.glob("compacted-*.parquet"))

    def _compacted(self) -> set[str]:
        names: set[str] = set()
        for file in self._compacted_files():
            with stored.reading(file):
                names |= set(pd.read_parquet(file, columns=["run_id"]).run_id)
        return names


def write_compacted(file: Path, records: Sequence[Record]) -> None:
    """Write records into one Parquet file, as ``Records`` reads it."""
    columns = ["run_id", *(Path(name).stem for name in DOCUMENTS)]
    rows = [[record.run_id, *_documents(record).values()] for record in records]
    _write_parquet(file, pd.DataFrame(rows, columns=columns))


def _documents(record: Record) -> dict[str, str]:
    """The texts of a run's files, by file name."""
    events = "".join(json.dumps(event) + "\n" for event in record.events)
    texts = (json.dumps(record.spec, sort_keys=True), events, json.dumps(record.result, sort_keys=True))
    return dict(zip(DOCUMENTS, texts, strict=True))


def _is_complete(folder: Path) -> bool:
    missing = [name for name in DOCUMENTS if not (folder / name).is_file()]
    if missing and folder.is_dir():  # otherwise it was compacted or deleted in between
        stored.leave_out(folder, f"{' and '.join(missing)} cannot be found")
    return not missing


def _read_folder(folder: Path) -> Record | None:
    """The run in a folder; None if it is left out, or was compacted in between."""
    with stored.reading(folder):
        spec, events, result = ((folder / name).read_text(encoding="utf-8") for name in DOCUMENTS)
        return _parse(folder, spec, result, events)
    return None


def _read_compacted(file: Path, run_ids: set[str]) -> Iterator[Record]:
    """Those of these runs that are in a Parquet file."""
    with stored.reading(file):
        rows = pd.read_parquet(file, filters=[("run_id", "in", run_ids)])
        for run_id, *documents in zip(rows["run_id"], rows["spec"], rows["result"], rows["events"], strict=True):
            with stored.reading(file):
                yield _parse(file.parent / run_id, *documents)


def _parse(folder: Path, spec: str, result: str, events: str) -> Record:
    """The run of a folder with these texts. Raises what ``stored.reading`` takes for a damaged file."""
    asked, outcome = json.loads(spec), json.loads(result)
    require(asked, {"transfer": str, "seed": int}, where=" of the spec")
    asked = record_document(recorded(asked), asked["seed"])  # with the fields that an older version did not have
    outcome = {_RENAMED.get(name, name): value for name, value in require(outcome, {}).items()}
    detects = asked.get("task") == TASK
    required = {
        **_RESULT,
        **(_DETECTED if detects else _CLASSIFIED),
        **(_FINETUNED if asked["transfer"] == "full" else {}),
    }
    require(outcome, required, _OPTIONAL, " of the result")
    event = _EVENT_DETECTED if detects else _EVENT_CLASSIFIED
    epochs = [require(json.loads(line), event, where=" of an epoch") for line in events.splitlines()]
    if not epochs:
        raise InputError("it has no epochs")
    _require_consistent(outcome)
    if outcome["method"] == "Dense" and outcome["sparsity"]:
        claim = f"calls a network of sparsity {outcome['sparsity']:g} dense"
        stored.note(folder, f"{claim}; its method is shown as {UNKNOWN}: it is no baseline")
        outcome["method"] = UNKNOWN
    built_in = outcome.get("task") or built_in_dataset(asked["dataset"])
    outcome["dataset_name"] = listed_dataset(outcome["dataset_name"], built_in)
    return Record(folder.name, asked, outcome, epochs)


def _require_consistent(result: dict[str, Any]) -> None:
    datetime.fromisoformat(result["created_at"])
    require_known("metric", result["metric"], METRICS)
    classes = range(len(result["class_names"]))
    confusion = result.get("confusion", ())
    counts = [(true in classes, predicted in classes, count >= 0) for true, predicted, count in confusion]
    shares = [result[name] for name in ("sparsity", "backbone_sparsity", "accuracy_best", "accuracy_final")]
    if not all(map(all, counts)) or not all(0 <= share <= 1 for share in shares):
        raise InputError("its numbers contradict each other")


def _modified(entry: Path) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0


def _write_parquet(target: Path, rows: pd.DataFrame) -> None:
    with atomic_file(target) as temporary:
        rows.to_parquet(temporary, index=False, compression="zstd")
