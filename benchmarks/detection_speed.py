"""Speedup of a detector's training step in bf16 and channels last over plain fp32.

    python -m benchmarks.detection_speed [--rounds 7] [--batch-size 8] [--side 416]

YOLOv3-tiny's training step: forward pass, loss, backward pass, clipping, SGD and the moving average. Plain: fp32 in torch's
default memory layout. Beside it channels last in fp32, which the product takes where the processor has no bf16 of its own, and
in bf16, which it takes elsewhere. All take turns; the ratios are medians over rounds. Expected of bf16 where it is native: at
least 2. Prints one JSON line.
"""

import dataclasses
from collections.abc import Callable

import torch

from benchmarks import harness
from benchmarks.detection_step import batch, training
from sparse_core.engines.torch_cpu import native_bf16

ARCHITECTURE = "yolov3_tiny"
WAYS = {
    "plain": (torch.contiguous_format, "fp32"),
    "channels_last": (torch.channels_last, "fp32"),
    "channels_last_bf16": (torch.channels_last, "bf16"),
}


def step(side: int, batch_size: int, layout: torch.memory_format, precision: str) -> Callable[[], object]:
    """A training step with this layout and precision."""
    made = training(ARCHITECTURE, side, batch_size, sparsity=0.0)
    made.layout = layout
    made.protocol = dataclasses.replace(made.protocol, precision=precision)
    made.network.to(memory_format=layout)
    images = batch(side, batch_size)
    return lambda: made.step(images)


def main() -> None:
    given = harness.parser(__doc__, rounds=7, batch_size=8, side=416).parse_args()
    steps = {name: step(given.side, given.batch_size, *way) for name, way in WAYS.items()}
    for work in steps.values():
        work()
    seconds = harness.seconds_in_turn(steps, given.rounds)
    ratios = {name: harness.median_ratio(seconds["plain"], seconds[name]) for name in WAYS if name != "plain"}
    harness.report(
        "detection_speed",
        given,
        **{f"ratio_plain_to_{name}": round(ratio, 2) for name, ratio in ratios.items()},
        bf16_is_native=native_bf16(),
        seconds_per_step=harness.rounded(seconds, 3),
    )


if __name__ == "__main__":
    main()
