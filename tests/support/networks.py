"""Networks for tests whose BatchNorm does something: with statistics and scales drawn at random."""

import torch
from torch import nn


def live_batch_norm(module):
    """The module with random BatchNorm parameters and statistics, so that a mix-up of any two shows in the output."""
    generator = torch.Generator().manual_seed(2)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.2, 0.2),
                (layer.running_mean, -0.2, 0.2),
                (layer.running_var, 0.5, 1.5),
            ):
                tensor.data.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return module
