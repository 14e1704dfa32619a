"""Memory of a probe on features of 200,000 × 2,048 (1.6 GB), and of their extraction.

    python -m benchmarks.probe_memory [--images 200000] [--dimensions 2048] [--limit-gigabytes 1.5]

A process extracts the features with a network that takes no time; another (``--work train``) chooses a learning rate and trains
5 seeds on them for two epochs. The figures are the peaks of each one's anonymous resident memory (RssAnon: all but mapped files),
torch included. Prints one JSON line.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import harness

CLASSES, SEEDS, EPOCHS, RATES = 10, 5, 2, (0.001, 0.01)


def cached_features(home: Path, images: int, dimensions: int) -> Any:
    """Extract the features of four fifths training and one fifth test images of two pixels a side, or read them."""
    import torch

    from sparse_core.datasets.transforms import Transform
    from sparse_core.transfer import features
    from tests.support.backbones import noise_dataset

    class Wide(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(1, 2, 3))[:, None] * torch.linspace(0, 1, dimensions)

    transform = Transform(2, 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    known = {"dimensions": dimensions, "hash": "wide", "sparsity": 0.0, "card": SimpleNamespace(name="wide")}
    backbone: Any = SimpleNamespace(module=Wide(), transform=transform, **known)
    dataset = noise_dataset(images * 4 // 5, images - images * 4 // 5, side=2)
    return features.extract(home, backbone, dataset, engine="torch")


def train(home: Path, images: int, dimensions: int) -> None:
    """Sweep two learning rates, then train; which features they are makes no difference."""
    from sparse_core.specs.training import Hyperparameters
    from sparse_core.transfer import linear_training, probe
    from sparse_core.transfer.linear_training import Samples

    made, settings = cached_features(home, images, dimensions), Hyperparameters(epochs=EPOCHS)
    training, test = (Samples(rows, np.arange(len(rows)) % CLASSES) for rows in (made.train, made.test))
    probe.choose_learning_rate(training, CLASSES, range(SEEDS), settings, RATES)
    linear_training.train(training, test, CLASSES, range(SEEDS), settings)


def watch_memory(peak: list[int]) -> None:
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak[0] = max(peak[0], 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1]))
        time.sleep(0.02)


def peak_of(work: str, folder: str, given: argparse.Namespace) -> int:
    """The peak, in bytes, of a new process that does the work."""
    command = [sys.executable, "-m", "benchmarks.probe_memory", "--work", work, "--folder", folder]
    command += ["--images", str(given.images), "--dimensions", str(given.dimensions)]
    return int(subprocess.check_output(command))


def main() -> None:
    defaults = {"images": 200_000, "dimensions": 2_048, "limit_gigabytes": 1.5, "work": "", "folder": ""}
    given = harness.parser(__doc__, **defaults).parse_args()
    if given.work:
        peak = [0]
        threading.Thread(target=watch_memory, args=(peak,), daemon=True).start()
        {"extract": cached_features, "train": train}[given.work](Path(given.folder), given.images, given.dimensions)
        print(peak[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        peaks = {work: peak_of(work, folder, given) for work in ("extract", "train")}
    harness.report(
        "probe_memory",
        given,
        ratio_to_limit=round(max(peaks.values()) / (given.limit_gigabytes * 1e9), 3),
        peak_anonymous_gigabytes={work: round(peak / 1e9, 3) for work, peak in peaks.items()},
        features_gigabytes=round(4e-9 * given.images * given.dimensions, 3),
        seeds=SEEDS,
    )


if __name__ == "__main__":
    main()
