"""Inference: the time of a batch in the sparse network and in the dense one, in turn."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from sparse_core.catalog import ENGINES
from sparse_core.engines.compiled import Compiled, noise
from sparse_core.engines.machine import BackgroundLoad
from sparse_core.errors import InputError
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed.detectors import RawPredictions, after_network
from sparse_core.speed.paired_timing import Pair, compile_pair, repeat_if_restarted

ROUND_SECONDS = 0.05  # a shorter round is repeated until it takes this long


def measure(pair: Pair, spec: SpeedupSpec, engine: str, batch_size: int, report: Report) -> dict[str, Any]:
    """Time ``spec.rounds`` rounds of one engine and batch size, and return the record's line."""
    stage = f"{ENGINES[engine]}, batch {batch_size}"
    report(Progress(f"{stage}: compiling", 0, spec.rounds))
    with compile_pair(pair, engine, batch_size, spec.threads) as compiled:
        images = noise(batch_size, pair.transform.crop)
        networks = {"dense": compiled.dense, "sparse": compiled.sparse}
        timed = list(networks.values())
        repeats = repeat_if_restarted(timed, lambda: {name: _repeats(networks[name], images) for name in networks})

        def time_round(order: Sequence[str]) -> dict[str, float]:
            return {name: _seconds_per_batch(networks[name], images, repeats[name]) for name in order}

        samples: dict[str, list[float]] = {name: [] for name in networks}
        background = BackgroundLoad()
        for number in range(spec.rounds):
            report(Progress(stage, number, spec.rounds))
            order = ("dense", "sparse") if number % 2 else ("sparse", "dense")
            seconds = repeat_if_restarted(timed, partial(time_round, order))
            for name in networks:
                samples[name].append(1000 * seconds[name] / batch_size)
        line = compiled.line(samples, background.share())
        shares, problem = _layer_shares(compiled.sparse)
        after = _after_network(pair, compiled.sparse, images)
    return {**line, "layers": list(shares.items()) if shares else None, **after, **problem}


def _after_network(pair: Pair, compiled: Compiled, images: np.ndarray) -> dict[str, float]:
    """Of a detector, what follows the network: see ``detectors.after_network``."""
    if not isinstance(pair.sparse, RawPredictions):
        return {}
    return after_network(pair.sparse, compiled.run(images), pair.transform.crop, compiled.threads)


def _layer_shares(compiled: Compiled) -> tuple[dict[str, float] | None, dict[str, str]]:
    """The shares, and a field ``problem`` of the line where the engine failed: the times before it hold all the same."""
    try:
        return compiled.layer_shares(), {}
    except InputError as error:
        return None, {"problem": f"no times of layers. {error}"}


def _repeats(compiled: Compiled, images: np.ndarray) -> int:
    """How often a batch is run for one sample, from one run after a warm-up."""
    compiled.run(images)
    return max(1, round(ROUND_SECONDS / _seconds_per_batch(compiled, images, 1)))


def _seconds_per_batch(compiled: Compiled, images: np.ndarray, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        compiled.run(images)
    return (time.perf_counter() - started) / repeats
