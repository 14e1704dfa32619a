"""The cost of running DeepSparse in a process of its own, compared with calling it directly in its environment.

    python -m benchmarks.engine_worker [--batch-size 64] [--rounds 20]

ResNet50 at 90 %, 224 pixels, all cores. The cost is copying the images to shared memory, the command, and copying the features
back. In each round the worker and a process that calls DeepSparse on an array of its own run one batch, in turn. The ratio is
the median over rounds of worker over direct call. Expected: at most 1.05. Prints one JSON line.
"""

import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import harness
from sparse_core.engines import availability, compiling
from sparse_core.networks import onnx_export
from sparse_core.paths import default_home
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed.paired_timing import prepare

# Answers each line on stdin with the seconds of one batch, called as any program would call it.
DIRECT = """
import sys, time
import deepsparse, numpy as np
shape = tuple(map(int, sys.argv[2].split(",")))
images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
engine = deepsparse.Engine(sys.argv[1], batch_size=shape[0])
engine.run([images])
for _ in sys.stdin:
    started = time.perf_counter()
    engine.run([images])
    print("seconds", time.perf_counter() - started, flush=True)
"""


def main() -> None:
    given = harness.parser(__doc__, batch_size=64, rounds=20).parse_args()
    harness.skip_without_deepsparse("engine_worker")
    pair = prepare(default_home(), SpeedupSpec(architecture="resnet50", sparsity=0.9))
    shape = (given.batch_size, 3, pair.transform.crop, pair.transform.crop)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    seconds: dict[str, list[float]] = {"worker": [], "direct": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        compiling.compile("deepsparse", pair.sparse, shape[-1], given.batch_size) as compiled,
    ):
        onnx = Path(folder) / "backbone.onnx"
        onnx_export.backbone(pair.sparse, shape[-1], onnx, given.batch_size)
        with direct_process(onnx, shape) as direct:
            direct_seconds(direct)
            compiled.run(images)
            for _ in range(given.rounds):
                seconds["worker"].append(harness.seconds(lambda: compiled.run(images)))
                seconds["direct"].append(direct_seconds(direct))
            direct.kill()
    harness.report(
        "engine_worker",
        given,
        ratio_to_direct_call=round(harness.median_ratio(seconds["worker"], seconds["direct"]), 3),
        milliseconds_per_batch={name: round(1000 * statistics.median(row), 1) for name, row in seconds.items()},
    )


def direct_process(onnx: Path, shape: tuple[int, ...]) -> subprocess.Popen[str]:
    command = [availability.DEEPSPARSE / "bin" / "python", "-c", DIRECT, onnx, ",".join(map(str, shape))]
    environment = {**os.environ, "NM_DISABLE_ANALYTICS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **pipes, env=environment, text=True)


def direct_seconds(process: "subprocess.Popen[str]") -> float:
    assert process.stdin and process.stdout
    process.stdin.write("run\n")
    process.stdin.flush()
    line = next(line for line in process.stdout if line.startswith("seconds "))  # the engine prints lines of its own
    return float(line.split()[1])


if __name__ == "__main__":
    main()
