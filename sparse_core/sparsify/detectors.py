"""Detectors: their bodies are pruned as other networks are; the prediction layers stay dense.

Magnitude, GMP and AC/DC are those of their own files, on the training of ``transfer.detection``.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sparse_core.datasets.box_loading import BoxLoader
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.networks import masks, yolo_files
from sparse_core.networks.backbones import Backbone, Classifier
from sparse_core.networks.detector import DetectorNetwork, new_layers
from sparse_core.networks.masks import Mask
from sparse_core.sparsify import batch_norm, targets
from sparse_core.sparsify.acdc import AlternatingPruner
from sparse_core.sparsify.gmp import GradualPruner
from sparse_core.sparsify.start import require_dense
from sparse_core.sparsify.training import PrunedTraining, Pruner, saved_state, train_to_end
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.sparsify import SparsifySpec, require_for_detector
from sparse_core.specs.transfer import DetectionSettings, DetectionSpec
from sparse_core.transfer import detection
from sparse_core.transfer.finetune import draw_weights
from sparse_core.transfer.training import Result, no_report

PRUNERS: dict[str, Callable[[PrunedTraining], Pruner]] = {
    "Dense": Pruner,
    "GMP": GradualPruner,
    "AC/DC": AlternatingPruner,
}
NEW_LAYERS = "The backbone has no prediction layers for the classes of this upstream data: new ones were trained."


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
    """Prune a detector, by Magnitude without a ``dataset``, too. Raises InputError for a sparse one, and for methods that prune
    none."""
    require_for_detector(spec)
    require_dense(backbone, spec)
    if spec.method == "Magnitude":
        return _magnitude(backbone, dataset, spec, seed, on_progress)
    assert dataset is not None
    training = DetectorPruning(backbone, dataset, spec, seed, PRUNERS[spec.method])
    state = saved_state(backbone, dataset, spec, seed, checkpoint)
    with state:
        train_to_end(training, state, state.load(), on_progress)
    return training.finish()


class DetectorPruning(PrunedTraining, detection.DetectionTraining):
    """The training of one detector, as ``transfer.detection`` trains it, whose pruner sets the mask. The moving average of the
    weights, which is tested and kept, is pruned with them.

    Weights of the method's own start are drawn from the seed, with new prediction layers; else they are the backbone's, with its
    own prediction layers where they are for as many classes as the dataset has.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: BoxDataset,
        spec: SparsifySpec,
        seed: int,
        make: Callable[[PrunedTraining], Pruner],
    ) -> None:
        body = copy.deepcopy(backbone.module).requires_grad_(True)
        own = not spec.has_new_weights and classes_of(backbone) == len(dataset.class_names)
        if spec.has_new_weights:
            draw_weights(body, seed)
        layers = copied(backbone.predictions) if own else new_layers(seed, body, len(dataset.class_names))  # type: ignore[arg-type]
        network = DetectorNetwork(body, layers)  # type: ignore[arg-type]
        super().__init__(network, backbone.transform, dataset, _protocol(spec), seed, spec.method)
        self.spec, self.backbone = spec, backbone
        self.notes = () if own or spec.has_new_weights else (NEW_LAYERS,)
        self.begin_dense()
        self.pruner = make(self)

    @property
    def body(self) -> nn.Module:
        return self.network.body

    def set_mask(self, mask: Mask) -> None:
        super().set_mask(mask)
        masks.apply(self.average.body, mask)

    def update_weights(self) -> None:
        self.pruner.update(self.now)

    def measure(self) -> dict[str, float]:
        if masks.violations(self.average.body, self.mask):
            raise RuntimeError(f"Averages of pruned weights are not 0 in epoch {self.epoch + 1}.")
        return super().measure()

    def finish(self) -> SparsifiedDetector:
        """The result, once all epochs have ended."""
        accuracy = {"upstream_accuracy": self.curves["map50"][-1], "upstream_map": self.curves["map"][-1]}
        if self.spec.precision == "bf16":
            accuracy = measured(self.average, self.backbone, self.dataset)
        mask = Mask({name: kept.cpu() for name, kept in self.mask.tensors.items()})
        details = self.sparse_details(accuracy["upstream_accuracy"], sum(self.seconds)) | accuracy
        result = self.result(self.spec.peak_rate, details)
        return SparsifiedDetector(**{each.name: getattr(result, each.name) for each in fields(Result)}, mask=mask)


def _protocol(spec: SparsifySpec) -> DetectionSpec:
    """The training settings as those of a detector's finetuning."""
    settings = DetectionSettings(
        epochs=spec.total_epochs,
        learning_rate=spec.peak_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        batch_size=spec.batch_size,
    )
    return DetectionSpec(spec.backbone, spec.dataset, settings=settings, augment=spec.augment, precision=spec.precision)


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
    found = detection.tested(network, backbone.transform, dataset)
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
