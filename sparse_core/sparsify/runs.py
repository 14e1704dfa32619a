"""Sparsifications as jobs: from a spec to a backbone in the library with its whole provenance. The worker and the command line
call ``run_sparsify``; its ``report`` may raise Cancelled."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sparse_core import __version__
from sparse_core.catalog import listed_dataset, task_label
from sparse_core.datasets import catalogue
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.dataset import Dataset
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.errors import InputError
from sparse_core.networks import architectures, backbones, importing, library, masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.detector import DetectorNetwork
from sparse_core.networks.library import BackboneCard, Provenance
from sparse_core.paths import flush
from sparse_core.sparsify import detectors, durations, timing
from sparse_core.sparsify.detectors import SparsifiedDetector
from sparse_core.sparsify.methods import METHODS
from sparse_core.sparsify.training import Sparsified
from sparse_core.specs.identity import network_id
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.sparsify import SparsifySpec, needs_data, require_for_detector
from sparse_core.transfer.training import discard, epoch_values

AnySparsified = Sparsified | SparsifiedDetector
RECORDED = ("backbone_sparsity", "upstream_accuracy", "epochs", "seconds")


def run_sparsify(home: Path, spec: SparsifySpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Make a backbone with each seed whose network is not in the library yet; returns what ``sparsify`` prints of each, with its
    notes, and the names of those that were found."""
    backbone, dataset, spec = _resolve(home, spec, report)
    made, found = [], []
    for seed in seeds:
        identity = network_id(spec, seed)
        state = home / "checkpoints" / f"{identity}.pt"
        card = _card_of(home, identity)
        if card is None:
            name = _name(home, backbone, spec, seed, seeds)
            result = _made(backbone, dataset, spec, seed, report, state)
            card = _keep(home, name, backbone, dataset, spec, result, identity)
            images = len(dataset.train.labels) if dataset else 0
            durations.remember(home, spec, images, result.seconds, result.details["seconds"])
            flush(library.folder(home) / card.name)
            report(Progress("Keeping the backbone", fraction=1.0, saved=True))
        else:
            found.append(card.name)
        discard(state)
        made.append(_answer(home, card, spec, backbone))
    return {"backbones": made, "found": found}


def _made(
    backbone: Backbone, dataset: Dataset | None, spec: SparsifySpec, seed: int, report: Report, state: Path
) -> AnySparsified:
    """The network of one seed."""
    if backbone.card.is_detector:
        assert dataset is None or isinstance(dataset, BoxDataset)
        return detectors.sparsify(backbone, dataset, spec, seed, on_progress=report, checkpoint=state)
    assert dataset is not None
    return METHODS[spec.method](backbone, dataset, spec, seed, on_progress=report, checkpoint=state)


def run_estimate(home: Path, spec: SparsifySpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Time a few training steps and tests of dense training, and keep and return the pace; ``durations`` estimates the methods'
    own times from it until they have run."""
    backbone, dataset, dense = _resolve(home, timing.dense(spec), report)
    assert dataset is not None  # only Magnitude takes none
    pace = durations.Pace(len(dataset.train.labels), timing.time_epoch(backbone, dataset, dense), 0.0, 1, sampled=True)
    durations.keep(home, dense, pace)
    return dataclasses.asdict(pace)


def _resolve(home: Path, spec: SparsifySpec, report: Report) -> tuple[Backbone, Dataset | None, SparsifySpec]:
    """Parent, upstream data where there is any, and the spec with their content hashes and its precision filled in."""
    if spec.name:
        known = _card_named(home, spec.name)
        if known is None or known.provenance is None:
            library.require_free_name(home, spec.name)
    report(Progress(f"Opening {spec.backbone}"))
    backbone = _parent(home, spec)
    dataset = _upstream(home, backbone, spec, report)
    precision = spec.precision
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else native_bf16()
        precision = "bf16" if native else "fp32"
    content = dataset.hash if dataset else ""
    resolved = dataclasses.replace(spec, precision=precision, backbone_hash=backbone.hash, dataset_hash=content)
    return backbone, dataset, resolved


def _upstream(home: Path, backbone: Backbone, spec: SparsifySpec, report: Report) -> Dataset | None:
    """The upstream data: images of classes, for a detector images with boxes or, under Magnitude, none."""
    detector = backbone.card.is_detector
    if detector:
        require_for_detector(spec)
    if not spec.dataset and not needs_data(spec, detector):
        return None
    if not spec.dataset:
        raise InputError(f"{spec.method} takes upstream data. Name it with --dataset.")
    report(Progress(f"Opening {spec.dataset}"))
    return catalogue.load_boxes(home, spec.dataset) if detector else catalogue.load(home, spec.dataset)


def _parent(home: Path, spec: SparsifySpec) -> Backbone:
    """The backbone that is named; for methods that start from new weights, an architecture's name will do."""
    architecture = spec.backbone.partition("-")[0]
    if spec.has_new_weights and _card_named(home, spec.backbone) is None and architectures.is_known(architecture):
        return backbones.untrained(spec.backbone)
    return backbones.load_cached(home, spec.backbone)


def _card_of(home: Path, identity: str) -> BackboneCard | None:
    """The network of the library that was made for this very request."""
    cards = (card for card in library.cards(home) if card.provenance and card.provenance.id == identity)
    return next(cards, None)


def _card_named(home: Path, name: str) -> BackboneCard | None:
    return next((card for card in library.cards(home) if card.name == name), None)


def _name(home: Path, backbone: Backbone, spec: SparsifySpec, seed: int, seeds: tuple[int, ...]) -> str:
    """The name asked for, numbered by seed where there are several; or one that says what the network is."""
    if not spec.name:
        label = spec.label.replace("/", "").replace(" ", "-")
        sparsity = f"-{100 * spec.sparsity:g}" if spec.sparsity else ""
        return library.free_name(home, f"{backbone.card.architecture}-{label}{sparsity}-seed{seed}")
    name = spec.name if len(seeds) == 1 else f"{spec.name}-seed{seed}"
    library.require_free_name(home, name)
    return name


def _keep(
    home: Path,
    name: str,
    backbone: Backbone,
    dataset: Dataset | None,
    spec: SparsifySpec,
    result: AnySparsified,
    identity: str,
) -> BackboneCard:
    network, parent = result.network, backbone.card
    body = network.body
    upstream = task_label(listed_dataset(dataset.id, dataset.task)) if dataset else parent.upstream
    if not spec.has_new_weights and parent.upstream.split(" → ")[-1] != upstream.split(" → ")[-1]:
        upstream = f"{parent.upstream} → {upstream}"
    head = network.predictions if isinstance(network, DetectorNetwork) else network.classifier
    state = {key: tensor.contiguous() for key, tensor in body.state_dict().items()}
    module = architectures.assemble(parent.architecture, backbone.variant, state)
    start = "new weights" if spec.has_new_weights else parent.name
    card = dataclasses.replace(
        parent,
        name=name,
        upstream=upstream,
        method=spec.label,
        sparsity=spec.sparsity,
        kind="library",
        note=f"made by {spec.label} from {start}",
        ready=True,
        variant=backbone.variant,
        origin=f"{spec.label}, {100 * spec.sparsity:g} %, seed {result.seed}",
        hash=architectures.content_hash(
            parent.architecture, backbone.variant, module, result.mask, parent.preprocessing
        ),
        measured_sparsity=masks.sparsity(module).total,
        classes=network.classes,
        formats=("safetensors",),
        imported_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        provenance=_provenance(backbone, spec, result, identity),
    )
    classifier = {key: tensor.contiguous() for key, tensor in head.state_dict().items()}
    return importing.keep(home, card, state, classifier, result.mask)


def _provenance(backbone: Backbone, spec: SparsifySpec, result: AnySparsified, identity: str) -> Provenance:
    details, before = result.details, backbone.card.provenance
    inherited = before.seconds_with_parents if before and not spec.has_new_weights else 0.0
    curves = [epoch_values(result.curves, epoch) for epoch in range(1, len(result.curves["loss"]) + 1)]
    return Provenance(
        id=identity,
        method=spec.method,
        options=dataclasses.asdict(spec),
        seed=result.seed,
        upstream_accuracy=details["upstream_accuracy"],
        parents=() if spec.has_new_weights else (backbone.hash,),
        epochs=details["epochs"],
        seconds=details["seconds"],
        seconds_with_parents=details["seconds"] + inherited,
        product_version=__version__,
        details={**{name: value for name, value in details.items() if name not in RECORDED}, "curves": curves},
    )


def _answer(home: Path, card: BackboneCard, spec: SparsifySpec, backbone: Backbone) -> dict[str, Any]:
    made = card.provenance
    assert made is not None
    mask = masks.load(library.folder(home) / card.name / "mask.safetensors")
    notes = list(made.details.get("notes", ()))
    return {
        "name": card.name,
        "method": card.method,
        "sparsity": card.sparsity,
        "backbone_sparsity": masks.sparsity(mask).total,
        "upstream_accuracy": made.upstream_accuracy,
        "epochs": made.epochs,
        "seconds": made.seconds,
        "seconds_with_parents": made.seconds_with_parents,
        "checkpoint": str(library.folder(home) / card.name / "weights.safetensors"),
        "notes": notes,
    }
