"""Features of a dataset: extracted once, then read from the cache (``feature_cache``).

A damaged cache is noticed and made again. An interrupted extraction goes on where it was, to the same features bit by bit.
"""

import errno
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from sparse_core import leases
from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.datasets import loading
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.transforms import prepare
from sparse_core.engines import availability, choice
from sparse_core.engines.extractor import Decode, Extractor
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import remove, require_space
from sparse_core.specs.progress import Progress, Report
from sparse_core.transfer import feature_cache
from sparse_core.transfer.feature_cache import SPLITS, Features, Unfinished
from sparse_core.transfer.training import Reporter, no_report

CHUNK_SECONDS = 1.0  # a kill loses no more than these
CHUNK_BYTES = 32 << 20  # a fast engine fills the memory with no more than these, twice while they are put together
WORTH_RESUMING = 0.1  # share of the images; less is soon made again in the fastest engine
SAMPLE_IMAGES = 8
TIMED_IMAGES = 32
WAIT_SECONDS = 0.5

DAMAGED = "The cached features were damaged; they were made again."


def extract(
    home: Path,
    backbone: Backbone,
    dataset: Dataset,
    *,
    precision: str = "fp32",
    engine: str = "auto",
    on_progress: Report = no_report,
    seconds_after: float = 0.0,
) -> Features:
    """The features of every image of the dataset, from the cache where they are there.

    ``precision`` bf16 runs the backbone under autocast, in torch only. ``engine`` "auto" is the one that has made these
    features already, or begun to, else the one that has them soonest (``choice.open_fastest``); any but torch is compared
    with torch first. ``seconds_after`` is added to the time left. Raises InputError for a full disk, features that are not
    finite, and an engine that is missing or not exact enough.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    notes = list(dataset.notes)
    found = _read_cached(home, backbone, dataset, ENGINES if engine == "auto" else [engine], precision, notes)
    if found:
        return found
    require_space(home / "features", int(1.05 * stored_bytes(backbone, dataset)))
    with open_extractor(home, backbone, dataset, precision, engine, on_progress, notes) as extractor:
        folder = feature_cache.folder(home, backbone, dataset, extractor.engine, precision)
        with _alone(folder, on_progress):
            found = _read_cached(home, backbone, dataset, [extractor.engine], precision, notes)
            return found or _extract(folder, extractor, dataset, notes, on_progress, seconds_after)


def stored_bytes(backbone: Backbone, dataset: Dataset) -> int:
    """What the features of both splits take on disk."""
    return 4 * _images(dataset) * backbone.dimensions


def extract_shard(
    home: Path,
    backbone: Backbone,
    dataset: Dataset,
    number: int,
    count: int,
    *,
    precision: str = "fp32",
    engine: str = "auto",
    on_progress: Report = no_report,
) -> None:
    """Extract part ``number`` (from 0) of ``count`` equal ones of what ``extract`` makes, which joins them, to the same features
    bit by bit. Rows that are missing then, as of a part whose machine died, ``extract`` makes itself."""
    notes: list[str] = []
    if _read_cached(home, backbone, dataset, ENGINES if engine == "auto" else [engine], precision, notes):
        return
    require_space(home / "features", int(1.05 * stored_bytes(backbone, dataset)) // count)
    with open_extractor(home, backbone, dataset, precision, engine, on_progress, notes) as extractor:
        folder = feature_cache.folder(home, backbone, dataset, extractor.engine, precision)
        part = feature_cache.shard(folder, number)
        with _alone(part, on_progress):
            unfinished = _unfinished(part, extractor, dataset)
            rows = _rows_of_shard(dataset, number, count, extractor.form.batch_size)
            _extract_missing(unfinished, dataset, rows, extractor, on_progress)


def _rows_of_shard(dataset: Dataset, number: int, count: int, batch_size: int) -> dict[str, range]:
    """The rows of each split in a shard. Cut are whole batches, for the last bits of features depend on what is beside them."""
    sizes = {name: len(getattr(dataset, name).labels) for name in SPLITS}
    batches = {name: math.ceil(size / batch_size) for name, size in sizes.items()}
    total, start, rows = sum(batches.values()), 0, {}
    for name, size in sizes.items():
        first, last = (batch_size * max(total * end // count - start, 0) for end in (number, number + 1))
        rows[name] = range(min(first, size), min(last, size))
        start += batches[name]
    return rows


def open_extractor(
    home: Path, backbone: Backbone, dataset: Dataset, precision: str, engine: str, report: Report, notes: list[str]
) -> Extractor:
    """The engine that ``extract`` takes, ready and compared with torch; remarks for the user are added to ``notes``."""
    if engine == "auto":
        engine = "torch" if precision != "fp32" else _engine_of_unfinished(home, backbone, dataset) or engine

    def sample() -> np.ndarray:
        rows = np.linspace(0, len(dataset.train.labels) - 1, SAMPLE_IMAGES).astype(int)
        return np.stack([decoder(backbone, dataset.train)(int(row)) for row in rows])

    if engine == "auto":
        extractor, remarks = choice.open_fastest(home, backbone, sample, _images(dataset), report)
        notes += remarks
        return extractor
    if engine != "torch":
        report(Progress(f"Compiling the network for {ENGINES.get(engine, engine)}"))
    return choice.open_checked(engine, backbone, sample, precision)


def decoder(backbone: Backbone, split: Split) -> Decode:
    """Rows of a split to images as the backbone takes them, (crop, crop, 3) uint8."""
    return lambda row: prepare(split.load(row), backbone.transform)


def seconds_per_image(
    home: Path, backbone: Backbone, dataset: Dataset, precision: str, engine: str, report: Report
) -> float:
    """About how long ``extract`` will take, from ``TIMED_IMAGES`` images: they are only decoded where it is known how long
    the engines take, else extracted, after a warm-up."""
    decode = decoder(backbone, dataset.train)
    rows = [row % len(dataset.train.labels) for row in range(TIMED_IMAGES)]
    known = choice.known_seconds(home, backbone, _images(dataset)) if (engine, precision) == ("auto", "fp32") else None
    if known is not None:
        return known / _images(dataset) + _seconds(loading.batches(decode, rows, SAMPLE_IMAGES)) / len(rows)
    with open_extractor(home, backbone, dataset, precision, engine, report, []) as extractor:
        _seconds(extractor.extract(decode, rows))
        return _seconds(extractor.extract(decode, rows)) / len(rows)


def _seconds(work: Iterable[object]) -> float:
    """The time that it takes to go through ``work``."""
    started = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - started


def _read_cached(
    home: Path, backbone: Backbone, dataset: Dataset, engines: Iterable[str], precision: str, notes: list[str]
) -> Features | None:
    """The features that one of these engines has made; damaged ones are removed, with a note."""
    for engine in engines:
        folder = feature_cache.folder(home, backbone, dataset, engine, precision)
        if folder.exists():
            found = feature_cache.read(folder, dataset, cached=True, notes=notes)
            if found:
                return found
            notes.append(DAMAGED)
            remove(folder)
    return None


def _engine_of_unfinished(home: Path, backbone: Backbone, dataset: Dataset) -> str | None:
    """The engine that has extracted the most of these features before it was interrupted; None if that is not worth much."""
    done = {
        engine: feature_cache.rows_done(feature_cache.folder(home, backbone, dataset, engine, "fp32"))
        for engine in ENGINES
        if availability.missing(engine) is None
    }
    most = max(done, key=lambda engine: done[engine])
    return most if done[most] >= WORTH_RESUMING * _images(dataset) else None


def _extract(
    folder: Path, extractor: Extractor, dataset: Dataset, notes: list[str], on_progress: Report, seconds_after: float
) -> Features:
    """Extract the rows that an interrupted extraction has left, and read the whole."""
    backbone, total = extractor.backbone, _images(dataset)
    splits = {name: getattr(dataset, name) for name in SPLITS}
    try:
        unfinished = _unfinished(folder, extractor, dataset)
        _join_shards(unfinished, folder, extractor, dataset, on_progress)
        rows = {name: range(len(split.labels)) for name, split in splits.items()}
        _extract_missing(unfinished, dataset, rows, extractor, on_progress, seconds_after)
        seconds = unfinished.seconds
        unfinished.finish(
            {name: split.labels for name, split in splits.items()},
            {
                "backbone": backbone.card.name,
                "backbone_hash": backbone.hash,
                "dataset": dataset.id,
                "dataset_hash": dataset.hash,
                "precision": extractor.precision,
                "engine": extractor.engine,
                "engine_version": extractor.version,
                "seconds": seconds,
                "images_per_second": total / seconds,
            },
        )
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(f"The disk became full while features were written to {folder.parent}. Free some.") from error
    made = feature_cache.read(folder, dataset, cached=False, notes=notes)
    if made is None:
        raise InputError(f"The features just written to {folder} cannot be read. Check the disk, then start again.")
    return made


def _unfinished(folder: Path, extractor: Extractor, dataset: Dataset) -> Unfinished:
    rows = {name: len(getattr(dataset, name).labels) for name in SPLITS}
    identity = {"engine_version": extractor.version, "batch_size": extractor.form.batch_size}
    return Unfinished(folder, rows, extractor.backbone.dimensions, identity)


def _join_shards(unfinished: Unfinished, folder: Path, extractor: Extractor, dataset: Dataset, report: Report) -> None:
    """Take over the rows of all shards, those that are still extracted when they have ended, and remove these."""
    for part in feature_cache.shards(folder):
        with _alone(part, report):
            unfinished.adopt(_unfinished(part, extractor, dataset))
            remove(feature_cache.unfinished(part))


def _extract_missing(
    unfinished: Unfinished,
    dataset: Dataset,
    rows: Mapping[str, range],
    extractor: Extractor,
    on_progress: Report,
    seconds_after: float = 0.0,
) -> None:
    """Extract those of ``rows``, by split, that are not there yet."""
    left = {name: [_within(gap, rows[name]) for gap in unfinished.missing(name)] for name in SPLITS}
    total = sum(map(len, rows.values()))
    done = total - sum(len(gap) for gaps in left.values() for gap in gaps)
    reporter = Reporter(on_progress, total, done, seconds_after)
    for name in SPLITS:
        for gap in filter(len, left[name]):
            done = _extract_range(unfinished, name, getattr(dataset, name), gap, extractor, reporter, done)


def _within(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))


def _extract_range(
    unfinished: Unfinished,
    name: str,
    split: Split,
    rows: range,
    extractor: Extractor,
    reporter: Reporter,
    done: int,
) -> int:
    """Extract consecutive rows and write them about once a second, sooner if many came, and on a cancel.

    Returns the new number of rows done.
    """
    waiting: list[np.ndarray] = []
    written, started = rows.start, time.perf_counter()

    def write() -> None:
        nonlocal written, started
        now = time.perf_counter()
        if waiting:
            values = np.concatenate(waiting)
            unfinished.write(name, written, values, now - started)
            written += len(values)
        waiting.clear()
        started = now

    try:
        with closing(extractor.extract(decoder(extractor.backbone, split), rows)) as batches:
            for batch in batches:
                _require_finite(batch, extractor.backbone)
                waiting.append(batch)
                done += len(batch)
                held = sum(values.nbytes for values in waiting)
                due = held >= CHUNK_BYTES or time.perf_counter() - started >= CHUNK_SECONDS
                if due:
                    write()
                reporter.update("Extracting features", done)
                if due:
                    reporter.saved()
    finally:
        write()
    return done


@contextmanager
def _alone(folder: Path, report: Report) -> Iterator[None]:
    """Wait until no other process extracts these features, and keep others waiting meanwhile."""
    while True:
        with leases.hold(feature_cache.unfinished(folder).with_suffix(".lease")) as held:
            if held:
                yield
                return
        report(Progress("Waiting for another extraction of these features"))
        time.sleep(WAIT_SECONDS)


def _images(dataset: Dataset) -> int:
    return len(dataset.train.labels) + len(dataset.test.labels)


def _require_finite(values: np.ndarray, backbone: Backbone) -> None:
    bad = int((~np.isfinite(values).all(axis=1)).sum())
    if bad:
        raise InputError(
            f"{backbone.card.name} gives NaN or infinite features for {bad} of {len(values)} images, so nothing was kept. "
            "Try precision fp32, or another backbone."
        )
