"""The spec of a sparsification: which method makes which sparse backbone, from what, on which upstream data."""

import math
import re
from dataclasses import dataclass
from typing import ClassVar

from sparse_core.catalog import DISTRIBUTIONS, METHODS, PRECISIONS
from sparse_core.errors import InputError, unknown_name
from sparse_core.specs.checks import require, require_known
from sparse_core.specs.options import option
from sparse_core.specs.transfer import DetectionSettings

RATE_SCHEDULES = ("cosine", "one-cycle", "step")
PROGRESSIVE = ("GMP", "WoodFisher", "M-FAC", "LTH-T")
SECOND_ORDER = ("WoodFisher", "M-FAC")
RIGL = ("RigL ERK 1x", "RigL ERK 5x")
FROM_NEW_WEIGHTS = ("Dense", "STR", "AC/DC", *RIGL)

# What detectors are trained with where nothing else is asked for, as ``DetectionSettings``.
DETECTOR_SETTINGS = {
    name: getattr(DetectionSettings(), name) for name in ("learning_rate", "momentum", "weight_decay", "batch_size")
}

DETECTOR_METHODS = ("Dense", "Magnitude", "GMP", "AC/DC")
_NOT_OF_DETECTORS = ("rate_schedule", "nesterov", "label_smoothing")  # their training has its own, or none

# The options that only some methods have.
_METHODS_OF_OPTION = {
    "distribution": ("Magnitude", "AC/DC", "Structured", *PROGRESSIVE, *RIGL),
    "prune_first": tuple(name for name in METHODS if name not in ("Dense", "Structured")),
    "pruning_steps": PROGRESSIVE,
    "updates": RIGL,
    "strength": ("STR",),
    "gradients": SECOND_ORDER,
    "gradient_batch": SECOND_ORDER,
    "damping": SECOND_ORDER,
    "block_size": ("WoodFisher",),
}
_OWN_LENGTH = {"RigL ERK 1x": 1.0, "RigL ERK 5x": 5.0}
_OWN_DISTRIBUTION = dict.fromkeys(RIGL, "erk") | {"Structured": "uniform"}


@dataclass(frozen=True)
class SparsifySpec:
    """A sparse backbone to be made by ``method`` from ``backbone``, trained on ``dataset`` (its upstream data).

    ``sparsity`` in [0, 1) is the share of zeros over all convolution weights of the backbone; the classifier is never pruned. For
    ``Structured`` it is relative to the parent's weights. ``length_factor`` multiplies ``epochs``; None is the method's own:
    5 for ``RigL ERK 5x``, else 1. ``learning_rate`` None is 0.1 for new weights and 0.02 for trained ones. ``distribution`` "" is
    the method's own. ``gradient_batch`` 0 is 1 image for networks of up to a million weights, else 16. Raises InputError for
    values out of range, options that the method does not have, and a length factor that contradicts the method.
    """

    usual_seeds: ClassVar[int] = 1

    method: str = option(help="such as GMP, AC/DC, 'RigL ERK 1x'; case and punctuation do not matter")
    backbone: str = option(
        help="a name that 'backbones' lists, or ARCHITECTURE:FILE; an architecture such as resnet20 for new weights"
    )
    dataset: str = option(
        "",
        "the upstream data: a name that 'datasets' lists, a folder or a Parquet file; Magnitude prunes a detector without",
    )
    sparsity: float = option(0.0, "target, in (0, 1); 0 for Dense")
    name: str = option("", "of the new backbone in the library; made from method and sparsity where not given")
    epochs: int = option(30, "passes over the upstream data, times the length factor")
    length_factor: float | None = option(
        None, "training length, such as 1, 3 or 5; the method's own by default", type=float
    )
    distribution: str = option(
        "", "of the sparsity over the layers; the method's own by default", choices=tuple(DISTRIBUTIONS)
    )
    prune_first: bool = option(False, "prune the first convolution, too")
    learning_rate: float | None = option(
        None, "highest; default 0.1 for new weights, 0.02 for trained ones", type=float
    )
    rate_schedule: str = option("cosine", "of the learning rate", choices=RATE_SCHEDULES)
    momentum: float = option(0.9, "of SGD, in [0, 1)")
    nesterov: bool = option(False, "use Nesterov momentum")
    weight_decay: float = option(1e-4, "L2 penalty")
    batch_size: int = option(128, "images a step")
    label_smoothing: float = option(0.0, "in [0, 1)")
    augment: bool = option(True, "train on whole images, without crops and flips", flag="--no-augmentation")
    precision: str = option("auto", "of training; auto is bf16 where it is native", choices=("auto", *PRECISIONS))
    pruning_steps: int = option(8, "of progressive methods")
    updates: int = option(0, "of RigL's mask; default: every 100 steps, at least 10 updates")
    strength: float | None = option(
        None, "weight decay of STR's thresholds; found by pilots where not given", type=float
    )
    gradients: int = option(64, "of the second-order methods")
    gradient_batch: int = option(0, "images a gradient of the second-order methods; default 1, or 16 in large networks")
    damping: float = option(1e-5, "of the second-order methods")
    block_size: int = option(50, "weights a block of WoodFisher's Fisher matrix")
    backbone_hash: str = ""
    dataset_hash: str = ""
    replicate: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", known_method(self.method))
        self._check_sparsity()
        self._check_training()
        self._check_options()
        own = _OWN_LENGTH.get(self.method)
        if own is not None and self.length_factor not in (None, own):
            raise InputError(
                f"{self.method} trains {own:g} times as long; a length factor of {self.length_factor:g} contradicts it."
            )

    @property
    def length(self) -> float:
        """The length factor, that of the method where none is given."""
        return self.length_factor or _OWN_LENGTH.get(self.method, 1.0)

    @property
    def total_epochs(self) -> int:
        """The epochs of the whole training, length factor included."""
        return math.ceil(self.epochs * self.length)

    @property
    def layers(self) -> str:
        """The distribution of the sparsity over the layers: the method's own where none is given."""
        return self.distribution or _OWN_DISTRIBUTION.get(self.method, "global")

    @property
    def label(self) -> str:
        """The method's name on the backbone's card: RigL's says the distribution of its sparsity and its length."""
        return self.method.replace("ERK", self.layers if self.layers != "erk" else "ERK")

    @property
    def has_new_weights(self) -> bool:
        """Whether training starts from new weights, drawn from the seed, and not from those of the backbone."""
        return self.method in FROM_NEW_WEIGHTS

    @property
    def peak_rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or (0.1 if self.has_new_weights else 0.02)

    def _check_sparsity(self) -> None:
        if self.method == "Dense":
            require(self.sparsity == 0, "sparsity", "0 for Dense", self.sparsity)
        else:
            require(0 < self.sparsity < 1, "sparsity", f"in (0, 1), such as 0.9, for {self.method}", self.sparsity)

    def _check_training(self) -> None:
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        for name in ("length_factor", "learning_rate", "strength"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, name, "finite and above 0", value)
        require_known("rate_schedule", self.rate_schedule, RATE_SCHEDULES)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        require(not self.nesterov or self.momentum > 0, "momentum", "above 0 with Nesterov", self.momentum)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite, 0 or more", self.weight_decay)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        require_known("precision", self.precision, ("auto", *PRECISIONS))

    def _check_options(self) -> None:
        for name, methods in _METHODS_OF_OPTION.items():
            given = getattr(self, name) != type(self).__dataclass_fields__[name].default
            if given and self.method not in methods:
                raise InputError(
                    f"{self.method} has no {name.replace('_', ' ')}; only {', '.join(methods)} have. Leave it out."
                )
        if self.distribution:
            require_known("distribution", self.distribution, DISTRIBUTIONS)
        require(self.pruning_steps >= 1, "pruning_steps", "at least 1", self.pruning_steps)
        require(self.updates == 0 or self.updates >= 10, "updates", "at least 10", self.updates)
        require(self.gradients >= 1, "gradients", "at least 1", self.gradients)
        require(self.gradient_batch >= 0, "gradient_batch", "0 or more", self.gradient_batch)
        require(0 < self.damping < math.inf, "damping", "finite and above 0", self.damping)
        require(self.block_size >= 1, "block_size", "at least 1", self.block_size)


def require_for_detector(spec: SparsifySpec) -> None:
    """Raise InputError for a method that prunes no detectors, and for options that their training does not have."""
    if spec.method not in DETECTOR_METHODS:
        raise InputError(f"{spec.method} does not prune detectors here; they take {', '.join(DETECTOR_METHODS)}.")
    for name in _NOT_OF_DETECTORS:
        if getattr(spec, name) != SparsifySpec.__dataclass_fields__[name].default:
            raise InputError(f"The training of a detector has no {name.replace('_', ' ')} to choose. Leave it out.")


def needs_data(spec: SparsifySpec, detector: bool) -> bool:
    """Whether the method takes upstream data; one-shot pruning of a ``detector`` can do without."""
    return not (detector and spec.method == "Magnitude")


def has_option(method: str, name: str) -> bool:
    """Whether the method takes the option; those of the training all methods take."""
    return method in _METHODS_OF_OPTION.get(name, METHODS)


def known_method(method: str) -> str:
    """The method in the catalog's spelling, ignoring case and punctuation ("acdc" is AC/DC). Raises InputError if unknown."""
    spelled = {_letters(name): name for name in METHODS}
    if _letters(method) not in spelled:
        raise unknown_name("method", method, METHODS)
    return spelled[_letters(method)]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
