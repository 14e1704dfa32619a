"""The registry of methods: a new one is its file and one line here. ``catalog.METHODS`` describes them."""

from pathlib import Path
from typing import Protocol

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify import (
    acdc,
    dense,
    gmp,
    lottery_ticket,
    magnitude,
    mfac,
    rigl,
    soft_threshold,
    structured,
    woodfisher,
)
from sparse_core.sparsify.training import Sparsified
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec


class Method(Protocol):
    """What every method is. ``backbone`` gives the architecture and, to methods that need them, dense weights; ``dataset`` holds
    the upstream data; ``spec.precision`` is fp32 or bf16, no longer "auto". ``checkpoint`` is a file for the state, from which
    a killed run is resumed to the same weights; the caller discards it once the result is on disk. Raises InputError."""

    def __call__(
        self,
        backbone: Backbone,
        dataset: Dataset,
        spec: SparsifySpec,
        seed: int,
        *,
        on_progress: Report = ...,
        checkpoint: Path | None = ...,
    ) -> Sparsified: ...


METHODS: dict[str, Method] = {
    "Dense": dense.sparsify,
    "Magnitude": magnitude.sparsify,
    "GMP": gmp.sparsify,
    "WoodFisher": woodfisher.sparsify,
    "M-FAC": mfac.sparsify,
    "STR": soft_threshold.sparsify,
    "AC/DC": acdc.sparsify,
    "RigL ERK 1x": rigl.sparsify,
    "RigL ERK 5x": rigl.sparsify,
    "Structured": structured.sparsify,
    "LTH-T": lottery_ticket.sparsify,
}
