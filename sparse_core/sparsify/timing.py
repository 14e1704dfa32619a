"""The time of an epoch, measured on a few steps, for estimates."""

from functools import partial

from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify.detectors import DetectorPruning
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import Pruner, SparseTraining
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer import network_training

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


def time_epoch(backbone: Backbone, dataset: Dataset | BoxDataset, spec: SparsifySpec) -> float:
    """Estimated seconds per epoch of dense training, test included."""
    tested = TEST_BOXES if backbone.card.is_detector else TEST_IMAGES
    train = partial(_dense_training, backbone, spec)
    return network_training.time_epoch(train, dataset, STEPS * spec.batch_size, tested)


def _dense_training(
    backbone: Backbone, spec: SparsifySpec, dataset: Dataset | BoxDataset
) -> SparseTraining | DetectorPruning:
    if isinstance(dataset, BoxDataset):
        return DetectorPruning(backbone, dataset, spec, 0, Pruner)
    return SparseTraining(start(backbone, dataset, spec, 0), backbone, dataset, spec, 0, Pruner)
