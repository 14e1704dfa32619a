"""Features of a dataset: extracted once, then read from the cache (``feature_cache``). A damaged cache is noticed and
made again. An interrupted extraction continues from its finished parts."""

import errno
import functools
import itertools
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch

from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.datasets import loading
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.transforms import prepare
from sparse_core.engines import compiling
from sparse_core.engines.compiled import Compiled
from sparse_core.engines.torch_cpu import thread_pool
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import require_space
from sparse_core.specs.progress import Progress, Report
from sparse_core.transfer import feature_cache
from sparse_core.transfer.feature_cache import SPLITS, Features
from sparse_core.transfer.training import Reporter, no_report

BATCH = 4  # larger activations are mapped anew for each layer by the C library, which takes longer than the layer
ENGINE_BATCH = 64
PART = 1024

Batches = Generator[np.ndarray, None, None]
Stream = Callable[[Split, list[int]], Batches]


def extract(
    home: Path,
    backbone: Backbone,
    dataset: Dataset,
    *,
    precision: str = "fp32",
    engine: str = "torch",
    on_progress: Report = no_report,
    seconds_after: float = 0.0,
) -> Features:
    """The features of every image of the dataset, from the cache where they are there.

    ``precision`` bf16 runs the backbone under autocast, in torch only. ``engine`` "auto" is the one that has made these
    features already, else the fastest that is exact enough; any but torch is compared with torch first. ``seconds_after``
    is added to the time left. Raises InputError for a full disk, features that are not finite, and an engine that is
    missing or not exact enough.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if engine == "auto":
        engine = _choose_engine(home, backbone, dataset, precision, on_progress)
    folder = feature_cache.folder(home, backbone, dataset, engine, precision)
    notes = list(dataset.notes)
    if folder.exists():
        if feature_cache.is_intact(folder):
            return feature_cache.read(folder, dataset, cached=True, notes=notes)
        notes.append("The cached features were damaged; they were made again.")
        shutil.rmtree(folder)
    total = len(dataset.train.labels) + len(dataset.test.labels)
    require_space(folder.parent, int(2.1 * total * backbone.dimensions * 4))
    try:
        with _open_engine(engine, backbone, precision) as (stream, version):
            reporter = Reporter(on_progress, total, seconds_after=seconds_after)
            parts, seconds = _extract_parts(folder, stream, backbone, dataset, reporter)
        pace = {"seconds": seconds, "images_per_second": total / seconds}
        manifest = {"precision": precision, "engine": engine, "engine_version": version, **pace}
        feature_cache.write(folder, parts, backbone, dataset, manifest)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(f"The disk became full while features were written to {folder.parent}. Free some.") from error
    return feature_cache.read(folder, dataset, cached=False, notes=notes)


def time_sample(backbone: Backbone, split: Split, images: int, *, precision: str = "fp32") -> float:
    """Seconds per image, decoding included, over a small sample of a split, after one batch to warm up."""
    chosen = [number % len(split.labels) for number in range(images)]
    list(extract_with_torch(backbone, precision, split, chosen[:BATCH]))
    started = time.perf_counter()
    list(extract_with_torch(backbone, precision, split, chosen))
    return (time.perf_counter() - started) / images


def extract_with_torch(backbone: Backbone, precision: str, split: Split, rows: list[int]) -> Batches:
    """Features of the rows, batch by batch, in order. Each core decodes a batch and runs the backbone on it."""

    def work(batch: list[int]) -> np.ndarray:
        decoded = np.stack([prepare(split.load(row), backbone.transform) for row in batch])
        return forward(backbone, decoded, precision)

    waiting = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    with thread_pool() as (pool, threads):
        queue = deque(pool.submit(work, batch) for batch in itertools.islice(waiting, 2 * threads))
        while queue:
            values = queue.popleft().result()
            queue.extend(pool.submit(work, batch) for batch in itertools.islice(waiting, 1))
            yield values


def forward(backbone: Backbone, decoded: np.ndarray, precision: str) -> np.ndarray:
    """Images (N, H, W, 3) uint8 to features (N, D) float32, with torch."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return backbone.module(loading.normalised(decoded, backbone.transform)).float().numpy()


def _choose_engine(home: Path, backbone: Backbone, dataset: Dataset, precision: str, report: Report) -> str:
    for name in ENGINES:
        if feature_cache.folder(home, backbone, dataset, name, precision).is_dir():
            return name
    report(Progress("Looking for the fastest engine"))
    total, side = len(dataset.train.labels) + len(dataset.test.labels), backbone.transform.crop
    return compiling.fastest(home, backbone.module, backbone.hash, side, ENGINE_BATCH, precision, total)


def _extract_parts(
    folder: Path, stream: Stream, backbone: Backbone, dataset: Dataset, reporter: Reporter
) -> tuple[dict[str, list[np.ndarray]], float]:
    """The parts of each split, those of an interrupted extraction included, and the seconds that all of them took."""
    done, seconds = 0, 0.0
    parts: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for name, rows in _ranges(dataset):
        file = feature_cache.parts_folder(folder) / f"{name}-{rows.start}.npy"
        values, taken = feature_cache.read_part(file)
        if values is None:
            started = time.perf_counter()
            batches = []
            with closing(stream(getattr(dataset, name), list(rows))) as made:
                for batch in made:
                    batches.append(batch)
                    reporter.update("Extracting features", done + sum(map(len, batches)))
            values = np.concatenate(batches)
            _require_finite(values, backbone)
            taken = time.perf_counter() - started
            feature_cache.write_part(file, values, taken)
        else:
            reporter.start += len(rows)  # took no time now
        done += len(rows)
        seconds += taken
        parts[name].append(values)
    return parts, seconds


def _ranges(dataset: Dataset) -> Iterator[tuple[str, range]]:
    for name in SPLITS:
        rows = len(getattr(dataset, name).labels)
        for start in range(0, rows, PART):
            yield name, range(start, min(start + PART, rows))


@contextmanager
def _open_engine(engine: str, backbone: Backbone, precision: str) -> Iterator[tuple[Stream, str]]:
    """What computes features in this engine while it is open, and the engine's version."""
    if engine == "torch":
        yield functools.partial(extract_with_torch, backbone, precision), torch.__version__
        return
    side = backbone.transform.crop
    with compiling.compile(engine, backbone.module, side, ENGINE_BATCH, precision=precision) as compiled:
        compiling.require_exact(compiled, backbone.module)
        yield functools.partial(_extract_with_engine, backbone, compiled), compiled.version


def _extract_with_engine(backbone: Backbone, compiled: Compiled, split: Split, rows: list[int]) -> Batches:
    """Features of the rows, batch by batch, in order, from an engine that spreads each batch over the cores itself."""
    decoded = loading.batches(lambda row: prepare(split.load(row), backbone.transform), rows, compiled.batch_size)
    for batch in decoded:
        yield compiled.run(loading.normalised(batch, backbone.transform, torch.contiguous_format).numpy())


def _require_finite(values: np.ndarray, backbone: Backbone) -> None:
    bad = int((~np.isfinite(values).all(axis=1)).sum())
    if bad:
        raise InputError(
            f"{backbone.card.name} gives NaN or infinite features for {bad} of {len(values)} images, so nothing was kept. "
            "Try precision fp32, or another backbone."
        )
