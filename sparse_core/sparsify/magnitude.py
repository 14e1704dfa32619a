"""Magnitude: the smallest weights are zeroed at once, without training; then BatchNorm's statistics are tuned.

Source: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015, section 3 (the criterion
only, without retraining). Tuning the statistics is NNCF's habit ("BatchNorm adaptation") and ours.
"""

from pathlib import Path

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify import batch_norm, targets
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import Pruner, SparseTraining, Sparsified
from sparse_core.specs.progress import Progress, Report
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
    """Zero the weights smallest in absolute value, of the whole network or of each layer (``spec.distribution``; global by
    default), and tune BatchNorm on up to 1,000 training images. ``details`` hold ``tuning_images``. There is nothing to resume.

    The accuracy is that of the backbone's own classifier; where it has none for this data it is near chance, as a note says.
    """
    on_progress(Progress("Pruning by magnitude"))
    training = SparseTraining(start(backbone, dataset, spec, seed), backbone, dataset, spec, seed, Pruner)
    training.prune_to(spec.sparsity, targets.magnitudes(training.network.body))
    on_progress(Progress("Tuning BatchNorm"))
    images = batch_norm.tune(training.network, dataset, backbone.transform)
    return training.finish_untrained({"tuning_images": images})
