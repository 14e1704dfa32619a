"""GMP: gradual magnitude pruning. The smallest weights are pruned in steps on a cubic schedule, with training in between.

Source: Zhu & Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017,
section 3, equation 1 (arXiv 1710.01878); Gale et al., "The State of Sparsity in Deep Neural Networks", 2019.
"""

from pathlib import Path

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify import schedules, targets
from sparse_core.sparsify.training import PrunedTraining, Pruner, Sparsified, run
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report


class GradualPruner(Pruner):
    """Prunes by ``scores`` before the steps of the cubic schedule. What is pruned stays pruned."""

    def __init__(self, training: PrunedTraining) -> None:
        super().__init__(training)
        spec = training.spec
        self.sparsities = schedules.pruning_steps(training.steps, spec.pruning_steps, spec.sparsity)
        targets.highest(
            targets.magnitudes(training.body), spec.sparsity, spec.layers, spec.prune_first
        )  # can be reached

    def before_step(self, step: int) -> None:
        if step in self.sparsities:
            self.prune(step, self.sparsities[step])

    def prune(self, step: int, sparsity: float) -> None:
        """Prune to this sparsity by magnitude."""
        body, mask = self.training.body, self.training.mask
        self.training.prune_to(sparsity, targets.magnitudes(body, mask))


def sparsify(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Prune the backbone's dense weights in ``spec.pruning_steps`` steps, from 5 % at the start to the target after 40 % of the
    training, then train on. Magnitudes are compared over the whole network by default, or in each layer with the same density
    (uniform) or ERK's (``spec.distribution``)."""
    return run(backbone, dataset, spec, seed, GradualPruner, on_progress=on_progress, checkpoint=checkpoint)
