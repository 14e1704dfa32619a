"""Speedup of online linear training with a sparse ResNet50 over the dense one, end to end.

    python -m benchmarks.online_training [--images FOLDER] [--epochs 1] [--sparsity 0.9]

Section 3.6 of the paper: JPEGs are decoded, cropped at random to 224 pixels, flipped, and run in batches of 64 by DeepSparse,
with one SGD step of the classifier each; dense and sparse take turns of four batches. FOLDER has the layout of any dataset,
best with 256 pixels on the shorter side. By default, 768 training images are cropped from scikit-learn's two photographs,
with 256 pixels on the shorter side, as JPEG. In ``milliseconds_per_image``, waiting for images, the backbone and the classifier
add up; decode is the time of decoding and augmentation alone on all cores, which overlaps the backbone. Expected on two
cores: a ratio of at least 2.5. Prints one JSON line.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks import harness
from sparse_core.datasets import catalogue
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import speedup

SHORTER, LONGER = 256, (256, 288, 341)
TRAIN, TEST = 384, 8  # crops of each photograph


def main() -> None:
    given = harness.parser(__doc__, images="", epochs=1, sparsity=0.9).parse_args()
    harness.skip_without_deepsparse("online_training")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        images = given.images or str(cropped_photographs(home / "images"))
        named = {"architecture": "resnet50", "sparsity": given.sparsity, "engines": ("deepsparse",)}
        spec = SpeedupSpec(**named, mode="training", dataset=images, epochs=given.epochs)
        record = speedup.measure(home, spec, lambda _: None)
        count = len(catalogue.load(home, images).train.labels)
    (line,) = record["lines"]

    def split(name: str) -> dict[str, float]:
        return {part: round(1000 * seconds / count, 2) for part, seconds in line[name].items()}

    harness.report(
        "online_training",
        given,
        ratio_to_dense=round(line["ratio"], 2),
        interval=[round(line["ratio_low"], 2), round(line["ratio_high"], 2)],
        milliseconds_per_image={
            "dense": round(line["dense_milliseconds_per_image"], 2),
            "sparse": round(line["milliseconds_per_image"], 2),
            "dense_split": split("dense_split"),
            "sparse_split": split("split"),
        },
        images=given.images or "synthetic",
        image_count=count,
        reliable=line["reliable"],
        busy_during=line["busy_during"],
    )


def cropped_photographs(folder: Path) -> Path:
    """JPEGs of two classes in ``folder``, split into train and test: random crops of each photograph."""
    generator = np.random.default_rng(0)
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        photograph = Image.fromarray(pixels)
        for part, count in (("train", TRAIN), ("test", TEST)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                random_crop(photograph, generator).save(folder / part / name / f"{number}.jpg", quality=90)
    return folder


def random_crop(photograph: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A part of the photograph, landscape or portrait, resized to 256 pixels on the shorter side."""
    size = (int(generator.choice(LONGER)), SHORTER)
    width, height = size[:: generator.choice((1, -1))]
    scale = generator.uniform(1.0, 1.2)
    wide, tall = min(round(scale * width), photograph.width), min(round(scale * height), photograph.height)
    left, top = generator.integers(photograph.width - wide + 1), generator.integers(photograph.height - tall + 1)
    return photograph.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + wide, top + tall))


if __name__ == "__main__":
    main()
