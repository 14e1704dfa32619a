"""What the benchmarks share: command-line options, timing, and the JSON line they print."""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from sparse_core.engines.machine import machine


def parser(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Options named, typed and preset as ``defaults``; the description is printed as it is."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        options.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return options


def seconds(work: Callable[[], object]) -> float:
    """The time that ``work`` takes."""
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


def rounded(values: Mapping[str, list[float]], digits: int, scale: float = 1.0) -> dict[str, list[float]]:
    """The values times ``scale``, to so many decimal places."""
    return {name: [round(scale * value, digits) for value in row] for name, row in values.items()}


def report(benchmark: str, **fields: Any) -> None:
    """Print the result as one JSON line, with the machine it was measured on."""
    print(json.dumps({"benchmark": benchmark, **fields, "machine": machine()}))
