"""Time and memory of one pruning step of WoodFisher and M-FAC: gradients, saliencies, mask and update.

    python -m benchmarks.second_order [--gradients 64] [--block-size 50] [--method WoodFisher --architecture resnet50]

ResNet20 on single images of 32 pixels, ResNet50 on means over 16 images of 224; each in a process of its own, unless method and
architecture name one. Seconds are of the whole step, megabytes the most the process ever held. Prints one JSON line.
"""

import json
import resource
import subprocess
import sys
from functools import partial

from benchmarks import harness
from benchmarks.sparsify_step import backbone, noise
from sparse_core.sparsify.mfac import MatrixFreeFisher
from sparse_core.sparsify.second_order import SecondOrderPruner
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import SparseTraining
from sparse_core.sparsify.woodfisher import BlockFisher
from sparse_core.specs.sparsify import SparsifySpec

METHODS, ARCHITECTURES = ("WoodFisher", "M-FAC"), ("resnet20", "resnet50")


def measure(method: str, architecture: str, gradients: int, block_size: int) -> dict[str, float]:
    made = backbone(architecture)
    data = noise(2000, made.transform.crop)
    options = {"block_size": block_size} if method == "WoodFisher" else {}
    spec = SparsifySpec(method, "noise", "noise", 0.9, gradients=gradients, precision="fp32", **options)
    invert = (
        partial(BlockFisher, damping=spec.damping, block_size=block_size)
        if method == "WoodFisher"
        else partial(MatrixFreeFisher, damping=spec.damping)
    )
    make = partial(SecondOrderPruner, invert=invert)
    training = SparseTraining(start(made, data, spec, 0), made, data, spec, 0, make)
    taken = harness.seconds(lambda: training.pruner.prune(0, 0.9))  # type: ignore[attr-defined]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": round(taken, 1), "megabytes": round(most), "sparsity": round(training.pruner.sparsity(), 4)}


def main() -> None:
    given = harness.parser(__doc__, gradients=64, block_size=50, method="", architecture="").parse_args()
    if given.method and given.architecture:
        found = measure(given.method, given.architecture, given.gradients, given.block_size)
        harness.report("second_order", given, **found)
        return
    figures = {}
    for architecture in ARCHITECTURES:
        for method in METHODS:
            options = ["--gradients", str(given.gradients), "--block-size", str(given.block_size)]
            options += ["--method", method, "--architecture", architecture]
            command = [sys.executable, "-m", "benchmarks.second_order", *options]
            line = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            figures[f"{method} {architecture}"] = {name: line[name] for name in ("seconds", "megabytes")}
    harness.report("second_order", given, **figures)


if __name__ == "__main__":
    main()
