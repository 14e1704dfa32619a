"""The images of a split as a network's input: decoded in parallel ahead of their use, and kept where memory allows."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sparse_core import linux
from sparse_core.datasets.dataset import Split, upright_rgb, upright_size
from sparse_core.datasets.transforms import Transform, prepare

# The defaults of torchvision's RandomResizedCrop, which the paper uses: share of the area, width over height.
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
CROP_TRIES = 10
SHIFTED_PART = 8
AHEAD = 2  # batches that are decoded while one is in use
SMALL_SIDE = 64  # pixels; images up to this size are kept in one array where memory allows

Box = tuple[int, int, int, int]  # left, top, width, height in pixels


class ImageLoader:
    """The images of ``split``, prepared as ``transform`` says; up to ``budget`` bytes of decoded images are kept.

    A ``stream`` keeps none, and decodes a large JPEG at a half, a quarter or an eighth of its size where its random crop
    allows it, which takes a fraction of the time.
    """

    def __init__(self, split: Split, transform: Transform, budget: int = 0, *, stream: bool = False) -> None:
        self.split, self.transform, self.budget, self.is_stream = split, transform, budget, stream
        self._kept: dict[int, np.ndarray] = {}
        self._kept_bytes = 0
        self._whole: np.ndarray | None = None

    def centre_cropped(self, row: int) -> np.ndarray:
        """Image ``row`` for evaluation: resized and centre cropped, (crop, crop, 3) uint8."""
        return self._keep(row, lambda: prepare(self.split.load(row), self.transform))

    def augmented(self, row: int, seed: int, epoch: int) -> np.ndarray:
        """Image ``row`` for training: random resized crop and flip, (crop, crop, 3) uint8.

        The crop depends on seed, epoch and row alone, so a resumed training sees the same ones. One loader serves either
        ``centre_cropped`` or ``augmented``, not both: they keep different images.
        """
        generator = np.random.default_rng([seed, epoch, row])
        image, (left, top, width, height) = (self._reduced if self.is_stream else self._full)(row, generator)
        cropped = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width]))
        # Torch resizes uint8 faster than Pillow, above all channels last, to the same pixels except for rounding.
        size = (self.transform.crop, self.transform.crop)
        channels_first = cropped[None].permute(0, 3, 1, 2)
        resized = F.interpolate(channels_first, size, mode=self.transform.interpolation, antialias=True)
        image = resized[0].permute(1, 2, 0).numpy()
        return image[:, ::-1] if generator.random() < 0.5 else image

    def centre_cropped_batches(self, rows: Sequence[int], size: int) -> Iterator[np.ndarray]:
        """Images of ``rows`` in their order as ``centre_cropped`` gives them, (N, crop, crop, 3) uint8 with N up to ``size``.

        Small images are all decoded at the first call: taking them one by one from threads would take longer than a step of a
        small network.
        """
        if self.transform.crop > SMALL_SIDE or 3 * self.transform.crop**2 * len(self.split.labels) > self.budget:
            return batches(self.centre_cropped, rows, size)
        if self._whole is None:
            self._whole = self._decode_all()
        whole, chosen = self._whole, np.asarray(rows)
        return (whole[chosen[start : start + size]] for start in range(0, len(chosen), size))

    def _decode_all(self) -> np.ndarray:
        side, count = self.transform.crop, len(self.split.labels)
        whole = np.empty((count, side, side, 3), np.uint8)

        def fill(row: int) -> None:
            whole[row] = prepare(self.split.load(row), self.transform)

        with ThreadPoolExecutor(linux.cores()) as pool:
            list(pool.map(fill, range(count)))
        return whole

    def _full(self, row: int, generator: np.random.Generator) -> tuple[np.ndarray, Box]:
        """Image ``row`` (H, W, 3) and a random crop of it."""
        image = self._keep(row, lambda: np.array(self.split.load(row)))
        return image, random_crop(image.shape[1], image.shape[0], generator)

    def _reduced(self, row: int, generator: np.random.Generator) -> tuple[np.ndarray, Box]:
        """The same with the image decoded as small as possible, the crop no smaller than the network's input."""
        opened = self.split.open(row)
        width, height = upright_size(opened)
        left, top, crop_width, crop_height = random_crop(width, height, generator)
        scale = min(crop_width, crop_height) // self.transform.crop
        if scale > 1:
            opened.draft("RGB", (opened.width // scale, opened.height // scale))  # has no effect on other formats
        image = np.array(upright_rgb(opened))
        x, y = image.shape[1] / width, image.shape[0] / height
        left, right = round(left * x), round((left + crop_width) * x)
        top, bottom = round(top * y), round((top + crop_height) * y)
        return image, (left, top, right - left, bottom - top)

    def _keep(self, row: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
        kept = self._kept.get(row)
        if kept is not None:
            return kept
        decoded = decode()
        if self._kept_bytes + decoded.nbytes <= self.budget:
            self._kept_bytes += decoded.nbytes
            self._kept[row] = decoded
        return decoded


def random_crop(width: int, height: int, generator: np.random.Generator) -> Box:
    """A random crop as torchvision's RandomResizedCrop draws it (the rule of Inception's training)."""
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    for _ in range(CROP_TRIES):
        area = width * height * generator.uniform(*CROP_AREA)
        ratio = math.exp(generator.uniform(low, high))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = generator.integers(width - crop_width + 1)
            top = generator.integers(height - crop_height + 1)
            return int(left), int(top), crop_width, crop_height
    crop_width = min(width, round(height * CROP_RATIO[1]))
    crop_height = min(height, round(width / CROP_RATIO[0]))
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def shifted(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Images (N, H, W, 3), each moved by up to an eighth of its side with zeros beyond its border, and half of them flipped: the
    augmentation of small images, 4 pixels of 32 (He et al., CVPR 2016, section 4.2)."""
    count, height, width, _ = images.shape
    most = max(1, height // SHIFTED_PART)
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))
    down, right = generator.integers(2 * most + 1, size=(2, count))
    moved = windows[np.arange(count), down, right].transpose(0, 2, 3, 1)
    flipped = np.less(generator.random(count), 0.5)
    moved[flipped] = moved[flipped, :, ::-1]
    return moved


def batches(image: Callable[[int], np.ndarray], rows: Sequence[int], size: int) -> Iterator[np.ndarray]:
    """Images of ``rows`` in their order, (N, H, W, 3) uint8 with N up to ``size``; ``AHEAD`` batches are prefetched."""
    pool = ThreadPoolExecutor(linux.cores())
    waiting = iter(rows)
    queue = deque(pool.submit(image, row) for row in itertools.islice(waiting, (1 + AHEAD) * size))
    try:
        while queue:
            batch = np.stack([queue.popleft().result() for _ in range(min(size, len(queue)))])
            queue.extend(pool.submit(image, row) for row in itertools.islice(waiting, len(batch)))
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def normalised(
    images: np.ndarray,
    transform: Transform,
    memory_format: torch.memory_format = torch.channels_last,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Images (N, H, W, 3) uint8 as a network's input, (N, 3, H, W) float32: written to ``out``, or to a new tensor."""
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2)
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
    batch = torch.empty(channels_first.shape, memory_format=memory_format) if out is None else out
    return batch.copy_(channels_first).sub_(mean).mul_(1 / std)
