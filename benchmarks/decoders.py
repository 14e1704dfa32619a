"""Time to load a JPEG for training, by method: decode, random resized crop to 224 pixels, flip.

    python -m benchmarks.decoders [--images FOLDER] [--count 256] [--rounds 7]

Methods: Pillow alone; Pillow with ``draft``, which decodes at half size or less where the crop allows it; torchvision's
decode_jpeg with its v2 transforms; and the product's, Pillow with ``draft`` and then torch's resizing. Each runs on one thread
and on one thread per core, in turn; results are medians over rounds, each with new crops. A ratio is the speedup over Pillow
alone, with one thread per core. ``gain_of_threads`` is the speedup of one thread per core over one thread: near the number of
cores, processes could not be faster. FOLDER holds JPEGs, best with 256 pixels on the shorter side; without it they are generated.
Expected: the product's method is at least as fast as torchvision's, within the noise of a run. Prints one JSON line.
"""

import functools
import io
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import io as torchvision_io
from torchvision.transforms import v2

from benchmarks import harness
from benchmarks.online_training import cropped_photographs
from sparse_core.datasets.dataset import Split
from sparse_core.datasets.loading import ImageLoader, random_crop
from sparse_core.datasets.transforms import IMAGENET

SIDE = IMAGENET.crop
FROM_TENSOR = v2.Compose([v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()])
Method = Callable[[bytes, int, int], object]  # a file's content, its row and the round


def main() -> None:
    given = harness.parser(__doc__, images="", count=256, rounds=7).parse_args()
    cores = os.cpu_count() or 1
    files = contents(given.images, given.count)
    split = Split(np.zeros(len(files)), lambda row: Image.open(io.BytesIO(files[row])))
    loader = ImageLoader(split, IMAGENET, stream=True)
    methods: dict[str, Method] = {
        "pillow": pillow,
        "pillow_draft": functools.partial(pillow, draft=True),
        "torchvision_v2": torchvision_v2,
        "product": lambda _, row, round_: loader.augmented(row, 0, round_),
    }
    variants = [(name, threads) for name in methods for threads in sorted({1, cores})]
    samples: dict[tuple[str, int], list[float]] = {variant: [] for variant in variants}
    for round_ in range(given.rounds + 1):
        for name, threads in variants:
            seconds = seconds_for(methods[name], files, threads, round_)
            if round_:  # the first warms up
                samples[name, threads].append(1000 * seconds / len(files))
    milliseconds = {variant: float(np.median(values)) for variant, values in samples.items()}
    harness.report(
        "decoders",
        given,
        **{f"ratio_{name}": round(milliseconds["pillow", cores] / milliseconds[name, cores], 2) for name in methods},
        gain_of_threads={name: round(milliseconds[name, 1] / milliseconds[name, cores], 2) for name in methods},
        milliseconds_per_image={
            f"{name}, {threads} thread{'s' * (threads > 1)}": round(value, 2)
            for (name, threads), value in milliseconds.items()
        },
        images="given" if given.images else "made",
        image_count=len(files),
    )


def contents(folder: str, count: int) -> list[bytes]:
    """The content of up to ``count`` JPEGs in a folder and those below it, or of generated ones, evenly spaced."""
    with tempfile.TemporaryDirectory() as temporary:
        files = sorted(Path(folder or cropped_photographs(Path(temporary))).rglob("*.jp*g"))
        return [file.read_bytes() for file in files[:: max(1, len(files) // count)][:count]]


def seconds_for(method: Method, files: Sequence[bytes], threads: int, round_: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        return harness.seconds(
            lambda: deque(pool.map(method, files, range(len(files)), [round_] * len(files)), maxlen=0)
        )


def pillow(content: bytes, row: int, round_: int, *, draft: bool = False) -> np.ndarray:
    generator = np.random.default_rng([row, round_])
    opened = Image.open(io.BytesIO(content))
    size = opened.size
    left, top, width, height = random_crop(*size, generator)
    if draft:
        scale = max(1, min(width, height) // SIDE)
        opened.draft("RGB", (size[0] // scale, size[1] // scale))
    image = opened.convert("RGB")
    x, y = image.width / size[0], image.height / size[1]
    box = (left * x, top * y, (left + width) * x, (top + height) * y)
    resized = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    return resized[:, ::-1] if generator.random() < 0.5 else resized


def torchvision_v2(content: bytes, row: int, round_: int) -> torch.Tensor:
    encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return FROM_TENSOR(torchvision_io.decode_jpeg(encoded, torchvision_io.ImageReadMode.RGB))


if __name__ == "__main__":
    main()
