"""Whether probes trained with bf16 products reach the accuracies of fp32 ones, over 5 seeds on real features.

    python -m benchmarks.probe_precision [--datasets A B C] [--limit-points 0.1]

The probe uses bf16 only for classifiers above ``linear_training.SMALL_CLASSIFIER`` weights. To exceed it even with five
classes, a feature set concatenates those of EfficientNet-Lite0 and two of its pruned copies: 3,840 dimensions. By default there
are three sets that need no download: digits with three choices of the copies. DATASETS are names, folders or Parquet files,
with a feature set each. Features are fp32 and cached. A processor without bf16 products emulates them, slowly, with the same
rounding. Prints one JSON line.
"""

import statistics
from typing import Any

import numpy as np

from benchmarks import harness
from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Dataset
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.networks import backbones
from sparse_core.paths import default_home
from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer import features, linear_training
from sparse_core.transfer.linear_training import Samples

COPIES = [(30, 50), (30, 70), (50, 70)]


def joined(dataset: Dataset, copies: tuple[int, ...]) -> tuple[Samples, Samples]:
    """Training and test features that the dense backbone and its ``copies``, pruned by so many percent, give together."""
    names = ["efficientnet_lite0", *(f"efficientnet_lite0_magnitude_{percent}" for percent in copies)]
    parts = [features.extract(default_home(), backbones.load(default_home(), name), dataset) for name in names]
    train = Samples(np.hstack([part.train for part in parts]), parts[0].train_labels)
    return train, Samples(np.hstack([part.test for part in parts]), parts[0].test_labels)


def compare(dataset: Dataset, copies: tuple[int, ...], seeds: int, epochs: int) -> dict[str, Any]:
    """The shapes of the features, and accuracies (%, in the dataset's own metric) with products in fp32 and in bf16."""
    (train, test), classes = joined(dataset, copies), len(dataset.class_names)

    def accuracies(products: str) -> dict[str, float]:
        settings = Hyperparameters(epochs=epochs)
        results = linear_training.train(train, test, classes, range(seeds), settings, products=products)
        return {
            "best": 100 * statistics.mean(result.best(dataset.metric) for result in results),
            "final": 100 * statistics.mean(result.final(dataset.metric) for result in results),
        }

    fp32, bf16 = accuracies("fp32"), accuracies("bf16")
    return {
        "train": list(train.features.shape),
        "test": list(test.features.shape),
        "classes": classes,
        "large_enough_for_bf16": classes * train.features.shape[1] > linear_training.SMALL_CLASSIFIER,
        "fp32": {when: round(value, 3) for when, value in fp32.items()},
        "bf16": {when: round(value, 3) for when, value in bf16.items()},
        "difference_points": {when: round(bf16[when] - fp32[when], 3) for when in fp32},
    }


def main() -> None:
    options = harness.parser(__doc__, seeds=5, epochs=150, limit_points=0.1)
    options.add_argument("--datasets", nargs="+", metavar="DATASET")
    given = options.parse_args()
    cases = (
        {f"set {number}": (name, COPIES[0]) for number, name in enumerate(given.datasets, start=1)}
        if given.datasets
        else {f"digits, dense and {a} and {b} % pruned": ("digits", (a, b)) for a, b in COPIES}
    )
    sets = {
        label: compare(catalogue.load(default_home(), name), copies, given.seeds, given.epochs)
        for label, (name, copies) in cases.items()
    }
    largest = max(abs(points) for entry in sets.values() for points in entry["difference_points"].values())
    harness.report(
        "probe_precision",
        given,
        ratio_to_limit=round(largest / given.limit_points, 3),
        largest_difference_points=largest,
        sets=sets,
        native_bf16=native_bf16(),
    )


if __name__ == "__main__":
    main()
