"""Images with their boxes as a detector's input: letterboxed, and in training augmented with torchvision's transforms for
boxes."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from sparse_core import linux
from sparse_core.datasets.boxes import Boxes, BoxSplit

GREY = 114  # of 255: what lies beside an image that is not square
ZOOM = (1.0, 2.0)  # times that the canvas may be as wide and as high as the image
AHEAD = 2
_drawing = threading.Lock()  # torchvision's transforms draw from torch's global generator


@dataclass(frozen=True)
class Loaded:
    """An image (side, side, 3) uint8, its boxes in pixels of it, and how it was made: original pixels times ``scale`` plus
    ``shift`` (x, y)."""

    image: np.ndarray
    boxes: Boxes
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


class BoxLoader:
    """The images of a split for inputs of ``side`` pixels; up to ``budget`` bytes of decoded images are kept."""

    def __init__(self, split: BoxSplit, side: int, budget: int) -> None:
        self.split, self.side, self.budget = split, side, budget
        self._kept: dict[int, np.ndarray] = {}
        self._kept_bytes = 0

    def whole(self, row: int) -> Loaded:
        """Image ``row`` as a whole, letterboxed."""
        return self._letterboxed(torch.from_numpy(self._decoded(row)).permute(2, 0, 1), self.split.boxes[row])

    def augmented(self, row: int, seed: int, epoch: int) -> Loaded:
        """Image ``row`` for training: zoomed out, cropped, flipped and changed in colour, each at random, then letterboxed. It
        depends on seed, epoch and row alone. Ignored boxes are left out."""
        image = torch.from_numpy(self._decoded(row)).permute(2, 0, 1)
        boxes = self.split.boxes[row]
        counted = ~boxes.ignored
        corners = tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes.corners[counted]), format="XYXY", canvas_size=tuple(image.shape[1:])
        )
        found = {"image": tv_tensors.Image(image), "boxes": corners, "labels": torch.from_numpy(boxes.labels[counted])}
        with _drawing, torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([seed, epoch, row]).generate_state(1)[0]))
            found = _GEOMETRY(found) if counted.any() else found
            colours = torch.get_rng_state()
        labels = found["labels"].numpy()
        kept = Boxes(found["boxes"].numpy(), labels, np.zeros(len(labels), bool))
        loaded = self._letterboxed(found["image"], kept)
        with _drawing, torch.random.fork_rng(devices=[]):
            torch.set_rng_state(colours)
            changed = _COLOURS(tv_tensors.Image(torch.from_numpy(loaded.image).permute(2, 0, 1)))
        return Loaded(changed.permute(1, 2, 0).contiguous().numpy(), loaded.boxes)

    def _letterboxed(self, image: Tensor, boxes: Boxes) -> Loaded:
        """An image (3, H, W) uint8 resized so that its longer side is ``side``, in the middle of a grey square."""
        height, width = image.shape[1:]
        scale = self.side / max(height, width)
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        resized = v2.functional.resize(torch.as_tensor(image), size, antialias=True)
        top, left = (self.side - size[0]) // 2, (self.side - size[1]) // 2
        canvas = np.full((self.side, self.side, 3), GREY, np.uint8)
        canvas[top : top + size[0], left : left + size[1]] = resized.permute(1, 2, 0).numpy()
        shift = np.tile(np.array([left, top], np.float32), 2)
        return Loaded(canvas, Boxes(boxes.corners * scale + shift, boxes.labels, boxes.ignored), scale, (left, top))

    def _decoded(self, row: int) -> np.ndarray:
        kept = self._kept.get(row)
        if kept is None:
            kept = np.array(self.split.load(row))
            if self._kept_bytes + kept.nbytes <= self.budget:
                self._kept_bytes += kept.nbytes
                self._kept[row] = kept
        return kept

    def batches(
        self, rows: Sequence[int], size: int, seed: int | None = None, epoch: int = 0
    ) -> Iterator[list[Loaded]]:
        """The images of ``rows`` in their order, up to ``size`` at once; augmented where there is a ``seed``, else whole."""

        def load(row: int) -> Loaded:
            return self.whole(row) if seed is None else self.augmented(row, seed, epoch)

        pool = ThreadPoolExecutor(linux.cores())
        waiting: deque[Future[Loaded]] = deque()
        left = iter(rows)
        try:
            while True:
                while len(waiting) < (1 + AHEAD) * size and (row := next(left, None)) is not None:
                    waiting.append(pool.submit(load, row))
                if not waiting:
                    return
                yield [waiting.popleft().result() for _ in range(min(size, len(waiting)))]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_GEOMETRY = v2.Compose(
    [
        v2.RandomZoomOut(fill=GREY, side_range=ZOOM),
        v2.RandomIoUCrop(),
        v2.RandomHorizontalFlip(),
        v2.SanitizeBoundingBoxes(min_size=2),
    ]
)
_COLOURS = v2.RandomPhotometricDistort()
