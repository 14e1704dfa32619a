"""Pruning by the inverse of the empirical Fisher matrix, which WoodFisher and M-FAC approximate in their own ways.

Optimal Brain Surgeon (Hassibi & Stork, 1992): to prune weight w_q raises the loss by ρ_q = w_q² / (2 [F⁻¹]_qq) and asks for
the change δ = −w_q F⁻¹ e_q / [F⁻¹]_qq of all weights. The weights with the lowest ρ go together; their changes are summed,
then masked.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from sparse_core.networks import masks
from sparse_core.sparsify import gradients, targets
from sparse_core.sparsify.gmp import GradualPruner
from sparse_core.sparsify.training import SparseTraining


class InverseFisher(Protocol):
    """The inverse of F = λI + (1/N) Σ g gᵀ over N gradients g of d weights, or an approximation of it."""

    def diagonal(self) -> Tensor:
        """[F⁻¹]_qq of each weight, (d,)."""

    def times(self, vector: Tensor) -> Tensor:
        """F⁻¹ · vector, (d,)."""


class SecondOrderPruner(GradualPruner):
    """GMP's schedule, with the saliency ρ in place of magnitudes, and the update of the remaining weights."""

    training: SparseTraining

    def __init__(self, training: SparseTraining, *, invert: Callable[[Tensor], InverseFisher]) -> None:
        super().__init__(training)
        self.invert = invert
        spec = training.spec
        names = list(training.mask.tensors)
        self.names = names if spec.prune_first else names[1:]
        weights = sum(weight.numel() for weight in masks.prunable(training.network.body).values())
        self.size = gradients.images_per_gradient(spec.gradient_batch, weights)
        gradients.draw_rows(training.dataset, spec.gradients, self.size, [0])  # there are enough images

    def prune(self, step: int, sparsity: float) -> None:
        training, spec = self.training, self.training.spec
        body, before = training.network.body, training.mask
        parameters = [body.get_parameter(name) for name in self.names]
        kept = torch.cat([before.tensors[name].flatten() for name in self.names])
        rows = gradients.draw_rows(training.dataset, spec.gradients, self.size, [training.seed, step])
        inverse = self.invert(
            gradients.collect(training.network, parameters, kept, training.dataset, training.transform, rows, self.size)
        )
        weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
        diagonal = inverse.diagonal()
        saliency = torch.full_like(weights, targets.PRUNED)
        saliency[kept] = weights[kept].square() / (2 * diagonal)
        mask = targets.highest(self._by_name(saliency, before), sparsity, spec.layers, spec.prune_first)
        after = torch.cat([mask.tensors[name].flatten() for name in self.names])
        weights[kept] -= inverse.times(torch.where(after[kept], 0.0, weights[kept] / diagonal))
        for parameter, part in zip(parameters, weights.split([each.numel() for each in parameters]), strict=True):
            parameter.data.copy_(part.view(parameter.shape))
        training.set_mask(mask)

    def _by_name(self, flat: Tensor, before: masks.Mask) -> dict[str, Tensor]:
        """The scores of each layer; the first layer, where it stays dense, has scores that nothing looks at."""
        shapes = {name: kept.shape for name, kept in before.tensors.items()}
        parts = flat.split([before.tensors[name].numel() for name in self.names])
        scores = {name: part.view(shapes[name]) for name, part in zip(self.names, parts, strict=True)}
        return {name: scores.get(name, flat.new_zeros(shape)) for name, shape in shapes.items()}


def pruner(invert: Callable[[Tensor], InverseFisher]) -> Callable[[SparseTraining], SecondOrderPruner]:
    """A second-order pruner for ``training.run``."""
    return partial(SecondOrderPruner, invert=invert)
