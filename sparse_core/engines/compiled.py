"""What all engines share: a backbone compiled at a batch size and a number of threads, images to features."""

import statistics
import time
from collections.abc import Callable
from typing import Self

import numpy as np

from sparse_core.engines.machine import PeakMemory
from sparse_core.errors import InputError

MEASURE_SECONDS = 1.0


class Compiled:
    """A backbone compiled by one engine: images (N, 3, S, S) to features (N, D). Close it, or use it in a ``with``.

    ``threads`` is what the engine uses, which may be fewer than asked for; ``precision`` is that of its arithmetic, fp32 or
    bf16; ``version`` is the engine's; ``notes`` are sentences to show beside its figures; ``peak_memory_bytes`` is set by
    ``measure_memory``.
    """

    _memory: PeakMemory  # set just before the network is compiled

    def __init__(self, engine: str, input_size: int, batch_size: int, threads: int) -> None:
        self.engine = engine
        self.version = ""
        self.input_size = input_size
        self.batch_size = batch_size
        self.threads = threads
        self.precision = "fp32"
        self.seconds_to_compile = 0.0
        self.notes: tuple[str, ...] = ()
        self.peak_memory_bytes: int | None = None

    def run(self, images: np.ndarray) -> np.ndarray:
        """Prepared images (N, 3, S, S) float32 to features (N, D) float32, for any N, in batches; the last is padded."""
        expected = (3, self.input_size, self.input_size)
        if images.ndim != 4 or images.shape[1:] != expected or not len(images):
            raise InputError(f"Expected images of shape (N, {', '.join(map(str, expected))}); got {images.shape}.")
        starts = range(0, len(images), self.batch_size)
        features = [self._run_batch(images[start : start + self.batch_size]) for start in starts]
        return features[0] if len(features) == 1 else np.concatenate(features)

    def layer_shares(self, rounds: int = 3) -> dict[str, float] | None:
        """The share of the time, in [0, 1], that each layer takes, and "other" for the rest; None if the engine cannot
        say. Measured apart, over ``rounds`` batches."""
        return None

    @property
    def restarts(self) -> int:
        """How often the engine's process died and was started again. Times taken meanwhile are invalid."""
        return 0

    def measure_memory(self) -> None:
        """Run a batch and set ``peak_memory_bytes``: the rise of the engine process's resident memory since just before
        compilation. None on systems other than Linux.

        It covers the network as the engine keeps it, the compilation, and one batch with its activations. DeepSparse has a
        process of its own; the others share this one, so call it right after ``compile``.
        """
        self.run(noise(self.batch_size, self.input_size))
        self.peak_memory_bytes = self._memory_rise()

    def close(self) -> None:
        """Release what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        """At most ``batch_size`` images to their features."""
        raise NotImplementedError

    def _memory_rise(self) -> int | None:
        return self._memory.rise()


def noise(images: int, side: int) -> np.ndarray:
    """Images (N, 3, S, S) of standard normal noise, always the same, to time and to check engines with."""
    return np.random.default_rng(0).standard_normal((images, 3, side, side), dtype=np.float32)


def median_seconds(work: Callable[[], object]) -> float:
    """The median time of ``work``, repeated for about ``MEASURE_SECONDS``, at least twice, after one warm-up."""
    work()
    times: list[float] = []
    while len(times) < 2 or sum(times) < MEASURE_SECONDS:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
