"""Detectors: their bodies are pruned as other networks are; the prediction layers stay dense."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sparse_core.datasets.box_loading import BoxLoader
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.errors import InputError
from sparse_core.networks import masks, yolo_files
from sparse_core.networks.backbones import Backbone, Classifier
from sparse_core.networks.detector import DetectorNetwork
from sparse_core.networks.masks import Mask
from sparse_core.sparsify import batch_norm, targets
from sparse_core.sparsify.start import require_dense
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer import detection
from sparse_core.transfer.network_training import MEMORY_SHARE
from sparse_core.transfer.training import Result, no_report

METHODS = ("Magnitude",)


@dataclass(frozen=True)
class SparsifiedDetector(Result[DetectorNetwork]):
    """A sparse detector with its prediction layers, and its history; as ``training.Sparsified``. ``upstream_accuracy`` is
    mAP@0.5 in fp32, None where the prediction layers are for other classes than those of the upstream data."""

    mask: Mask


def sparsify(
    backbone: Backbone,
    dataset: BoxDataset | None,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> SparsifiedDetector:
    """Prune a detector, by Magnitude without a ``dataset``, too. Raises InputError for other methods and a sparse detector."""
    require_method(spec)
    require_dense(backbone, spec)
    return _magnitude(backbone, dataset, spec, seed, on_progress)


def require_method(spec: SparsifySpec) -> None:
    """Raise InputError for a method that does not prune detectors."""
    if spec.method not in METHODS:
        raise InputError(f"{spec.method} does not prune detectors here; they take {', '.join(METHODS)}.")


def _magnitude(
    backbone: Backbone, dataset: BoxDataset | None, spec: SparsifySpec, seed: int, on_progress: Report
) -> SparsifiedDetector:
    """Zero the smallest weights at once. With a dataset, BatchNorm is tuned on its training images and mAP measured on its test
    images; without one, nothing else changes."""
    started = time.perf_counter()
    on_progress(Progress("Pruning by magnitude"))
    body = copy.deepcopy(backbone.module)
    mask = targets.highest(targets.magnitudes(body), spec.sparsity, spec.layers, spec.prune_first)
    masks.apply(body, mask)
    network = DetectorNetwork(body, copied(backbone.predictions)).eval().requires_grad_(False)  # type: ignore[arg-type]
    notes: list[str] = []
    details: dict[str, Any] = {"upstream_accuracy": None, "notes": notes}
    if dataset is not None:
        on_progress(Progress("Tuning BatchNorm"))
        details["tuning_images"] = tune(network, backbone, dataset)
        if classes_of(backbone) == len(dataset.class_names):
            on_progress(Progress("Testing"))
            details |= measured(network, backbone, dataset)
        else:
            notes.append(other_classes(backbone, dataset))
    details |= {"backbone_sparsity": masks.sparsity(mask).total, "epochs": 0, "seconds": time.perf_counter() - started}
    nothing = (np.zeros((0, 0), np.int64), np.empty(0, np.int64))
    return SparsifiedDetector(seed, spec.peak_rate, {"loss": []}, *nothing, network, [], details, mask)


def tune(network: DetectorNetwork, backbone: Backbone, dataset: BoxDataset) -> int:
    """Tune BatchNorm on training images, letterboxed; returns their number."""
    rows = batch_norm.rows(dataset)
    loader = BoxLoader(dataset.train, backbone.transform.crop, 0)
    inputs = (detection.prepared(batch, backbone.transform) for batch in loader.batches(rows, batch_norm.BATCH))
    batch_norm.tune_on(network, inputs)
    return len(rows)


def measured(network: DetectorNetwork, backbone: Backbone, dataset: BoxDataset) -> dict[str, float]:
    """mAP@0.5, as ``upstream_accuracy``, and mAP@[.5:.95], as ``upstream_map``, on the test images, in fp32."""
    budget = int(MEMORY_SHARE * psutil.virtual_memory().available) // 3
    images = BoxLoader(dataset.test, backbone.transform.crop, budget)
    _, found = detection.evaluate(network, images, backbone.transform, len(dataset.class_names))
    return {"upstream_accuracy": found.map50, "upstream_map": found.map}


def copied(predictions: Sequence[Classifier]) -> list[Classifier]:
    return [(weight.clone(), bias.clone()) for weight, bias in predictions]


def classes_of(backbone: Backbone) -> int | None:
    """The number of classes of its prediction layers, None without."""
    return yolo_files.classes_of(len(backbone.predictions[0][1])) if backbone.predictions else None


def other_classes(backbone: Backbone, dataset: BoxDataset) -> str:
    known, given = classes_of(backbone), len(dataset.class_names)
    told = f"are for {known} classes" if known else "are missing"
    return f"The detector's prediction layers {told}, and '{dataset.id}' has {given}: mAP is not measured."
