"""Whether feature extraction keeps the machine busy: end to end against decoding and the backbone, each alone.

    python -m benchmarks.feature_speed [--backbone NAME] [--dataset FOLDER] [--images 256] [--rounds 3]

Decoding and resizing alone gives an images a second, the backbone alone b, each with all cores. Nothing can be faster than
1 / (1/a + 1/b) where both need the same cores; the ratio is the end-to-end pace over that. The three take turns; the ratio is
the median over rounds. Without ``--dataset`` the images are made: JPEGs of 500 × 375 pixels. Prints one JSON line.
"""

import argparse
import io
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Split
from sparse_core.datasets.transforms import prepare
from sparse_core.engines.machine import machine
from sparse_core.networks import backbones
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import default_home
from sparse_core.transfer import features


def made_images(count: int) -> Split:
    """JPEGs with detail at every scale, as photographs have it."""
    generator = np.random.default_rng(0)

    def made() -> bytes:
        layers = [generator.integers(0, 255, (375 // scale + 1, 500 // scale + 1, 3)) for scale in (4, 16, 64)]
        enlarged = [
            np.asarray(
                Image.fromarray(layer.astype(np.uint8)).resize((500, 375), Image.Resampling.BICUBIC), dtype=float
            )
            for layer in layers
        ]
        stream = io.BytesIO()
        Image.fromarray(np.mean(enlarged, axis=0).astype(np.uint8)).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    images = [made() for _ in range(count)]
    return Split(np.zeros(count, dtype=np.int64), lambda row: Image.open(io.BytesIO(images[row])))


def pace(count: int, work: Callable[[], object]) -> float:
    """Images a second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def decode_alone(backbone: Backbone, split: Split, rows: list[int]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda row: prepare(split.load(row), backbone.transform), rows):
            pass


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--backbone", default="efficientnet_lite0")
    options.add_argument("--dataset", help="a name, a folder or a Parquet file; made images by default")
    options.add_argument("--images", type=int, default=256)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--precision", choices=features.PRECISIONS, default="fp32")
    given = options.parse_args()

    backbone = backbones.load(default_home(), given.backbone)
    split = catalogue.load(default_home(), given.dataset).train if given.dataset else made_images(given.images)
    rows = [number % len(split.labels) for number in range(given.images)]
    ready = np.stack([prepare(split.load(row), backbone.transform) for row in rows])

    def backbone_alone() -> None:
        for batch in np.split(ready, range(features.BATCH, len(ready), features.BATCH)):
            features.forward(backbone, batch, given.precision)

    def end_to_end() -> None:
        for _ in features.extract_with_torch(backbone, given.precision, split, rows):
            pass

    paces: dict[str, list[float]] = {"decode_alone": [], "backbone_alone": [], "end_to_end": []}
    features.time_sample(backbone, split, 4 * features.BATCH, precision=given.precision)
    for _ in range(given.rounds):
        paces["decode_alone"].append(pace(len(rows), lambda: decode_alone(backbone, split, rows)))
        paces["backbone_alone"].append(pace(len(rows), backbone_alone))
        paces["end_to_end"].append(pace(len(rows), end_to_end))
    ratios = [whole * (1 / a + 1 / b) for a, b, whole in zip(*paces.values(), strict=True)]
    print(
        json.dumps(
            {
                "benchmark": "feature_speed",
                "ratio_to_both_alone": round(statistics.median(ratios), 3),
                "images_per_second": {name: [round(value, 1) for value in values] for name, values in paces.items()},
                "backbone": given.backbone,
                "precision": given.precision,
                "images": "made" if not given.dataset else "given",
                "image_count": len(rows),
                "threads": torch.get_num_threads(),
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
