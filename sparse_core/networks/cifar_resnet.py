"""The ResNets for CIFAR, with 6n + 2 layers (He et al., CVPR 2016, section 4.2)."""

import torch.nn.functional as F
from torch import Tensor, nn


class CifarResNet(nn.Module):
    """Images (N, 3, 32, 32) to features (N, 64); ``blocks`` is n.

    Where a block halves the image, shortcut "A" subsamples and adds channels of zeros, "B" is a 1 × 1 convolution.
    """

    def __init__(self, blocks: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _layer(16, 16, blocks, 1, shortcut)
        self.layer2 = _layer(16, 32, blocks, 2, shortcut)
        self.layer3 = _layer(32, 64, blocks, 2, shortcut)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean(dim=(2, 3))


def _layer(channels: int, out: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    others = (_Block(out, out, 1, shortcut) for _ in range(blocks - 1))
    return nn.Sequential(_Block(channels, out, stride, shortcut), *others)


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 and shortcut == "A":
            self.shortcut = ZeroPaddedShortcut(out - channels)
        elif stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ZeroPaddedShortcut(nn.Module):
    """Every second pixel, with ``added`` channels of zeros, half of them first and half last: (N, C, H, W) to
    (N, C + added, H/2, W/2)."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
