"""A spec's JSON both ways, and the identity of a run, which follows from its spec and seed."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Any, TypeVar

from sparse_core import stored
from sparse_core.specs.checks import require_known
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.transfer import (
    TASK,
    DetectionSpec,
    FinetuneSpec,
    ProbeSpec,
    TransferSpec,
    detection_protocol,
    protocol,
)

AnySpec = TypeVar("AnySpec")
AnyRun = TransferSpec | DetectionSpec
SomeRun = TypeVar("SomeRun", bound=AnyRun)
TRANSFER_SPECS: dict[str, type[TransferSpec]] = {"linear": ProbeSpec, "full": FinetuneSpec}


def to_json(value: Any) -> str:
    """A spec or a job as one line of JSON."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True)


def parse(spec: type[AnySpec], document: dict[str, Any]) -> AnySpec:
    """The spec that ``to_json`` wrote. Raises InputError on an unknown field, a missing one, and one of another type."""
    return stored.made(spec, document, strict=True)


def record_document(spec: AnyRun, seed: int) -> dict[str, Any]:
    """What a run's record keeps of its spec: all of it, with the seed, the transfer and, for a detector, the task."""
    task = {"task": TASK} if isinstance(spec, DetectionSpec) else {}
    return {**json.loads(to_json(spec)), "seed": seed, "transfer": spec.transfer, **task}


def recorded(document: dict[str, Any]) -> AnyRun:
    """The spec within a run's record, which also holds its seed, its transfer and, for a detector, its task."""
    require_known("transfer", document["transfer"], TRANSFER_SPECS)
    spec: type[AnyRun] = DetectionSpec if document.get("task") == TASK else TRANSFER_SPECS[document["transfer"]]
    return parse(spec, {name: value for name, value in document.items() if name not in ("seed", "transfer", "task")})


def protocol_of(spec: AnyRun) -> str:
    """The training settings as text: see ``transfer.protocol``."""
    return detection_protocol(spec) if isinstance(spec, DetectionSpec) else protocol(spec)


def run_id(spec: AnyRun, seed: int) -> str:
    """A run's name: readable, then a hash of the spec's non-default part and the seed.

    Only what differs from the defaults counts, so that an option added later never renames an old run; where the
    backbone and the dataset are resolved, their content counts and not their names.
    """
    changed = _changed(dataclasses.asdict(spec), dataclasses.asdict(type(spec)(backbone="", dataset="")))
    changed.pop("engine", None)
    return f"{spec.transfer}-{seed}-{_digest(spec, changed, seed)}"


def network_id(spec: SparsifySpec, seed: int) -> str:
    """The identity of the network that a method makes, as ``run_id`` is that of a run; its name does not count."""
    usual = SparsifySpec("Dense", backbone="", dataset="")
    changed = _changed(dataclasses.asdict(spec), dataclasses.asdict(usual))
    changed.pop("name", None)
    return f"sparsify-{seed}-{_digest(spec, changed, seed)}"


def first_free_replicate(spec: SomeRun, seeds: Iterable[int], taken: set[str]) -> SomeRun:
    """The spec with the lowest replicate number under which none of the seeds has run; ``taken`` are run names."""
    seeds = tuple(seeds)
    candidates = (dataclasses.replace(spec, replicate=number) for number in itertools.count(spec.replicate))
    return next(free for free in candidates if not any(run_id(free, seed) in taken for seed in seeds))


def _digest(spec: AnyRun | SparsifySpec, changed: dict[str, Any], seed: int) -> str:
    """A hash of the options that differ from their defaults, of the content of backbone and dataset where known, and the seed."""
    named = {"backbone": spec.backbone_hash, "dataset": spec.dataset_hash}
    counted = {name: value for name, value in changed.items() if not named.get(name)}
    return hashlib.sha256(json.dumps({**counted, "seed": seed}, sort_keys=True).encode()).hexdigest()[:12]


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The values that differ from their defaults, in nested dictionaries too."""
    return {
        name: _changed(value, defaults[name]) if isinstance(value, dict) else value
        for name, value in values.items()
        if value != defaults[name]
    }
