"""The pair of networks that a measurement of speed compares: a sparse one and its dense counterpart."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError
from sparse_core.networks import architectures, backbones, masks
from sparse_core.networks.backbones import Backbone
from sparse_core.specs.speedup import SpeedupSpec

MIN_SPARSITY = 0.005  # dense networks have a few zeros, too


@dataclass(frozen=True)
class Pair:
    """A sparse network and its dense counterpart, both in evaluation mode, with the fields that describe them in a record.

    The dense one has the same layers with random weights: an engine's time depends on zeros, not on values.
    """

    dense: nn.Module
    sparse: nn.Module
    transform: Transform
    description: dict[str, Any]


def prepare(home: Path, spec: SpeedupSpec) -> Pair:
    """The networks that a spec asks for: a backbone and its dense counterpart, or random weights with and without a mask.

    Raises InputError for unknown names and for a backbone that is dense.
    """
    return _from_backbone(home, spec.backbone) if spec.backbone else _random_weights(home, spec)


def _from_backbone(home: Path, name: str) -> Pair:
    backbone = _sparse_backbone(home, name)
    torch.manual_seed(0)
    card = backbone.card
    return Pair(
        architectures.build(card.architecture, backbone.variant).eval(),
        backbone.module,
        backbone.transform,
        {
            "timing_only": False,
            "backbone": name,
            "backbone_hash": backbone.hash,
            "architecture": card.architecture,
            "method": card.method,
            "sparsity": card.sparsity,
            "distribution": "",
            "measured_sparsity": backbone.sparsity,
        },
    )


def _random_weights(home: Path, spec: SpeedupSpec) -> Pair:
    architecture, variant = architectures.split_name(spec.architecture)
    torch.manual_seed(0)
    dense = architectures.build(architecture, variant).eval()
    sparse = copy.deepcopy(dense)
    masks.apply(sparse, _timing_mask(home, sparse, spec))
    measured = masks.sparsity(sparse).total
    return Pair(
        dense,
        sparse,
        architectures.ARCHITECTURES[architecture].variants[architectures.resolve_variant(architecture, variant)],
        {
            "timing_only": True,
            "backbone": "",
            "backbone_hash": "",
            "architecture": architecture,
            "method": "",
            "sparsity": spec.sparsity or round(measured, 4),
            "distribution": f"as in {spec.densities_of}" if spec.densities_of else spec.distribution,
            "measured_sparsity": measured,
        },
    )


def _timing_mask(home: Path, module: nn.Module, spec: SpeedupSpec) -> masks.Mask:
    if not spec.densities_of:
        return masks.top_k(module, spec.sparsity, spec.distribution, dense_first=True)
    layers = masks.sparsity(_sparse_backbone(home, spec.densities_of).mask).layers
    return masks.with_densities(module, {name: 1 - layer for name, layer in layers.items()})


def _sparse_backbone(home: Path, name: str) -> Backbone:
    backbone = backbones.load_cached(home, name)
    if backbone.sparsity < MIN_SPARSITY:
        raise InputError(
            f"{name} is dense, with {backbone.sparsity:.1%} of its weights 0, so there is nothing to gain. Name a sparse one."
        )
    return backbone
