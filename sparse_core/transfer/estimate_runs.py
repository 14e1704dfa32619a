"""Short measurements from which the duration of a transfer is estimated before it starts; see ``durations``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core.specs.progress import Report
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import AnyTransfer, FinetuneSpec
from sparse_core.transfer import durations, features, finetune, linear_training
from sparse_core.transfer.resolve import resolve
from sparse_core.transfer.samples import Samples

SAMPLE_IMAGES = 32
SAMPLE_ROWS = 4096
SAMPLE_STEPS = 256
SAMPLE_EPOCHS = 3
SAMPLE_SEEDS = 5


def run_estimate(home: Path, spec: AnyTransfer, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Time a small part of the transfer, and keep and return the estimate.

    For a probe: a few images through decoding and backbone, and a few epochs on noise of the features' shape. For
    finetuning: a few training steps and tests.
    """
    backbone, dataset, spec = resolve(home, spec, report)
    rows, tested = len(dataset.train.labels), len(dataset.test.labels)
    if isinstance(spec, FinetuneSpec):
        estimate = durations.Estimate(rows + tested, 0.0, finetune.time_epoch(backbone, dataset, spec))
    else:
        seconds_per_image = features.time_sample(backbone, dataset.train, SAMPLE_IMAGES, precision=spec.precision)
        sample = min(rows, SAMPLE_ROWS, SAMPLE_STEPS * spec.settings.batch_size)
        seconds = _time_epoch(sample, backbone.dimensions, len(dataset.class_names), spec.settings)
        estimate = durations.Estimate(rows + tested, seconds_per_image, seconds * rows / sample)
    durations.keep(home, spec, estimate)
    return asdict(estimate)


def _time_epoch(rows: int, dimensions: int, classes: int, settings: Hyperparameters) -> float:
    """Seconds per epoch and seed on noise (rows, dimensions), with a quarter as many test samples."""
    x = np.random.default_rng(0).standard_normal((rows, dimensions), dtype=np.float32)
    y = np.arange(rows) % classes
    tested = max(rows // 4, classes)
    short = Hyperparameters(epochs=SAMPLE_EPOCHS, batch_size=settings.batch_size)
    results = linear_training.train(Samples(x, y), Samples(x[:tested], y[:tested]), classes, range(SAMPLE_SEEDS), short)
    return results[0].seconds[0]
