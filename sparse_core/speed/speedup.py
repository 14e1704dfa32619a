"""How much faster a sparse backbone runs than the dense one of its architecture, in the same engine on this machine."""

import dataclasses
import itertools
import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sparse_core import __version__
from sparse_core.catalog import ENGINES
from sparse_core.engines import availability
from sparse_core.engines.machine import cores, cpu_usage, load, machine
from sparse_core.errors import Cancelled, InputError, as_input_error
from sparse_core.paths import REPOSITORY
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import durations, inference, measurements, online_training
from sparse_core.speed.measurements import BUSY, SPREAD_LIMIT
from sparse_core.speed.paired_timing import Pair, prepare

log = logging.getLogger(__name__)


def run_speedup(home: Path, spec: SpeedupSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Measure how much faster a sparse network is, and write the record; returns it."""
    started, before = time.perf_counter(), measurements.frame(home)
    record = measure(home, spec, report)
    measurements.write(home, record)
    durations.learn(home, spec, record["architecture"], before, time.perf_counter() - started)
    return record


def measure(home: Path, spec: SpeedupSpec, report: Report) -> dict[str, Any]:
    """Measure what the spec asks for and return the record: see ``sparse_core.speed.measurements`` for its fields.

    If the spec names no engine, inference is measured in all that are available, online training in the first. An engine that
    is missing, cannot run the network, differs from PyTorch or died once is a sentence in the record's ``problems``. If no
    figure is left at all, these are raised as InputError. ``report`` may raise ``Cancelled``.
    """
    engines, problems = _available_engines(spec)
    if not 0 <= spec.threads <= cores():
        raise InputError(f"Expected 1 to {cores()} threads, this machine's cores, or 0 for all; got {spec.threads}.")
    pair = prepare(home, spec)
    busy_before, load_before = cpu_usage(), load()
    lines: list[dict[str, Any]] = []
    for label, measure_line in _parts(home, spec, pair, engines, report):
        try:
            line = measure_line()
        except Cancelled:
            raise
        except Exception as error:  # whatever an engine does, the figures of the others are kept
            problems.append(f"{label}: {_sentence(error)}")
            continue
        lines.append(line)
        if "problem" in line:
            problems.append(f"{label}: {line.pop('problem')}")
        if line["restarts"]:
            problems.append(f"{label}: its process died and was started again. The affected round was repeated.")
    if not lines:
        raise InputError(" ".join(problems))
    for line in lines:
        line["reliable"] = line["spread"] <= SPREAD_LIMIT and max(busy_before, line["busy_during"] or 0.0) <= BUSY
    return {
        "id": measurements.new_id(),
        "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        "mode": spec.mode,
        **pair.description,
        "spec": dataclasses.asdict(spec),
        "machine": machine(),
        "product_version": __version__,
        "commit": _commit(),
        "lines": lines,
        "problems": problems,
        "busy_before": busy_before,
        "load_before": load_before,
        "load_after": load(),
    }


def _sentence(error: Exception) -> str:
    """What the user is told of an engine's error; the log has the traceback of one that nobody foresaw."""
    wrong = as_input_error(error)
    if wrong is not error:
        log.error("an engine failed", exc_info=error)
    return str(wrong or f"internal error ({type(error).__name__}). The log has the details.")


def _available_engines(spec: SpeedupSpec) -> tuple[list[str], list[str]]:
    """The available ones of those asked for, or of all, and a sentence for each missing one: why, and how to get it.
    Raises InputError with these sentences if none is left, and for an unknown name."""
    reasons = {name: availability.missing(name) for name in spec.engines or ENGINES}
    available = [name for name, reason in reasons.items() if reason is None]
    problems = [reason for reason in reasons.values() if reason]
    if not available:
        raise InputError(" ".join(problems))
    return available, problems


def _parts(
    home: Path, spec: SpeedupSpec, pair: Pair, engines: Sequence[str], report: Report
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is measured one after the other: a label, and the function that measures its line."""
    if spec.mode == "training":
        dataset = online_training.open_dataset(home, spec)
        for engine in engines if spec.engines else engines[:1]:
            yield ENGINES[engine], partial(online_training.measure, pair, spec, engine, dataset, report)
        return
    parts = list(itertools.product(engines, spec.batch_sizes))
    started = time.perf_counter()
    for number, (engine, batch_size) in enumerate(parts):

        def report_overall(progress: Progress, before: int = number * spec.rounds) -> None:
            done, total = before + progress.done, len(parts) * spec.rounds
            left = (time.perf_counter() - started) / done * (total - done) if done else None
            report(Progress(progress.stage, done, total, left))

        label = f"{ENGINES[engine]}, batch {batch_size}"
        yield label, partial(inference.measure, pair, spec, engine, batch_size, report_overall)


def _commit() -> str:
    """The commit that the product runs from; empty outside a repository."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
