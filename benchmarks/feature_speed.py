"""Whether feature extraction uses all cores: end to end against decoding alone and the backbone alone.

    python -m benchmarks.feature_speed [--backbone NAME] [--dataset DATASET] [--images 256] [--rounds 3]

Decoding and resizing alone runs at a images/s, the backbone alone at b, each with all cores. As both need the same cores, the
limit is 1 / (1/a + 1/b); the ratio is the end-to-end images/s over that limit, the median over rounds. The three take turns.
DATASET is a name, a folder or a Parquet file; by default, synthetic JPEGs of 500 × 375 pixels. Prints one JSON line.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from benchmarks import harness
from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Split
from sparse_core.datasets.transforms import prepare
from sparse_core.networks import backbones
from sparse_core.paths import default_home
from sparse_core.transfer import features


def synthetic_images(count: int) -> Split:
    """JPEGs with detail at every scale, as in photographs."""
    generator = np.random.default_rng(0)

    def noise(scale: int) -> np.ndarray:
        pixels = generator.integers(0, 255, (375 // scale + 1, 500 // scale + 1, 3)).astype(np.uint8)
        return np.asarray(Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC), dtype=float)

    def jpeg() -> bytes:
        pixels = np.mean([noise(scale) for scale in (4, 16, 64)], axis=0).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    images = [jpeg() for _ in range(count)]
    return Split(np.zeros(count, dtype=np.int64), lambda row: Image.open(io.BytesIO(images[row])))


def main() -> None:
    options = harness.parser(__doc__, backbone="efficientnet_lite0", dataset="", images=256, rounds=3)
    options.add_argument("--precision", choices=features.PRECISIONS, default="fp32")
    given = options.parse_args()
    backbone = backbones.load(default_home(), given.backbone)
    split = catalogue.load(default_home(), given.dataset).train if given.dataset else synthetic_images(given.images)
    rows = [number % len(split.labels) for number in range(given.images)]

    def decode(row: int) -> np.ndarray:
        return prepare(split.load(row), backbone.transform)

    def decode_alone() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode, rows):
                pass

    def backbone_alone() -> None:
        for batch in np.split(decoded, range(features.BATCH, len(decoded), features.BATCH)):
            features.forward(backbone, batch, given.precision)

    def end_to_end() -> None:
        for _ in features.extract_with_torch(backbone, given.precision, split, rows):
            pass

    decoded = np.stack([decode(row) for row in rows])
    features.time_sample(backbone, split, 4 * features.BATCH, precision=given.precision)
    works = {"decode_alone": decode_alone, "backbone_alone": backbone_alone, "end_to_end": end_to_end}
    seconds = harness.seconds_in_turn(works, given.rounds)
    alone = np.add(seconds["decode_alone"], seconds["backbone_alone"])
    paces = {name: [len(rows) / value for value in values] for name, values in seconds.items()}
    harness.report(
        "feature_speed",
        given,
        ratio_to_both_alone=round(harness.median_ratio(alone, seconds["end_to_end"]), 3),
        images_per_second=harness.rounded(paces, 1),
        images=given.dataset or "synthetic",
        image_count=len(rows),
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
