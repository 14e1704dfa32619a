"""Speedup of a sparse YOLOv5s in DeepSparse over the dense one in the same engine.

    python -m benchmarks.detector_engines [--batch-size 16] [--rounds 10] [--side 640] [--sparsity 0.9]

The network without decoding and non-maximum suppression, which are timed apart, in fp32 on all cores; random weights, pruned
uniformly but for the first convolution. Dense and sparse take turns; the ratio is of medians, with its 95 % interval. Hoped for
at 90 %: 1.8. Prints one JSON line, or fails with a message if an output differs from PyTorch's in fp32 by more than the product
tolerates.
"""

from benchmarks import harness
from sparse_core.paths import default_home
from sparse_core.specs.progress import Progress
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import inference
from sparse_core.speed.paired_timing import prepare

ARCHITECTURE = "yolov5s"
REPORTED = ("ratio", "ratio_low", "ratio_high", "milliseconds_per_image", "dense_milliseconds_per_image")
REPORTED += ("images_per_second", "decoding_milliseconds", "nms_milliseconds", "difference")


def no_report(progress: Progress) -> None:
    pass


def measured(spec: SpeedupSpec, engine: str) -> dict[str, float]:
    """What is reported of the dense and the sparse network in an engine, at the spec's only batch size."""
    (batch_size,) = spec.batch_sizes
    line = inference.measure(prepare(default_home(), spec), spec, engine, batch_size, no_report)
    return {name: float(f"{line[name]:.4g}") for name in REPORTED}


def main() -> None:
    given = harness.parser(__doc__, batch_size=16, rounds=10, side=640, sparsity=0.9).parse_args()
    harness.skip_without_deepsparse("detector_engines")
    spec = SpeedupSpec(
        architecture=ARCHITECTURE,
        sparsity=given.sparsity,
        image_size=given.side,
        batch_sizes=(given.batch_size,),
        rounds=given.rounds,
    )
    harness.report("detector_engines", given, **measured(spec, "deepsparse"))


if __name__ == "__main__":
    main()
