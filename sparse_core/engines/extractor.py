"""A backbone in the form in which features are extracted: images are decoded and computed on all cores at once.

PyTorch and ONNX Runtime compute a small batch in one thread, on each core one; DeepSparse spreads a large batch over the cores
itself, while the next images are decoded. The choice between the engines measures them in this form, too.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch

from sparse_core.datasets import loading
from sparse_core.engines import compiling
from sparse_core.engines.torch_cpu import thread_pool
from sparse_core.networks.backbones import Backbone

MEASURE_SECONDS = 0.3

Decode = Callable[[int], np.ndarray]  # a row's image, (crop, crop, 3) uint8


class Form(NamedTuple):
    """How an engine is called: with batches of this size, and whether every core computes a batch of its own."""

    batch_size: int
    a_batch_per_core: bool


LARGEST_BATCH = 16  # where each core computes one of its own


def form(engine: str, side: int) -> Form:
    """The form of an engine for images of ``side`` × ``side`` pixels."""
    if engine == "deepsparse":
        return Form(64, False)
    # Four of the usual 224 pixels, or as many smaller ones: larger activations are mapped anew for each layer by the C library,
    # which takes longer than the layer, and in smaller ones the calls take longer than the arithmetic.
    return Form(min(4 * max(1, (224 // side) ** 2), LARGEST_BATCH), True)


class Extractor:
    """A backbone ready to extract features in one engine; ``version`` is the engine's. Close it, or use it in a ``with``.

    ``seconds_to_start`` were spent on compiling. Raises InputError where the engine is missing or cannot run the network.
    """

    def __init__(self, engine: str, backbone: Backbone, precision: str = "fp32") -> None:
        self.engine, self.backbone, self.form = engine, backbone, form(engine, backbone.transform.crop)
        self.precision = precision
        started = time.perf_counter()
        self._compiled = None
        self.version = str(torch.__version__)
        if engine != "torch":
            threads = 1 if self.form.a_batch_per_core else 0
            crop = backbone.transform.crop
            self._compiled = compiling.compile(engine, backbone.module, crop, self.form.batch_size, threads, precision)
            self.version = self._compiled.version
        self.seconds_to_start = time.perf_counter() - started

    def run(self, images: np.ndarray) -> np.ndarray:
        """Decoded images (N, crop, crop, 3) uint8 to features (N, D) float32; N is at most the batch size."""
        if self._compiled is None:
            return forward(self.backbone, images, self.precision)
        return self._compiled.run(loading.normalised(images, self.backbone.transform, torch.contiguous_format).numpy())

    def require_exact(self, images: np.ndarray) -> None:
        """Raises InputError unless the features of the first of these decoded images agree with PyTorch's in fp32."""
        if self._compiled is not None:
            images = images[: compiling.CHECKED_IMAGES]
            prepared = loading.normalised(images, self.backbone.transform, torch.contiguous_format).numpy()
            compiling.require_exact(self._compiled, self.backbone.module, prepared)

    def extract(self, decode: Decode, rows: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Features of the rows, batch by batch, in order. A row's features depend on its batch at most, so rows that start
        and end with whole batches give the same features bit by bit, whatever was extracted before."""
        return self._batch_per_core(decode, rows) if self.form.a_batch_per_core else self._one_batch(decode, rows)

    def seconds_per_image(self, images: np.ndarray) -> float:
        """The pace on decoded images, repeated for about ``MEASURE_SECONDS``, after a warm-up: the best of several times."""
        batches = torch.get_num_threads() if self.form.a_batch_per_core else 1
        rows = range(batches * self.form.batch_size)
        times: list[float] = []
        while len(times) < 3 or sum(times) < MEASURE_SECONDS:
            started = time.perf_counter()
            for _ in self.extract(lambda row: images[row % len(images)], rows):
                pass
            times.append(time.perf_counter() - started)
        return min(times[1:]) / len(rows)

    def close(self) -> None:
        """Release what the engine holds."""
        if self._compiled is not None:
            self._compiled.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batch_per_core(self, decode: Decode, rows: Sequence[int]) -> Generator[np.ndarray, None, None]:
        size = self.form.batch_size
        waiting = (rows[start : start + size] for start in range(0, len(rows), size))

        def work(batch: Sequence[int]) -> np.ndarray:
            return self.run(np.stack([decode(row) for row in batch]))

        with thread_pool() as (pool, threads):
            queue = deque(pool.submit(work, batch) for batch in itertools.islice(waiting, 2 * threads))
            while queue:
                features = queue.popleft().result()
                queue.extend(pool.submit(work, batch) for batch in itertools.islice(waiting, 1))
                yield features

    def _one_batch(self, decode: Decode, rows: Sequence[int]) -> Generator[np.ndarray, None, None]:
        for images in loading.batches(decode, rows, self.form.batch_size):
            yield self.run(images)


def forward(backbone: Backbone, images: np.ndarray, precision: str) -> np.ndarray:
    """Decoded images (N, H, W, 3) uint8 to features (N, D) float32 in PyTorch, in fp32 or under bf16 autocast."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return backbone.module(loading.normalised(images, backbone.transform)).float().numpy()
