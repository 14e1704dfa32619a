"""Features of a dataset: extracted once per backbone, data, transform, engine and precision; cached, memory mapped.

A cache is a folder ``features/<key>/`` with ``train.npy`` and ``test.npy`` (N, D) float32, their labels, and a manifest with
a checksum of each file. It is written whole or not at all; a damaged one is noticed and made again. An extraction that was
interrupted goes on from the parts it had finished.
"""

import errno
import functools
import hashlib
import itertools
import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sparse_core.catalog import PRECISIONS
from sparse_core.datasets import loading
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.transforms import prepare
from sparse_core.engines import compiling, exactness
from sparse_core.engines.compiled import Compiled
from sparse_core.engines.torch_cpu import thread_pool
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import atomic_folder, require_space, write_text

BATCH = 4  # larger activations are mapped anew for each layer by the C library, which takes longer than the layer
ENGINE_BATCH = 64
PART = 1024
SPLITS = ("train", "test")

Stream = Callable[[Split, list[int]], Generator[np.ndarray, None, None]]
OnProgress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Features:
    """Features (N, D) float32, memory mapped, and labels (N,) int64 of both splits; ``seconds`` and
    ``images_per_second`` tell what the extraction took when it was made, interrupted or not, ``engine`` which one made it."""

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


def extract(
    home: Path,
    backbone: Backbone,
    dataset: Dataset,
    *,
    precision: str = "fp32",
    engine: str = "torch",
    on_progress: OnProgress | None = None,
) -> Features:
    """The features of every image of the dataset, from the cache where it has them.

    ``precision`` bf16 runs the backbone under autocast, in torch only. An ``engine`` other than torch is held against it
    first. ``on_progress`` gets images done, their total and images a
    second, and may raise ``Cancelled``. Raises InputError for a full disk, features that are not finite, and an engine that
    is missing or not exact enough.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    folder = _folder(home, backbone, dataset.hash, engine, precision)
    notes = list(dataset.notes)
    if folder.exists():
        if _is_intact(folder):
            return _open(folder, dataset, cached=True, notes=notes)
        notes.append("The cached features were damaged; they were made again.")
        shutil.rmtree(folder)
    total = len(dataset.train.labels) + len(dataset.test.labels)
    require_space(folder.parent, int(2.1 * total * backbone.dimensions * 4))
    parts = folder.parent / f".{folder.name}.parts"
    try:
        with _open_engine(engine, backbone, precision) as (stream, version):
            how = {"precision": precision, "engine": engine, "engine_version": version}
            _make(folder, parts, stream, how, backbone, dataset, on_progress)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(f"The disk became full while features were written to {folder.parent}. Free some.") from error
    return _open(folder, dataset, cached=False, notes=notes)


def is_cached(
    home: Path, backbone: Backbone, dataset_hash: str, precision: str = "fp32", engine: str = "torch"
) -> bool:
    """True where features of this backbone and data are in the cache (not whether they are intact)."""
    return _folder(home, backbone, dataset_hash, engine, precision).is_dir()


def time_sample(backbone: Backbone, split: Split, images: int, *, precision: str = "fp32") -> float:
    """Seconds an image, decoding included, over a small sample of a split, after one batch to warm up."""
    chosen = [number % len(split.labels) for number in range(images)]
    for _ in _by_torch(backbone, precision, split, chosen[:BATCH]):
        pass
    started = time.perf_counter()
    for _ in _by_torch(backbone, precision, split, chosen):
        pass
    return (time.perf_counter() - started) / images


def _make(
    folder: Path,
    parts: Path,
    stream: Stream,
    how: dict[str, str],
    backbone: Backbone,
    dataset: Dataset,
    on_progress: OnProgress | None,
) -> None:
    started = time.perf_counter()
    total = len(dataset.train.labels) + len(dataset.test.labels)
    done = fresh = 0
    seconds = 0.0
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for name, rows in _ranges(dataset):
        split: Split = getattr(dataset, name)
        part = parts / f"{name}-{rows.start}.npy"
        values, taken = _read_part(part)
        if values is None:
            begun = time.perf_counter()
            batches = []
            with closing(stream(split, list(rows))) as made:
                for batch in made:
                    batches.append(batch)
                    fresh += len(batch)
                    if on_progress:
                        on_progress(done + sum(map(len, batches)), total, fresh / (time.perf_counter() - started))
            values = np.concatenate(batches)
            _require_finite(values, backbone)
            taken = time.perf_counter() - begun
            _write_part(part, values, taken)
        done += len(rows)
        seconds += taken
        arrays[name].append(values)
    with atomic_folder(folder) as temporary:
        for name in SPLITS:
            np.save(temporary / f"{name}.npy", np.concatenate(arrays[name]))
            np.save(temporary / f"{name}_labels.npy", getattr(dataset, name).labels)
        sums = {file.name: _checksum(file) for file in temporary.glob("*.npy")}
        manifest = {
            "backbone": backbone.card.name,
            "backbone_hash": backbone.hash,
            "dataset": dataset.id,
            "dataset_hash": dataset.hash,
            **how,
            "seconds": seconds,
            "images_per_second": total / seconds,
            "checksums": sums,
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    shutil.rmtree(parts, ignore_errors=True)


def _ranges(dataset: Dataset) -> Iterator[tuple[str, range]]:
    for name in SPLITS:
        rows = len(getattr(dataset, name).labels)
        for start in range(0, rows, PART):
            yield name, range(start, min(start + PART, rows))


@contextmanager
def _open_engine(engine: str, backbone: Backbone, precision: str) -> Iterator[tuple[Stream, str]]:
    """What computes features in this engine while it is open, and the engine's version."""
    if engine == "torch":
        yield functools.partial(_by_torch, backbone, precision), torch.__version__
        return
    side = backbone.transform.crop
    with compiling.compile(engine, backbone.module, side, ENGINE_BATCH, precision=precision) as compiled:
        exactness.require_exact(compiled, backbone.module)
        yield functools.partial(_by_engine, backbone, compiled), compiled.version


def _by_engine(
    backbone: Backbone, compiled: Compiled, split: Split, rows: list[int]
) -> Generator[np.ndarray, None, None]:
    """Features of the rows, batch by batch, in order, from an engine that spreads each batch over the cores itself."""
    decoded = loading.batches(lambda row: prepare(split.load(row), backbone.transform), rows, compiled.batch_size)
    for batch in decoded:
        yield compiled.run(loading.normalised(batch, backbone.transform, torch.contiguous_format).numpy())


def _by_torch(backbone: Backbone, precision: str, split: Split, rows: list[int]) -> Generator[np.ndarray, None, None]:
    """Features of the rows, batch by batch, in order. Each core decodes a batch and runs the backbone on it."""

    def work(batch: list[int]) -> np.ndarray:
        decoded = np.stack([prepare(split.load(row), backbone.transform) for row in batch])
        return _forward(backbone, decoded, precision)

    waiting = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    with thread_pool() as (pool, threads):
        queue = deque(pool.submit(work, batch) for batch in itertools.islice(waiting, 2 * threads))
        while queue:
            values = queue.popleft().result()
            queue.extend(pool.submit(work, batch) for batch in itertools.islice(waiting, 1))
            yield values


def _forward(backbone: Backbone, decoded: np.ndarray, precision: str) -> np.ndarray:
    """Images (N, H, W, 3) uint8 to features (N, D) float32."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return backbone.module(loading.normalised(decoded, backbone.transform)).float().numpy()


def _require_finite(values: np.ndarray, backbone: Backbone) -> None:
    bad = int((~np.isfinite(values).all(axis=1)).sum())
    if bad:
        raise InputError(
            f"{backbone.card.name} gives NaN or infinite features for {bad} of {len(values)} images, so nothing was kept. "
            "Try precision fp32, or another backbone."
        )


def _read_part(part: Path) -> tuple[np.ndarray | None, float]:
    """The features of a finished part and the seconds it took; None where it is missing or damaged."""
    try:
        kept = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
        intact = kept["checksum"] == _checksum(part)
    except (OSError, ValueError):
        return None, 0.0
    return (np.load(part), kept["seconds"]) if intact else (None, 0.0)


def _write_part(part: Path, values: np.ndarray, seconds: float) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    np.save(part, values)
    write_text(part.with_suffix(".json"), json.dumps({"checksum": _checksum(part), "seconds": seconds}))


def _is_intact(folder: Path) -> bool:
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["checksums"]
        return len(sums) == 2 * len(SPLITS) and all(_checksum(folder / name) == kept for name, kept in sums.items())
    except (OSError, ValueError, KeyError):
        return False


def _open(folder: Path, dataset: Dataset, *, cached: bool, notes: list[str]) -> Features:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return Features(
        np.load(folder / "train.npy", mmap_mode="r"),
        np.load(folder / "train_labels.npy"),
        np.load(folder / "test.npy", mmap_mode="r"),
        np.load(folder / "test_labels.npy"),
        dataset.class_names,
        dataset.metric,
        cached,
        manifest["seconds"],
        manifest["images_per_second"],
        manifest["engine"],
        manifest["engine_version"],
        notes,
    )


def _checksum(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _folder(home: Path, backbone: Backbone, dataset_hash: str, engine: str, precision: str) -> Path:
    key = json.dumps([backbone.hash, dataset_hash, repr(backbone.transform), engine, precision])
    return home / "features" / hashlib.sha256(key.encode()).hexdigest()[:32]
