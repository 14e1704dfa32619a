"""Preprocessing of images for evaluation: resizing, cropping, and each channel's scale. Needs no torch."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_ASPECT_RATIO = 16  # only the crop of longer images is resized
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Transform:
    """How an image becomes the network's input: shorter side to ``resize``, centre crop of ``crop`` pixels, scaled to
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
