"""The structure of a pruned network: zeros, filters and channels of each convolution, what can be removed, and what that saves.

A filter is *pruned* when all its weights are 0, an input channel when no filter has a weight for it. A filter or channel is
*dead* when it can be removed and the network computes the same as before: see ``networks.channels`` for when that is so
and for how a constant left by a BatchNorm's bias counts. A filter that is pruned but gives such a constant to a padded
convolution is not dead; one that is not pruned but that nothing depends on is.

``structure_analysis`` analyses networks. Results are stored as JSON under ``structure/`` in the user's home, by the
backbone's hash, with the mask beside them; reading them needs no torch.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sparse_core.networks.cards import BackboneCard, file_stamp
from sparse_core.paths import write_text

FILE_SIZE_FORMULA = (
    "32 bits for each parameter and each BatchNorm statistic; in the sparse file each convolution's weights take one bit "
    "each for the mask and 32 for each that is not 0, unless that is more"
)


@dataclass(frozen=True)
class Layer:
    """One convolution.

    ``shape`` is (filters, channels / groups, height, width) of its weight; ``sparsity`` 0..1 is that of its weight;
    ``filters`` and ``channels`` count outputs and inputs, with those that are pruned and those that are dead.
    ``multiply_adds`` are those of one image, ``multiply_adds_sparse`` of the weights that are not 0 alone, both without
    the bias; ``output`` is height and width of what it gives. ``parameters`` and ``nonzero`` include the bias, where there
    is one. ``parameters_removable`` and ``multiply_adds_removable`` go with its dead filters and channels.
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

    ``sparsity`` is that of the convolution weights. ``parameters`` are all that train, BatchNorm's and biases included;
    ``nonzero`` those that are not 0. ``bytes_dense`` and ``bytes_sparse`` follow ``FILE_SIZE_FORMULA``.
    ``filters_pruned_share`` is over all filters; ``mean_layer_filters_pruned_share`` averages the layers' shares (the
    study's table 4); ``filters_dead_share`` is over all filters. ``parameters_removable`` and ``multiply_adds_removable``
    is what physically removing everything dead would save of the dense numbers, BatchNorm's parameters included.
    ``hash`` is the backbone's, where it is one.
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
    """Keep the structure of a backbone, under its ``hash``."""
    write_text(_folder(home) / f"{structure.hash}.json", json.dumps(dataclasses.asdict(structure)))


def store_card(home: Path, card: BackboneCard, backbone_hash: str) -> None:
    """Keep which structure ``card`` stands for."""
    write_text(_card_file(home, card), json.dumps({"hash": backbone_hash, "card": _plain(home, card)}))


def filters_pruned_shares(layers: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The share of pruned filters in [0, 1], of all filters together and as the mean of the layers' shares (the paper's table 4).

    ``layers`` are the number of pruned filters and of all filters of each convolution.
    """
    total = sum(pruned for pruned, _ in layers) / sum(filters for _, filters in layers)
    return total, sum(pruned / filters for pruned, filters in layers) / len(layers)


def recall(home: Path, backbone_hash: str) -> Structure | None:
    """The structure kept for a backbone, with its mask beside; None where there is none that can be read."""
    document = _read(_folder(home) / f"{backbone_hash}.json")
    try:
        return from_document(document) if document and mask_file(home, backbone_hash).is_file() else None
    except (TypeError, LookupError):  # kept by a version with other fields
        return None


def recall_card(home: Path, card: BackboneCard) -> Structure | None:
    """The structure kept for the backbone that a card stands for; None where the card has changed since."""
    document = _read(_card_file(home, card))
    if not document or {**document["card"], "note": card.note} != _plain(home, card):  # a note is only for reading
        return None
    return recall(home, document["hash"])


def mask_file(home: Path, backbone_hash: str) -> Path:
    """Where the bit-packed mask of a backbone lies whose structure is kept: its own, which may keep weights that are 0."""
    return _folder(home) / f"{backbone_hash}.safetensors"


def from_document(document: dict[str, Any]) -> Structure:
    """The structure that ``dataclasses.asdict`` and JSON made plain."""
    layers = (
        Layer(**{**layer, "shape": tuple(layer["shape"]), "output": tuple(layer["output"])})
        for layer in document["layers"]
    )
    return Structure(**{**document, "layers": tuple(layers)})


def image(kept: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask (filters, …) as an image of at most ``height`` × ``width``: the share of kept weights in each of its cells.

    A row is one filter or several, a column one weight of a filter or several; cells differ in size by one at most.
    """
    table = kept.reshape(len(kept), -1)
    rows, columns = (_edges(size, limit) for size, limit in zip(table.shape, (height, width), strict=True))
    sums = np.add.reduceat(np.add.reduceat(table, rows[:-1], axis=0, dtype=np.int64), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))


def _edges(size: int, limit: int) -> np.ndarray:
    return np.linspace(0, size, min(size, limit) + 1).round().astype(int)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _plain(home: Path, card: BackboneCard) -> dict[str, Any]:
    """The card, with what tells whether its local file is still the same, as it comes back from JSON."""
    return json.loads(json.dumps({**dataclasses.asdict(card), "file": file_stamp(home, card.name)}))


def _card_file(home: Path, card: BackboneCard) -> Path:
    return _folder(home) / "cards" / f"{quote(card.name, safe='')}.json"


def _folder(home: Path) -> Path:
    return home / "structure"
