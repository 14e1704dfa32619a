"""Whether bf16 products in the probe's training give the accuracies of fp32 ones, over 5 seeds on real features.

    python -m benchmarks.probe_precision [--datasets A B C] [--limit-points 0.1]

The probe uses bf16 only for classifiers above ``linear_training.SMALL_CLASSIFIER`` weights. So that even a dataset of five
classes is above it, a feature set joins those of several backbones: EfficientNet-Lite0 dense and two of its pruned copies,
3,840 dimensions. By default three real feature sets that need no network: digits under three choices of the copies. Datasets of
your own are names, folders or Parquet files, a feature set each. Features are fp32 and cached. Where the processor has no bf16
products they are emulated: slowly, with the same rounding. Prints one JSON line.
"""

import argparse
import json
import statistics
from dataclasses import dataclass

import numpy as np

from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Dataset
from sparse_core.engines.machine import machine
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.networks import backbones
from sparse_core.paths import default_home
from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer import features, linear_training
from sparse_core.transfer.linear_training import Samples

COPIES = [(30, 50), (30, 70), (50, 70)]


@dataclass(frozen=True)
class Data:
    """A dataset as features; ``metric`` is the dataset's own."""

    train: Samples
    test: Samples
    classes: int
    metric: str


def joined(dataset: Dataset, copies: tuple[int, ...]) -> Data:
    """The features that the dense backbone and its ``copies``, pruned by so many percent, give of the dataset."""
    names = ["efficientnet_lite0", *(f"efficientnet_lite0_magnitude_{percent}" for percent in copies)]
    parts = [features.extract(default_home(), backbones.load(default_home(), name), dataset) for name in names]
    train = Samples(np.hstack([part.train for part in parts]), parts[0].train_labels)
    test = Samples(np.hstack([part.test for part in parts]), parts[0].test_labels)
    return Data(train, test, len(dataset.class_names), dataset.metric)


def accuracies(data: Data, products: str, seeds: int, epochs: int) -> dict[str, float]:
    """Mean best and final accuracy over the seeds, in percent, in the dataset's own metric."""
    settings = Hyperparameters(epochs=epochs)
    results = linear_training.train(data.train, data.test, data.classes, range(seeds), settings, products=products)
    return {
        "best": 100 * statistics.mean(result.best(data.metric) for result in results),
        "final": 100 * statistics.mean(result.final(data.metric) for result in results),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--datasets", nargs="+", metavar="DATASET")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=150)
    options.add_argument("--limit-points", type=float, default=0.1)
    given = options.parse_args()

    asked = [(name, COPIES[0]) for name in given.datasets] if given.datasets else [("digits", each) for each in COPIES]
    found = {}
    for number, (name, copies) in enumerate(asked, start=1):
        data = joined(catalogue.load(default_home(), name), copies)
        fp32, bf16 = (accuracies(data, products, given.seeds, given.epochs) for products in ("fp32", "bf16"))
        weights = data.classes * data.train.features.shape[1]
        found[f"set {number}" if given.datasets else f"digits, dense and {copies[0]} and {copies[1]} % pruned"] = {
            "train": list(data.train.features.shape),
            "test": list(data.test.features.shape),
            "classes": data.classes,
            "large_enough_for_bf16": weights > linear_training.SMALL_CLASSIFIER,
            "fp32": {when: round(value, 3) for when, value in fp32.items()},
            "bf16": {when: round(value, 3) for when, value in bf16.items()},
            "difference_points": {when: round(bf16[when] - fp32[when], 3) for when in fp32},
        }
    largest = max(abs(points) for entry in found.values() for points in entry["difference_points"].values())
    print(
        json.dumps(
            {
                "benchmark": "probe_precision",
                "ratio_to_limit": round(largest / given.limit_points, 3),
                "largest_difference_points": largest,
                "sets": found,
                "seeds": given.seeds,
                "native_bf16": native_bf16(),
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
