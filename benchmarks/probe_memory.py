"""Peak memory of a probe of CIFAR-10's size: 50,000 × 1,280 training and 10,000 × 1,280 test features, memory-mapped.

    python -m benchmarks.probe_memory [--limit-gigabytes 1.5]

A new process (``--train-in`` the folder of the features) trains 5 seeds for a few epochs, which is when memory peaks; its peak
resident memory includes torch and the mapped files. Prints one JSON line.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import harness

TRAIN, TEST, DIMENSIONS, CLASSES, SEEDS, EPOCHS = 50_000, 10_000, 1_280, 10, 5, 2


def write_features(folder: Path) -> None:
    """Random features of both splits as the cache stores them: float32 files of (rows, DIMENSIONS)."""
    generator = np.random.default_rng(0)
    for name, rows in (("train", TRAIN), ("test", TEST)):
        file = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(rows, DIMENSIONS))
        for start in range(0, rows, 5000):
            file[start : start + 5000] = generator.random((5000, DIMENSIONS), dtype=np.float32)
        file.flush()


def train(folder: Path) -> None:
    """Train the probe, and print this process's peak resident memory in bytes."""
    from sparse_core.specs.training import Hyperparameters
    from sparse_core.transfer import linear_training
    from sparse_core.transfer.linear_training import Samples

    features = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train", "test")]
    training, test = (Samples(rows, np.arange(len(rows)) % CLASSES) for rows in features)
    linear_training.train(training, test, CLASSES, range(SEEDS), Hyperparameters(epochs=EPOCHS))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    given = harness.parser(__doc__, limit_gigabytes=1.5, train_in="").parse_args()
    if given.train_in:
        train(Path(given.train_in))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_features(Path(folder))
        peak = int(subprocess.check_output([sys.executable, "-m", "benchmarks.probe_memory", "--train-in", folder]))
    harness.report(
        "probe_memory",
        given,
        ratio_to_limit=round(peak / (given.limit_gigabytes * 1e9), 3),
        peak_resident_gigabytes=round(peak / 1e9, 3),
        features={"train": [TRAIN, DIMENSIONS], "test": [TEST, DIMENSIONS]},
        seeds=SEEDS,
    )


if __name__ == "__main__":
    main()
