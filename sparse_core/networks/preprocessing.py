"""How images are prepared for a network: the default of each architecture, guesses, and what a user asks for. Needs no torch.

Preprocessing belongs to the weights. It is asked for on import, kept on the backbone's card and part of the network's content
hash; a wrong one costs many points of accuracy.
"""

import dataclasses

from sparse_core.catalog import DETECTORS, MAX_SIDE, MIN_SIDE, NORMALISATIONS
from sparse_core.datasets.transforms import CIFAR, DETECTION, IMAGENET, IMAGENET_BICUBIC, LITE, Transform
from sparse_core.errors import InputError
from sparse_core.specs.checkpoints import ImportSpec
from sparse_core.specs.checks import require

CIFAR_ARCHITECTURES = ("resnet20", "resnet32", "resnet44", "resnet56")

SMALL_IMAGES = {"cifar": CIFAR, "cifar_maxpool": CIFAR}  # variants with a 3 × 3 stem
ACTIVATIONS = ("", "_leaky", "_hardswish")  # of detectors: SiLU, LeakyReLU, Hardswish
YOLOV3, YOLOV5 = ([name for name in DETECTORS if name.startswith(family)] for family in ("yolov3", "yolov5"))
YOLOV3_VARIANTS = ("darknet", *(f"ultralytics{activation}" for activation in ACTIVATIONS))
YOLOV5_VARIANTS = tuple(f"{release}{activation}" for release in ("v6", "v5") for activation in ACTIVATIONS)
# By architecture and variant; the first variant is the default one.
DEFAULTS: dict[str, dict[str, Transform]] = {
    "resnet18": {"": IMAGENET, **SMALL_IMAGES},
    "resnet34": {"": IMAGENET, **SMALL_IMAGES},
    "resnet50": {"": IMAGENET, "tensorflow": IMAGENET_BICUBIC, **SMALL_IMAGES},
    "mobilenet_v1": {"": IMAGENET},
    **{name: {"A": CIFAR, "B": CIFAR} for name in CIFAR_ARCHITECTURES},
    "efficientnet_lite0": {"": LITE},
    **{
        name: {variant: DETECTION.at(416) if variant == "darknet" else DETECTION for variant in variants}
        for names, variants in ((YOLOV3, YOLOV3_VARIANTS), (YOLOV5, YOLOV5_VARIANTS))
        for name in names
    },
}


def default(architecture: str, variant: str = "") -> Transform:
    """The preprocessing of a network that states none; ``variant`` "" is the default one. Raises KeyError if unknown."""
    variants = DEFAULTS[architecture]
    return variants[variant] if variant in variants or variant else next(iter(variants.values()))


def guess(architecture: str, variant: str, method: str, upstream: str, public: Transform | None = None) -> Transform:
    """What a network is probably prepared with: the default, with the study's exception and CIFAR-100's own numbers. ``public``
    is the default of a network of torchvision or timm, which needs torch to be known.

    RigL's checkpoints need bicubic resizing, all other methods' bilinear (paper, section 3.1 and its code).
    """
    usual = default(architecture, variant) if architecture in DEFAULTS or public is None else public
    if method.startswith("RigL"):
        usual = dataclasses.replace(usual, interpolation="bicubic")
    if architecture in CIFAR_ARCHITECTURES and upstream == "CIFAR-100":
        numbers = NORMALISATIONS["cifar100"]
        usual = dataclasses.replace(usual, mean=numbers.mean, std=numbers.std)
    return usual


def chosen(spec: ImportSpec, guessed: Transform) -> Transform:
    """``guessed``, with what the spec asks for in its place. Raises InputError for values that contradict or are out of range."""
    if spec.normalisation and (spec.mean or spec.std):
        raise InputError("Expected either a normalisation by name or a mean and std; got both. Leave one out.")
    if bool(spec.mean) != bool(spec.std):
        raise InputError("Expected a mean and a std together, such as 0.5 and 0.5; got only one of them.")
    for name, side in (("resize", spec.resize), ("crop", spec.crop)):
        within = side is None or MIN_SIDE <= side <= MAX_SIDE
        require(within, name, f"whole pixels from {MIN_SIDE} to {MAX_SIDE}", side)
    mean, std = guessed.mean, guessed.std
    if spec.normalisation:
        known = NORMALISATIONS[spec.normalisation]
        mean, std = known.mean, known.std
    elif spec.mean:
        mean, std = (_per_channel(name, values) for name, values in (("mean", spec.mean), ("std", spec.std)))
    return Transform(
        guessed.resize if spec.resize is None else spec.resize,
        guessed.crop if spec.crop is None else spec.crop,
        mean,
        std,
        spec.interpolation or guessed.interpolation,
    )


def _per_channel(name: str, values: tuple[float, ...]) -> tuple[float, float, float]:
    """Three numbers; a single one stands for all channels."""
    if len(values) not in (1, 3):
        raise InputError(f"The {name} takes one number or three, one per channel; got {len(values)}.")
    red, green, blue = values * (3 // len(values))
    return red, green, blue
