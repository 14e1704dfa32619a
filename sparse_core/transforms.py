"""How a picture becomes a network's input: resizing, cropping, and the scale of each channel. No torch needed."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Transform:
    """How a picture becomes the network's input: shorter side to ``resize``, centre crop of ``crop`` pixels, scaled to
    0..1, then (x − mean) / std for each channel. ``interpolation`` is bilinear or bicubic."""

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"


IMAGENET = Transform(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGENET_BICUBIC = Transform(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic")
LITE = Transform(256, 224, (0.498, 0.498, 0.498), (0.502, 0.502, 0.502), "bicubic")
CIFAR = Transform(32, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def shorter_side(picture: Image.Image, transform: Transform) -> Image.Image:
    """The picture with its shorter side resized to ``transform.resize`` pixels, as torchvision's Resize does."""
    width, height = picture.size
    short = min(width, height)
    size = (transform.resize * width // short, transform.resize * height // short)
    return picture.resize(size, FILTERS[transform.interpolation])


def prepare(picture: Image.Image, transform: Transform) -> np.ndarray:
    """A picture as (crop, crop, 3) uint8: shorter side resized, centre cropped, as torchvision's transforms do."""
    resized = shorter_side(picture, transform)
    left, top = (round((side - transform.crop) / 2) for side in resized.size)
    return np.asarray(resized.crop((left, top, left + transform.crop, top + transform.crop)))
