"""A tiny network and digits of 8 × 8 pixels, on which every pruning method runs in a second or two."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.transforms import Transform
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone, BackboneCard
from sparse_core.networks.definitions import CifarResNet
from sparse_core.sparsify.training import Sparsified
from sparse_core.specs.sparsify import SparsifySpec

TINY = Transform(8, 8, (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
CLASSES, DIMENSIONS = 10, 64


def tiny_backbone(result: Sparsified | None = None) -> Backbone:
    """A ResNet8 (75,000 convolution weights) with random weights, or with those of a result, whose classifier it keeps."""
    card = BackboneCard("tiny", "resnet20", "nothing", "Dense", 0.0, "file", "", True)
    if result is None:
        torch.manual_seed(0)
        module, classifier = CifarResNet(1, "A"), None
    else:
        module = result.network.body
        classifier = result.network.classifier.weight.detach(), result.network.classifier.bias.detach()
    module = module.eval().requires_grad_(False)
    sparsity = masks.sparsity(module).total
    return Backbone(
        card, module, DIMENSIONS, TINY, f"hash {sparsity}", sparsity, masks.from_zeros(module), "A", classifier
    )


def tiny_digits(train: int = 300, test: int = 200) -> Dataset:
    """The first digits of the built-in dataset."""
    digits = catalogue.load(Path(), catalogue.DIGITS)

    def first(split: Split, count: int) -> Split:
        return Split(split.labels[:count].astype(np.int64), split.open)

    return dataclasses.replace(
        digits, train=first(digits.train, train), test=first(digits.test, test), hash=f"{train} {test}"
    )


def tiny_spec(method: str, **options: Any) -> SparsifySpec:
    """Four epochs of 15 steps at 90 % sparsity; 0 for Dense."""
    values = {
        "sparsity": 0.0 if method == "Dense" else 0.9,
        "epochs": 4,
        "batch_size": 20,
        "precision": "fp32",
        "augment": False,
    }
    if method in ("WoodFisher", "M-FAC"):
        values |= {"gradients": 16, "pruning_steps": 3}
    if method == "RigL ERK 5x":
        values |= {"epochs": 1}
    return SparsifySpec(method, "tiny", "digits", **{**values, **options})
