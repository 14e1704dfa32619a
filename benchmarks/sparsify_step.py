"""What pruning costs in a training step, outside mask updates, and what the training costs over plain torch.

    python -m benchmarks.sparsify_step [--rounds 15] [--steps 3] [--batch-size 128]

ResNet20, 32 pixels. Each method's step (learning rate, forward, backward, SGD, the mask held or the thresholds) takes turns with
the step of Dense; Dense takes turns with a plain loop in torch: bf16 autocast where the processor computes it natively, channels
last, torch.optim.SGD, on a ready batch. Ratios are medians over rounds of so many steps. Prints one JSON line.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks import harness
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.loading import normalised
from sparse_core.datasets.transforms import CIFAR
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.networks import architectures, masks
from sparse_core.networks.backbones import Backbone, BackboneCard
from sparse_core.sparsify import acdc, gmp, rigl, soft_threshold
from sparse_core.sparsify.soft_threshold import Search
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import MakePruner, Pruner, SparseTraining
from sparse_core.specs.sparsify import SparsifySpec

ROWS = 12_800
PRUNERS: dict[str, MakePruner] = {
    "Dense": Pruner,
    "GMP": gmp.GradualPruner,
    "AC/DC": acdc.AlternatingPruner,
    "RigL ERK 1x": rigl.RiggingPruner,
    "STR": partial(soft_threshold.ThresholdPruner, search=Search(strength=1e-3)),
}


def backbone(architecture: str = "resnet20") -> Backbone:
    torch.manual_seed(0)
    module = architectures.build(architecture).eval().requires_grad_(False)
    known = architectures.ARCHITECTURES[architecture]
    card = BackboneCard(architecture, architecture, "noise", "Dense", 0.0, "file", "", True)
    return Backbone(card, module, known.dimensions, known.transform, "none", 0.0, masks.from_zeros(module))


def noise(rows: int, side: int) -> Dataset:
    """Images of noise in ten classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8)
    split = Split(np.arange(rows) % 10, lambda row: Image.fromarray(pixels[row % 64]))
    test = Split(np.arange(64) % 10, split.open)
    return Dataset("noise", "top1", [str(label) for label in range(10)], split, test, f"noise {rows} {side}", "made")


def step_of(method: str, size: int, images: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    """A step of the method, early in its last phase, which has no mask update."""
    sparsity = 0.0 if method == "Dense" else 0.9
    precision = "bf16" if native_bf16() else "fp32"
    spec = SparsifySpec(method, "noise", "noise", sparsity, epochs=10, batch_size=size, precision=precision)
    made, data = backbone(), noise(ROWS, CIFAR.crop)
    training = SparseTraining(start(made, data, spec, 0), made, data, spec, 0, PRUNERS[method])
    if method == "GMP":
        for step in training.pruner.sparsities:  # type: ignore[attr-defined]
            training.before_step(step)
    training.set_training_mode()
    training.before_step(round(0.85 * training.steps))

    def step() -> None:
        now = round(0.85 * training.steps) + 1
        for group in training.optimizer.param_groups:
            group["lr"] = training.learning_rate(now)
        training.before_step(now)
        training.step(images, labels)

    return step


def plain_step(images: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    torch.manual_seed(0)
    body = architectures.build("resnet20")
    network = nn.Sequential(body, nn.Linear(64, 10)).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    x, y = normalised(images, CIFAR), torch.from_numpy(labels)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            loss = nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    given = harness.parser(__doc__, rounds=15, steps=3, batch_size=128).parse_args()
    images = np.random.default_rng(1).integers(0, 256, (given.batch_size, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(given.batch_size) % 10
    steps = {method: step_of(method, given.batch_size, images, labels) for method in PRUNERS}
    steps["plain torch"] = plain_step(images, labels)

    def repeated(step: Callable[[], None]) -> None:
        for _ in range(given.steps):
            step()

    works = {name: partial(repeated, step) for name, step in steps.items()}
    for work in works.values():
        work()
    seconds = harness.seconds_in_turn(works, given.rounds)
    dense = seconds["Dense"]
    harness.report(
        "sparsify_step",
        given,
        ratio_to_dense_step={
            name: round(harness.median_ratio(seconds[name], dense), 3) for name in PRUNERS if name != "Dense"
        },
        ratio_dense_to_plain_torch=round(harness.median_ratio(dense, seconds["plain torch"]), 3),
        milliseconds_per_step=harness.rounded(seconds, 1, 1000 / given.steps),
    )


if __name__ == "__main__":
    main()
