"""Linear transfer: a new linear classifier on the frozen features of a backbone. Source: Iofinova et al., "How Well Do
Sparse ImageNet Models Transfer?", CVPR 2022, section 3."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sparse_core.datasets.dataset import Dataset
from sparse_core.errors import InputError
from sparse_core.networks.backbones import Backbone
from sparse_core.specs.progress import Report
from sparse_core.specs.training import VALIDATION_SHARE, Hyperparameters
from sparse_core.specs.transfer import ProbeSpec, exact
from sparse_core.transfer import durations, features, linear_training
from sparse_core.transfer.evaluation import EvaluationSet
from sparse_core.transfer.linear_training import Samples
from sparse_core.transfer.training import Diverged, Reporter, Result, no_report

SWEEP_SEEDS = range(ProbeSpec.usual_seeds)  # whichever seeds are trained: the learning rate follows from the spec alone


def train(
    backbone: Backbone,
    dataset: Dataset,
    spec: ProbeSpec,
    seeds: Sequence[int],
    *,
    home: Path,
    on_progress: Report = no_report,
    checkpoints: Mapping[int, Path] | None = None,
    sweep_checkpoint: Path | None = None,
) -> list[Result[nn.Linear]]:
    """Extract the features, choose a learning rate if the spec lists several, and train a classifier per seed.

    The shape is that of ``finetune.train`` but for all seeds at once: they share the features, which are extracted once and
    cached under ``home``, and classifiers trained side by side use all cores. For the checkpoints and the errors see
    ``linear_training.train``; ``sweep_checkpoint`` is the same for the choice of the rate. ``details`` of each result hold
    the fields of a probe's record.
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
    training, classes = Samples(extracted.train, extracted.train_labels), len(extracted.class_names)
    started = time.perf_counter()
    settings, validation = _with_chosen_rate(spec, training, classes, on_progress, sweep_checkpoint)
    data = training, Samples(extracted.test, extracted.test_labels), classes
    chosen = time.perf_counter()
    results = linear_training.train(*data, seeds, settings, on_progress=on_progress, checkpoints=checkpoints)
    details = {
        "seconds_features": extracted.seconds,
        "images_per_second": extracted.images_per_second,
        "engine": extracted.engine,
        "engine_version": extracted.engine_version,
        "features_cached": extracted.cached,
        "notes": extracted.notes,
        "seconds_training": chosen - started + sum(sum(result.seconds) for result in results),
        "validation": validation,
    }
    return [dataclasses.replace(result, details={**result.details, **details}) for result in results]


def _with_chosen_rate(
    spec: ProbeSpec, training: Samples, classes: int, on_progress: Report, checkpoint: Path | None
) -> tuple[Hyperparameters, dict[str, float] | None]:
    """The spec's settings with the learning rate chosen by its sweep, and the validation accuracy of each rate; None
    without a sweep."""
    if not spec.sweep_lr:
        return spec.settings, None
    asked = training, classes, SWEEP_SEEDS, spec.settings, spec.sweep_lr
    rate, scores = choose_learning_rate(*asked, on_progress=on_progress, checkpoint=checkpoint)
    validation = {exact(candidate): accuracy for candidate, accuracy in scores.items()}
    return dataclasses.replace(spec.settings, learning_rate=rate), validation


def choose_learning_rate(
    samples: Samples,
    classes: int,
    seeds: Sequence[int],
    settings: Hyperparameters,
    rates: Sequence[float],
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> tuple[float, dict[float, float]]:
    """Choose among ``rates`` on a stratified fifth of the training samples, all rates and seeds side by side.

    Returns the rate with the highest final validation top-1 accuracy, averaged over seeds (the lower rate where two are
    equal), and that accuracy for every rate; a rate whose training diverges counts as 0. Raises InputError where all do.
    """
    rates = sorted(set(rates))
    if not rates:
        raise InputError("No learning rates to choose from: give at least one.")
    labels = linear_training.checked_training_labels(samples, classes)
    fitted, held_out = validation_split(labels)
    dtype = linear_training.product_type("auto", classes, samples.features.shape[1])
    features = linear_training.checked_features("training", samples.features, dtype)
    training = linear_training.Training(
        features,
        torch.from_numpy(labels),
        EvaluationSet(features[torch.from_numpy(held_out)], labels[held_out], classes),
        [(seed, rate) for rate in rates for seed in seeds],
        settings,
        rows=torch.from_numpy(fitted),
        keep_states=checkpoint is not None,
    )
    files = {checkpoint: training.classifiers} if checkpoint else {}
    with linear_training.Saving(training, files) as saving, closing(training.epochs()) as epochs:
        reporter = Reporter(on_progress, settings.epochs, training.epoch)
        for epoch in epochs:
            _finite_rates(training, rates, epoch)
            reporter.update("Choosing the learning rate", epoch)
            saving.save(reporter)
    top1 = np.reshape(training.values("top1", settings.epochs), (len(rates), -1)).mean(axis=1)
    scores = np.where(_finite_rates(training, rates, settings.epochs), top1, 0.0)
    return rates[int(scores.argmax())], dict(zip(rates, scores.tolist(), strict=True))


def _finite_rates(training: linear_training.Training, rates: Sequence[float], epoch: int) -> np.ndarray:
    """Which rates (R,) all seeds' losses were finite with in this epoch. Raises Diverged where none is."""
    loss = np.reshape(training.values("loss", epoch), (len(rates), -1))
    finite: np.ndarray = np.isfinite(loss).all(axis=1)
    if not finite.any():
        tried = ", ".join(f"{rate:g}" for rate in rates)
        raise Diverged(f"Every learning rate diverged ({tried}). Try lower ones.")
    return finite


def validation_split(labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to fit on and to validate on: a fifth of every class, rounded, is held out; both sorted."""
    generator = np.random.default_rng(seed)
    held_out = []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        held_out.append(rows[: round(VALIDATION_SHARE * len(rows))])
    validation = np.sort(np.concatenate(held_out))
    if not len(validation):
        raise InputError(f"Too few training samples to hold some out: {len(labels)}. Give the learning rate instead.")
    return np.setdiff1d(np.arange(len(labels)), validation), validation
