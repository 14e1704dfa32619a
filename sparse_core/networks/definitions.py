"""The networks that torchvision lacks or defines otherwise, without classifiers: MobileNetV1, the ResNets for CIFAR and
EfficientNet-Lite0."""

import torch.nn.functional as F
from torch import Tensor, nn

# Output channels and stride of each depthwise separable block (Howard et al., MobileNets, 2017, table 1).
_MOBILENET_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
# Repeats, kernel, stride, expansion, output channels of each stage (Tan & Le, EfficientNet, ICML 2019, table 1, B0).
_LITE_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class MobileNetV1(nn.Module):
    """MobileNetV1 at full width: images (N, 3, H, W) to features (N, 1024), averaged over positions. Layers are
    named ``model.I.J``: block 0 is the stem, J counts convolution, BatchNorm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Sequential(*_convolution(3, 32, 3, 2))]
        channels = 32
        for out, stride in _MOBILENET_BLOCKS:
            depthwise = _convolution(channels, channels, 3, stride, groups=channels)
            layers.append(nn.Sequential(*depthwise, *_convolution(channels, out, 1, 1)))
            channels = out
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).mean(dim=(2, 3))


def _convolution(channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


class CifarResNet(nn.Module):
    """The ResNet with 6n + 2 layers (He et al., CVPR 2016, section 4.2): images (N, 3, 32, 32) to features (N, 64); ``blocks``
    is n.

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


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 without squeeze-and-excitation and with ReLU6: images (N, 3, H, W) to features (N, 1280), averaged over
    positions. Attribute names follow the keys of the public weight file."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = _batch_norm(32)
        blocks = []
        channels = 32
        for repeats, kernel, first_stride, expansion, out in _LITE_STAGES:
            for repeat in range(repeats):
                blocks.append(_InvertedResidual(channels, out, kernel, first_stride if repeat == 0 else 1, expansion))
                channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = _batch_norm(1280)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        x = F.relu6(self._bn1(self._conv_head(self._blocks(x))))
        return x.mean(dim=(2, 3))


class _InvertedResidual(nn.Module):
    """Expand by a 1×1 convolution unless ``expansion`` is 1, filter each channel, project back; add the input if shapes match."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expands = expansion != 1
        self.adds = stride == 1 and channels == out
        if self.expands:
            self._expand_conv = nn.Conv2d(channels, inner, 1, bias=False)
            self._bn0 = _batch_norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride=stride, groups=inner, bias=False)
        self._bn1 = _batch_norm(inner)
        self._project_conv = nn.Conv2d(inner, out, 1, bias=False)
        self._bn2 = _batch_norm(out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, as in training: an odd pixel goes to the right and bottom."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(input.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        if height % 2 == 0 and width % 2 == 0:
            return F.conv2d(input, self.weight, self.bias, self.stride, (height // 2, width // 2), 1, self.groups)
        padded = F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(padded)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
