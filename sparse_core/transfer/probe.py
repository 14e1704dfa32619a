"""Linear transfer: a new linear classifier on the frozen features of a backbone.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 3.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.specs.progress import Report
from sparse_core.specs.transfer import ProbeSpec, exact
from sparse_core.transfer import durations, features, linear_training
from sparse_core.transfer.learning_rate_sweep import choose_learning_rate
from sparse_core.transfer.reporting import no_report
from sparse_core.transfer.samples import Samples
from sparse_core.transfer.training_result import Result


def train(
    backbone: Backbone,
    dataset: Dataset,
    spec: ProbeSpec,
    seeds: Sequence[int],
    *,
    home: Path,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> list[Result[nn.Linear]]:
    """Extract the features, choose a learning rate if the spec lists several, and train a classifier per seed.

    The shape is that of ``finetune.train`` but for all seeds at once: they share the features, which are extracted once and
    cached under ``home``, and classifiers trained side by side use all cores. For the checkpoint and the errors see
    ``linear_training.train``. ``details`` of each result hold the fields of a probe's record.
    """
    known = durations.recall(home, spec)
    extracted = features.extract(
        home,
        backbone,
        dataset,
        precision=spec.precision,
        engine=spec.engine,
        on_progress=on_progress,
        seconds_after=known.seconds(spec, len(seeds), features_cached=True) if known else 0.0,
    )
    training = Samples(extracted.train, extracted.train_labels)
    classes = len(extracted.class_names)
    started = time.perf_counter()
    settings, validation = spec.settings, None
    if spec.sweep_lr:
        rate, scores = choose_learning_rate(training, classes, seeds, settings, spec.sweep_lr, on_progress=on_progress)
        settings = dataclasses.replace(settings, learning_rate=rate)
        validation = {exact(candidate): accuracy for candidate, accuracy in scores.items()}
    test = Samples(extracted.test, extracted.test_labels)
    results = linear_training.train(
        training, test, classes, seeds, settings, on_progress=on_progress, checkpoint=checkpoint
    )
    details = {
        "seconds_features": extracted.seconds,
        "images_per_second": extracted.images_per_second,
        "engine": extracted.engine,
        "engine_version": extracted.engine_version,
        "features_cached": extracted.cached,
        "notes": extracted.notes,
        "seconds_training": time.perf_counter() - started,
        "validation": validation,
    }
    return [dataclasses.replace(result, details={**result.details, **details}) for result in results]
