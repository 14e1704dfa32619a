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
    short = min(image.size)
    resized = [transform.resize * side // short for side in image.size]
    left, top = (round((side - transform.crop) / 2) for side in resized)
    crop = (left, top, left + transform.crop, top + transform.crop)
    if max(image.size) > MAX_ASPECT_RATIO * short:
        return np.asarray(_resize_within(image, resized, crop, transform))
    width, height = resized
    return np.asarray(image.resize((width, height), FILTERS[transform.interpolation]).crop(crop))


def _resize_within(
    image: Image.Image, resized: list[int], crop: tuple[int, int, int, int], transform: Transform
) -> Image.Image:
    """The same with only the crop resized, because the whole resized image could take gigabytes. Pillow may then resize
    the two directions in the other order, which rounds differently, so ordinary images do not take this path."""
    x, y = (before / after for before, after in zip(image.size, resized, strict=True))
    left, top, right, bottom = crop
    box = (left * x, top * y, right * x, bottom * y)
    return image.resize((transform.crop, transform.crop), FILTERS[transform.interpolation], box=box)
