"""How much faster DeepSparse runs a sparse ResNet50 than the dense one, and than the best dense engine here.

    python -m benchmarks.deepsparse_speed [--batch-size 64] [--rounds 10]

224 pixels, fp32 (PyTorch in its faster precision), all cores; random weights, pruned uniformly but for the first convolution.
In each round every network runs once, in turn; the ratios are of medians, with their 95 % intervals. Expected on two cores: at
90 % at least 3.0, at 95 % at least 3.4 times the dense one, and 90 % at least 2.8 times the best dense engine. Prints one
JSON line, or fails with a word where the output of one differs from PyTorch's in fp32 by more than the product tolerates.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from sparse_core.engines import availability, compiling, exactness
from sparse_core.engines.compiled import Compiled
from sparse_core.engines.machine import load, machine
from sparse_core.errors import InputError
from sparse_core.paths import default_home
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed.pair import prepare
from sparse_core.speed.paired_timing import paired_ratio


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--rounds", type=int, default=10)
    given = options.parse_args()
    missing = availability.missing("deepsparse")
    if missing:
        print(json.dumps({"benchmark": "deepsparse_speed", "skipped": missing}))
        return

    before = load()
    made = {
        share: prepare(default_home(), SpeedupSpec(architecture="resnet50", sparsity=share / 100)) for share in (90, 95)
    }
    side, dense = made[90].transform.crop, made[90].dense
    images = np.random.default_rng(0).standard_normal((given.batch_size, 3, side, side), dtype=np.float32)
    with ExitStack() as stack:

        def compiled(engine: str, module: object, precision: str = "fp32") -> Compiled:
            return stack.enter_context(compiling.compile(engine, module, side, given.batch_size, 0, precision))

        networks = {
            "dense_deepsparse": compiled("deepsparse", dense),
            "dense_onnxruntime": compiled("onnxruntime", dense),
            "dense_torch": compiled("torch", dense, "best"),
            "sparse_90_deepsparse": compiled("deepsparse", made[90].sparse),
            "sparse_95_deepsparse": compiled("deepsparse", made[95].sparse),
        }
        precision = networks["dense_torch"].precision
        samples: dict[str, list[float]] = {name: [] for name in networks}
        modules = {
            **dict.fromkeys(networks, dense),
            **{f"sparse_{share}_deepsparse": made[share].sparse for share in made},
        }
        difference = differences(networks, modules)
        for _ in range(given.rounds):
            for name, network in networks.items():
                started = time.perf_counter()
                network.run(images)
                samples[name].append(1000 * (time.perf_counter() - started) / given.batch_size)
    milliseconds = {name: float(np.median(values)) for name, values in samples.items()}
    best = min((name for name in milliseconds if name.startswith("dense")), key=lambda name: milliseconds[name])
    ratios = {
        "ratio_90": paired_ratio(samples["dense_deepsparse"], samples["sparse_90_deepsparse"]),
        "ratio_95": paired_ratio(samples["dense_deepsparse"], samples["sparse_95_deepsparse"]),
        "ratio_90_to_best_dense": paired_ratio(samples[best], samples["sparse_90_deepsparse"]),
    }
    print(
        json.dumps(
            {
                "benchmark": "deepsparse_speed",
                **{name: round(found.ratio, 2) for name, found in ratios.items()},
                "intervals": {name: [round(found.low, 2), round(found.high, 2)] for name, found in ratios.items()},
                "best_dense": best,
                "milliseconds_per_image": {name: round(value, 2) for name, value in milliseconds.items()},
                "difference_to_torch_fp32": {name: float(f"{value:.1e}") for name, value in difference.items()},
                "precision_of_torch": precision,
                "batch_size": given.batch_size,
                "rounds": given.rounds,
                "load_before": round(before, 2),
                "machine": machine(),
            }
        )
    )


def differences(networks: Mapping[str, Compiled], modules: Mapping[str, Any]) -> dict[str, float]:
    """Of each network's output to PyTorch's in fp32. One that is too large ends the benchmark: such times are worth nothing."""
    try:
        return {name: exactness.require_exact(network, modules[name]) for name, network in networks.items()}
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
