"""Networks for tests."""

from pathlib import Path

import torch
from torch import nn

from sparse_core.networks import architectures, masks


def pruned_state(sparsity: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """The state of a CIFAR ResNet20 with a classifier of ten classes, pruned by magnitude."""
    torch.manual_seed(seed)
    module = architectures.build("resnet20")
    masks.apply(module, masks.top_k(module, sparsity))
    return {**module.state_dict(), "linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}


def pruned_file(file: Path, sparsity: float, seed: int = 0) -> Path:
    torch.save(pruned_state(sparsity, seed), file)
    return file


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


class FourierTransform(nn.Module):
    """A network with an operator that ONNX lacks."""

    def forward(self, images):
        return torch.fft.fft(images.mean((1, 2))).real
