"""What a user asks for, as plain data that survives JSON both ways; a run's identity follows from it."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sparse_core.errors import InputError, unknown_name


@dataclass(frozen=True)
class Hyperparameters:
    """The study's linear protocol (section 3 and appendix): SGD with a step schedule. Defaults are the study's own.

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
        _require(self.learning_rate > 0, "learning_rate", "above 0", self.learning_rate)
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        _require(self.weight_decay >= 0, "weight_decay", "0 or more", self.weight_decay)
        _require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        _require(self.step_epochs >= 1, "step_epochs", "at least 1", self.step_epochs)
        _require(0 < self.step_factor <= 1, "step_factor", "in (0, 1]", self.step_factor)


@dataclass(frozen=True)
class ProbeSpec:
    """A linear probe of one backbone on one dataset.

    ``backbone`` and ``dataset`` are what the user named; the two hashes are filled in when the names are resolved, so
    that a run's identity follows content and not names. ``sweep_lr`` lists learning rates to choose from on a
    validation split of the training data; empty means ``settings.learning_rate`` is used as it is.
    ``replicate`` above 0 marks a deliberate rerun.
    """

    backbone: str
    dataset: str
    backbone_hash: str = ""
    dataset_hash: str = ""
    settings: Hyperparameters = field(default_factory=Hyperparameters)
    sweep_lr: tuple[float, ...] = ()
    precision: str = "fp32"
    engine: str = "torch"
    replicate: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise unknown_name("precision", self.precision, ("fp32", "bf16"))
        if any(rate <= 0 for rate in self.sweep_lr):
            raise InputError(f"sweep_lr takes learning rates above 0; got {list(self.sweep_lr)}.")


@dataclass(frozen=True)
class Job:
    """What a user starts: one spec and its seeds, each of which becomes a run. ``kind`` names the work."""

    kind: str
    spec: ProbeSpec
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds takes one or more different whole numbers from 0; got {list(self.seeds)}.")


def to_json(value: Any) -> str:
    """A spec or a job as one line of JSON."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True)


def probe_spec(document: dict[str, Any]) -> ProbeSpec:
    """The spec that ``to_json`` wrote; an unknown field is refused."""
    try:
        settings = Hyperparameters(**document.get("settings", {}))
        sweep = tuple(float(rate) for rate in document.get("sweep_lr", ()))
        return ProbeSpec(**{**document, "settings": settings, "sweep_lr": sweep})
    except TypeError as error:
        raise InputError(f"Not a probe spec: {error}.") from error


def job(document: dict[str, Any]) -> Job:
    """The job that ``to_json`` wrote."""
    return Job(document["kind"], probe_spec(document["spec"]), tuple(document["seeds"]))


def run_id(spec: ProbeSpec, seed: int) -> str:
    """A run's name: readable, then a hash of the spec's non-default part and the seed.

    Only what differs from the defaults counts, so that an option added later never renames an old run; where the
    backbone and the dataset are resolved, their content counts and not the names they go by.
    """
    changed = _changed(dataclasses.asdict(spec), dataclasses.asdict(ProbeSpec(backbone="", dataset="")))
    if spec.backbone_hash:
        changed.pop("backbone", None)
    if spec.dataset_hash:
        changed.pop("dataset", None)
    changed.pop("engine", None)
    digest = hashlib.sha256(json.dumps({**changed, "seed": seed}, sort_keys=True).encode()).hexdigest()[:12]
    return f"linear-{seed}-{digest}"


def first_free_replicate(spec: ProbeSpec, seeds: Iterable[int], taken: set[str]) -> ProbeSpec:
    """The spec with the lowest replicate number under which none of the seeds has run; ``taken`` are run names."""
    seeds = tuple(seeds)
    numbers = itertools.count(spec.replicate)
    candidates = (dataclasses.replace(spec, replicate=number) for number in numbers)
    return next(free for free in candidates if not any(run_id(free, seed) in taken for seed in seeds))


def protocol(spec: ProbeSpec) -> str:
    """The training settings in words. Two runs can be compared as sparse and dense only where these words agree."""
    settings = spec.settings
    rate = (
        f"lr chosen from {', '.join(f'{r:g}' for r in spec.sweep_lr)}"
        if spec.sweep_lr
        else f"lr {settings.learning_rate:g}"
    )
    return (
        f"SGD {rate} ×{settings.step_factor:g} every {settings.step_epochs} epochs, momentum {settings.momentum:g}, "
        f"weight decay {settings.weight_decay:g}, {settings.epochs} epochs, batch {settings.batch_size}, "
        f"{spec.precision} features"
    )


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
