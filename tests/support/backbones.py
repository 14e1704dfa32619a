"""A small backbone as the library loads it, and a dataset for it, for tests of extraction."""

from pathlib import Path

import numpy as np
from PIL import Image

from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.networks import backbones
from sparse_core.networks.backbones import Backbone
from tests.support.networks import pruned_file


def small_backbone(folder: Path, sparsity: float = 0.0) -> Backbone:
    """A ResNet20 on 32 × 32 pixels with random weights, 64 features."""
    return backbones.load(folder, f"resnet20:{pruned_file(folder / f'resnet20-{sparsity}.pth', sparsity)}")


def noise_dataset(train: int, test: int, side: int = 32) -> Dataset:
    """Images of noise in two classes, always the same."""

    def split(rows: int, seed: int) -> Split:
        pixels = np.random.default_rng(seed).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
        return Split(np.arange(rows) % 2, lambda row: Image.fromarray(pixels[row]))

    return Dataset("noise", "top1", ["a", "b"], split(train, 1), split(test, 2), f"noise {train} {test} {side}", "made")
