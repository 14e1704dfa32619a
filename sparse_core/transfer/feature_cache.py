"""The cache of extracted features, one folder per backbone, data, transform, engine and precision.

``features/<key>/`` holds ``train.npy`` and ``test.npy`` (N, D) float32, their labels, and a manifest with a checksum of each
file. It is written whole or not at all. An unfinished extraction keeps its finished parts in a hidden folder beside it.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import atomic_folder, write_text

SPLITS = ("train", "test")


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


def parts_folder(folder: Path) -> Path:
    """The parts of an unfinished extraction."""
    return folder.parent / f".{folder.name}.parts"


def is_intact(folder: Path) -> bool:
    """Whether all files are there and match their checksums."""
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["checksums"]
        return len(sums) == 2 * len(SPLITS) and all(_checksum(folder / name) == kept for name, kept in sums.items())
    except (OSError, ValueError, KeyError):
        return False


def read(folder: Path, dataset: Dataset, *, cached: bool, notes: list[str]) -> Features:
    """Open cached features of the dataset."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    train, test = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in SPLITS)
    train_labels, test_labels = (np.load(folder / f"{name}_labels.npy") for name in SPLITS)
    known = {name: manifest[name] for name in ("seconds", "images_per_second", "engine", "engine_version")}
    known |= {"class_names": dataset.class_names, "metric": dataset.metric, "cached": cached, "notes": notes}
    return Features(train, train_labels, test, test_labels, **known)


def write(
    folder: Path, parts: dict[str, list[np.ndarray]], backbone: Backbone, dataset: Dataset, manifest: dict[str, Any]
) -> None:
    """Join the parts of both splits into the cache's folder and remove them."""
    with atomic_folder(folder) as temporary:
        for name in SPLITS:
            np.save(temporary / f"{name}.npy", np.concatenate(parts[name]))
            np.save(temporary / f"{name}_labels.npy", getattr(dataset, name).labels)
        document = {
            "backbone": backbone.card.name,
            "backbone_hash": backbone.hash,
            "dataset": dataset.id,
            "dataset_hash": dataset.hash,
            **manifest,
            "checksums": {file.name: _checksum(file) for file in temporary.glob("*.npy")},
        }
        (temporary / "manifest.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    shutil.rmtree(parts_folder(folder), ignore_errors=True)


def read_part(part: Path) -> tuple[np.ndarray | None, float]:
    """The features of a finished part and the seconds it took; None where it is missing or damaged."""
    try:
        kept = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
        intact = kept["checksum"] == _checksum(part)
    except (OSError, ValueError):
        return None, 0.0
    return (np.load(part), kept["seconds"]) if intact else (None, 0.0)


def write_part(part: Path, values: np.ndarray, seconds: float) -> None:
    """Keep a finished part until the whole is written."""
    part.parent.mkdir(parents=True, exist_ok=True)
    np.save(part, values)
    write_text(part.with_suffix(".json"), json.dumps({"checksum": _checksum(part), "seconds": seconds}))


def _checksum(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
