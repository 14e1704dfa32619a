"""Specs of the two transfers: a linear probe on frozen features, and full finetuning under a fixed mask, of networks that
classify images or, on images with boxes, of detectors."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, TypeVar

from sparse_core.catalog import COARSEST, ENGINES, MAX_SIDE, MIN_SIDE, PRECISIONS
from sparse_core.specs.checks import require, require_known
from sparse_core.specs.locations import absolute_backbone, absolute_dataset
from sparse_core.specs.options import option
from sparse_core.specs.training import FULL_LEARNING_RATE, OPTIMIZERS, Hyperparameters, Sgd, full_learning_rate

FEATURE_ENGINES = ("auto", *ENGINES)
TASK = "detection"  # in a run's record, beside its transfer
FROM_SCRATCH = "from scratch with the mask"  # in a protocol
WARM_UP_EPOCHS = 3  # at most a third of the training
AVERAGE = 0.9999  # decay of the moving average of the weights


@dataclass(frozen=True)
class _Transfer:
    """What both transfers have. ``backbone`` and ``dataset`` are what the user named; the two hashes are filled in when the
    names are resolved, so that a run's identity follows content and not names. ``replicate`` above 0 is a rerun. ``image_size``
    is the side of the network's input in pixels, 0 for the backbone's own, such as the paper's 224."""

    backbone: str = option(help="a name that 'backbones' lists, or ARCHITECTURE:FILE", convert=absolute_backbone)
    dataset: str = option(help="a name that 'datasets' lists, a folder or a Parquet file", convert=absolute_dataset)
    backbone_hash: str = ""
    dataset_hash: str = ""
    settings: Hyperparameters = field(default_factory=Hyperparameters)
    replicate: int = 0
    image_size: int = option(
        0,
        f"pixels of each side of the network's input, {MIN_SIDE} to {MAX_SIDE}; default: the backbone's own, such as 224",
        metavar="PIXELS",
    )

    def __post_init__(self) -> None:
        within = self.image_size == 0 or MIN_SIDE <= self.image_size <= MAX_SIDE
        require(within, "image_size", f"whole pixels from {MIN_SIDE} to {MAX_SIDE}", self.image_size)

    def as_run(self, own_size: int) -> Self:
        """The spec as its runs have it: without an image size that is the backbone's own, in pixels."""
        return replace(self, image_size=0) if self.image_size == own_size else self


@dataclass(frozen=True)
class ProbeSpec(_Transfer):
    """A linear probe of one backbone on one dataset.

    ``sweep_lr`` lists learning rates to choose from on a validation split of the training data; empty means
    ``settings.learning_rate`` is used as it is. It is kept sorted and without repeats, since neither changes a result.
    ``engine`` computes the features; "auto" is the fastest one that is exact enough.
    """

    transfer: ClassVar[str] = "linear"
    usual_seeds: ClassVar[int] = 5

    sweep_lr: tuple[float, ...] = option((), "learning-rate sweep: the best of these on validation data", metavar="LR")
    precision: str = option("fp32", "of the features", choices=PRECISIONS)
    engine: str = option("auto", "of the features; auto: the fastest that is exact enough", choices=FEATURE_ENGINES)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("precision", self.precision, PRECISIONS)
        require_known("engine", self.engine, FEATURE_ENGINES)
        for rate in self.sweep_lr:
            require(0 < rate < math.inf, "Each learning rate of the sweep", "finite and above 0", rate)
        object.__setattr__(self, "sweep_lr", tuple(sorted(set(self.sweep_lr))))

    @staticmethod
    def usual_settings(dataset: str) -> Hyperparameters:
        """The paper's settings for this dataset."""
        return Hyperparameters()


@dataclass(frozen=True)
class FinetuneSpec(_Transfer):
    """Full transfer of one backbone to one dataset under a fixed mask.

    ``from_scratch`` draws new weights and keeps the mask; ``freeze_batch_norm`` keeps the upstream running statistics and
    parameters; ``label_smoothing`` in [0, 1); ``augment`` means random resized crops and flips. ``precision`` is that of
    training: "auto" is bf16 where the processor computes it natively, else fp32.
    """

    transfer: ClassVar[str] = "full"
    usual_seeds: ClassVar[int] = 1

    settings: Hyperparameters = field(default_factory=lambda: Hyperparameters(learning_rate=FULL_LEARNING_RATE))
    optimizer: str = option("sgd", "sgd is the paper's", choices=tuple(OPTIMIZERS))
    from_scratch: bool = option(False, "random init, same mask")
    freeze_batch_norm: bool = option(False, "keep the upstream BatchNorm statistics and parameters")
    label_smoothing: float = option(0.0, "in [0, 1)")
    augment: bool = option(True, "train on whole images, without crops and flips", flag="--no-augmentation")
    precision: str = option("auto", "of training; auto is bf16 where it is native", choices=("auto", *PRECISIONS))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("precision", self.precision, ("auto", *PRECISIONS))
        require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)

    @staticmethod
    def usual_settings(dataset: str) -> Hyperparameters:
        """The paper's settings for this dataset."""
        return Hyperparameters(learning_rate=full_learning_rate(dataset))


@dataclass(frozen=True)
class DetectionSettings(Sgd):
    """SGD with a warm-up and a cosine schedule, as YOLOv5's release 6 has them; the number of epochs is ours."""

    epochs: int = option(50, "passes over the training data")
    learning_rate: float = option(0.01, "after the warm-up")
    momentum: float = option(0.937, "of SGD, in [0, 1)")
    weight_decay: float = option(5e-4, "L2 penalty of convolution weights")
    batch_size: int = option(16, "images a step")


@dataclass(frozen=True)
class DetectionSpec(_Transfer):
    """Full transfer of one detector to one dataset with boxes. ``precision`` and ``augment`` are as in ``FinetuneSpec``; here
    crops keep the boxes, and colours change too."""

    transfer: ClassVar[str] = "full"
    usual_seeds: ClassVar[int] = 1

    settings: DetectionSettings = field(default_factory=DetectionSettings)  # type: ignore[assignment]
    augment: bool = option(True, "train on whole images, without crops and flips", flag="--no-augmentation")
    precision: str = option("auto", "of training; auto is bf16 where it is native", choices=("auto", *PRECISIONS))

    def __post_init__(self) -> None:
        super().__post_init__()
        within = self.image_size % COARSEST == 0
        require(within, "image_size of a detector", f"a multiple of {COARSEST} pixels, such as 416", self.image_size)
        require_known("precision", self.precision, ("auto", *PRECISIONS))

    @staticmethod
    def usual_settings(dataset: str) -> DetectionSettings:
        """The usual settings, the same for every dataset."""
        return DetectionSettings()


TransferSpec = ProbeSpec | FinetuneSpec
AnyTransfer = TypeVar("AnyTransfer", bound=TransferSpec)
AnySized = TypeVar("AnySized", bound=_Transfer)


def protocol(spec: TransferSpec) -> str:
    """The training settings as text. Two runs can be compared as sparse and dense only where these texts agree."""
    settings = spec.settings
    optimizer = spec.optimizer if isinstance(spec, FinetuneSpec) else "sgd"
    rate = f"lr {exact(settings.learning_rate)}"
    if isinstance(spec, ProbeSpec) and spec.sweep_lr:
        rate = f"lr chosen from {', '.join(map(exact, spec.sweep_lr))}"
    parts = [
        f"{OPTIMIZERS[optimizer]} {rate} ×{exact(settings.step_factor)} every {settings.step_epochs} epochs",
        *([f"momentum {exact(settings.momentum)}"] if optimizer == "sgd" else []),
        f"weight decay {exact(settings.weight_decay)}",
        f"{settings.epochs} epochs",
        f"batch {settings.batch_size}",
        *([f"{spec.image_size} px images"] if spec.image_size else []),
        *([f"{spec.precision} features"] if isinstance(spec, ProbeSpec) else _training_options(spec)),
    ]
    return ", ".join(parts)


def detection_protocol(spec: DetectionSpec) -> str:
    """The training settings as text, as ``protocol`` gives them."""
    settings = spec.settings
    parts = [
        f"detection, SGD lr {exact(settings.learning_rate)} with warm-up and cosine",
        f"momentum {exact(settings.momentum)}",
        f"weight decay {exact(settings.weight_decay)}",
        f"weights averaged with decay {AVERAGE}",
        f"{settings.epochs} epochs",
        f"batch {settings.batch_size}",
        *([f"{spec.image_size} px images"] if spec.image_size else []),
        "augmented" if spec.augment else "not augmented",
        f"{spec.precision} training",
    ]
    return ", ".join(parts)


def exact(value: float) -> str:
    """A number in six digits if they are exact, else in full: different numbers never read the same."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _training_options(spec: FinetuneSpec) -> list[str]:
    options = ["augmented" if spec.augment else "not augmented"]
    if spec.from_scratch:
        options.append(FROM_SCRATCH)
    if spec.freeze_batch_norm:
        options.append("BatchNorm frozen")
    if spec.label_smoothing:
        options.append(f"label smoothing {exact(spec.label_smoothing)}")
    return [*options, f"{spec.precision} training"]
