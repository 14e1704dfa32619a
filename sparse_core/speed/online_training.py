"""Online linear training: images arrive live, go through the backbone in an engine, and train a linear classifier.

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
from sparse_core.speed.timing import Pair, both, line_of, undisturbed
from sparse_core.transfer.probe import initial_classifier, shuffled_rows

BATCH_SIZE = 64
CHUNK = 4  # batches that one of the two runs before the other has its turn
SETTINGS = Hyperparameters()


class Pipeline:
    """Decode and augment, ahead of a backbone in an engine, and a classifier that takes one SGD step a batch.

    ``seconds`` sums up where the time went: ``backbone`` and ``classifier`` as they ran, ``waiting`` until a batch's images
    were decoded and normalised. Decoding overlaps the backbone, so its own time is measured apart.
    """

    def __init__(self, compiled: Compiled, dataset: Dataset, transform: Transform, dimensions: int) -> None:
        self.compiled, self.dataset, self.transform = compiled, dataset, transform
        # Pillow's decoder and torch's resizing, on a thread a core: as fast as torchvision's decode_jpeg with v2 transforms,
        # both 1.2 times as fast as Pillow alone (benchmarks/decoders.py), and it reads any format and draws the crop by seed.
        self.images = ImageLoader(dataset.train, transform, stream=True)
        classes = len(dataset.class_names)
        self.classifier = nn.Linear(dimensions, classes)
        for parameter, value in zip(
            self.classifier.parameters(), initial_classifier(0, classes, dimensions), strict=True
        ):
            parameter.data.copy_(value)
        self.optimizer = torch.optim.SGD(
            self.classifier.parameters(),
            lr=SETTINGS.learning_rate,
            momentum=SETTINGS.momentum,
            weight_decay=SETTINGS.weight_decay,
        )
        self.seconds = {"waiting": 0.0, "backbone": 0.0, "classifier": 0.0}

    def train(self, rows: Sequence[int], epoch: int) -> float:
        """One pass over ``rows``; returns its seconds."""
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

        All batches lie in the same memory: the next one takes the place of the one before.
        """
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
    """The dataset that the spec names. Raises InputError where it is too small for so few epochs, too."""
    dataset = catalogue.load(home, spec.dataset)
    chunk_size(len(dataset.train.labels), spec.epochs)
    return dataset


def measure(pair: Pair, spec: SpeedupSpec, engine: str, dataset: Dataset, report: Report) -> dict[str, Any]:
    """Train for ``spec.epochs`` epochs through both networks in turn, chunk by chunk, and return the record's line.

    ``accuracy`` is that of the sparse backbone, None for a mask made for timing.
    """
    size = chunk_size(len(dataset.train.labels), spec.epochs)
    report(Progress(f"{ENGINES[engine]}: compiling"))
    with both(pair, engine, BATCH_SIZE, spec.threads) as (dense, sparse, difference):
        dimensions = int(pair.sparse.dimensions)  # type: ignore[arg-type]
        pipelines = {
            name: Pipeline(compiled, dataset, pair.transform, dimensions)
            for name, compiled in (("dense", dense), ("sparse", sparse))
        }
        images_trained = len(dataset.train.labels)
        others = BackgroundLoad()
        samples = _in_turn(pipelines, images_trained, size, spec.epochs, report)
        busy_during = others.share()
        line = line_of(sparse, pair, samples["dense"], samples["sparse"])
        decode = _decode_seconds(pipelines["sparse"], images_trained)
        return {
            **line,
            "busy_during": busy_during,
            "seconds_per_epoch": line["milliseconds_per_image"] * images_trained / 1000,
            "dense_seconds_per_epoch": line["dense_milliseconds_per_image"] * images_trained / 1000,
            "split": {"decode": decode, **_per_epoch(pipelines["sparse"], spec.epochs)},
            "dense_split": {"decode": decode, **_per_epoch(pipelines["dense"], spec.epochs)},
            "accuracy": None if pair.description["timing_only"] else pipelines["sparse"].accuracy(),
            "dataset": spec.dataset,
            "seconds_to_compile": sparse.seconds_to_compile,
            "peak_memory_bytes": sparse.peak_memory_bytes,
            "difference": difference,
            "layers": None,
            "restarts": dense.restarts + sparse.restarts,
        }


def chunk_size(rows: int, epochs: int) -> int:
    """How many of ``rows`` training images make one of the samples that are compared: whole batches, or all of too few.

    Three samples are the fewest that can be compared; InputError where ``epochs`` give less.
    """
    size = min(CHUNK * BATCH_SIZE, max(rows // 3 // BATCH_SIZE, 1) * BATCH_SIZE, rows)
    an_epoch = rows // size
    if an_epoch * epochs < 3:
        raise InputError(
            f"To compare dense and sparse on {rows} training images takes at least {math.ceil(3 / an_epoch)} epochs; "
            f"got {epochs}. Ask for more epochs, or give more images."
        )
    return size


def _in_turn(
    pipelines: dict[str, Pipeline], rows: int, size: int, epochs: int, report: Report
) -> dict[str, list[float]]:
    """Milliseconds an image of each chunk, for both pipelines; whole chunks only, so that they compare."""
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
        seconds = _train_both(pipelines, order, chunk, epoch)
        if len(chunk) == size:
            for name in pipelines:
                samples[name].append(1000 * seconds[name] / size)
    return samples


def _train_both(pipelines: dict[str, Pipeline], order: Sequence[str], chunk: list[int], epoch: int) -> dict[str, float]:
    """Seconds of each, in turn. Where an engine died meanwhile both train on the chunk once more, and only that is counted."""
    spent = {name: dict(pipeline.seconds) for name, pipeline in pipelines.items()}

    def train() -> dict[str, float]:
        for name, pipeline in pipelines.items():
            pipeline.seconds = dict(spent[name])
        return {name: pipelines[name].train(chunk, epoch) for name in order}

    return undisturbed([pipeline.compiled for pipeline in pipelines.values()], train)


def _per_epoch(pipeline: Pipeline, epochs: int) -> dict[str, float]:
    return {part: seconds / epochs for part, seconds in pipeline.seconds.items()}


def _decode_seconds(pipeline: Pipeline, rows: int) -> float:
    """Seconds an epoch takes to decode and augment alone, with all cores, from a part of it."""
    some = list(range(min(rows, 2 * BATCH_SIZE)))
    began = time.perf_counter()
    for _ in pipeline.stream(some, 0):
        pass
    return (time.perf_counter() - began) / len(some) * rows
