"""The registry of architectures. Backbones take images (N, 3, H, W) and return features (N, D), without a classifier.

ResNet18/34/50 are torchvision's own. ``build`` gives random weights; ``checkpoints`` and ``backbones`` load real ones.
"""

import functools
import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from sparse_core.datasets.transforms import Transform
from sparse_core.errors import unknown_name
from sparse_core.networks.definitions import CifarResNet, EfficientNetLite0, MobileNetV1
from sparse_core.networks.masks import Mask
from sparse_core.networks.preprocessing import DEFAULTS


@dataclass(frozen=True)
class Architecture:
    """A network definition: ``dimensions`` D of its features, its variants with their image transforms (the first is the
    default), and ``make``, which builds the network of a variant."""

    dimensions: int
    variants: dict[str, Transform]
    make: Callable[[str], nn.Module]

    @property
    def transform(self) -> Transform:
        """The image transform of the default variant."""
        return next(iter(self.variants.values()))


def build(architecture: str, variant: str = "") -> nn.Module:
    """The network with random weights: (N, 3, H, W) to (N, D), with D as its attribute ``dimensions``. ``variant`` ""
    is the default one. Raises InputError on an unknown architecture or variant."""
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", architecture, ARCHITECTURES)
    known = ARCHITECTURES[architecture]
    module = known.make(resolve_variant(architecture, variant))
    module.dimensions = known.dimensions  # type: ignore[assignment]
    return module


@functools.lru_cache(maxsize=100)
def try_images(architecture: str, variant: str, side: int) -> None:
    """Run the network on images of ``side`` pixels without values; raises what it raises where it does not take them."""
    with torch.device("meta"):
        build(architecture, variant).eval()(torch.empty(2, 3, side, side))


def assemble(architecture: str, variant: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The network that uses the tensors of the state dict ``state`` itself, without copies."""
    with torch.device("meta"):
        module = build(architecture, variant)
    module.load_state_dict(state, assign=True)
    return module


def content_hash(architecture: str, variant: str, module: nn.Module, mask: Mask, transform: Transform) -> str:
    """SHA-256 of everything that determines a backbone's features and training: transform, variant, weights, and the zero
    weights kept by ``mask``."""
    variants = ARCHITECTURES[architecture].variants
    variant = resolve_variant(architecture, variant)
    digest = hashlib.sha256(repr(transform).encode())
    if variant != next(iter(variants)):
        digest.update(variant.encode())
    weights = dict(module.named_parameters())
    for key, tensor in module.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().data)
    for name, kept in mask.tensors.items():
        kept_zeros = kept & (weights[name] == 0)
        if bool(kept_zeros.any()):
            digest.update(name.encode() + np.packbits(kept_zeros.numpy()).tobytes())
    return digest.hexdigest()


def resolve_variant(architecture: str, variant: str) -> str:
    """The variant, or the default one for "". Raises InputError if the architecture lacks it."""
    variants = ARCHITECTURES[architecture].variants
    if not variant:
        return next(iter(variants))
    if variant not in variants:
        raise unknown_name(f"variant of {architecture}", variant, variants)
    return variant


def split_name(name: str) -> tuple[str, str]:
    """Architecture and variant of a name such as ``resnet50`` (variant ""), ``resnet50-tensorflow`` or ``resnet20-A``."""
    architecture, _, variant = name.partition("-")
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return architecture, resolve_variant(architecture, variant) if variant else ""


@functools.cache
def torchvision_models() -> ModuleType:
    """torchvision's networks, imported when they are first needed: with torch._dynamo, that takes as long as torch itself."""
    with torch.device("cpu"):  # the caller may build for another device
        return importlib.import_module("torchvision.models")


def _torchvision(name: str, variant: str) -> nn.Module:
    """torchvision's network without its classifier; "tensorflow" pads max pooling on the right and bottom only, "cifar" has a
    3 × 3 stem of stride 1 and no max pooling, "cifar_maxpool" the same stem and max pooling."""
    module = torchvision_models().get_model(name, weights=None)
    module.fc = nn.Identity()
    if variant.startswith("cifar"):
        module.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    if variant == "cifar":
        module.maxpool = nn.Identity()
    if variant == "tensorflow":
        # After a ReLU, padding with zeros does not change any maximum.
        module.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, stride=2))
    return module


_NETWORKS: dict[str, tuple[int, Callable[[str], nn.Module]]] = {
    "resnet18": (512, partial(_torchvision, "resnet18")),
    "resnet34": (512, partial(_torchvision, "resnet34")),
    "resnet50": (2048, partial(_torchvision, "resnet50")),
    "mobilenet_v1": (1024, lambda _: MobileNetV1()),
    **{f"resnet{depth}": (64, partial(CifarResNet, (depth - 2) // 6)) for depth in (20, 32, 44, 56)},
    "efficientnet_lite0": (1280, lambda _: EfficientNetLite0()),
}
ARCHITECTURES = {name: Architecture(width, DEFAULTS[name], make) for name, (width, make) in _NETWORKS.items()}
