"""Whether bf16 products in the probe's training give the accuracies of fp32 ones, over 5 seeds on real features.

    python -m benchmarks.probe_precision [--sets BACKBONE:DATASET …] [--limit-points 0.1]

By default three real feature sets that need no network: digits under EfficientNet-Lite0 dense and pruned to 30 and 50 %.
A set of your own is BACKBONE:DATASET, where DATASET is a name, a folder or a Parquet file. Features are fp32 and cached.
Where the processor has no bf16 products they are emulated: slowly, with the same rounding. Prints one JSON line.
"""

import argparse
import json
import statistics

from sparse_core import backbones, datasets, features, probe
from sparse_core.machine import machine
from sparse_core.spec import Hyperparameters

DEFAULT = [f"efficientnet_lite0{copy}:digits" for copy in ("", "_magnitude_30", "_magnitude_50")]


def accuracies(extracted: features.Features, products: str, seeds: int, epochs: int) -> dict[str, float]:
    """Mean best and final accuracy over the seeds, in percent, in the dataset's own metric."""
    results = probe.train(
        extracted.train,
        extracted.train_labels,
        extracted.test,
        extracted.test_labels,
        len(extracted.class_names),
        range(seeds),
        Hyperparameters(epochs=epochs),
        products=products,
    )
    metric = "mean_per_class" if extracted.metric == "mean_per_class" else "top1"
    return {
        when: 100 * statistics.mean(getattr(result, f"{metric}_{when}") for result in results)
        for when in ("best", "final")
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", nargs="+", default=DEFAULT, metavar="BACKBONE:DATASET")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=150)
    options.add_argument("--limit-points", type=float, default=0.1)
    given = options.parse_args()

    found = {}
    for number, asked in enumerate(given.sets, start=1):
        backbone, _, dataset = asked.partition(":")
        extracted = features.extract(backbones.load(backbone), datasets.load(dataset))
        fp32, bf16 = (accuracies(extracted, products, given.seeds, given.epochs) for products in ("fp32", "bf16"))
        name = asked if asked in DEFAULT else f"set {number}"
        found[name] = {
            "train": list(extracted.train.shape),
            "test": list(extracted.test.shape),
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
                "native_bf16": probe.native_bf16(),
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
