"""What a user asks for, as plain data that survives JSON both ways; a run's identity follows from it."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from sparse_core.errors import InputError, unknown_name

PRECISIONS = ("fp32", "bf16")
ENGINES = ("auto", "deepsparse", "onnxruntime", "torch")
OPTIMIZERS = ("sgd", "adamw")
DISTRIBUTIONS = ("uniform", "erk")
SPEEDUP_MODES = ("inference", "training")
FULL_LEARNING_RATE = 0.001
VALIDATION_SHARE = 0.2  # of the training data, held out while a learning rate is chosen
Report = Callable[[dict[str, Any]], None]  # how a job tells its progress; may raise Cancelled

FULL_LEARNING_RATES = {"aircraft": 0.01, "cars": 0.01}


@dataclass(frozen=True)
class Hyperparameters:
    """The study's protocol (section 3 and appendix): SGD with a step schedule. Defaults are those of linear transfer.

    ``learning_rate`` is multiplied by ``step_factor`` every ``step_epochs`` epochs.
    """

    epochs: int = 150
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    step_epochs: int = 50
    step_factor: float = 0.1

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        _require_rate("learning_rate", self.learning_rate)
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        _require(0 <= self.weight_decay < math.inf, "weight_decay", "finite, 0 or more", self.weight_decay)
        _require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        _require(self.step_epochs >= 1, "step_epochs", "at least 1", self.step_epochs)
        _require(0 < self.step_factor <= 1, "step_factor", "in (0, 1]", self.step_factor)


def full_learning_rate(dataset: str) -> float:
    """The study's learning rate of full transfer: 0.001, and 0.01 for Aircraft and Cars."""
    return FULL_LEARNING_RATES.get(dataset, FULL_LEARNING_RATE)


@dataclass(frozen=True)
class ProbeSpec:
    """A linear probe of one backbone on one dataset.

    ``backbone`` and ``dataset`` are what the user named; the two hashes are filled in when the names are resolved, so
    that a run's identity follows content and not names. ``sweep_lr`` lists learning rates to choose from on a
    validation split of the training data; empty means ``settings.learning_rate`` is used as it is. It is kept sorted and
    each rate once, for their order changes no result. ``engine`` computes the features; "auto" is the fastest one that is
    exact enough. ``replicate`` above 0 marks a deliberate rerun.
    """

    transfer: ClassVar[str] = "linear"

    backbone: str
    dataset: str
    backbone_hash: str = ""
    dataset_hash: str = ""
    settings: Hyperparameters = field(default_factory=Hyperparameters)
    sweep_lr: tuple[float, ...] = ()
    precision: str = "fp32"
    engine: str = "auto"
    replicate: int = 0

    def __post_init__(self) -> None:
        _require_known("precision", self.precision, PRECISIONS)
        _require_known("engine", self.engine, ENGINES)
        for rate in self.sweep_lr:
            _require_rate("Each learning rate to choose from", rate)
        object.__setattr__(self, "sweep_lr", tuple(sorted(set(self.sweep_lr))))


@dataclass(frozen=True)
class FinetuneSpec:
    """Full transfer of one backbone to one dataset under a fixed mask.

    ``from_scratch`` draws new weights and keeps the mask; ``freeze_batch_norm`` keeps the upstream running statistics and
    parameters; ``label_smoothing`` in [0, 1); ``augment`` means random resized crops and flips. ``precision`` is that of
    training: "auto" is bf16 where the processor computes it natively, else fp32.
    """

    transfer: ClassVar[str] = "full"

    backbone: str
    dataset: str
    backbone_hash: str = ""
    dataset_hash: str = ""
    settings: Hyperparameters = field(default_factory=lambda: Hyperparameters(learning_rate=FULL_LEARNING_RATE))
    optimizer: str = "sgd"
    from_scratch: bool = False
    freeze_batch_norm: bool = False
    label_smoothing: float = 0.0
    augment: bool = True
    precision: str = "auto"
    replicate: int = 0

    def __post_init__(self) -> None:
        _require_known("optimizer", self.optimizer, OPTIMIZERS)
        _require_known("precision", self.precision, ("auto", *PRECISIONS))
        _require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)


@dataclass(frozen=True)
class InspectSpec:
    """A look into a checkpoint file; ``architecture`` where the file does not tell it."""

    path: str
    architecture: str = ""


@dataclass(frozen=True)
class ImportSpec:
    """A checkpoint file to keep in the library under ``name``; what is empty is taken from the file."""

    path: str
    name: str
    architecture: str = ""
    method: str = ""
    sparsity: float | None = None
    upstream: str = ""
    origin: str = ""


@dataclass(frozen=True)
class StructureSpec:
    """The structure of one backbone, channel by channel."""

    backbone: str


@dataclass(frozen=True)
class ExportSpec:
    """The finetuned network of one run, as ONNX."""

    run_id: str


@dataclass(frozen=True)
class SpeedupSpec:
    """How fast a sparse backbone runs beside the dense one of its architecture.

    Either ``backbone`` names one, or ``architecture`` asks for a mask made for timing only: with ``sparsity`` and
    ``distribution``, or with the layer densities of the backbone that ``densities_of`` names. No engines means every one
    there is; ``threads`` 0 means all cores. ``mode`` training needs a ``dataset``.
    """

    backbone: str = ""
    architecture: str = ""
    sparsity: float = 0.0
    distribution: str = "uniform"
    densities_of: str = ""
    engines: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = (1, 64)
    threads: int = 0
    mode: str = "inference"
    dataset: str = ""
    rounds: int = 10
    epochs: int = 1

    def __post_init__(self) -> None:
        _require_known("distribution", self.distribution, DISTRIBUTIONS)
        _require_known("mode", self.mode, SPEEDUP_MODES)
        if bool(self.backbone) == bool(self.architecture):
            raise InputError("Expected either a backbone or an architecture with a sparsity; got both or neither.")
        if self.backbone and self.densities_of:
            raise InputError("The backbone itself is measured; densities of another one need an architecture instead.")
        if self.architecture and not self.densities_of:
            _require(0 < self.sparsity < 1, "sparsity", "in (0, 1)", self.sparsity)
        for size in self.batch_sizes:
            _require(size >= 1, "batch size", "at least 1", size)
        _require(bool(self.batch_sizes), "batch sizes", "one or more", "none")
        _require(self.rounds >= 3, "rounds", "at least 3", self.rounds)
        _require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        if self.mode == "training" and not self.dataset:
            raise InputError("Online training needs a dataset; got none. Name one, or choose the mode inference.")


TransferSpec = ProbeSpec | FinetuneSpec
AnyTransfer = TypeVar("AnyTransfer", bound=TransferSpec)

KINDS: dict[str, type] = {
    "probe": ProbeSpec,
    "estimate": ProbeSpec,
    "finetune": FinetuneSpec,
    "estimate_finetune": FinetuneSpec,
    "inspect": InspectSpec,
    "import": ImportSpec,
    "structure": StructureSpec,
    "export": ExportSpec,
    "speedup": SpeedupSpec,
}


@dataclass(frozen=True)
class Job:
    """What a user starts: the ``kind`` of work, its spec, and the seeds, each of which becomes a run where there are runs."""

    kind: str
    spec: Any
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _require_known("kind of job", self.kind, KINDS)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds takes one or more different whole numbers from 0; got {list(self.seeds)}.")


def to_json(value: Any) -> str:
    """A spec or a job as one line of JSON."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True)


def parse(kind: str, document: dict[str, Any]) -> Any:
    """The spec of this kind of job that ``to_json`` wrote; an unknown field is refused."""
    _require_known("kind of job", kind, KINDS)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    try:
        if "settings" in values:
            values["settings"] = Hyperparameters(**values["settings"])
        return KINDS[kind](**values)
    except TypeError as error:
        raise InputError(f"Not the spec of a {kind}: {error}.") from error


def job(document: dict[str, Any]) -> Job:
    """The job that ``to_json`` wrote."""
    return Job(document["kind"], parse(document["kind"], document["spec"]), tuple(document["seeds"]))


def recorded(document: dict[str, Any]) -> TransferSpec:
    """The spec within a run's record, which also holds its seed and its transfer."""
    kind = {"linear": "probe", "full": "finetune"}[document["transfer"]]
    return parse(kind, {name: value for name, value in document.items() if name not in ("seed", "transfer")})


def record_document(spec: TransferSpec, seed: int) -> dict[str, Any]:
    """What a run's record keeps of its spec: all of it, with the seed and the transfer."""
    return {**json.loads(to_json(spec)), "seed": seed, "transfer": spec.transfer}


def run_id(spec: TransferSpec, seed: int) -> str:
    """A run's name: readable, then a hash of the spec's non-default part and the seed.

    Only what differs from the defaults counts, so that an option added later never renames an old run; where the
    backbone and the dataset are resolved, their content counts and not the names they go by.
    """
    changed = _changed(dataclasses.asdict(spec), dataclasses.asdict(type(spec)(backbone="", dataset="")))
    if spec.backbone_hash:
        changed.pop("backbone", None)
    if spec.dataset_hash:
        changed.pop("dataset", None)
    changed.pop("engine", None)
    digest = hashlib.sha256(json.dumps({**changed, "seed": seed}, sort_keys=True).encode()).hexdigest()[:12]
    return f"{spec.transfer}-{seed}-{digest}"


def first_free_replicate(spec: AnyTransfer, seeds: Iterable[int], taken: set[str]) -> AnyTransfer:
    """The spec with the lowest replicate number under which none of the seeds has run; ``taken`` are run names."""
    seeds = tuple(seeds)
    numbers = itertools.count(spec.replicate)
    candidates = (dataclasses.replace(spec, replicate=number) for number in numbers)
    return next(free for free in candidates if not any(run_id(free, seed) in taken for seed in seeds))


def protocol(spec: TransferSpec) -> str:
    """The training settings in words. Two runs can be compared as sparse and dense only where these words agree."""
    settings = spec.settings
    rate = f"lr {exact(settings.learning_rate)}"
    if isinstance(spec, ProbeSpec) and spec.sweep_lr:
        rate = f"lr chosen from {', '.join(map(exact, spec.sweep_lr))}"
    momentum = f"momentum {exact(settings.momentum)}, " if _optimizer(spec) == "sgd" else ""
    words = (
        f"{'SGD' if _optimizer(spec) == 'sgd' else 'AdamW'} {rate} ×{exact(settings.step_factor)} every "
        f"{settings.step_epochs} epochs, {momentum}weight decay {exact(settings.weight_decay)}, {settings.epochs} epochs, "
        f"batch {settings.batch_size}, "
    )
    return words + (f"{spec.precision} features" if isinstance(spec, ProbeSpec) else _options(spec))


def exact(value: float) -> str:
    """A number in few digits where they say all of it, else in as many as it has: two that read the same are the same."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _optimizer(spec: TransferSpec) -> str:
    return spec.optimizer if isinstance(spec, FinetuneSpec) else "sgd"


def _options(spec: FinetuneSpec) -> str:
    words = ["augmented" if spec.augment else "not augmented"]
    if spec.from_scratch:
        words.append("from scratch with the mask")
    if spec.freeze_batch_norm:
        words.append("BatchNorm frozen")
    if spec.label_smoothing:
        words.append(f"label smoothing {exact(spec.label_smoothing)}")
    return ", ".join([*words, f"{spec.precision} training"])


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            inner = _changed(value, defaults[name])
            if inner:
                changed[name] = inner
        elif value != defaults[name]:
            changed[name] = value
    return changed


def _require(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise InputError(f"{name} must be {expected}; got {value}.")


def _require_rate(name: str, value: float) -> None:
    _require(value > 0, name, "above 0", value)
    _require(value < math.inf, name, "finite", value)


def _require_known(name: str, value: str, known: Iterable[str]) -> None:
    choices = tuple(known)
    if value not in choices:
        raise unknown_name(name, value, choices)
