"""The choice of a learning rate on validation data; test data is never seen here."""

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import torch

from sparse_core.errors import InputError
from sparse_core.specs.progress import Report
from sparse_core.specs.training import VALIDATION_SHARE, Hyperparameters
from sparse_core.transfer.evaluation import EvaluationSet
from sparse_core.transfer.linear_training import Training, product_type
from sparse_core.transfer.reporting import Reporter, no_report
from sparse_core.transfer.samples import Samples, checked_features, checked_training_labels


def choose_learning_rate(
    samples: Samples,
    classes: int,
    seeds: Sequence[int],
    settings: Hyperparameters,
    rates: Sequence[float],
    *,
    on_progress: Report = no_report,
) -> tuple[float, dict[float, float]]:
    """Choose among ``rates`` on a stratified fifth of the training samples, all rates and seeds side by side.

    Returns the rate with the highest final validation top-1 accuracy, averaged over seeds (the lower rate where two are
    equal), and that accuracy for every rate; a rate whose training diverges counts as 0. Raises InputError where all do.
    """
    rates = sorted(set(rates))
    if not rates:
        raise InputError("No learning rates to choose from: give at least one.")
    labels = checked_training_labels(samples, classes)
    fitted, held_out = validation_split(labels)
    dtype = product_type("auto", classes, samples.features.shape[1])
    features = checked_features("training", samples.features, dtype)
    training = Training(
        features[torch.from_numpy(fitted)],
        torch.from_numpy(labels[fitted]),
        EvaluationSet(features[torch.from_numpy(held_out)], labels[held_out], classes),
        [(seed, rate) for rate in rates for seed in seeds],
        settings,
    )
    del features
    reporter = Reporter(on_progress, settings.epochs)
    with closing(training.epochs()) as epochs:
        for epoch in epochs:
            loss, top1 = (
                np.reshape(training.values(name, epoch), (len(rates), len(seeds))) for name in ("loss", "top1")
            )
            finite = np.isfinite(loss).all(axis=1)
            if not finite.any():
                tried = ", ".join(f"{rate:g}" for rate in rates)
                raise InputError(f"Every learning rate diverged ({tried}). Try lower ones.")
            scores = np.where(finite, top1.mean(axis=1), 0.0)
            reporter.update("Choosing the learning rate", epoch)
    return rates[int(scores.argmax())], dict(zip(rates, scores.tolist(), strict=True))


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
