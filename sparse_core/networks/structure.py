"""The structure of a pruned network: zeros, pruned and removable filters and channels, and what removing them saves.

A filter or input channel is *pruned* if all its weights are 0. It is *dead* ("removable" in the user interface) if
removing it does not change what the network computes; ``networks.channels`` gives the rules. A pruned filter can be
alive (its BatchNorm's bias feeds a padded convolution), and a filter that is not pruned can be dead (nothing uses it).

``structure_analysis`` analyses networks. Results are stored as JSON under ``structure/`` in the user's home, by the
backbone's hash, next to the mask; those of the zoo come with the product. Reading them needs no torch.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sparse_core import paths, stored
from sparse_core.networks import packed_masks
from sparse_core.networks.library import BackboneCard, file_stamp
from sparse_core.paths import write_text

NAME_LENGTH = 200  # bytes; file systems allow 255
KEPT = 1024  # structures in memory
FILE_SIZE_FORMULA = (
    "32 bits per parameter and BatchNorm statistic; in the sparse file, convolutions take 1 bit per weight for the mask "
    "and 32 bits per nonzero weight, or the dense size if smaller"
)


@dataclass(frozen=True)
class Layer:
    """One convolution.

    ``shape`` (filters, channels / groups, height, width) and ``sparsity`` (0..1) are those of the weight; ``filters`` and
    ``channels`` count outputs and inputs; ``output`` is (height, width). ``multiply_adds`` are per image, without the
    bias; ``multiply_adds_sparse`` count nonzero weights only. ``parameters`` and ``nonzero`` include the bias, if any.
    ``parameters_removable`` and ``multiply_adds_removable`` belong to dead filters and channels.
    """

    name: str
    shape: tuple[int, ...]
    groups: int
    sparsity: float
    filters: int
    filters_pruned: int
    filters_dead: int
    channels: int
    channels_pruned: int
    channels_dead: int
    output: tuple[int, int]
    parameters: int
    nonzero: int
    multiply_adds: int
    multiply_adds_sparse: int
    parameters_removable: int
    multiply_adds_removable: int


@dataclass(frozen=True)
class Structure:
    """A network's convolutions in the order of computation, and totals over the whole network for one image.

    ``sparsity`` (0..1) is that of the convolution weights. ``parameters`` includes BatchNorm and biases. ``bytes_dense``
    and ``bytes_sparse`` follow ``FILE_SIZE_FORMULA``. Shares are in [0, 1], over all filters; only
    ``mean_layer_filters_pruned_share`` averages the layers' shares (table 4 of the paper). ``parameters_removable`` and
    ``multiply_adds_removable`` are what removing everything dead saves, BatchNorm's parameters included. ``hash`` is the
    backbone's, "" for other networks.
    """

    input_size: int
    layers: tuple[Layer, ...]
    sparsity: float
    parameters: int
    nonzero: int
    multiply_adds: int
    multiply_adds_sparse: int
    bytes_dense: int
    bytes_sparse: int
    filters_pruned_share: float
    mean_layer_filters_pruned_share: float
    filters_dead_share: float
    parameters_removable: int
    multiply_adds_removable: int
    hash: str = ""


def store(home: Path, structure: Structure) -> None:
    """Store the structure of a backbone under its ``hash``."""
    write_text(_folder(home) / f"{structure.hash}.json", json.dumps(dataclasses.asdict(structure)))


def store_card(home: Path, card: BackboneCard, backbone_hash: str) -> None:
    """Store which backbone hash ``card`` refers to."""
    write_text(_card_file(home, card), json.dumps({"hash": backbone_hash, "card": _plain(home, card)}))


def filters_pruned_shares(layers: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The share of pruned filters in [0, 1], of all filters together and as the mean of the layers' shares (the paper's
    table 4). ``layers`` are the number of pruned filters and of all filters of each convolution."""
    total = sum(pruned for pruned, _ in layers) / sum(filters for _, filters in layers)
    return total, sum(pruned / filters for pruned, filters in layers) / len(layers)


def recall(home: Path, backbone_hash: str) -> Structure | None:
    """The structure of a backbone, stored here or shipped; None if it or its mask is missing or unreadable."""
    for root in (home, paths.SHIPPED):
        file = _folder(root) / f"{backbone_hash}.json"
        with stored.reading(file):
            found = _read(file, file.stat().st_mtime_ns)
            packed_masks.load_packed(mask_file(root, backbone_hash))
            return found
    return None


def recall_card(home: Path, card: BackboneCard) -> Structure | None:
    """The stored structure of a card's backbone; None if the card or its local file has changed. Nobody changes the zoo's."""
    if card.kind == "zoo":
        return recall(home, card.hash)
    document = stored.read_json(_card_file(home, card), {"hash": str, "card": dict})
    if not document or {**document["card"], "note": card.note} != _plain(home, card):  # a note is only for reading
        return None
    return recall(home, document["hash"])


def load_mask(home: Path, backbone_hash: str) -> tuple[dict[str, np.ndarray], packed_masks.Shapes]:
    """The packed mask of a backbone whose structure ``recall`` found, as ``packed_masks.load_packed`` gives it."""
    stored_here = mask_file(home, backbone_hash)
    return packed_masks.load_packed(stored_here if stored_here.is_file() else mask_file(paths.SHIPPED, backbone_hash))


def mask_file(home: Path, backbone_hash: str) -> Path:
    """The bit-packed mask file next to a stored structure. The mask may keep weights that are 0."""
    return _folder(home) / f"{backbone_hash}.safetensors"


def from_document(document: dict[str, Any]) -> Structure:
    """The inverse of ``dataclasses.asdict``, after JSON. Raises InputError for another document."""
    return stored.made(Structure, document)


@functools.lru_cache(maxsize=KEPT)
def _read(file: Path, changed_at: int) -> Structure:
    """The structure in a file that was changed at this time."""
    return from_document(json.loads(file.read_bytes()))


def image(kept: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask (filters, …) as an image of at most ``height`` × ``width``: the share of kept weights per cell, in [0, 1].
    Rows are groups of filters and columns groups of a filter's weights; group sizes differ by one at most."""
    table = kept.reshape(len(kept), -1)
    rows, columns = (_edges(size, limit) for size, limit in zip(table.shape, (height, width), strict=True))
    sums = np.add.reduceat(np.add.reduceat(table, rows[:-1], axis=0, dtype=np.int64), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))


def _edges(size: int, limit: int) -> np.ndarray:
    return np.linspace(0, size, min(size, limit) + 1).round().astype(int)


def _plain(home: Path, card: BackboneCard) -> dict[str, Any]:
    """The card with the stamp of its local file, as JSON returns it."""
    return json.loads(json.dumps({**dataclasses.asdict(card), "file": file_stamp(home, card.name)}))


def _card_file(home: Path, card: BackboneCard) -> Path:
    name = quote(os.fsencode(card.name), safe="")
    if len(name) > NAME_LENGTH:  # the path of a file, which may be longer than a file's name
        name = hashlib.sha256(name.encode()).hexdigest()
    return _folder(home) / "cards" / f"{name}.json"


def _folder(home: Path) -> Path:
    return home / "structure"
