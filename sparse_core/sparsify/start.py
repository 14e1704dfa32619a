"""The networks that trainings start from: new weights, or those of the backbone with a classifier for the upstream data."""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from sparse_core.catalog import architecture_label
from sparse_core.datasets.dataset import Dataset
from sparse_core.datasets.loading import ImageLoader, batches, normalised
from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone, Classifier
from sparse_core.networks.classifier import ClassifierNetwork
from sparse_core.networks.library import DENSE_ZEROS
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.finetune import draw_weights
from sparse_core.transfer.training import initial_classifier

CHECKED_IMAGES = 256
BATCH = 32
LEAST_IMAGES = 2
NEW_CLASSIFIER = (
    "The backbone has no classifier for this upstream data: a new one was used, untrained unless the method trains."
)


@dataclass(frozen=True)
class Start:
    """A network in evaluation mode, its weights shared with no other, and notes for the user."""

    network: ClassifierNetwork
    notes: tuple[str, ...] = ()


def start(backbone: Backbone, dataset: Dataset, spec: SparsifySpec, seed: int) -> Start:
    """What a method starts from.

    Weights of the method's own start are He-normal, drawn from the seed, with a new classifier. Else they are the backbone's,
    with its own classifier where that fits the dataset (see ``own_classifier``). Raises InputError where the method needs a dense
    start and the backbone is sparse, and where the data or the architecture leave nothing to do.
    """
    _check(backbone, dataset, spec)
    body = copy.deepcopy(backbone.module).requires_grad_(True)
    classifier: Classifier | None = None
    notes: tuple[str, ...] = ()
    if spec.has_new_weights:
        draw_weights(body, seed)
    else:
        classifier = own_classifier(backbone, dataset)
        notes = () if classifier else (NEW_CLASSIFIER,)
    if classifier is None:
        classifier = initial_classifier(seed, len(dataset.class_names), backbone.dimensions)
    return Start(ClassifierNetwork(body, *(tensor.clone() for tensor in classifier)).eval(), notes)


def own_classifier(backbone: Backbone, dataset: Dataset) -> Classifier | None:
    """The classifier that was trained with the backbone, if it tells this dataset's classes apart: it has as many, and its
    accuracy on some test images is half as high again as that of always naming the most frequent class."""
    if backbone.classifier is None or backbone.classifier[0].shape != (len(dataset.class_names), backbone.dimensions):
        return None
    labels = dataset.test.labels
    rows = np.random.default_rng(0).permutation(len(labels))[:CHECKED_IMAGES]
    loader = ImageLoader(dataset.test, backbone.transform)
    checked = ClassifierNetwork(backbone.module, *backbone.classifier).eval()
    with torch.inference_mode():
        logits = [
            checked(normalised(images, backbone.transform))
            for images in batches(loader.centre_cropped, rows.tolist(), BATCH)
        ]
    accuracy = float((torch.cat(logits).argmax(1).numpy() == labels[rows]).mean())
    usual = float(np.bincount(labels[rows]).max() / len(rows))
    return backbone.classifier if accuracy >= min(1.5 * usual, (1 + usual) / 2) else None


def require_dense(backbone: Backbone, spec: SparsifySpec) -> None:
    """Raise InputError where the method starts from trained weights and these are sparse."""
    if not spec.has_new_weights and backbone.sparsity > DENSE_ZEROS:
        raise InputError(
            f"{spec.method} starts from the weights of a dense network; {backbone.card.name} is "
            f"{100 * backbone.sparsity:.0f} % sparse. Name a dense backbone."
        )


def _check(backbone: Backbone, dataset: Dataset, spec: SparsifySpec) -> None:
    require_dense(backbone, spec)
    if len(masks.prunable(backbone.module)) < 2:
        raise InputError(
            f"{spec.method} prunes convolutions after the first; {architecture_label(backbone.card.architecture)} has none."
        )
    if len(dataset.train.labels) < LEAST_IMAGES:
        raise InputError(
            f"Expected at least {LEAST_IMAGES} training images; '{dataset.id}' has {len(dataset.train.labels)}."
        )
