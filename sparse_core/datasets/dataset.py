"""A dataset as all other code sees it: two splits of labelled images, each image opened when it is needed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import ExifTags, Image

TURNS = {  # by EXIF's number of the orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass
class Split:
    """Images with labels (N,) int64. ``open(row)`` gives an image as stored, ``load(row)`` as upright RGB."""

    labels: np.ndarray
    open: Callable[[int], Image.Image]
    names: list[str] = field(default_factory=list)  # one per image, for messages about it

    def load(self, row: int) -> Image.Image:
        return upright_rgb(self.open(row))

    def without(self, dropped: list[int]) -> "Split":
        """The split without these rows."""
        return self.only(np.setdiff1d(np.arange(len(self.labels)), dropped))

    def only(self, rows: np.ndarray) -> "Split":
        """The split of these rows, in their order."""
        names = [self.names[row] for row in rows] if self.names else []
        return Split(self.labels[rows], lambda row: self.open(int(rows[row])), names)


@dataclass(frozen=True)
class Dataset:
    """A dataset to transfer to. ``hash`` identifies its content: images, class names, labels and split. ``metric`` is
    ``top1`` or ``mean_per_class``; ``layout`` says where the split comes from; ``notes`` are warnings for the user. ``task``
    is the id of the built-in dataset or the paper's task that it was opened as; empty for a user's folder or file, whatever
    it is called."""

    id: str
    metric: str
    class_names: list[str]
    train: Split
    test: Split
    hash: str
    layout: str
    notes: tuple[str, ...] = ()
    task: str = ""


class UnknownRangeError(ValueError):
    """An image whose values have no known range, so that its brightness is unknown."""


def upright_rgb(image: Image.Image) -> Image.Image:
    """The image rotated as its EXIF data says, in RGB; transparent parts become white, 16-bit grey is scaled to 8. Raises
    UnknownRangeError for floating point values and 32-bit integers."""
    turn = TURNS.get(_orientation(image))
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after the rotation that the EXIF data asks for, read from the header without decoding."""
    return image.size[::-1] if _orientation(image) >= 5 else image.size


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF numbers them; 1, upright, where there is none or the image states something else. Only this entry is looked
    at: others may be damaged."""
    value = image.getexif().get(ExifTags.Base.Orientation)
    return value if type(value) is int and value in TURNS else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey."""
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floating point values" if image.mode == "F" else "32-bit integers"
        raise UnknownRangeError(f"Its values are {kind}, whose range is not known: save such images with 8 or 16 bits.")
    return Image.fromarray(np.rint(np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
