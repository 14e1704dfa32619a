"""RigL: sparse from the start with fixed layer densities; from time to time, the smallest weights make way for those pruned
weights whose gradients are largest.

Source: Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", ICML 2020, section 3, algorithm 1.
"""

from pathlib import Path

import torch
from torch import Tensor

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.masks import Mask
from sparse_core.sparsify import schedules, targets
from sparse_core.sparsify.training import Pruner, SparseTraining, Sparsified, run
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report


class RiggingPruner(Pruner):
    """Starts with random masks of the target's layer densities, drawn from the seed, and rewires them in update steps."""

    training: SparseTraining

    def __init__(self, training: SparseTraining) -> None:
        super().__init__(training)
        self.updates = schedules.rigl_updates(training.steps, training.spec.updates)
        generator = torch.Generator().manual_seed(training.seed)
        weights = masks.prunable(training.network.body)
        training.prune_to(
            training.spec.sparsity,
            {name: torch.rand(weight.shape, generator=generator).to(weight.device) for name, weight in weights.items()},
        )

    def update(self, step: int) -> None:
        """A step of SGD, or an update of the mask in its place (algorithm 1)."""
        if not self.updates.are_due(step):
            super().update(step)
            return
        body, momenta = self.training.network.body, self.training.optimizer.state
        kept = dict(self.training.mask.tensors)
        for name, before in kept.items():
            parameter = body.get_parameter(name)
            if bool(before.all()) or parameter.grad is None:
                continue
            kept[name] = rewired(before, parameter.detach(), parameter.grad, self.updates.dropped(step))
            grown = kept[name] & ~before
            parameter.data[grown] = 0.0
            momentum = momenta.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                momentum[grown] = 0.0
        self.training.set_mask(Mask(kept))


def rewired(kept: Tensor, weight: Tensor, gradient: Tensor, share: float) -> Tensor:
    """A layer's new mask, of as many weights: ``share`` (0..1) of them, those smallest in absolute value, are dropped; as many
    of all that are then missing grow, those with the largest gradients. Ties as in ``masks.keep_highest``. All have one shape.

    A weight that is dropped and grown in one update stays as it is, as in the authors' code.
    """
    moved = round(share * int(kept.sum()))
    magnitudes = weight.abs().masked_fill(~kept, targets.PRUNED).flatten()
    stayed = masks.keep_highest(magnitudes, int((~kept).sum()) + moved)
    gradients = gradient.abs().flatten().masked_fill(stayed, targets.PRUNED)
    grown = masks.keep_highest(gradients, len(gradients) - moved)
    return (stayed | grown).view_as(kept)


def sparsify(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Train new weights under a mask with ERK's layer densities (``spec.distribution`` uniform: the same in each layer).

    The mask is updated every 100 steps, or more often in short trainings, up to 75 % of the training; 30 % of a layer's weights
    are replaced at first, falling to none along a cosine (section 4 and its defaults). ``RigL ERK 5x`` trains five times as long.
    """
    return run(backbone, dataset, spec, seed, RiggingPruner, on_progress=on_progress, checkpoint=checkpoint)
