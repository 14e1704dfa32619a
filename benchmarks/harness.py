"""What the benchmarks share: command-line options, timing, and the JSON line they print."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparse_core.engines import availability
from sparse_core.engines.machine import load, machine


def parser(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Options named, typed and preset as ``defaults``, and ``load_before``; the description is printed as it is."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        options.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options.set_defaults(load_before=round(load(), 2))
    return options


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def seconds_in_turn(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round; the order is reversed in every other round."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: -1 if number % 2 else 1]:
            times[name].append(seconds(works[name]))
    return times


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds of a time over the other of the same round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def rounded(values: Mapping[str, list[float]], digits: int, scale: float = 1.0) -> dict[str, list[float]]:
    """The values times ``scale``, to so many decimal places."""
    return {name: [round(scale * value, digits) for value in row] for name, row in values.items()}


def skip_without_deepsparse(benchmark: str) -> None:
    """End the benchmark with a line that gives the reason where DeepSparse is missing."""
    if missing := availability.missing("deepsparse"):
        print(json.dumps({"benchmark": benchmark, "skipped": missing, "machine": machine()}))
        sys.exit()


def report(benchmark: str, given: argparse.Namespace, **figures: Any) -> None:
    """Print figures and options, the load per core and the machine as one JSON line."""
    options = {name: value for name, value in vars(given).items() if value not in (None, "")}
    line = {"benchmark": benchmark, **options, **figures, "load": round(load(), 2), "machine": machine()}
    print(json.dumps(line))
