"""BatchNorm statistics of a network whose weights have changed, tuned on images without training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sparse_core.datasets.dataset import Dataset
from sparse_core.datasets.loading import ImageLoader, batches, normalised
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError

IMAGES = 1000
LEAST_IMAGES = 16
BATCH = 50


def tune(network: nn.Module, dataset: Dataset, transform: Transform) -> int:
    """Replace the running statistics by the means over batches of up to ``IMAGES`` training images, spread over the dataset;
    returns their number. Raises InputError where there are fewer than ``LEAST_IMAGES``."""
    chosen = rows(dataset)
    loader = ImageLoader(dataset.train, transform)
    tune_on(network, (normalised(images, transform) for images in batches(loader.centre_cropped, chosen, BATCH)))
    return len(chosen)


def rows(dataset: Dataset) -> list[int]:
    """The training images to tune on. Raises InputError where there are fewer than ``LEAST_IMAGES``."""
    total = len(dataset.train.labels)
    if total < LEAST_IMAGES:
        raise InputError(
            f"Tuning BatchNorm takes at least {LEAST_IMAGES} upstream images; '{dataset.id}' has {total} for training."
        )
    count = min(IMAGES, total)
    return [number * total // count for number in range(count)]


def tune_on(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Replace the running statistics by the means over batches (N, 3, H, W); those of fewer than ``LEAST_IMAGES`` do not
    count."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    device = next(network.parameters()).device
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
        layer.train()
    with torch.no_grad():
        for images in inputs:
            if len(images) >= LEAST_IMAGES:
                network(images.to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
