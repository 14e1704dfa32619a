"""Images with boxes: a dataset as detectors take it, made from annotations that may be wrong in many ways. What is wrong is
left out or set right, and the notes of the dataset say so."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sparse_core.catalog import MAP
from sparse_core.datasets.contents import listed
from sparse_core.datasets.dataset import Dataset, Split, upright_size
from sparse_core.errors import InputError

METRIC = MAP
UNKNOWN_CLASS = -1
BEYOND = 1.0  # pixels that a box may reach beyond its image without a note: annotations count from 0 or 1
SMALLEST = 1.0  # pixels of each side of a box
TEST_SHARE = 0.2

_NOTES = {
    "missing": "Annotated images that cannot be found, left out",
    "unreadable": "Images that cannot be read, left out",
    "unknown": "Boxes of a class that is not in the list of classes, left out",
    "empty": "Boxes without area or finite coordinates, left out",
    "outside": "Boxes that reach beyond their image, cut at its border",
    "rotated": "Images that EXIF data rotate after they were annotated; their boxes are rotated with them",
    "unclear": "Images that EXIF data turn; their boxes are taken as they are, but may be of the image as it is stored",
    "scaled": "Images of another size than their annotations say; their boxes are scaled to it",
    "misfit": "Images of another shape than their annotations say; their boxes are taken as they are",
    "ignored": "Boxes marked as difficult or as crowds, not trained on and counted neither way in tests",
    "background": "Images without a box, trained on as background",
    "shared": "Test images that are training images, too, which makes mAP optimistic",
}


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image: ``corners`` (B, 4) float32, left, top, right and bottom in pixels of the upright image;
    ``labels`` (B,) int64; ``ignored`` (B,) are those that count neither in training nor in tests."""

    corners: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray


@dataclass
class BoxSplit(Split):
    """Images with boxes; ``labels`` (N,) are the numbers of boxes of the images."""

    boxes: list[Boxes] = field(default_factory=list)

    def only(self, rows: np.ndarray) -> "BoxSplit":
        chosen = super().only(rows)
        return BoxSplit(chosen.labels, chosen.open, chosen.names, [self.boxes[row] for row in rows])


@dataclass(frozen=True)
class BoxDataset(Dataset):
    """A dataset of ``BoxSplit``s; its metric is mAP@0.5."""

    train: BoxSplit
    test: BoxSplit


@dataclass(frozen=True)
class Annotated:
    """An image as its annotations describe it: corners (B, 4) in pixels, or in shares of width and height where ``relative``;
    labels (B,), ``UNKNOWN_CLASS`` for a class that is not listed; its ``size`` (width, height), None where it is not said."""

    image: Path
    corners: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray
    size: tuple[int, int] | None = None
    relative: bool = False


@dataclass(frozen=True)
class Annotations:
    """What the annotations of a folder say, by split. ``files`` are the annotations' own."""

    class_names: list[str]
    train: list[Annotated]
    test: list[Annotated]
    layout: str
    files: list[Path]
    notes: tuple[str, ...] = ()


def annotated(
    image: Path,
    rows: Sequence[tuple[float, float, float, float, int, bool]],
    size: tuple[int, int] | None,
    relative: bool = False,
) -> Annotated:
    """An image from rows of left, top, right, bottom, label, and whether the box is ignored."""
    table = np.array([row[:4] for row in rows], dtype=np.float64).reshape(-1, 4)
    labels = np.array([row[4] for row in rows], dtype=np.int64)
    return Annotated(image, table, labels, np.array([row[5] for row in rows], dtype=bool), size, relative)


def split_by_seed(images: list[Annotated]) -> tuple[list[Annotated], list[Annotated]]:
    """80 % of the images for training and the others for test, drawn with seed 0, each in their order."""
    order = np.random.default_rng(0).permutation(len(images))
    tested = set(order[: max(1, round(TEST_SHARE * len(images)))].tolist())
    return [each for row, each in enumerate(images) if row not in tested], [images[row] for row in sorted(tested)]


class Cleaning:
    """Makes splits from annotations, and counts what was wrong with them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def split(self, images: Sequence[Annotated]) -> BoxSplit:
        """The images that can be read, with boxes that can be used."""
        files: list[Path] = []
        boxes: list[Boxes] = []
        for each in images:
            sizes = self._sizes(each.image)
            if sizes is not None:
                files.append(each.image)
                boxes.append(self._boxes(each, *sizes))
        names = [str(file.relative_to(self._root)) if file.is_relative_to(self._root) else str(file) for file in files]
        counts = np.array([len(each.labels) for each in boxes], dtype=np.int64)
        return BoxSplit(counts, lambda row: Image.open(files[row]), names, boxes)

    def compare(self, found: "Annotations") -> None:
        """Note the images that are in both splits."""
        trained = {each.image for each in found.train}
        for each in found.test:
            self._count("shared", each.image, int(each.image in trained))

    def notes(self) -> Iterator[str]:
        """What was found, with the first images in which it was."""
        for kind, text in _NOTES.items():
            if self._counts[kind]:
                yield f"{text}: {self._counts[kind]:,} ({listed(self._examples[kind])})."

    def _count(self, kind: str, image: Path, number: int = 1) -> None:
        if number:
            self._counts[kind] += number
            self._examples.setdefault(kind, []).append(image.name)

    def _sizes(self, image: Path) -> tuple[tuple[int, int], tuple[int, int], int] | None:
        """Width and height as stored and upright, and the number of EXIF's rotation; None where the image cannot be read."""
        if not image.is_file():
            self._count("missing", image)
            return None
        try:
            with Image.open(image) as opened:
                return opened.size, upright_size(opened), opened.getexif().get(0x0112, 1)
        except Exception:  # Pillow raises a dozen kinds on damaged images
            self._count("unreadable", image)
            return None

    def _boxes(self, each: Annotated, stored: tuple[int, int], upright: tuple[int, int], turn: int) -> Boxes:
        corners = each.corners * np.tile(upright, 2) if each.relative else self._upright(each, stored, upright, turn)
        finite = np.isfinite(corners).all(axis=1)
        corners = np.where(finite[:, None], corners, 0.0)
        limits = np.tile(np.array(upright, dtype=np.float64), 2)
        cut = np.clip(corners, 0, limits)
        known = each.labels != UNKNOWN_CLASS
        usable = finite & ((cut[:, 2:] - cut[:, :2]) >= SMALLEST).all(axis=1)
        kept = known & usable
        beyond = (np.abs(cut - corners) > BEYOND).any(axis=1)
        self._count("unknown", each.image, int((~known).sum()))
        self._count("empty", each.image, int((known & ~usable).sum()))
        self._count("outside", each.image, int((kept & beyond).sum()))
        self._count("ignored", each.image, int((kept & each.ignored).sum()))
        self._count("background", each.image, int(not kept.any()))
        return Boxes(cut[kept].astype(np.float32), each.labels[kept], each.ignored[kept])

    def _upright(self, each: Annotated, stored: tuple[int, int], upright: tuple[int, int], turn: int) -> np.ndarray:
        """The corners in pixels of the upright image."""
        corners, size = each.corners, each.size
        if turn in range(2, 9) and len(corners) and (size is None or size == stored == upright):
            self._count("unclear", each.image)
        if size is None or size == upright or not len(corners):
            return corners
        if size == stored:
            self._count("rotated", each.image)
            return _turned(corners, stored, turn)
        scale = np.array(upright) / np.array(size)
        if np.ptp(scale) <= 0.01 * scale.mean():
            self._count("scaled", each.image)
            return corners * np.tile(scale, 2)
        self._count("misfit", each.image)
        return corners


def _turned(corners: np.ndarray, size: tuple[int, int], turn: int) -> np.ndarray:
    """Corners (B, 4) in an image of (width, height) as they are after EXIF's rotation ``turn``, 5 to 8, which swaps the sides."""
    width, height = size
    left, top, right, bottom = corners.T
    turned = {
        5: (top, left, bottom, right),
        6: (height - bottom, left, height - top, right),
        7: (height - bottom, width - right, height - top, width - left),
        8: (top, width - right, bottom, width - left),
    }
    return np.stack(turned[turn], axis=1)


def dataset(name: str, root: Path, found: Annotations, content: str) -> BoxDataset:
    """The dataset of these annotations; ``content`` is the hash of its files. Raises InputError where nothing can be trained or
    tested on."""
    cleaning = Cleaning(root)
    train, test = cleaning.split(found.train), cleaning.split(found.test)
    cleaning.compare(found)
    notes = (*found.notes, *cleaning.notes(), *_missing_classes(found.class_names, train, test))
    for split, what in ((train, "training"), (test, "test")):
        if all(boxes.ignored.all() for boxes in split.boxes):
            problems = " ".join(cleaning.notes())
            raise InputError(f"{root} has no box to use in its {what} images ({found.layout}). {problems}".strip())
    digest = _identity(content, found.class_names, train, test)
    return BoxDataset(name, METRIC, found.class_names, train, test, digest, found.layout, notes)


def _identity(content: str, class_names: list[str], *splits: BoxSplit) -> str:
    digest = hashlib.sha256(
        json.dumps([content, class_names, [split.names for split in splits]]).encode(errors="surrogatepass")
    )
    for split in splits:
        for boxes in split.boxes:
            digest.update(
                boxes.corners.astype("<f4").tobytes() + boxes.labels.astype("<i8").tobytes() + boxes.ignored.tobytes()
            )
    return digest.hexdigest()


def _missing_classes(class_names: list[str], train: BoxSplit, test: BoxSplit) -> Iterator[str]:
    present = [{int(label) for boxes in split.boxes for label in boxes.labels} for split in (train, test)]
    for seen, what in zip(present, ("training", "test"), strict=True):
        missing = [name for label, name in enumerate(class_names) if label not in seen]
        if missing:
            yield f"The {what} split has no box of {len(missing)} of the classes: {listed(missing)}."
