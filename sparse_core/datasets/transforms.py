"""Preprocessing of images for evaluation: resizing, cropping, and each channel's scale. Needs no torch."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sparse_core.catalog import INTERPOLATIONS, MAX_SIDE, NORMALISATIONS
from sparse_core.errors import InputError
from sparse_core.specs.checks import require, require_known

MAX_ASPECT_RATIO = 16  # only the crop of longer images is resized
FILTERS = dict(zip(INTERPOLATIONS, (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC), strict=True))


@dataclass(frozen=True)
class Transform:
    """How an image becomes the network's input: shorter side to ``resize``, centre crop of ``crop`` pixels, scaled to
    0..1, then (x − mean) / std for each channel. ``interpolation`` is bilinear or bicubic.

    Its ``repr`` is part of a network's content hash. Raises InputError for values that no network is prepared with.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            require(len(values) == 3, f"The {name}", "three numbers, one per channel", getattr(self, name))
            object.__setattr__(self, name, values)
        for name in ("resize", "crop"):
            side = getattr(self, name)
            require(isinstance(side, int) and 1 <= side <= MAX_SIDE, name, f"whole pixels from 1 to {MAX_SIDE}", side)
        expected = "from 0 to 1, because pixels are scaled to 0..1 first (divide by 255)"
        require(all(0 <= value <= 1 for value in self.mean), "The mean of each channel", expected, self.mean)
        positive = all(0 < value < math.inf for value in self.std)
        require(positive, "The std of each channel", "finite and above 0", self.std)
        require(self.crop <= self.resize, "crop", f"at most resize, {self.resize} pixels", self.crop)
        require_known("interpolation", self.interpolation, INTERPOLATIONS)

    @property
    def normalisation(self) -> str:
        """The key of ``catalog.NORMALISATIONS`` with this mean and std; "" for other numbers."""
        known = ((key, (each.mean, each.std)) for key, each in NORMALISATIONS.items())
        return next((key for key, values in known if values == (self.mean, self.std)), "")

    @property
    def description(self) -> str:
        """One line for the user, such as "ImageNet, 256 → 224 px, bilinear"."""
        key = self.normalisation
        scale = f"mean {_numbers(self.mean)}, std {_numbers(self.std)}"
        return f"{NORMALISATIONS[key].name if key else scale}, {self.resize} → {self.crop} px, {self.interpolation}"

    def at(self, side: int) -> "Transform":
        """The same for a network's input of ``side`` pixels: the shorter side is resized in proportion."""
        resize = max(side, round(self.resize * side / self.crop))
        return dataclasses.replace(self, resize=min(resize, MAX_SIDE), crop=side)

    def document(self) -> dict[str, Any]:
        """The transform as JSON has it; ``from_document`` reads it."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}


def from_document(document: Mapping[str, Any]) -> Transform:
    """The transform in a JSON document. Raises InputError for a document that is not one."""
    try:
        return Transform(**document)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"Not a description of preprocessing: {error}") from error


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _usual(normalisation: str, resize: int, crop: int, interpolation: str = "bilinear") -> Transform:
    usual = NORMALISATIONS[normalisation]
    return Transform(resize, crop, usual.mean, usual.std, interpolation)


IMAGENET = _usual("imagenet", 256, 224)
IMAGENET_BICUBIC = _usual("imagenet", 256, 224, "bicubic")
LITE = _usual("efficientnet_lite", 256, 224, "bicubic")
CIFAR = _usual("cifar10", 32, 32)
DETECTION = _usual("unit", 640, 640)  # of whole images, with grey beside them where they are not square


def prepare(image: Image.Image, transform: Transform) -> np.ndarray:
    """An image as (crop, crop, 3) uint8: shorter side resized, centre cropped, as torchvision's transforms do."""
    short, crop, resampling = min(image.size), transform.crop, FILTERS[transform.interpolation]
    width, height = (transform.resize * side // short for side in image.size)
    left, top = (round((side - crop) / 2) for side in (width, height))
    if max(image.size) > MAX_ASPECT_RATIO * short:
        # The whole resized image could take gigabytes. Pillow may resize the two directions in the other order here, which
        # rounds differently, so ordinary images do not take this path.
        x, y = image.width / width, image.height / height
        box = (left * x, top * y, (left + crop) * x, (top + crop) * y)
        return np.asarray(image.resize((crop, crop), resampling, box=box))
    return np.asarray(image.resize((width, height), resampling).crop((left, top, left + crop, top + crop)))
