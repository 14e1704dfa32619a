"""The images of a split as a network's input: decoded in parallel, ahead of their use, and kept where memory allows."""

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sparse_core.datasets.datasets import Split, upright_rgb, upright_size
from sparse_core.datasets.transforms import Transform, prepare

# The ranges of torchvision's RandomResizedCrop, which the study uses: share of the area, width over height.
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
CROP_TRIES = 10


class Images:
    """The images of ``split``, prepared for ``transform``; up to ``budget`` bytes of them are kept decoded.

    In a ``stream`` nothing is kept, and a large JPEG is decoded no larger than its random crop needs it: at a half, a quarter
    or an eighth, which takes a fraction of the time.
    """

    def __init__(self, split: Split, transform: Transform, budget: int = 0, *, stream: bool = False) -> None:
        self.split, self.transform, self.budget, self.is_stream = split, transform, budget, stream
        self._kept: dict[int, np.ndarray] = {}
        self._kept_bytes = 0

    def whole(self, row: int) -> np.ndarray:
        """Image ``row`` as it is tested: resized and centre cropped, (crop, crop, 3) uint8."""
        return self._keep(row, lambda: prepare(self.split.load(row), self.transform))

    def augmented(self, row: int, seed: int, epoch: int) -> np.ndarray:
        """Image ``row`` as it is trained on: random resized crop and flip, (crop, crop, 3) uint8.

        Seed, epoch and row alone decide which crop, so a resumed training sees the same ones. A split's images are asked
        for either whole or augmented, never both.
        """
        generator = np.random.default_rng([seed, epoch, row])
        image, (left, top, width, height) = (self._reduced if self.is_stream else self._full)(row, generator)
        cropped = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width]))
        # Torch resizes bytes faster than Pillow, channels last above all, to the same pixels but for rounding.
        side = self.transform.crop
        given = cropped[None].permute(0, 3, 1, 2)
        resized = F.interpolate(given, (side, side), mode=self.transform.interpolation, antialias=True)
        made = resized[0].permute(1, 2, 0).numpy()
        return made[:, ::-1] if generator.random() < 0.5 else made

    def _full(self, row: int, generator: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        """Image ``row`` (H, W, 3) and the crop drawn in it."""
        image = self._keep(row, lambda: np.array(self.split.load(row)))
        return image, random_crop(image.shape[1], image.shape[0], generator)

    def _reduced(self, row: int, generator: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        """The same, as small as leaves the crop not smaller than what is made of it."""
        opened = self.split.open(row)
        width, height = upright_size(opened)
        left, top, wide, tall = random_crop(width, height, generator)
        scale = min(wide, tall) // self.transform.crop
        if scale > 1:
            opened.draft("RGB", (opened.width // scale, opened.height // scale))  # does nothing to what is no JPEG
        image = np.array(upright_rgb(opened))
        across, down = image.shape[1] / width, image.shape[0] / height
        edges = [round(left * across), round(top * down), round((left + wide) * across), round((top + tall) * down)]
        return image, (edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1])

    def _keep(self, row: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
        kept = self._kept.get(row)
        if kept is not None:
            return kept
        decoded = decode()
        if self._kept_bytes + decoded.nbytes <= self.budget:
            self._kept_bytes += decoded.nbytes
            self._kept[row] = decoded
        return decoded


def random_crop(width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width and height of a crop drawn as torchvision's RandomResizedCrop draws it (Inception's rule)."""
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    for _ in range(CROP_TRIES):
        area = width * height * generator.uniform(*CROP_AREA)
        ratio = math.exp(generator.uniform(low, high))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = generator.integers(width - wide + 1), generator.integers(height - tall + 1)
            return int(left), int(top), wide, tall
    wide = min(width, round(height * CROP_RATIO[1]))
    tall = min(height, round(width / CROP_RATIO[0]))
    return (width - wide) // 2, (height - tall) // 2, wide, tall


def batches(
    image: Callable[[int], np.ndarray], rows: Sequence[int], size: int, *, ahead: int = 2
) -> Iterator[np.ndarray]:
    """Images of ``rows`` in their order, (N, H, W, 3) uint8 with N up to ``size``; ``ahead`` batches are made in advance."""
    pool = ThreadPoolExecutor(os.cpu_count())
    waiting = iter(rows)
    queue: deque[Future[np.ndarray]] = deque(
        pool.submit(image, row) for row in itertools.islice(waiting, (1 + ahead) * size)
    )
    try:
        while queue:
            made = np.stack([queue.popleft().result() for _ in range(min(size, len(queue)))])
            queue.extend(pool.submit(image, row) for row in itertools.islice(waiting, len(made)))
            yield made
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def normalised(
    images: np.ndarray,
    transform: Transform,
    memory_format: torch.memory_format = torch.channels_last,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Images (N, H, W, 3) uint8 as a network's input, (N, 3, H, W) float32: ``out``, or new, laid out as asked for."""
    given = torch.from_numpy(images).permute(0, 3, 1, 2)
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
    made = torch.empty(given.shape, memory_format=memory_format) if out is None else out
    return made.copy_(given).sub_(mean).mul_(1 / std)
