"""What is known of an evaluation before it starts: where its images lie, and whether the network has their classes. Imports no
torch, as pages ask."""

from pathlib import Path

from sparse_core.catalog import VOC
from sparse_core.datasets import box_layouts, catalogue, imagenet
from sparse_core.errors import InputError
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard
from sparse_core.specs.evaluation import CIFAR10, IMAGENET, REAL, V2, EvaluateSpec

_STATED = ("library", "zoo")  # kinds of cards that state the number of classes, or that there are none


def require_evaluable(home: Path, spec: EvaluateSpec) -> None:
    """Raise InputError for a network without classifier or with another number of classes, and for missing images or labels, as
    far as this is known without loading the network or decoding an image."""
    card = library.find(home, spec.backbone)
    if library.is_detector(home, spec.backbone):
        require_boxes(spec)
        if card and card.kind in _STATED and not card.classes:
            raise no_classifier(spec.backbone)
        return
    classes = stated_classes(card) if card else None
    if classes == 0:
        raise no_classifier(spec.backbone)
    found = _classes_of_images(home, spec, images_folder(home, spec))
    if classes and found is not None:
        require_classes(spec.backbone, classes, found)


def stated_classes(card: BackboneCard) -> int | None:
    """The number of classes of a network's classifier, 0 where it has none; None where its card does not say."""
    if card.kind in _STATED:
        return card.classes or 0
    return card.classes or (imagenet.CLASSES if card.name in library.TORCHVISION else None)


def require_boxes(spec: EvaluateSpec) -> None:
    """Raise InputError where a detector is asked to be evaluated on images without boxes."""
    if not catalogue.has_boxes(spec.dataset) or spec.data:
        raise InputError(
            f"{spec.backbone} is a detector: evaluate it on {VOC}, or on the path of images with boxes of its classes "
            f"({box_layouts.LAYOUTS}); got {spec.data or spec.dataset}."
        )


def no_classifier(name: str) -> InputError:
    """The refusal of a network without classifier or, of a detector, prediction layers."""
    return InputError(
        f"{name} has no classifier or prediction layers, so its upstream accuracy cannot be measured. Import a file with them."
    )


def require_classes(name: str, classes: int, found: int) -> None:
    """Raise InputError unless a classifier's ``classes`` are those ``found`` in images; TensorFlow's ImageNet networks have a
    background class besides."""
    if classes != found and not has_background(classes, found):
        raise InputError(
            f"{name} was trained on {classes:,} classes; these images have {found:,}. Choose its own dataset."
        )


def has_background(classes: int, found: int) -> bool:
    """Whether a classifier for ImageNet has the background class of TensorFlow, its first."""
    return found == imagenet.CLASSES and classes == found + 1


def images_folder(home: Path, spec: EvaluateSpec) -> Path | None:
    """The folder of the images of one of ImageNet's label sets; None for other data. Raises InputError where it is missing."""
    if spec.dataset not in (IMAGENET, REAL, V2):
        return None
    folder = Path(spec.data) if spec.data else usual_folder(home, spec.dataset)
    if not folder.is_dir():
        raise InputError(
            f"Expected the images of {spec.dataset} in {folder}. Put them there, or name their folder with --data."
        )
    return folder


def usual_folder(home: Path, dataset: str) -> Path:
    """Where the images of one of ``EVALUATIONS`` lie unless the user names another folder."""
    return home / "datasets" / (IMAGENET if dataset == REAL else dataset)


def _classes_of_images(home: Path, spec: EvaluateSpec, folder: Path | None) -> int | None:
    """The number of classes; None where it is known only after a download."""
    if folder is None:
        if spec.dataset == CIFAR10 and not spec.data:
            return 10
        return len(catalogue.describe(home, spec.data or spec.dataset).class_names)
    if spec.dataset == REAL:
        imagenet.real_sets(folder)
    for each in imagenet.v2_folders(folder).values() if spec.dataset == V2 else [folder] * (spec.dataset == IMAGENET):
        imagenet.class_folders(each)
    return imagenet.CLASSES
