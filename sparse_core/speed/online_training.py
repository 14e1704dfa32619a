"""Online linear training: images are decoded and augmented live, run through the backbone, and train a linear classifier.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 3.6: batches of 64 with
augmentation, one SGD step each. The speedup is the dense epoch's time over the sparse one's, in the same pipeline.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sparse_core.catalog import ENGINES
from sparse_core.datasets import catalogue, loading
from sparse_core.datasets.dataset import Dataset
from sparse_core.datasets.loading import ImageLoader, normalised
from sparse_core.datasets.transforms import Transform
from sparse_core.engines.compiled import Compiled
from sparse_core.engines.machine import BackgroundLoad
from sparse_core.errors import InputError
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.training import Hyperparameters
from sparse_core.speed.paired_timing import Pair, compile_pair, repeat_if_restarted
from sparse_core.transfer.training import initial_classifier, shuffled_rows

BATCH_SIZE = 64
CHUNK = 4  # batches that one network runs before the other one's turn
SETTINGS = Hyperparameters()


class Pipeline:
    """Images decoded and augmented ahead, a backbone in an engine, and a classifier that takes one SGD step per batch.

    ``seconds`` sums up the time of each part: ``backbone``, ``classifier``, and ``waiting`` for a batch's images to be
    decoded and normalised. Decoding overlaps the backbone, so its own time is measured apart.
    """

    def __init__(self, compiled: Compiled, dataset: Dataset, transform: Transform, dimensions: int) -> None:
        self.compiled, self.dataset, self.transform = compiled, dataset, transform
        # Pillow's decoder and torch's resizing, one thread per core: as fast as torchvision's decode_jpeg with v2 transforms,
        # both 1.2 times as fast as Pillow alone (benchmarks/decoders.py), and it reads any format and seeds the crop.
        self.images = ImageLoader(dataset.train, transform, stream=True)
        classes = len(dataset.class_names)
        self.classifier = nn.Linear(dimensions, classes)
        self.classifier.weight.data, self.classifier.bias.data = initial_classifier(0, classes, dimensions)
        rate, momentum, decay = SETTINGS.learning_rate, SETTINGS.momentum, SETTINGS.weight_decay
        self.optimizer = torch.optim.SGD(self.classifier.parameters(), rate, momentum, weight_decay=decay)
        self.seconds = {"waiting": 0.0, "backbone": 0.0, "classifier": 0.0}

    def train(self, rows: Sequence[int], epoch: int) -> float:
        """Train on ``rows`` once; returns the seconds it took."""
        began = time.perf_counter()
        stream = self.stream(rows, epoch)
        for start in range(0, len(rows), BATCH_SIZE):
            with self._timed("waiting"):
                batch = next(stream)
            with self._timed("backbone"):
                features = self.compiled.run(batch)
            with self._timed("classifier"):
                self._step(features, self.dataset.train.labels[np.asarray(rows[start : start + BATCH_SIZE])])
        return time.perf_counter() - began

    def stream(self, rows: Sequence[int], epoch: int) -> Iterator[np.ndarray]:
        """Augmented images of ``rows`` as the backbone takes them, (N, 3, H, W) float32 with N up to 64, decoded ahead.
        All batches share one buffer: each overwrites the one before."""
        return self._prepared(lambda row: self.images.augmented(row, 0, epoch), rows)

    def accuracy(self) -> float:
        """Top-1 accuracy (0..1) on the test images."""
        tested = ImageLoader(self.dataset.test, self.transform)
        with torch.inference_mode():
            predicted = [
                self.classifier(torch.from_numpy(self.compiled.run(batch))).argmax(1).numpy()
                for batch in self._prepared(tested.centre_cropped, range(len(self.dataset.test.labels)))
            ]
        return float((np.concatenate(predicted) == self.dataset.test.labels).mean())

    def _prepared(self, image: Callable[[int], np.ndarray], rows: Sequence[int]) -> Iterator[np.ndarray]:
        memory = torch.empty(BATCH_SIZE, 3, self.transform.crop, self.transform.crop)
        for batch in loading.batches(image, rows, BATCH_SIZE):
            yield normalised(batch, self.transform, out=memory[: len(batch)]).numpy()

    def _step(self, features: np.ndarray, labels: np.ndarray) -> None:
        loss = F.cross_entropy(self.classifier(torch.from_numpy(features)), torch.from_numpy(labels))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began


def open_dataset(home: Path, spec: SpeedupSpec) -> Dataset:
    """The dataset that the spec names. Raises InputError if it is unknown or too small for ``spec.epochs``."""
    dataset = catalogue.load(home, spec.dataset)
    chunk_size(len(dataset.train.labels), spec.epochs)
    return dataset


def measure(pair: Pair, spec: SpeedupSpec, engine: str, dataset: Dataset, report: Report) -> dict[str, Any]:
    """Train for ``spec.epochs`` epochs through both networks in turn, chunk by chunk, and return the record's line.
    ``accuracy`` is that of the sparse backbone, None for random weights."""
    images = len(dataset.train.labels)
    size = chunk_size(images, spec.epochs)
    report(Progress(f"{ENGINES[engine]}: compiling"))
    with compile_pair(pair, engine, BATCH_SIZE, spec.threads) as compiled:
        dimensions = int(pair.sparse.dimensions)  # type: ignore[arg-type]
        dense = Pipeline(compiled.dense, dataset, pair.transform, dimensions)
        sparse = Pipeline(compiled.sparse, dataset, pair.transform, dimensions)
        background = BackgroundLoad()
        samples = _train_in_turn({"dense": dense, "sparse": sparse}, images, size, spec.epochs, report)
        line = compiled.line(samples, background.share())
        decode = _decode_seconds(sparse, images)
        return {
            **line,
            "seconds_per_epoch": line["milliseconds_per_image"] * images / 1000,
            "dense_seconds_per_epoch": line["dense_milliseconds_per_image"] * images / 1000,
            "split": {"decode": decode, **_per_epoch(sparse, spec.epochs)},
            "dense_split": {"decode": decode, **_per_epoch(dense, spec.epochs)},
            "accuracy": None if pair.description["timing_only"] else sparse.accuracy(),
            "dataset": spec.dataset,
            "layers": None,
        }


def chunk_size(rows: int, epochs: int) -> int:
    """The number of images in each timed sample: whole batches, or all ``rows`` training images if they do not fill
    one. Raises InputError if ``epochs`` epochs give fewer than three samples, too few to compare."""
    size = min(CHUNK * BATCH_SIZE, max(rows // 3 // BATCH_SIZE, 1) * BATCH_SIZE, rows)
    per_epoch = rows // size
    if per_epoch * epochs < 3:
        raise InputError(
            f"Comparing dense and sparse on {rows} training images takes at least {math.ceil(3 / per_epoch)} epochs; "
            f"got {epochs}. Ask for more epochs, or give more images."
        )
    return size


def _train_in_turn(
    pipelines: dict[str, Pipeline], rows: int, size: int, epochs: int, report: Report
) -> dict[str, list[float]]:
    """ms/image of each chunk, for both pipelines. Only full chunks are counted, so that they are comparable."""
    samples: dict[str, list[float]] = {name: [] for name in pipelines}
    chunks = [
        (epoch, order[start : start + size].tolist())
        for epoch in range(epochs)
        for order in (shuffled_rows(0, epoch, rows),)
        for start in range(0, rows, size)
    ]
    began = time.perf_counter()
    for number, (epoch, chunk) in enumerate(chunks):
        left = (time.perf_counter() - began) / number * (len(chunks) - number) if number else None
        report(Progress("Training online", number, len(chunks), left))
        order = sorted(pipelines, reverse=bool(number % 2))
        seconds = _train_chunk(pipelines, order, chunk, epoch)
        if len(chunk) == size:
            for name in pipelines:
                samples[name].append(1000 * seconds[name] / size)
    return samples


def _train_chunk(pipelines: dict[str, Pipeline], order: list[str], chunk: list[int], epoch: int) -> dict[str, float]:
    """Seconds of each pipeline. If an engine restarts meanwhile, both train on the chunk again and only that is counted."""
    before = {name: dict(pipeline.seconds) for name, pipeline in pipelines.items()}

    def train() -> dict[str, float]:
        for name, pipeline in pipelines.items():
            pipeline.seconds = dict(before[name])
        return {name: pipelines[name].train(chunk, epoch) for name in order}

    return repeat_if_restarted([pipeline.compiled for pipeline in pipelines.values()], train)


def _per_epoch(pipeline: Pipeline, epochs: int) -> dict[str, float]:
    return {part: seconds / epochs for part, seconds in pipeline.seconds.items()}


def _decode_seconds(pipeline: Pipeline, rows: int) -> float:
    """Seconds to decode and augment an epoch's images alone, on all cores, extrapolated from two batches."""
    sample = list(range(min(rows, 2 * BATCH_SIZE)))
    began = time.perf_counter()
    list(pipeline.stream(sample, 0))
    return (time.perf_counter() - began) / len(sample) * rows
