"""The spec of an evaluation: a network with the classifier it was trained with, on the paper's table 3 or on data of its own, or
a detector on images with boxes."""

from dataclasses import dataclass

from sparse_core.specs.checks import require
from sparse_core.specs.locations import absolute_backbone, absolute_dataset, absolute_path
from sparse_core.specs.options import option

IMAGENET, REAL, V2, CIFAR10 = "imagenet", "imagenet-real", "imagenetv2", "cifar10"
EVALUATIONS = {IMAGENET: "ImageNet", REAL: "ReaL", V2: "ImageNetV2", CIFAR10: "CIFAR-10"}
V2_PARTS = ("matched-frequency", "threshold-0.7", "top-images")
IMAGES = {IMAGENET: 50_000, REAL: 46_837, V2: 30_000, CIFAR10: 10_000}  # of the whole sets


def _dataset(given: str) -> str:
    return given if given in EVALUATIONS else absolute_dataset(given)


@dataclass(frozen=True)
class EvaluateSpec:
    """Evaluate ``backbone`` on one of ``EVALUATIONS``, whose images lie in ``data``, by default in the home folder's
    datasets/NAME; or on the user's own images, whose path is ``dataset``. A detector takes VOC or a path of images with boxes."""

    backbone: str = option(help="a name that 'backbones' lists, with its classifier", convert=absolute_backbone)
    dataset: str = option(
        help="imagenet, imagenet-real, imagenetv2, cifar10, or the path of images with the same classes; of a detector, voc or "
        "the path of images with boxes",
        convert=_dataset,
    )
    data: str = option("", "the images; default: the home folder's datasets/NAME", metavar="DIR", convert=absolute_path)

    @classmethod
    def of(cls, backbone: str, dataset: str, data: str) -> "EvaluateSpec":
        """The spec with the paths that a user gave made absolute."""
        return cls(absolute_backbone(backbone), _dataset(dataset), absolute_path(data) if data else "")

    def __post_init__(self) -> None:
        require(bool(self.dataset.strip()), "dataset", "a name or the path of a folder", "nothing")
