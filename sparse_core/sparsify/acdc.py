"""AC/DC: training alternates between dense phases and compressed ones, in which only the largest weights are kept.

Source: Peste, Iofinova, Vladu, Alistarh, "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks", NeurIPS
2021, section 3, algorithm 1; phases as in its section 4.1 (ResNet50 on ImageNet), as shares of the training.
"""

from pathlib import Path

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify import schedules, targets
from sparse_core.sparsify.training import PrunedTraining, Pruner, Sparsified, run
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report


class AlternatingPruner(Pruner):
    """Prunes to the target at the start of each compressed phase, and releases all weights at its end."""

    def __init__(self, training: PrunedTraining) -> None:
        super().__init__(training)
        self.phases = schedules.compressed_phases(training.steps)

    def before_step(self, step: int) -> None:
        body = self.training.body
        if any(step == start for start, _ in self.phases):
            self.training.prune_to(self.training.spec.sparsity, targets.magnitudes(body))
        elif any(step == end for _, end in self.phases):
            self.training.set_mask(targets.dense_mask(body))
            self._reset_momentum()

    def _reset_momentum(self) -> None:
        """Gradients of pruned weights have piled up in their momentum; the authors reset it after each decompression."""
        for state in self.training.optimizer.state.values():
            if state.get("momentum_buffer") is not None:
                state["momentum_buffer"].zero_()


def sparsify(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Train new weights: dense for 10 % of the training, then by turns compressed and dense for 5 % each, dense from 75 to 85 %,
    compressed to the end. The mask keeps the largest weights of the whole network (``spec.distribution`` global, the paper's
    default). In the paper, the first convolution is pruned too: ``spec.prune_first``."""
    return run(backbone, dataset, spec, seed, AlternatingPruner, on_progress=on_progress, checkpoint=checkpoint)
