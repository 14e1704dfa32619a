"""Speedup of a sparse ResNet50 in DeepSparse over the dense one, and over the best dense engine on this machine.

    python -m benchmarks.deepsparse_speed [--batch-size 64] [--rounds 10]

224 pixels, fp32 (PyTorch in its faster precision), all cores; random weights, pruned uniformly except the first convolution.
In each round every network runs once, in turn; the ratios are of medians, with their 95 % intervals. Expected on two cores: at
least 3.0 at 90 %, at least 3.4 at 95 %, and at least 2.8 at 90 % over the best dense engine. Prints one JSON line, or fails
with a message if an output differs from PyTorch's in fp32 by more than the product tolerates.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np
from torch import nn

from benchmarks import harness
from sparse_core.engines import compiling
from sparse_core.engines.compiled import Compiled, noise
from sparse_core.errors import InputError
from sparse_core.paths import default_home
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed.paired_timing import prepare
from sparse_core.speed.ratios import paired_ratio


def main() -> None:
    given = harness.parser(__doc__, batch_size=64, rounds=10).parse_args()
    harness.skip_without_deepsparse("deepsparse_speed")
    samples, difference, precision = measure(given.batch_size, given.rounds)
    milliseconds = {name: float(np.median(values)) for name, values in samples.items()}
    best = min((name for name in milliseconds if name.startswith("dense")), key=milliseconds.__getitem__)
    ratios = {
        "ratio_90": paired_ratio(samples["dense_deepsparse"], samples["sparse_90_deepsparse"]),
        "ratio_95": paired_ratio(samples["dense_deepsparse"], samples["sparse_95_deepsparse"]),
        "ratio_90_to_best_dense": paired_ratio(samples[best], samples["sparse_90_deepsparse"]),
    }
    harness.report(
        "deepsparse_speed",
        given,
        **{name: round(found.ratio, 2) for name, found in ratios.items()},
        intervals={name: [round(found.low, 2), round(found.high, 2)] for name, found in ratios.items()},
        best_dense=best,
        milliseconds_per_image={name: round(value, 2) for name, value in milliseconds.items()},
        difference_to_torch_fp32={name: float(f"{value:.1e}") for name, value in difference.items()},
        precision_of_torch=precision,
    )


def measure(batch_size: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, float], str]:
    """ms/image of each network in each round, their differences to PyTorch in fp32, and the precision of PyTorch."""
    pairs = {
        percent: prepare(default_home(), SpeedupSpec(architecture="resnet50", sparsity=percent / 100))
        for percent in (90, 95)
    }
    side, dense = pairs[90].transform.crop, pairs[90].dense
    cases = {
        "dense_deepsparse": ("deepsparse", dense, "fp32"),
        "dense_onnxruntime": ("onnxruntime", dense, "fp32"),
        "dense_torch": ("torch", dense, "best"),
        **{f"sparse_{percent}_deepsparse": ("deepsparse", pairs[percent].sparse, "fp32") for percent in pairs},
    }
    images = noise(batch_size, side)
    samples: dict[str, list[float]] = {name: [] for name in cases}
    with ExitStack() as stack:
        networks = {
            name: stack.enter_context(compiling.compile(engine, module, side, batch_size, 0, precision))
            for name, (engine, module, precision) in cases.items()
        }
        difference = differences(networks, {name: module for name, (_, module, _) in cases.items()})
        for _ in range(rounds):
            for name, network in networks.items():
                samples[name].append(1000 * harness.seconds(partial(network.run, images)) / batch_size)
        return samples, difference, networks["dense_torch"].precision


def differences(networks: Mapping[str, Compiled], modules: Mapping[str, nn.Module]) -> dict[str, float]:
    """The difference of each network's output to PyTorch's in fp32. One that is too large ends the benchmark."""
    try:
        return {name: compiling.require_exact(network, modules[name]) for name, network in networks.items()}
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
