"""Analyse the structure of networks; ``structure`` describes and stores the result."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparse_core.errors import InputError
from sparse_core.networks import backbones, channels, masks, structure
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.channels import Channels
from sparse_core.networks.structure import Layer, Structure
from sparse_core.specs.checkpoints import StructureSpec
from sparse_core.specs.progress import Progress, Report


def run_structure(home: Path, spec: StructureSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """The structure of a backbone as a JSON document."""
    report(Progress(f"Opening {spec.backbone}"))
    return dataclasses.asdict(analyse_cached(home, backbones.load_cached(home, spec.backbone)))


def analyse_cached(home: Path, backbone: Backbone) -> Structure:
    """The structure of a loaded backbone: the stored one, else analysed and stored with its mask. For images of another size than
    its own (``backbones.for_images``) it is analysed anew."""
    side = backbone.transform.crop
    if side != backbone.card.preprocessing.crop:
        return dataclasses.replace(analyse(backbone.module, side), hash=backbone.hash)
    known = structure.recall(home, backbone.hash)
    if known is None:
        known = dataclasses.replace(analyse(backbone.module, side), hash=backbone.hash)
        masks.save(backbone.mask, structure.mask_file(home, backbone.hash))
        structure.store(home, known)
    structure.store_card(home, backbone.card, backbone.hash)
    return known


def analyse(module: nn.Module, input_size: int) -> Structure:
    """The structure of a network that takes images (N, 3, ``input_size``, ``input_size``), in evaluation mode. Raises
    InputError if the network has no convolution or its forward pass cannot be traced."""
    analysis = channels.analyse(module, input_size)
    convolutions = [entry for entry in analysis.layers if isinstance(entry.layer, nn.Conv2d)]
    everything = [_layer(entry) for entry in analysis.layers]  # linear layers count in the totals
    layers = tuple(layer for layer in everything if len(layer.shape) == 4)
    if not layers:
        raise InputError("The network has no convolution, so its structure cannot be analysed.")
    parameters_of = {name: len(list(module.get_submodule(name).parameters())) for name in analysis.norms_dead}
    norms = [parameters_of[name] * int(dead.sum()) for name, dead in analysis.norms_dead.items()]
    shares = structure.filters_pruned_shares([(layer.filters_pruned, layer.filters) for layer in layers])
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
        multiply_adds=sum(layer.multiply_adds for layer in everything),
        multiply_adds_sparse=sum(layer.multiply_adds_sparse for layer in everything),
        bytes_dense=dense,
        bytes_sparse=dense - saved,
        filters_pruned_share=shares[0],
        mean_layer_filters_pruned_share=shares[1],
        filters_dead_share=sum(layer.filters_dead for layer in layers) / sum(layer.filters for layer in layers),
        parameters_removable=sum(norms) + sum(layer.parameters_removable for layer in everything),
        multiply_adds_removable=sum(layer.multiply_adds_removable for layer in everything),
    )


def _layer(entry: Channels) -> Layer:
    weight, bias = entry.layer.weight, entry.layer.bias
    positions = math.prod(entry.output)
    size, nonzero, live = weight.numel(), entry.nonzero, entry.live_weights
    dead_biases = 0 if bias is None else int(entry.filters_dead.sum())
    return Layer(
        name=entry.name,
        shape=tuple(weight.shape),
        groups=getattr(entry.layer, "groups", 1),
        sparsity=1 - nonzero / size,
        **channels.count_pruned(entry.used),
        filters_dead=int(entry.filters_dead.sum()),
        channels_dead=int(entry.channels_dead.sum()),
        output=entry.output,
        parameters=size + (0 if bias is None else bias.numel()),
        nonzero=nonzero + (0 if bias is None else _nonzero(bias)),
        multiply_adds=size * positions,
        multiply_adds_sparse=nonzero * positions,
        parameters_removable=size - live + dead_biases,
        multiply_adds_removable=(size - live) * positions,
    )


def _nonzero(tensor: Tensor) -> int:
    return int(tensor.count_nonzero())
