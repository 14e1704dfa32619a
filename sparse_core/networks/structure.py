"""What pruning left of a network: what each convolution holds, which of its filters and channels could go, what that saves.

A filter is *pruned* when all its weights are 0, an input channel when no filter has a weight for it. A filter or channel is
*dead* when it can be removed and the network computes the same as before: see ``networks.channels`` for when that is so
and for how a constant left by a BatchNorm's bias counts. A filter that is pruned but gives such a constant to a padded
convolution is not dead; one that is not pruned but that nothing depends on is.

Results are kept as JSON under ``structure/`` in the user's home, by the backbone's hash, with its mask beside; reading
them costs no torch import.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sparse_core.errors import InputError
from sparse_core.networks import backbones
from sparse_core.networks.cards import file_stamp
from sparse_core.paths import write_text
from sparse_core.specs.checkpoints import StructureSpec
from sparse_core.specs.progress import Progress, Report

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


def analyse(module: Any, input_size: int) -> Structure:
    """The structure of a network that takes images (N, 3, ``input_size``, ``input_size``), in evaluation mode.

    Raises InputError where the network has no convolution or its forward pass cannot be followed.
    """
    from torch import nn

    from sparse_core.networks import channels

    analysis = channels.analyse(module, input_size)
    convolutions = [entry for entry in analysis.layers if isinstance(entry.layer, nn.Conv2d)]
    layers = tuple(_layer(entry) for entry in convolutions)
    if not layers:
        raise InputError("The network has no convolution, so it has no structure to show.")
    linear = [_layer(entry) for entry in analysis.layers if isinstance(entry.layer, nn.Linear)]
    norms = [module.get_submodule(name).affine * 2 * int(dead.sum()) for name, dead in analysis.norms_dead.items()]
    filters = sum(layer.filters for layer in layers)
    weights = [(entry.layer.weight.numel(), entry.nonzero) for entry in convolutions]
    parameters = list(module.parameters())
    counted = [entry.layer.weight for entry in analysis.layers]
    others = [parameter for parameter in parameters if all(parameter is not weight for weight in counted)]
    statistics = sum(buffer.numel() for buffer in module.buffers() if buffer.is_floating_point())
    dense = 4 * (sum(parameter.numel() for parameter in parameters) + statistics)
    saved = sum(4 * size - min(4 * size, -(-size // 8) + 4 * nonzero) for size, nonzero in weights)
    return Structure(
        input_size=input_size,
        layers=layers,
        sparsity=1 - sum(nonzero for _, nonzero in weights) / sum(size for size, _ in weights),
        parameters=sum(parameter.numel() for parameter in parameters),
        nonzero=sum(entry.nonzero for entry in analysis.layers) + sum(_nonzero(parameter) for parameter in others),
        multiply_adds=sum(layer.multiply_adds for layer in (*layers, *linear)),
        multiply_adds_sparse=sum(layer.multiply_adds_sparse for layer in (*layers, *linear)),
        bytes_dense=dense,
        bytes_sparse=dense - saved,
        filters_pruned_share=sum(layer.filters_pruned for layer in layers) / filters,
        mean_layer_filters_pruned_share=sum(layer.filters_pruned / layer.filters for layer in layers) / len(layers),
        filters_dead_share=sum(layer.filters_dead for layer in layers) / filters,
        parameters_removable=sum(norms) + sum(layer.parameters_removable for layer in (*layers, *linear)),
        multiply_adds_removable=sum(layer.multiply_adds_removable for layer in (*layers, *linear)),
    )


def run_structure(home: Path, spec: StructureSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """The structure of a backbone, as JSON can hold it."""
    report(Progress(f"Opening {spec.backbone}"))
    return dataclasses.asdict(of(home, backbones.load_cached(home, spec.backbone)))


def of(home: Path, backbone: Any) -> Structure:
    """The structure of a loaded backbone, from the cache where it is there, else analysed and kept."""
    known = recall(home, backbone.hash)
    if known is None:
        from sparse_core.networks import masks

        known = dataclasses.replace(analyse(backbone.module, backbone.transform.crop), hash=backbone.hash)
        masks.save(backbone.mask, mask_file(home, backbone.hash))
        write_text(_folder(home) / f"{backbone.hash}.json", json.dumps(dataclasses.asdict(known)))
    write_text(
        _card_file(home, backbone.card), json.dumps({"hash": backbone.hash, "card": _plain(home, backbone.card)})
    )
    return known


def recall(home: Path, backbone_hash: str) -> Structure | None:
    """The structure kept for a backbone, with its mask beside; None where there is none that can be read."""
    document = _read(_folder(home) / f"{backbone_hash}.json")
    try:
        return from_document(document) if document and mask_file(home, backbone_hash).is_file() else None
    except (TypeError, LookupError):  # kept by a version with other fields
        return None


def recall_card(home: Path, card: Any) -> Structure | None:
    """The structure kept for the backbone that a card stands for; None where the card has changed since."""
    document = _read(_card_file(home, card))
    return recall(home, document["hash"]) if document and document["card"] == _plain(home, card) else None


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


def _layer(entry: Any) -> Layer:
    weight, bias = entry.layer.weight, entry.layer.bias
    used = entry.used
    places = math.prod(entry.output)
    size, nonzero, live = weight.numel(), entry.nonzero, entry.live_weights
    dead_biases = 0 if bias is None else int(entry.filters_dead.sum())
    return Layer(
        name=entry.name,
        shape=tuple(weight.shape),
        groups=getattr(entry.layer, "groups", 1),
        sparsity=1 - nonzero / size,
        filters=used.shape[0],
        filters_pruned=int((~used.any(axis=1)).sum()),
        filters_dead=int(entry.filters_dead.sum()),
        channels=used.shape[1],
        channels_pruned=int((~used.any(axis=0)).sum()),
        channels_dead=int(entry.channels_dead.sum()),
        output=entry.output,
        parameters=size + (0 if bias is None else bias.numel()),
        nonzero=nonzero + (0 if bias is None else _nonzero(bias)),
        multiply_adds=size * places,
        multiply_adds_sparse=nonzero * places,
        parameters_removable=size - live + dead_biases,
        multiply_adds_removable=(size - live) * places,
    )


def _nonzero(tensor: Any) -> int:
    return int(tensor.count_nonzero())


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _plain(home: Path, card: Any) -> dict[str, Any]:
    """The card, with what tells whether its local file is still the same, as it comes back from JSON."""
    return json.loads(json.dumps({**dataclasses.asdict(card), "file": file_stamp(home, card.name)}))


def _card_file(home: Path, card: Any) -> Path:
    return _folder(home) / "cards" / f"{quote(card.name, safe='')}.json"


def _folder(home: Path) -> Path:
    return home / "structure"
