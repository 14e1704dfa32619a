"""A dataset as all other code sees it: two splits of labelled images, each image opened when it is needed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import ExifTags, Image, ImageOps


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


def upright_rgb(image: Image.Image) -> Image.Image:
    """The image rotated as its EXIF data says, in RGB; transparent parts become white, 16-bit grey is scaled to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        return Image.fromarray((values / (257 if values.max() > 255 else 1)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after the rotation that the EXIF data asks for, read from the header without decoding."""
    swaps_sides = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return image.size[::-1] if swaps_sides else image.size
