"""The accuracy of a backbone with the classifier it was trained with: on ImageNet, its ReaL labels, ImageNetV2, CIFAR-10, or a
dataset of the user's with the same classes.

Sources: Beyer et al., "Are we done with ImageNet?", 2020 (ReaL); Recht et al., ICML 2019 (ImageNetV2, three samples).
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sparse_core.datasets import catalogue, loading
from sparse_core.datasets.dataset import Split
from sparse_core.datasets.folders import SUFFIXES, open_split
from sparse_core.datasets.transforms import prepare
from sparse_core.errors import InputError
from sparse_core.networks import backbones
from sparse_core.networks.backbones import Backbone, Classifier
from sparse_core.specs.progress import Progress, Report
from sparse_core.transfer.evaluation import Scores

IMAGENET, REAL, V2, CIFAR10 = "imagenet", "imagenet-real", "imagenetv2", "cifar10"
NAMED = (IMAGENET, REAL, V2, CIFAR10)
CLASSES = 1000
V2_PARTS = {"matched-frequency": "matched", "threshold-0.7": "threshold", "top-images": "top"}
REAL_FILE = "real.json"
BATCH = 64
_VALIDATION_NUMBER = re.compile(r"val_0*(\d+)$")


@dataclass(frozen=True)
class Evaluation:
    """``top1`` and ``mean_per_class`` (None for ReaL) in 0..1, the number of ``images``, and of ImageNetV2 each part's top-1, of
    which ``top1`` is the mean."""

    top1: float
    mean_per_class: float | None
    images: int
    parts: dict[str, float] = field(default_factory=dict)


def evaluate(home: Path, name: str, dataset: str, data: Path | None, report: Report) -> Evaluation:
    """Evaluate a backbone by name on one of ``NAMED``, whose images lie in ``data``, or on a dataset by its path.

    ``data`` is by default the dataset's folder below ``home``/datasets. Raises InputError without a classifier, for another
    number of classes, and where images or labels are missing.
    """
    backbone = backbones.load_classifying(home, name)
    if backbone.classifier is None:
        raise InputError(
            f"{name} has no classifier, so its upstream accuracy cannot be measured. Import a file that has one."
        )
    folder = data or home / "datasets" / (IMAGENET if dataset == REAL else dataset)
    if dataset in (IMAGENET, REAL, V2) and not folder.is_dir():
        raise InputError(
            f"Expected the images of {dataset} in {folder}. Put them there, or name their folder with --data."
        )
    if dataset == IMAGENET:
        return _evaluate_split(backbone, imagenet_split(folder), CLASSES, report)
    if dataset == REAL:
        return _evaluate_real(backbone, folder, report)
    if dataset == V2:
        return _evaluate_v2(backbone, folder, report)
    opened = catalogue.load(home, str(data) if data else dataset)
    return _evaluate_split(backbone, opened.test, len(opened.class_names), report)


def imagenet_split(folder: Path) -> Split:
    """ImageNet's validation images: 1,000 folders, by WordNet id in alphabetical order or numbered 0 to 999, below ``folder``
    or below a folder ``val`` in it."""
    root = folder / "val" if (folder / "val").is_dir() else folder
    names = [entry.name for entry in root.iterdir() if entry.is_dir()]
    if len(names) != CLASSES:
        raise InputError(
            f"Expected {CLASSES:,} class folders in {root}, found {len(names)}. Give ImageNet's validation images."
        )
    numbered = all(name.isdigit() for name in names)
    ordered = sorted(names, key=int) if numbered else sorted(names)
    files = [(file, label) for label, name in enumerate(ordered) for file in _images(root / name)]
    if not files:
        raise InputError(f"The class folders in {root} hold no images.")
    return open_split(root, files)


def real_sets(file: Path) -> list[frozenset[int]]:
    """The label set of each validation image, in the order of their numbers. Raises InputError for another file."""
    try:
        document = json.loads(file.read_bytes())
        return [frozenset(int(label) for label in labels) for labels in document]
    except FileNotFoundError:
        raise InputError(f"Expected ReaL's labels in {file}. Download real.json there.") from None
    except (ValueError, TypeError):
        raise InputError(f"Expected a JSON list of label lists in {file}; got something else.") from None


def predictions(backbone: Backbone, split: Split, classes: int, report: Report) -> np.ndarray:
    """The predicted class (N,) of each image of the split."""
    assert backbone.classifier is not None
    weight, bias = _with_classes(backbone, backbone.classifier, classes)
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


def _evaluate_split(backbone: Backbone, split: Split, classes: int, report: Report) -> Evaluation:
    found = torch.from_numpy(predictions(backbone, split, classes, report))
    top1, mean_per_class = Scores(split.labels, classes).score(found)
    return Evaluation(top1, mean_per_class, len(split.labels))


def _evaluate_real(backbone: Backbone, folder: Path, report: Report) -> Evaluation:
    """A prediction is right if it is in the image's label set; images with an empty set do not count."""
    sets = real_sets(folder / REAL_FILE)
    root = folder / "val" if (folder / "val").is_dir() else folder
    files, labels = [], []
    for file in [file for folder in (root, *_folders(root)) for file in _images(folder)]:
        number = _VALIDATION_NUMBER.search(file.stem)
        if not number or not 0 < int(number[1]) <= len(sets):
            raise InputError(
                f"{file.name} is not named as a validation image with labels, such as ILSVRC2012_val_00000001.JPEG."
            )
        if sets[int(number[1]) - 1]:
            files.append((file, 0))
            labels.append(sets[int(number[1]) - 1])
    if not files:
        raise InputError(f"There are no labelled images in {root}.")
    found = predictions(backbone, open_split(root, files), CLASSES, report)
    right = [int(label) in allowed for label, allowed in zip(found, labels, strict=True)]
    return Evaluation(float(np.mean(right)), None, len(files))


def _evaluate_v2(backbone: Backbone, folder: Path, report: Report) -> Evaluation:
    found: dict[str, Evaluation] = {}
    for name, mark in V2_PARTS.items():
        places = [entry for entry in _folders(folder) if mark in entry.name.lower()]
        if len(places) != 1:
            raise InputError(f"Expected one folder of ImageNetV2's {name} images in {folder}, found {len(places)}.")
        found[name] = _evaluate_split(backbone, imagenet_split(places[0]), CLASSES, report)
    each = list(found.values())
    means = [float(np.mean([getattr(part, kind) for part in each])) for kind in ("top1", "mean_per_class")]
    parts = {name: part.top1 for name, part in found.items()}
    return Evaluation(means[0], means[1], sum(part.images for part in each), parts)


def _with_classes(backbone: Backbone, classifier: Classifier, classes: int) -> Classifier:
    """The classifier, without the background class that TensorFlow's ImageNet networks have first."""
    weight, bias = classifier
    if len(weight) == CLASSES + 1 and classes == CLASSES:
        return weight[1:], bias[1:]
    if len(weight) != classes:
        raise InputError(
            f"{backbone.card.name} was trained on {len(weight):,} classes; these images have {classes:,}. Choose its own dataset."
        )
    return classifier


def _opened(split: Split, row: int) -> Image.Image:
    try:
        return split.load(row)
    except OSError as error:
        name = split.names[row] if split.names else f"image {row}"
        raise InputError(f"{name} cannot be read as an image. Replace it, then start again.") from error


def _images(folder: Path) -> Sequence[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _folders(folder: Path) -> Sequence[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())
