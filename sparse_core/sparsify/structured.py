"""Structured: whole filters are removed, those with the smallest L1 norm, then the rest is trained on.

Source: Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3 (norm, filters
inside residual blocks) and 3.3 (one-shot pruning, then retraining).
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sparse_core.datasets.dataset import Dataset
from sparse_core.errors import InputError
from sparse_core.networks import channel_groups, masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.channel_groups import Group
from sparse_core.networks.masks import Mask
from sparse_core.sparsify.training import Pruner, SparseTraining, Sparsified, run
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report

CANDIDATES = 1000  # shares of filters that are tried


class FilterPruner(Pruner):
    """Zeroes filters before the first step: the filter itself, its BatchNorm, and the weights that read its channel."""

    training: SparseTraining

    def __init__(self, training: SparseTraining) -> None:
        super().__init__(training)
        self.groups = channel_groups.find(training.network.body)
        if not self.groups:
            raise InputError(
                "Structured pruning removes filters whose channels no residual sum uses; this network has none. Use another "
                "method."
            )
        self.kept = choose(training.network.body, self.groups, training.spec.sparsity, training.spec.layers)
        self.mask = structured_mask(training.network.body, self.groups, self.kept)

    def before_step(self, step: int) -> None:
        if step == 0:
            silence(self.training.network.body, self.groups, self.kept)
            self.training.set_mask(self.mask)

    def details(self) -> dict[str, int]:
        flags = self.kept.values()
        return {"filters_removed": sum(int((~kept).sum()) for kept in flags), "filters_removable": sum(map(len, flags))}


def choose(body: nn.Module, groups: list[Group], sparsity: float, distribution: str) -> dict[str, np.ndarray]:
    """The filters to keep (C,) of each group by its producer, so that the share of zeros over all convolution weights is as near
    ``sparsity`` as whole filters allow. Those with the smallest L1 norm go, ties by lowest index: the same share of each group
    (uniform), or those with the smallest mean absolute weight of all (global). Every group keeps a filter.

    Raises InputError where the target is out of reach.
    """
    layers = dict(body.named_modules())
    norms = {group.producer: _norms(layers[group.producer]) for group in groups}
    shares = np.arange(CANDIDATES + 1) / CANDIDATES
    if distribution == "global":
        pooled = np.sort(np.concatenate(list(norms.values())))
        limits = pooled[np.minimum((shares * len(pooled)).astype(int), len(pooled) - 1)]
        removed = [{name: int((norm < limit).sum()) for name, norm in norms.items()} for limit in limits]
    elif distribution == "uniform":
        removed = [{name: round(share * len(norm)) for name, norm in norms.items()} for share in shares]
    else:
        raise InputError(
            "Structured pruning distributes filters uniformly or globally; ERK's densities are for single weights."
        )
    removed = [{name: min(count, len(norms[name]) - 1) for name, count in counts.items()} for counts in removed]
    reached = [_sparsity(body, groups, counts) for counts in removed]
    best = int(np.argmin(np.abs(np.array(reached) - sparsity)))
    if sparsity > max(reached) + 0.01:
        raise InputError(
            f"A structured sparsity of {sparsity:g} cannot be reached: it is at most {max(reached):.3g} here, as the filters "
            "that feed residual sums stay."
        )
    kept = {}
    for name, norm in norms.items():
        kept[name] = np.ones(len(norm), dtype=bool)
        kept[name][np.argsort(norm, kind="stable")[: removed[best][name]]] = False
    return kept


def structured_mask(body: nn.Module, groups: list[Group], kept: dict[str, np.ndarray]) -> Mask:
    """The mask that prunes the filters which ``kept`` does not keep, and all weights that read their channels."""
    tensors = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in masks.prunable(body).items()}
    for group in groups:
        flags = torch.from_numpy(kept[group.producer])
        for name in (group.producer, *group.depthwise):
            tensors[f"{name}.weight"][~flags] = False
        for name in group.consumers:
            tensors[f"{name}.weight"][:, ~flags] = False
    return Mask(tensors)


def silence(body: nn.Module, groups: list[Group], kept: dict[str, np.ndarray]) -> None:
    """Zero the BatchNorms of removed filters, in place, so that their channels are 0; under the mask they stay so in training."""
    layers = dict(body.named_modules())
    for group in groups:
        removed = torch.from_numpy(~kept[group.producer])
        for name in group.norms:
            layers[name].weight.data[removed] = 0.0
            layers[name].bias.data[removed] = 0.0
        for name in (group.producer, *group.depthwise):
            bias = layers[name].bias
            if isinstance(bias, torch.Tensor):
                bias.data[removed] = 0.0


def _parameter(layer: nn.Module, name: str) -> torch.Tensor:
    return layer.get_parameter(name).detach()


def _norms(layer: nn.Module) -> np.ndarray:
    """The mean absolute weight of each filter: its L1 norm over the number of its weights."""
    return _parameter(layer, "weight").abs().flatten(1).mean(1).cpu().numpy()


def _sparsity(body: nn.Module, groups: list[Group], removed: dict[str, int]) -> float:
    """The share of zeros over all convolution weights once so many filters of each group are removed."""
    outputs = {name: removed[group.producer] for group in groups for name in (group.producer, *group.depthwise)}
    inputs = {name: removed[group.producer] for group in groups for name in group.consumers}
    total = left = 0
    for name, weight in masks.prunable(body).items():
        filters, channels, *kernel = weight.shape
        layer = name.removesuffix(".weight")
        total += weight.numel()
        left += (filters - outputs.get(layer, 0)) * (channels - inputs.get(layer, 0)) * math.prod(kernel)
    return 1 - left / total


def sparsify(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Remove filters of the backbone's dense weights at once, then train the rest; the network keeps its shape (masked form), and
    ``channel_groups.compact_form`` makes the smaller one. Only filters inside blocks go: of a residual sum's channels none can
    go alone.

    The sparsity is relative to the parent: the share of its convolution weights that are gone, those that read a removed channel
    included. It is the nearest that whole filters allow. ``details`` hold ``filters_removed`` and ``filters_removable``.
    """
    return run(backbone, dataset, spec, seed, FilterPruner, on_progress=on_progress, checkpoint=checkpoint)
