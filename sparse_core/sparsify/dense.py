"""Dense: new weights, trained without pruning. The baseline of every sparse network (paper, section 2)."""

from pathlib import Path

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify.training import Pruner, Sparsified, run
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report


def sparsify(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Train the backbone's architecture from new weights. Defaults: SGD, momentum 0.9, weight decay 1e-4, batch 128, learning
    rate 0.1 as He et al. (CVPR 2016, section 4.2) train ResNets on CIFAR-10; the cosine schedule and 30 epochs are ours."""
    return run(backbone, dataset, spec, seed, Pruner, on_progress=on_progress, checkpoint=checkpoint)
