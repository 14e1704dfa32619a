"""Gradients of the upstream loss by image or small batch, for the empirical Fisher matrix."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_core.datasets.dataset import Dataset
from sparse_core.datasets.loading import ImageLoader, normalised
from sparse_core.datasets.transforms import Transform
from sparse_core.engines.torch_cpu import thread_pool
from sparse_core.errors import InputError

LARGE = 1_000_000  # weights
LARGE_BATCH = 16


def images_per_gradient(asked: int, weights: int) -> int:
    """Images whose mean gradient is one sample: as asked, or for 0 one in networks of up to ``LARGE`` weights, else 16."""
    return asked or (1 if weights <= LARGE else LARGE_BATCH)


def draw_rows(dataset: Dataset, count: int, size: int, draw: Sequence[int]) -> list[int]:
    """Rows of training images for ``count`` gradients of ``size`` images each, drawn by the numbers ``draw``. Raises InputError
    where there are too few."""
    total = len(dataset.train.labels)
    if count * size > total:
        raise InputError(
            f"{count} gradients of {size} images each take {count * size:,} upstream images; '{dataset.id}' has {total:,} for "
            "training. Ask for fewer gradients."
        )
    return np.random.default_rng(list(draw)).choice(total, count * size, replace=False).tolist()


def collect(
    network: nn.Module,
    weights: Sequence[nn.Parameter],
    kept: Tensor,
    dataset: Dataset,
    transform: Transform,
    rows: Sequence[int],
    size: int,
) -> Tensor:
    """Gradients (N, d) of the mean cross entropy of each ``size`` images of ``rows``, with respect to those of ``weights``, one
    after another, that ``kept`` (all weights,) keeps; d is their number. In fp32, in evaluation mode, without augmentation."""
    was_training, device = network.training, weights[0].device
    network.eval()
    labels = torch.from_numpy(dataset.train.labels[list(rows)]).to(device)
    gradients = torch.empty(len(rows) // size, int(kept.sum()), device=device)
    whole = bool(kept.all())
    loader = ImageLoader(dataset.train, transform)

    def fill(number: int) -> None:
        part = slice(number * size, (number + 1) * size)
        images = np.stack([loader.centre_cropped(row) for row in rows[part]])
        loss = F.cross_entropy(network(normalised(images, transform).to(device)), labels[part])
        flat = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, weights)])
        gradients[number] = flat if whole else flat[kept]

    with thread_pool() as (pool, _):  # single images are too little work for several threads to share
        list(pool.map(fill, range(len(gradients))))
    network.train(was_training)
    return gradients
