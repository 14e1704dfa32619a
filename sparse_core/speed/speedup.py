"""How much faster a sparse backbone runs than the dense one of its architecture, in the same engine on this machine.

Dense and sparse take turns, round by round, so that whatever else the machine does meets both. A figure is kept only where
the engine's output agrees with PyTorch in fp32. What is measured is inference here and online training in ``online``.
"""

import dataclasses
import itertools
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core import __version__
from sparse_core.catalog import ENGINES
from sparse_core.engines import availability
from sparse_core.engines.compiled import Compiled, noise
from sparse_core.engines.machine import BackgroundLoad, cores, cpu_usage, load, machine
from sparse_core.errors import InputError
from sparse_core.paths import REPOSITORY
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import measurements, online_training
from sparse_core.speed.measurements import BUSY, SPREAD_LIMIT
from sparse_core.speed.timing import Pair, both, line_of, prepare, undisturbed

ROUND_SECONDS = 0.05  # a shorter round is repeated until it takes this long


def run_speedup(home: Path, spec: SpeedupSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Measure how much faster a sparse network is, and keep the record; returns it."""
    record = measure(home, spec, report)
    measurements.write(home, record)
    return record


def measure(home: Path, spec: SpeedupSpec, report: Report) -> dict[str, Any]:
    """Measure what the spec asks for and return the record: see ``sparse_core.speed.measurements`` for its fields.

    Where the spec names no engine, inference is measured in all there are, online training in the first.
    An engine that is missing, cannot do the network, differs from PyTorch or died once is a line in the record's ``problems``;
    where no figure is left at all, that line is raised as InputError. ``report`` may raise ``Cancelled``.
    """
    chosen, problems = _engines(spec)
    _require_threads(spec)
    pair = prepare(home, spec)
    taken, before = cpu_usage(), load()
    lines: list[dict[str, Any]] = []
    for words, work in _parts(home, spec, pair, chosen, report):
        try:
            line = work()
        except InputError as error:
            problems.append(f"{words}: {error}")
            continue
        lines.append(line)
        if line["restarts"]:
            problems.append(
                f"{words}: its process died and was started again. What it was timed at then was timed anew."
            )
    if not lines:
        raise InputError(" ".join(problems))
    for line in lines:
        line["reliable"] = line["spread"] <= SPREAD_LIMIT and max(taken, line["busy_during"] or 0.0) <= BUSY
    return {**_record(spec, pair, lines, problems), "busy_before": taken, "load_before": before, "load_after": load()}


def _parts(
    home: Path, spec: SpeedupSpec, pair: Pair, chosen: Sequence[str], report: Report
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is measured one after the other: in words, and what gives its line."""
    if spec.mode == "training":
        dataset = online_training.open_dataset(home, spec)
        for engine in chosen if spec.engines else chosen[:1]:
            yield ENGINES[engine], partial(online_training.measure, pair, spec, engine, dataset, report)
        return
    progress = _Progress(report, len(chosen) * len(spec.batch_sizes), spec.rounds)
    for engine, batch_size in itertools.product(chosen, spec.batch_sizes):
        words = f"{ENGINES[engine]}, batch {batch_size}"
        yield words, partial(_inference, pair, engine, batch_size, spec, progress, words)
        progress.next()


def _inference(
    pair: Pair, engine: str, batch_size: int, spec: SpeedupSpec, progress: "_Progress", words: str
) -> dict[str, Any]:
    progress.say(f"{words}: compiling", 0)
    with both(pair, engine, batch_size, spec.threads) as (dense, sparse, difference):
        images = noise(batch_size, pair.transform.crop)
        networks = {"dense": dense, "sparse": sparse}
        repeats = undisturbed((dense, sparse), lambda: {name: _repeats(networks[name], images) for name in networks})
        samples: dict[str, list[float]] = {"dense": [], "sparse": []}
        others = BackgroundLoad()
        for number in range(spec.rounds):
            progress.say(words, number)
            order = ("dense", "sparse") if number % 2 else ("sparse", "dense")
            seconds = undisturbed((dense, sparse), partial(_round, networks, order, images, repeats))
            for name in networks:
                samples[name].append(1000 * seconds[name] / batch_size)
        busy_during = others.share()
        return {
            **line_of(sparse, pair, samples["dense"], samples["sparse"]),
            "busy_during": busy_during,
            "seconds_to_compile": sparse.seconds_to_compile,
            "peak_memory_bytes": sparse.peak_memory_bytes,
            "difference": difference,
            "layers": _layers(sparse),
            "restarts": dense.restarts + sparse.restarts,
        }


def _round(
    networks: dict[str, Compiled], order: Sequence[str], images: np.ndarray, repeats: dict[str, int]
) -> dict[str, float]:
    """Seconds a batch of each network, in turn."""
    return {name: _seconds(networks[name], images, repeats[name]) for name in order}


def _layers(compiled: Compiled) -> list[tuple[str, float]] | None:
    shares = compiled.layer_shares()
    return list(shares.items()) if shares else None


def _repeats(compiled: Compiled, images: np.ndarray) -> int:
    """How often a batch is run for one sample, from one run after one to warm up."""
    compiled.run(images)
    return max(1, round(ROUND_SECONDS / _seconds(compiled, images, 1)))


def _seconds(compiled: Compiled, images: np.ndarray, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        compiled.run(images)
    return (time.perf_counter() - started) / repeats


class _Progress:
    """Reports how many of all rounds are done, and the time left at the pace so far."""

    def __init__(self, report: Report, parts: int, rounds: int) -> None:
        self.report, self.rounds, self.total = report, rounds, parts * rounds
        self.before = 0
        self.started = time.perf_counter()

    def say(self, words: str, round_: int) -> None:
        done = self.before + round_
        left = (time.perf_counter() - self.started) / done * (self.total - done) if done else None
        self.report(Progress(words, done, self.total, left))

    def next(self) -> None:
        self.before += self.rounds


def _engines(spec: SpeedupSpec) -> tuple[list[str], list[str]]:
    """Those asked for, or all, as far as they are here, and a line for each that is missing: why, and how to get it.

    Raises InputError with these lines where none is left, and for a name that is no engine's.
    """
    absent = {name: availability.missing(name) for name in spec.engines or ENGINES}
    chosen = [name for name, reason in absent.items() if reason is None]
    problems = [reason for reason in absent.values() if reason]
    if not chosen:
        raise InputError(" ".join(problems))
    return chosen, problems


def _require_threads(spec: SpeedupSpec) -> None:
    if not 0 <= spec.threads <= cores():
        raise InputError(
            f"Expected from 1 to {cores()} threads, the cores of this machine (0 means all); got {spec.threads}."
        )


def _record(spec: SpeedupSpec, pair: Pair, lines: list[dict[str, Any]], problems: list[str]) -> dict[str, Any]:
    now = datetime.now(UTC).replace(tzinfo=None)
    return {
        "id": measurements.new_id(),
        "created_at": now.isoformat(timespec="seconds"),
        "mode": spec.mode,
        **pair.description,
        "spec": dataclasses.asdict(spec),
        "machine": machine(),
        "product_version": __version__,
        "commit": _commit(),
        "lines": lines,
        "problems": problems,
    }


def _commit() -> str:
    """The commit that the product runs from, where it runs from a repository."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
