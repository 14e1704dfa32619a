"""The time of an epoch, measured on a few steps, for estimates."""

import dataclasses
import time

import numpy as np

from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify.detectors import DetectorPruning
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import Pruner, SparseTraining
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import Reporter, no_report

STEPS = 2
TEST_IMAGES = 256
TEST_BOXES = 32  # images for a detector


def dense(spec: SparsifySpec) -> SparsifySpec:
    """Dense training on the same network and data, with the same batches, precision and augmentation."""
    same = {
        name: getattr(spec, name)
        for name in ("batch_size", "precision", "label_smoothing", "augment", "epochs", "learning_rate")
    }
    return SparsifySpec("Dense", spec.backbone, spec.dataset, **same)


def time_epoch(backbone: Backbone, dataset: Dataset, spec: SparsifySpec) -> float:
    """Estimated seconds per epoch of dense training, test included: from a few steps and tests, after as many to warm up, in
    which their images are decoded too."""
    rows, tested = len(dataset.train.labels), len(dataset.test.labels)
    part = dataclasses.replace(
        dataset,
        train=dataset.train.only(np.arange(min(rows, STEPS * spec.batch_size))),
        test=dataset.test.only(np.arange(min(tested, TEST_BOXES if backbone.card.is_detector else TEST_IMAGES))),
    )
    training = _dense_training(backbone, part, spec)
    reporter = Reporter(no_report, 2)
    for _ in range(2):
        training.run_epoch(reporter)
    started = time.perf_counter()
    training.test()
    test = time.perf_counter() - started
    trained = max(0.0, training.seconds[-1] - test)
    return trained / len(part.train.labels) * rows + test / len(part.test.labels) * tested


def _dense_training(backbone: Backbone, dataset: Dataset, spec: SparsifySpec) -> SparseTraining | DetectorPruning:
    if isinstance(dataset, BoxDataset):
        return DetectorPruning(backbone, dataset, spec, 0, Pruner)
    return SparseTraining(start(backbone, dataset, spec, 0), backbone, dataset, spec, 0, Pruner)
