"""Records of evaluations on disk: the accuracy of a network with the classifier it was trained with, as in the paper's table 3.
Needs no torch.

``evaluations/<id>.json`` holds one network on one dataset. The id has the network's hash and, of the dataset, the name for one of
``EVALUATIONS`` and the hash of the content for the user's own, so a new evaluation of the same takes the old one's place. Deleted
ones wait in ``evaluations/.trash``. ``top1`` and ``mean_per_class`` (null for ReaL) are in 0..1, ``parts`` the top-1 of
ImageNetV2's three samples, ``top1`` then their mean, ``seconds`` the time of the whole job. A detector has ``map50`` (mAP@0.5)
and ``map`` (@[.5:.95]) in place of accuracies.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sparse_core import stored
from sparse_core.catalog import UNKNOWN
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import write_json
from sparse_core.specs.evaluation import CIFAR10, EVALUATIONS, IMAGENET
from sparse_core.stored import NUMBER, is_kind, type_problem
from sparse_core.trash import Trash

_REQUIRED: stored.Kinds = {
    **dict.fromkeys(("id", "created_at", "network", "backbone", "architecture", "method", "upstream", "dataset"), str),
    **{"sparsity": NUMBER, "images": int, "parts": dict, "seconds": NUMBER},
}
MEASURED = ("top1", "map50", "map")
_OPTIONAL: stored.Kinds = {
    **dict.fromkeys(("dataset_hash", "product_version", "data"), str),
    **dict.fromkeys((*MEASURED, "mean_per_class"), NUMBER),
}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
COCO = "COCO"
_FILE = "a local file"  # upstream of a backbone that was named by its file


def folder(home: Path) -> Path:
    """The folder of the evaluations."""
    return home / "evaluations"


def new_id(network: str, dataset: str, dataset_hash: str) -> str:
    """The name of the evaluation of a network, by its hash, on one of ``EVALUATIONS``, or on the data with this content hash."""
    return f"{network}-{dataset if dataset in EVALUATIONS else dataset_hash}"


def write(home: Path, record: dict[str, Any]) -> None:
    """Write an evaluation under its ``id``, all of it or nothing. Raises InputError if it is invalid."""
    found = problem(record)
    if found:
        raise InputError(f"Not an evaluation: {found}.")
    write_json(folder(home) / f"{record['id']}.json", record)


def read_all(home: Path) -> list[dict[str, Any]]:
    """Every valid evaluation, oldest first; other files are left out: see ``stored``."""
    found = (_read(file) for file in sorted(folder(home).glob("*.json")))
    return sorted(filter(None, found), key=lambda record: (record["created_at"], record["id"]))


def delete(home: Path, *names: str) -> None:
    """Move evaluations to the trash. Raises InputError for an unknown one."""
    for name in names:
        source = folder(home) / f"{name}.json"
        if not _ID.fullmatch(name) or not source.is_file():
            raise unknown_name("evaluation", name, (file.stem for file in folder(home).glob("*.json")))
        _trash(home).put(source)


def restore(home: Path, *names: str) -> None:
    """Restore evaluations from the trash. Raises InputError for one that is not there."""
    for name in names:
        if not _ID.fullmatch(name):
            raise InputError(f"Evaluation '{name}' is not in the trash, so it cannot be restored.")
        _trash(home).restore(f"{name}.json", folder(home) / f"{name}.json")


def is_upstream(record: dict[str, Any]) -> bool:
    """Whether it was on the data that the network was trained on last, as far as that is known: on the original labels."""
    trained_on = record["upstream"].rpartition("→")[2].strip()
    if is_of_detector(record) and trained_on == COCO:
        return True  # the classes of COCO, or it would have been refused
    if trained_on in ("", UNKNOWN, _FILE):
        return record["dataset"] in (IMAGENET, CIFAR10)
    return trained_on.lower().startswith(EVALUATIONS.get(record["dataset"], record["dataset"]).lower())


def is_of_detector(record: dict[str, Any]) -> bool:
    """Whether a valid record has the mAP of a detector."""
    return record.get("map50") is not None


def seconds_per_image(records: Sequence[dict[str, Any]], architecture: str) -> float | None:
    """That of the latest evaluation of an architecture; None where there is none."""
    known = [record["seconds"] / record["images"] for record in records if record["architecture"] == architecture]
    return known[-1] if known else None


def problem(record: Any) -> str:
    """Why ``record`` is not a valid evaluation; empty if it is."""
    found = type_problem(record, _REQUIRED, _OPTIONAL)
    if found:
        return found
    if not _ID.fullmatch(record["id"]):
        return "its 'id' has other characters than letters, digits, - and _"
    if record["images"] < 1:
        return "its 'images' are not 1 or more"
    measured = [record.get(name) for name in MEASURED]
    if (measured[0] is None) == (None in measured[1:]):
        return "it has neither 'top1' nor 'map50' with 'map', or both"
    shares = [*filter(None, measured), *record["parts"].values(), record.get("mean_per_class") or 0]
    if not all(is_kind(share, NUMBER) and 0 <= share <= 1 for share in shares):
        return "an accuracy in it is not in 0..1"
    try:
        datetime.fromisoformat(record["created_at"])
    except ValueError:
        return "its 'created_at' is not a time such as 2026-01-31T12:00:00"
    return ""


def _read(file: Path) -> dict[str, Any] | None:
    with stored.reading(file):
        record = json.loads(file.read_bytes())
        found = problem(record) or ("" if record["id"] == file.stem else "its name differs from the 'id' in it")
        if found:
            raise InputError(f"not an evaluation: {found}")
        return record
    return None


def _trash(home: Path) -> Trash:
    return Trash(folder(home) / ".trash")
