"""The spec of a speed measurement."""

from dataclasses import dataclass

from sparse_core.catalog import MAX_SIDE, MIN_SIDE
from sparse_core.errors import InputError
from sparse_core.specs.checks import require, require_known
from sparse_core.specs.locations import absolute_backbone, absolute_dataset
from sparse_core.specs.options import option

TIMING_DISTRIBUTIONS = ("uniform", "erk")  # random weights have no magnitudes to rank globally
SPEEDUP_MODES = ("inference", "training")


@dataclass(frozen=True)
class SpeedupSpec:
    """How fast a sparse backbone runs, compared with the dense one of its architecture.

    Either ``backbone`` names one, or ``architecture`` asks for random weights (timing only) under a mask with ``sparsity``
    and ``distribution``, or with the layer densities of the backbone that ``densities_of`` names. No engines means every
    one available; ``threads`` 0 means all cores; ``image_size`` 0 means the network's own. ``mode`` training needs a ``dataset``.
    """

    backbone: str = option("", "a sparse backbone; or give an architecture and a sparsity", convert=absolute_backbone)
    architecture: str = option("", "such as resnet50, with random weights (timing only)")
    sparsity: float = option(0.0, "of the mask for timing, in (0, 1)")
    distribution: str = option("uniform", "of that sparsity over the layers", choices=TIMING_DISTRIBUTIONS)
    densities_of: str = option("", "or give the mask the layer densities of this backbone", convert=absolute_backbone)
    engines: tuple[str, ...] = option(
        (), "such as deepsparse,onnxruntime,torch; default: all available", metavar="ENGINE"
    )
    batch_sizes: tuple[int, ...] = option((1, 64), "such as 1,64", metavar="SIZE")
    threads: int = option(0, "0: all cores")
    image_size: int = option(0, "pixels of each side of the input, such as 416 or 640; default: the network's own")
    mode: str = option("inference", "training is online linear training", choices=SPEEDUP_MODES)
    dataset: str = option("", "for the mode training", convert=absolute_dataset)
    rounds: int = option(10, "paired measurements of dense and sparse, at least 3")
    epochs: int = option(1, "of the mode training")

    def __post_init__(self) -> None:
        require_known("distribution", self.distribution, TIMING_DISTRIBUTIONS)
        require_known("mode", self.mode, SPEEDUP_MODES)
        if bool(self.backbone) == bool(self.architecture):
            raise InputError("Expected either a backbone or an architecture with a sparsity; got both or neither.")
        if self.backbone and self.densities_of:
            raise InputError("The backbone itself is measured; densities of another one need an architecture instead.")
        if self.architecture and not self.densities_of:
            require(0 < self.sparsity < 1, "sparsity", "in (0, 1)", self.sparsity)
        for size in self.batch_sizes:
            require(size >= 1, "batch size", "at least 1", size)
        within = self.image_size == 0 or MIN_SIDE <= self.image_size <= MAX_SIDE
        require(within, "image_size", f"from {MIN_SIDE} to {MAX_SIDE} pixels, or 0", self.image_size)
        require(bool(self.batch_sizes), "batch sizes", "one or more", "none")
        require(self.rounds >= 3, "rounds", "at least 3", self.rounds)
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        if self.mode == "training" and self.image_size:
            raise InputError("Online training takes images of the network's own size. Leave the image size out.")
        if self.mode == "training" and not self.dataset:
            raise InputError("Online training needs a dataset; got none. Name one, or choose the mode inference.")
