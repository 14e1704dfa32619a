"""LTH-T: a lottery ticket for transfer. The mask of a progressive pruning is put on the *original* dense weights.

Source: Chen et al., "The Lottery Tickets Hypothesis for Supervised and Self-supervised Pre-training in Computer Vision
Models", CVPR 2021; as used in the study (Iofinova et al., CVPR 2022, section 2).
"""

import dataclasses
from pathlib import Path

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify import gmp
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import Pruner, SparseTraining, Sparsified
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
    """Prune with GMP, as ``gmp`` does with the same options, keep its mask only, and put it on the backbone's own weights;
    these and BatchNorm are otherwise unchanged. ``details`` hold GMP's accuracy as ``pruned_accuracy``; its epochs, curves and
    seconds are those of the result, but the last epoch's accuracy and ``upstream_accuracy`` are the ticket's, which may be
    near chance."""
    pruned = gmp.sparsify(backbone, dataset, spec, seed, on_progress=on_progress, checkpoint=checkpoint)
    training = SparseTraining(start(backbone, dataset, spec, seed), backbone, dataset, spec, seed, Pruner)
    training.set_mask(pruned.mask)
    ticket = training.finish_untrained({})
    curves = {name: [*values[:-1], *ticket.curves[name]] for name, values in pruned.curves.items()}
    seconds = pruned.details["seconds"] + ticket.details["seconds"]
    details = {
        **pruned.details,
        "upstream_accuracy": ticket.details["upstream_accuracy"],
        "pruned_accuracy": pruned.details["upstream_accuracy"],
        "seconds": seconds,
    }
    return dataclasses.replace(ticket, curves=curves, seconds=[*pruned.seconds, *ticket.seconds], details=details)
