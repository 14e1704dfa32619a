"""About how long a transfer will take, from short measurements on this machine; kept, and replaced by real runs' times.

Reading and scaling an estimate needs no torch; only ``measure`` does, and runs in a worker.
"""

import dataclasses
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core.catalog import PRECISIONS
from sparse_core.paths import write_text
from sparse_core.specs.training import VALIDATION_SHARE, Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec, TransferSpec

SAMPLE_IMAGES = 32
SAMPLE_ROWS = 4096
SAMPLE_STEPS = 256
SAMPLE_EPOCHS = 3
SAMPLE_SEEDS = 5


@dataclass(frozen=True)
class Estimate:
    """``seconds_per_image`` for features (decode and backbone; 0 under full transfer, which has none),
    ``seconds_per_epoch`` for one seed, at the batch size it was measured with; ``images`` is how many the dataset has."""

    images: int
    seconds_per_image: float
    seconds_per_epoch: float

    def seconds(self, spec: TransferSpec, seeds: int, features_cached: bool) -> float:
        """The whole transfer: features where they are not cached, the choice of a learning rate if any, then training."""
        extraction = 0.0 if features_cached else self.images * self.seconds_per_image
        rates = len(spec.sweep_lr) if isinstance(spec, ProbeSpec) else 0
        epochs = spec.settings.epochs * seeds * (1 + rates * (1 - VALIDATION_SHARE))
        return extraction + epochs * self.seconds_per_epoch


def key(spec: TransferSpec) -> tuple[str, str, str, int, str]:
    """What decides the time a transfer takes an image, and an epoch of one seed: specs with the same key share an estimate."""
    return spec.transfer, spec.backbone, spec.dataset, spec.settings.batch_size, spec.precision


def recall(home: Path, spec: TransferSpec) -> Estimate | None:
    """What is known of this transfer on this machine; None where nothing was measured yet.

    The precision "auto" is bf16 where that was measured, for it is chosen where it is the faster one, else fp32.
    """
    precisions = reversed(PRECISIONS) if spec.precision == "auto" else [spec.precision]
    files = (_file(home, dataclasses.replace(spec, precision=precision)) for precision in precisions)
    file = next((file for file in files if file.is_file()), None)
    return Estimate(**json.loads(file.read_text(encoding="utf-8"))) if file else None


def remember(home: Path, spec: ProbeSpec, extracted: Any, seconds_per_epoch: float) -> None:
    """Keep the times of a real probe, which are better than any estimate."""
    if not extracted.images_per_second:
        return  # features cached by an extraction that did not time itself
    images = len(extracted.train_labels) + len(extracted.test_labels)
    _keep(home, spec, Estimate(images, 1 / extracted.images_per_second, seconds_per_epoch))


def remember_finetune(home: Path, spec: FinetuneSpec, dataset: Any, seconds_per_epoch: float) -> None:
    """Keep the time of a real finetuning, which is better than any estimate."""
    _keep(home, spec, Estimate(len(dataset.train.labels) + len(dataset.test.labels), 0.0, seconds_per_epoch))


def measure(home: Path, backbone: Any, dataset: Any, spec: TransferSpec) -> dict[str, Any]:
    """Time a little of what the transfer will do, and keep it: for a probe a few images through decoding and backbone and
    a few epochs on features of the right shape, for full transfer a few training steps and tests."""
    if isinstance(spec, FinetuneSpec):
        from sparse_core.transfer import finetune

        remember_finetune(home, spec, dataset, finetune.time_epoch(backbone, dataset, spec))
        return asdict(recall(home, spec))  # type: ignore[arg-type]
    return _measure_probe(home, backbone, dataset, spec)


def _measure_probe(home: Path, backbone: Any, dataset: Any, spec: ProbeSpec) -> dict[str, Any]:
    from sparse_core.transfer import features

    seconds_per_image = features.time_sample(backbone, dataset.train, SAMPLE_IMAGES, precision=spec.precision)
    trained, tested = len(dataset.train.labels), len(dataset.test.labels)
    rows = min(trained, SAMPLE_ROWS, SAMPLE_STEPS * spec.settings.batch_size)
    seconds = _time_epoch(rows, backbone.dimensions, len(dataset.class_names), spec.settings)
    estimate = Estimate(trained + tested, seconds_per_image, seconds * trained / rows)
    _keep(home, spec, estimate)
    return asdict(estimate)


def _time_epoch(rows: int, dimensions: int, classes: int, settings: Hyperparameters) -> float:
    """Seconds an epoch and seed, on noise of the right shape: (rows, dimensions) to train, a quarter of it to test."""
    from sparse_core.transfer import probe

    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, dimensions), dtype=np.float32)
    y = np.arange(rows) % classes
    tested = max(rows // 4, classes)
    short = Hyperparameters(epochs=SAMPLE_EPOCHS, batch_size=settings.batch_size)
    started = time.perf_counter()
    probe.train(x, y, x[:tested], y[:tested], classes, range(SAMPLE_SEEDS), short)
    return (time.perf_counter() - started) / (SAMPLE_EPOCHS * SAMPLE_SEEDS)


def _keep(home: Path, spec: TransferSpec, estimate: Estimate) -> None:
    write_text(_file(home, spec), json.dumps(asdict(estimate)))


def _file(home: Path, spec: TransferSpec) -> Path:
    name = hashlib.sha256("\n".join(map(str, key(spec))).encode()).hexdigest()[:24]
    return home / "estimates" / f"{name}.json"
