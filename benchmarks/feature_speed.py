"""Whether feature extraction keeps the machine's pace: end to end against decoding alone and the fastest engine alone.

    python -m benchmarks.feature_speed [--backbone NAME] [--dataset digits] [--images 1800] [--rounds 3]

Decoding and resizing alone, the engines alone on decoded images (each in the form in which it extracts, and ONNX Runtime in
batches of 64 besides), and ``features.extract`` take turns, all on all cores. ``end_to_end`` is from the opened dataset to
the cached features, with the network's compilation; the choice of the engine is known, as after any first extraction, but
for ``first_time``, in a fresh home folder. The ratio is ``end_to_end`` over the larger of decoding and the fastest engine alone,
the median over rounds. Expected: at most 1.25. DATASET is a name, a folder or a Parquet file; "synthetic" are JPEGs of
500 × 375 pixels. Prints one JSON line.
"""

import dataclasses
import io
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import harness
from sparse_core.datasets import catalogue, loading
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.engines import choice, compiling
from sparse_core.engines.extractor import Extractor
from sparse_core.networks import backbones
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import default_home
from sparse_core.transfer import features


def synthetic_images(count: int) -> Dataset:
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
    split = Split(np.zeros(count, dtype=np.int64), lambda row: Image.open(io.BytesIO(images[row])))
    return Dataset("synthetic", "top1", ["all"], split, split, "synthetic", "made")


def resized(dataset: Dataset, count: int) -> Dataset:
    """So many images of the dataset, repeated where it has fewer: nine tenths in the training split."""

    def chosen(rows: np.ndarray) -> Split:
        whole = dataset.train
        kept = rows % len(whole.labels)
        return Split(whole.labels[kept], lambda row: whole.open(int(kept[row])))

    train, test = np.split(np.arange(count), [count * 9 // 10])
    return dataclasses.replace(dataset, train=chosen(train), test=chosen(test), hash=f"{dataset.hash} {count}")


def in_batches_of_64(backbone: Backbone, decoded: np.ndarray, stack: ExitStack) -> Callable[[], None]:
    """ONNX Runtime as a program would call it that gives it all cores and one batch after another."""
    compiled = stack.enter_context(compiling.compile("onnxruntime", backbone.module, backbone.transform.crop, 64))

    def work() -> None:
        for batch in np.split(decoded, range(64, len(decoded), 64)):
            compiled.run(loading.normalised(batch, backbone.transform, torch.contiguous_format).numpy())

    return work


def main() -> None:
    given = harness.parser(__doc__, backbone="efficientnet_lite0", dataset="digits", images=1800, rounds=3).parse_args()
    backbone = backbones.load(default_home(), given.backbone)
    found = synthetic_images(256) if given.dataset == "synthetic" else catalogue.load(default_home(), given.dataset)
    dataset = resized(found, given.images)
    decode = features.decoder(backbone, dataset.train)
    rows = [row % len(dataset.train.labels) for row in range(given.images)]
    decoded = np.stack([decode(row) for row in rows])

    def decode_alone() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode, rows):
                pass

    def engine_alone(extractor: Extractor) -> None:
        for _ in extractor.extract(decoded.__getitem__, range(len(decoded))):
            pass

    engines: dict[str, int] = {}

    def extract(home: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            if (home / "engines").is_dir():
                (Path(folder) / "engines").symlink_to(home / "engines")
            made = features.extract(Path(folder), backbone, dataset)
            engines[made.engine] = engines.get(made.engine, 0) + 1

    with ExitStack() as stack:
        known = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sample = decoded[: features.SAMPLE_IMAGES]
        chosen, _ = choice.open_fastest(known, backbone, lambda: sample, given.images, lambda progress: None)
        alone = {chosen.engine: stack.enter_context(chosen)}
        if "onnxruntime" not in alone:
            alone["onnxruntime"] = stack.enter_context(Extractor("onnxruntime", backbone))
        works = {"decode": decode_alone, "end_to_end": lambda: extract(known)}
        works |= {"first_time": lambda: extract(known / "fresh")}
        works |= {f"{name}_alone": lambda one=one: engine_alone(one) for name, one in alone.items()}
        works["onnxruntime_in_batches_of_64"] = in_batches_of_64(backbone, decoded, stack)
        seconds = harness.seconds_in_turn(works, given.rounds)
    fastest = np.min([times for name, times in seconds.items() if name.startswith(tuple(alone))], axis=0)
    larger = np.maximum(seconds["decode"], fastest)
    harness.report(
        "feature_speed",
        given,
        ratio=round(harness.median_ratio(seconds["end_to_end"], larger), 3),
        ratio_first_time=round(harness.median_ratio(seconds["first_time"], larger), 3),
        seconds=harness.rounded(seconds, 2),
        engines_used=engines,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
