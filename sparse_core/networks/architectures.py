"""Network architectures as backbones: images (N, 3, H, W) float in, features (N, D) before the classifier out.

ResNet18/34/50 are torchvision's own. Every network is built with random weights; ``checkpoints`` and ``backbones`` fill them.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from sparse_core.datasets.transforms import CIFAR, IMAGENET, IMAGENET_BICUBIC, LITE, Transform
from sparse_core.errors import unknown_name
from sparse_core.networks.masks import Mask

# Repeats, kernel, stride, expansion, output channels of each stage (Tan & Le, EfficientNet, ICML 2019, table 1, B0).
_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# Output channels and stride of each depthwise separable block (Howard et al., MobileNets, 2017, table 1).
_MOBILENET_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


@dataclass(frozen=True)
class Architecture:
    """A kind of network: ``dimensions`` D of its features, and for each variant how its images are prepared.

    The first variant is the default. ``make`` builds the network of a variant.
    """

    dimensions: int
    variants: dict[str, Transform]
    make: Callable[[str], nn.Module]

    @property
    def transform(self) -> Transform:
        """How the default variant's images are prepared."""
        return next(iter(self.variants.values()))


def build(architecture: str, variant: str = "") -> nn.Module:
    """The network, with random weights: (N, 3, H, W) to (N, D), D as its attribute ``dimensions``.

    ``variant`` "" is the default one. Raises InputError on an unknown architecture or variant.
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", architecture, ARCHITECTURES)
    known = ARCHITECTURES[architecture]
    module = known.make(resolve_variant(architecture, variant))
    module.dimensions = known.dimensions  # type: ignore[assignment]
    return module


def assemble(architecture: str, variant: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The network with ``state``'s tensors as its own, none copied; ``state`` names all of them and nothing else."""
    with torch.device("meta"):
        module = build(architecture, variant)
    module.load_state_dict(state, assign=True)
    return module


def content_hash(architecture: str, variant: str, module: nn.Module, mask: Mask) -> str:
    """A hash of all that decides a backbone's features and how it trains: transform, variant, weights, and what ``mask``
    keeps beyond the weights that are not 0."""
    variants = ARCHITECTURES[architecture].variants
    variant = resolve_variant(architecture, variant)
    digest = hashlib.sha256(repr(variants[variant]).encode())
    if variant != next(iter(variants)):
        digest.update(variant.encode())
    weights = dict(module.named_parameters())
    for key, tensor in module.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().data)
    for name, kept in mask.tensors.items():
        grown = kept & (weights[name] == 0)
        if bool(grown.any()):
            digest.update(name.encode() + np.packbits(grown.numpy()).tobytes())
    return digest.hexdigest()


def resolve_variant(architecture: str, variant: str) -> str:
    """The variant as the architecture names it, the default one for "". Raises InputError on one it does not have."""
    variants = ARCHITECTURES[architecture].variants
    if not variant:
        return next(iter(variants))
    if variant not in variants:
        raise unknown_name(f"variant of {architecture}", variant, variants)
    return variant


def split_name(name: str) -> tuple[str, str]:
    """Architecture and variant behind ``resnet50``, ``resnet50-tensorflow`` or ``resnet20-A``; variant "" where unsaid."""
    architecture, _, variant = name.partition("-")
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return architecture, resolve_variant(architecture, variant) if variant else ""


class CifarResNet(nn.Module):
    """The ResNet of 6n + 2 layers for 32 × 32 images (He et al., CVPR 2016, section 4.2): to features (N, 64).

    ``blocks`` is n. Where a block halves the image, shortcut "A" subsamples and fills up channels with zeros, "B" is a
    1 × 1 convolution.
    """

    def __init__(self, blocks: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _cifar_layer(16, 16, blocks, 1, shortcut)
        self.layer2 = _cifar_layer(16, 32, blocks, 2, shortcut)
        self.layer3 = _cifar_layer(32, 64, blocks, 2, shortcut)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.mean(dim=(2, 3))


class _CifarBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 and shortcut == "A":
            self.shortcut = _ZeroPaddedShortcut(out - channels)
        elif stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class _ZeroPaddedShortcut(nn.Module):
    """Every second pixel, with ``added`` channels of zeros, half of them before and half after: (N, C, H, W) to
    (N, C + added, H/2, W/2)."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))


def _cifar_layer(channels: int, out: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    return nn.Sequential(
        _CifarBlock(channels, out, stride, shortcut), *(_CifarBlock(out, out, 1, shortcut) for _ in range(blocks - 1))
    )


class MobileNetV1(nn.Module):
    """MobileNetV1 at full width (Howard et al., 2017, table 1): to features (N, 1024), pooled by mean.

    Names are ``model.I.J``: block 0 is the stem, J counts convolution, BatchNorm and ReLU.
    """

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


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 without squeeze-and-excitation and with ReLU6: (N, 3, H, W) float to features (N, 1280).

    Attribute names are those of the public weight file, so that its keys fit as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = _batch_norm(32)
        blocks = []
        channels = 32
        for repeats, kernel, first_stride, expansion, out in _LITE0_STAGES:
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
    """Expand by a 1×1 convolution (unless ``expansion`` is 1), filter each channel, project back; add where shapes allow."""

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
    """A convolution padded as TensorFlow's SAME, for which the weights were trained: an odd rest goes right and bottom."""

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


def _torchvision(name: str, variant: str) -> nn.Module:
    """torchvision's network without its classifier; "tensorflow" pads max pooling on the right and bottom only."""
    module = getattr(torchvision.models, name)(weights=None)
    module.fc = nn.Identity()
    if variant == "tensorflow":
        # after a ReLU, padding with zeros is padding with what never wins
        module.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, stride=2))
    return module


def _cifar(depth: int) -> Architecture:
    return Architecture(64, {"A": CIFAR, "B": CIFAR}, lambda variant: CifarResNet((depth - 2) // 6, variant))


ARCHITECTURES = {
    "resnet18": Architecture(512, {"": IMAGENET}, lambda variant: _torchvision("resnet18", variant)),
    "resnet34": Architecture(512, {"": IMAGENET}, lambda variant: _torchvision("resnet34", variant)),
    "resnet50": Architecture(
        2048, {"": IMAGENET, "tensorflow": IMAGENET_BICUBIC}, lambda variant: _torchvision("resnet50", variant)
    ),
    "mobilenet_v1": Architecture(1024, {"": IMAGENET}, lambda _: MobileNetV1()),
    "resnet20": _cifar(20),
    "resnet32": _cifar(32),
    "resnet44": _cifar(44),
    "resnet56": _cifar(56),
    "efficientnet_lite0": Architecture(1280, {"": LITE}, lambda _: EfficientNetLite0()),
}
