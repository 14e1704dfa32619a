"""BatchNorm statistics of a network whose weights have changed, tuned on images without training."""

import torch
from torch import nn

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
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    total = len(dataset.train.labels)
    if total < LEAST_IMAGES:
        raise InputError(
            f"Tuning BatchNorm takes at least {LEAST_IMAGES} upstream images; '{dataset.id}' has {total} for training."
        )
    count = min(IMAGES, total)
    rows = [number * total // count for number in range(count)]
    device = next(network.parameters()).device
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
        layer.train()
    loader = ImageLoader(dataset.train, transform)
    with torch.no_grad():
        for images in batches(loader.centre_cropped, rows, BATCH):
            if len(images) >= LEAST_IMAGES:
                network(normalised(images, transform).to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    return count
