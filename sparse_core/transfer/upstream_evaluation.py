"""The accuracy of a backbone with the classifier it was trained with: on ImageNet, its ReaL labels, ImageNetV2, CIFAR-10, or a
dataset of the user's with the same classes. It fills the paper's table 3 for any network. Of a detector with its prediction
layers, mAP on images with boxes: the upstream side of table 6."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sparse_core import __version__
from sparse_core.catalog import listed_dataset, task_label
from sparse_core.datasets import catalogue, imagenet, loading
from sparse_core.datasets.dataset import Split
from sparse_core.datasets.transforms import prepare
from sparse_core.errors import InputError
from sparse_core.networks import backbones
from sparse_core.networks.backbones import Backbone, Classifier
from sparse_core.networks.detector import DetectorNetwork
from sparse_core.paths import finite, printable
from sparse_core.results import evaluations
from sparse_core.specs.evaluation import EVALUATIONS, IMAGENET, REAL, EvaluateSpec
from sparse_core.specs.progress import Progress, Report
from sparse_core.transfer import detection, evaluation_checks
from sparse_core.transfer.evaluation import Scores

BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """``top1`` and ``mean_per_class`` (None for ReaL) in 0..1, the number of ``images``, and of ImageNetV2 each part's top-1, of
    which ``top1`` is the mean. ``dataset`` and ``dataset_hash`` are set for the user's own data: its name and content. Of a
    detector, ``map50`` (mAP@0.5) and ``map`` (@[.5:.95]) in place of accuracies."""

    top1: float | None
    mean_per_class: float | None
    images: int
    parts: dict[str, float] = field(default_factory=dict)
    dataset: str = ""
    dataset_hash: str = ""
    map50: float | None = None
    map: float | None = None

    @property
    def measured(self) -> dict[str, float]:
        """What its record holds besides ``mean_per_class``, ``images`` and ``parts``."""
        values = {name: getattr(self, name) for name in evaluations.MEASURED}
        return {name: value for name, value in values.items() if value is not None}


def run_evaluate(home: Path, spec: EvaluateSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Evaluate a network and keep the result: the record that ``evaluations`` describes."""
    started = time.perf_counter()
    report(Progress(f"Opening {spec.backbone}"))
    backbone = backbones.load_cached(home, spec.backbone)
    found = (evaluate_detector if backbone.card.is_detector else evaluate)(home, backbone, spec, report)
    dataset = found.dataset or spec.dataset
    card = backbone.card
    record = {
        "id": evaluations.new_id(backbone.hash, dataset, found.dataset_hash),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "network": backbone.hash,
        **{name: printable(str(getattr(card, name))) for name in ("architecture", "method", "upstream")},
        "backbone": printable(spec.backbone),
        "sparsity": card.sparsity,
        "dataset": printable(dataset),
        "dataset_hash": found.dataset_hash,
        "data": printable(spec.data or ("" if spec.dataset in EVALUATIONS else spec.dataset)),
        **found.measured,
        **{name: getattr(found, name) for name in ("mean_per_class", "images", "parts")},
        "seconds": time.perf_counter() - started,
        "product_version": __version__,
    }
    evaluations.write(home, record)
    return finite(record)


def evaluate(home: Path, backbone: Backbone, spec: EvaluateSpec, report: Report) -> Evaluation:
    """Evaluate a loaded backbone. Raises InputError without a classifier, for another number of classes, and where images or
    labels are missing."""
    if backbone.classifier is None:
        raise evaluation_checks.no_classifier(spec.backbone)
    folder = evaluation_checks.images_folder(home, spec)
    if folder is None:
        return _evaluate_data(home, backbone, spec, report)
    if spec.dataset == IMAGENET:
        return _evaluate_split(backbone, imagenet.validation_split(folder), imagenet.CLASSES, report)
    if spec.dataset == REAL:
        return _evaluate_real(backbone, folder, report)
    return _evaluate_v2(backbone, folder, report)


def evaluate_detector(home: Path, backbone: Backbone, spec: EvaluateSpec, report: Report) -> Evaluation:
    """Evaluate a loaded detector on the test images of a dataset with boxes of its classes, in their order. Raises InputError
    without prediction layers and for another number of classes."""
    evaluation_checks.require_boxes(spec)
    report(Progress(f"Opening {spec.dataset}"))
    dataset = catalogue.load_boxes(home, spec.dataset)
    network = DetectorNetwork(backbone.module, backbone.predictions).eval()  # type: ignore[arg-type]
    if not network.classes:
        raise evaluation_checks.no_classifier(spec.backbone)
    evaluation_checks.require_classes(spec.backbone, network.classes, len(dataset.class_names))
    found = detection.tested(network, backbone.transform, dataset, report)
    name = task_label(listed_dataset(dataset.id, dataset.task))
    images = len(dataset.test.labels)
    return Evaluation(None, None, images, {}, name, dataset.hash, map50=found.map50, map=found.map)


def predictions(backbone: Backbone, split: Split, classes: int, report: Report) -> np.ndarray:
    """The predicted class (N,) of each image of the split."""
    assert backbone.classifier is not None
    weight, bias = with_classes(backbone.card.name, backbone.classifier, classes)
    found: list[torch.Tensor] = []
    decode: Callable[[int], np.ndarray] = lambda row: prepare(_opened(split, row), backbone.transform)  # noqa: E731
    total, done = len(split.labels), 0
    with torch.inference_mode():
        for batch in loading.batches(decode, range(total), BATCH):
            features = backbone.module(loading.normalised(batch, backbone.transform))
            found.append((features @ weight.T + bias).argmax(dim=1))
            done += len(batch)
            report(Progress("Evaluating", done, total))
    return torch.cat(found).numpy()


def with_classes(name: str, classifier: Classifier, classes: int) -> Classifier:
    """The classifier of the backbone ``name``, without the background class that TensorFlow's ImageNet networks have first."""
    weight, bias = classifier
    evaluation_checks.require_classes(name, len(weight), classes)
    return (weight[1:], bias[1:]) if evaluation_checks.has_background(len(weight), classes) else classifier


def _evaluate_data(home: Path, backbone: Backbone, spec: EvaluateSpec, report: Report) -> Evaluation:
    opened = catalogue.load(home, spec.data or spec.dataset)
    found = _evaluate_split(backbone, opened.test, len(opened.class_names), report)
    if spec.dataset in EVALUATIONS:
        return found
    name = task_label(listed_dataset(opened.id, opened.task))
    name = f"{name} (own data)" if name in EVALUATIONS else name  # nothing known of those is true of it
    return Evaluation(found.top1, found.mean_per_class, found.images, {}, name, opened.hash)


def _evaluate_split(backbone: Backbone, split: Split, classes: int, report: Report) -> Evaluation:
    found = torch.from_numpy(predictions(backbone, split, classes, report))
    top1, mean_per_class = Scores(split.labels, classes).score(found)
    return Evaluation(top1, mean_per_class, len(split.labels))


def _evaluate_real(backbone: Backbone, folder: Path, report: Report) -> Evaluation:
    """A prediction is right if it is in the image's label set; images with an empty set do not count."""
    split, labels = imagenet.real_split(folder)
    found = predictions(backbone, split, imagenet.CLASSES, report)
    right = [int(label) in allowed for label, allowed in zip(found, labels, strict=True)]
    return Evaluation(float(np.mean(right)), None, len(labels))


def _evaluate_v2(backbone: Backbone, folder: Path, report: Report) -> Evaluation:
    splits = {name: imagenet.validation_split(place) for name, place in imagenet.v2_folders(folder).items()}
    found = {name: _evaluate_split(backbone, split, imagenet.CLASSES, report) for name, split in splits.items()}
    each = list(found.values())
    means = [float(np.mean([getattr(part, kind) for part in each])) for kind in ("top1", "mean_per_class")]
    parts = {name: part.top1 for name, part in found.items() if part.top1 is not None}
    return Evaluation(means[0], means[1], sum(part.images for part in each), parts)


def _opened(split: Split, row: int) -> Image.Image:
    try:
        return split.load(row)
    except OSError as error:
        name = split.names[row] if split.names else f"image {row}"
        raise InputError(f"{name} cannot be read as an image. Replace it, then start again.") from error
