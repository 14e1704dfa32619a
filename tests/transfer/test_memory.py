"""Features are extracted to disk and trained on from there: a process of its own tells what it holds beside mapped files
(RssAnon, of Linux)."""

import os
import subprocess
import sys

import pytest

from sparse_core import linux
from sparse_core.paths import REPOSITORY

pytestmark = pytest.mark.skipif(not linux.PROC.is_dir(), reason="RssAnon is Linux's")

# ``held`` gets the anonymous memory in kilobytes at every report; the last line prints the rise and the features' size.
PROLOGUE = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, torch
from sparse_core.datasets.transforms import Transform
from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer import features, linear_training, probe, training
from sparse_core.transfer.linear_training import Samples
from tests.support.backbones import noise_dataset

def anonymous(*_):
    lines = Path("/proc/self/status").read_text().splitlines()
    held.append(int(next(line for line in lines if line.startswith("RssAnon")).split()[1]))

home, held = Path(sys.argv[1]), []
training.SECONDS_BETWEEN = 0.01
"""

EXTRACTION = """
class Wide(torch.nn.Module):
    def forward(self, images):
        return images.mean(dim=(1, 2, 3))[:, None].repeat(1, 8192)

backbone = SimpleNamespace(
    module=Wide(), dimensions=8192, hash="wide", sparsity=0.0, card=SimpleNamespace(name="wide"),
    transform=Transform(2, 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)
anonymous()
for _ in range(2):
    made = features.extract(home, backbone, noise_dataset(12_000, 2_000, 2), engine="torch", on_progress=anonymous)
    made.train.sum()
    anonymous()
assert made.cached
print(max(held) - held[0], made.train.nbytes + made.test.nbytes)
"""

TRAINING = """
for name, rows in (("train", 32_000), ("test", 8_000)):
    mapped = np.lib.format.open_memmap(home / f"{name}.npy", "w+", np.float32, (rows, 2048))
    for start in range(0, rows, 1000):
        mapped[start : start + 1000] = np.random.default_rng(start).random((1000, 2048), dtype=np.float32)
    del mapped
samples = [np.load(home / f"{name}.npy", mmap_mode="c") for name in ("train", "test")]
fitted, tested = (Samples(rows, np.arange(len(rows)) % 4) for rows in samples)
anonymous()
settings = Hyperparameters(epochs=1)
probe.choose_learning_rate(fitted, 4, (0,), settings, (0.01, 0.1), on_progress=anonymous)
linear_training.train(fitted, tested, 4, (0, 1), settings, products="fp32", on_progress=anonymous)
anonymous()
print(max(held) - held[0], sum(rows.nbytes for rows in samples))
"""


@pytest.mark.parametrize("work", [EXTRACTION, TRAINING], ids=["extraction", "training"])
def test_features_are_not_held_in_memory(tmp_path, work):
    command = [sys.executable, "-c", PROLOGUE + work, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    kilobytes, size = map(int, subprocess.check_output(command, env=environment).split())
    assert size > 3.2e8
    assert 1024 * kilobytes < size / 2
