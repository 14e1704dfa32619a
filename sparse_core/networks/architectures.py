"""The registry of architectures. Backbones take images (N, 3, H, W) and return features (N, D), without a classifier.

``ARCHITECTURES`` holds those of the paper and a few more, with the names that their files use; ``find`` also knows every CNN
among the classification networks of torchvision and timm (``public_networks``). ResNet18/34/50 are torchvision's own. ``build``
gives random weights; ``checkpoints`` and ``backbones`` load real ones. ``DETECTORS`` are apart: their bodies return a list of
feature maps (``yolo``).
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import known_networks, public_networks, yolo
from sparse_core.networks.definitions import CifarResNet, EfficientNetLite0, MobileNetV1
from sparse_core.networks.masks import Mask
from sparse_core.networks.preprocessing import DEFAULTS
from sparse_core.networks.public_networks import WithoutMemory


@dataclass(frozen=True)
class Architecture:
    """A network definition: ``dimensions`` D of its features, its variants with their image transforms (the first is the
    default), ``make``, which builds the network of a variant, and ``classifier``, the name of the layer that was left out. Of a
    detector, ``dimensions`` are the channels of all feature maps, and ``classifier`` holds a prediction layer for each of
    them."""

    dimensions: int
    variants: dict[str, Transform]
    make: Callable[[str], nn.Module]
    classifier: str = "fc"

    @property
    def transform(self) -> Transform:
        """The image transform of the default variant."""
        return next(iter(self.variants.values()))


def find(architecture: str) -> Architecture:
    """The architecture of this name. Raises InputError on an unknown one, and on a network that is no CNN."""
    return OWN[architecture] if architecture in OWN else _public(architecture)


def is_known(architecture: str) -> bool:
    """Whether ``find`` knows the architecture, be it a CNN or not."""
    return architecture in OWN or architecture in known_networks.names()


@functools.cache
def _public(name: str) -> Architecture:
    """A network of torchvision or timm, measured on the meta device."""
    try:
        public_networks.require(name)
    except InputError:
        raise unknown_name("architecture", name, {*OWN, *known_networks.near(name)}) from None
    with WithoutMemory():
        module = public_networks.make(name)
    public_networks.require_convolutional(name, module)
    transform = public_networks.usual_transform(name)
    layers = public_networks.classifier_layers(name)
    return Architecture(
        public_networks.dimensions(module, transform.crop),
        {"": transform},
        lambda _: public_networks.make(name),
        layers[-1] if layers else "",
    )


def transform(architecture: str, variant: str = "") -> Transform:
    """How images are prepared for the architecture unless its weights need something else."""
    return find(architecture).variants[resolve_variant(architecture, variant)]


def build(architecture: str, variant: str = "") -> nn.Module:
    """The network with random weights: (N, 3, H, W) to (N, D), with D as its attribute ``dimensions``. ``variant`` ""
    is the default one. Raises InputError on an unknown architecture or variant."""
    known = find(architecture)
    module = known.make(resolve_variant(architecture, variant))
    module.dimensions = known.dimensions  # type: ignore[assignment]
    return module


@functools.lru_cache(maxsize=100)
def features_of(architecture: str, variant: str, side: int) -> int:
    """The number of features for images of ``side`` pixels, found without computing any. Raises what the network raises where it
    does not take them."""
    with WithoutMemory():
        module = build(architecture, variant)
    return public_networks.dimensions(module, side)


@functools.cache
def shapes_of(architecture: str, variant: str) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of an architecture's state dict."""
    with WithoutMemory():
        module = build(architecture, variant)
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def assemble(architecture: str, variant: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The network that uses the tensors of the state dict ``state`` itself, without copies."""
    with WithoutMemory():
        module = build(architecture, variant)
    module.load_state_dict(state, assign=True)
    return module


def content_hash(architecture: str, variant: str, module: nn.Module, mask: Mask, transform: Transform) -> str:
    """SHA-256 of everything that determines a backbone's features and training: transform, architecture and variant where the
    weights do not tell, weights, and the zero weights kept by ``mask``."""
    variants = find(architecture).variants
    variant = resolve_variant(architecture, variant)
    digest = hashlib.sha256(repr(transform).encode())
    if architecture not in OWN:  # networks of one naming may differ in padding or activations
        digest.update(architecture.encode())
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
    variants = find(architecture).variants
    if not variant:
        return next(iter(variants))
    if variant not in variants:
        raise unknown_name(f"variant of {architecture}", variant, variants)
    return variant


def split_name(name: str) -> tuple[str, str]:
    """Architecture and variant of a name such as ``resnet50`` (variant ""), ``resnet50-tensorflow`` or ``timm/resnet50d``."""
    architecture, _, variant = name.partition("-")
    find(architecture)
    return architecture, resolve_variant(architecture, variant) if variant else ""


def _torchvision(name: str, variant: str) -> nn.Module:
    """torchvision's network without its classifier; "tensorflow" pads max pooling on the right and bottom only, "cifar" has a
    3 × 3 stem of stride 1 and no max pooling, "cifar_maxpool" the same stem and max pooling."""
    module = public_networks.torchvision_models().get_model(name, weights=None)
    module.fc = nn.Identity()
    if variant.startswith("cifar"):
        module.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    if variant == "cifar":
        module.maxpool = nn.Identity()
    if variant == "tensorflow":
        # After a ReLU, padding with zeros does not change any maximum.
        module.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, stride=2))
    return module


_NETWORKS: dict[str, tuple[int, Callable[[str], nn.Module], str]] = {
    "resnet18": (512, partial(_torchvision, "resnet18"), "fc"),
    "resnet34": (512, partial(_torchvision, "resnet34"), "fc"),
    "resnet50": (2048, partial(_torchvision, "resnet50"), "fc"),
    "mobilenet_v1": (1024, lambda _: MobileNetV1(), "fc"),
    **{f"resnet{depth}": (64, partial(CifarResNet, (depth - 2) // 6), "linear") for depth in (20, 32, 44, 56)},
    "efficientnet_lite0": (1280, lambda _: EfficientNetLite0(), "_fc"),
}
ARCHITECTURES = {
    name: Architecture(width, DEFAULTS[name], make, classifier) for name, (width, make, classifier) in _NETWORKS.items()
}

DETECTORS = {
    name: Architecture(sum(yolo.WIDTHS[name]), DEFAULTS[name], make, f"model.{yolo.LAYERS[name]}")
    for name, make in yolo.BODIES.items()
}
OWN = ARCHITECTURES | DETECTORS
