"""What holding the mask costs: a masked full-transfer step against the same dense step.

    python benchmarks/finetune_step.py [--pairs 15] [--batch-size 64]

ResNet18 at 90 % sparsity, 224 pixels: forward, backward, torch.optim.SGD's step and, for the masked one, clearing
the bits of every pruned weight. The two take turns; the ratio is the median over pairs. Prints one JSON line.
"""

import argparse
import json
import statistics
import time

import torch
from torch import Tensor, nn

from sparse_core.engines.machine import machine
from sparse_core.networks import architectures, masks
from sparse_core.transfer.finetune import FixedMask


def step(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, fixed: FixedMask | None) -> float:
    """One step, with the mask held where there is one; returns its seconds."""
    started = time.perf_counter()
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(x), y).backward()
    optimizer.step()
    if fixed:
        fixed.hold()
    return time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=15)
    options.add_argument("--batch-size", type=int, default=64)
    given = options.parse_args()

    torch.manual_seed(0)
    body = architectures.build("resnet18")
    mask = masks.top_k(body, 0.9)
    masks.apply(body, mask)
    network = nn.Sequential(body, nn.Linear(512, 10)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)
    fixed = FixedMask(body, mask)
    x = torch.randn(given.batch_size, 3, 224, 224).to(memory_format=torch.channels_last)
    y = torch.arange(given.batch_size) % 10

    step(network, optimizer, x, y, fixed)
    seconds: dict[str, list[float]] = {"dense": [], "masked": []}
    for pair in range(given.pairs):
        for name in ("dense", "masked") if pair % 2 else ("masked", "dense"):
            seconds[name].append(step(network, optimizer, x, y, fixed if name == "masked" else None))
    ratio = statistics.median(masked / dense for dense, masked in zip(*seconds.values(), strict=True))
    print(
        json.dumps(
            {
                "benchmark": "finetune_step",
                "ratio_masked_to_dense": round(ratio, 4),
                "seconds_per_step": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
                "pairs": given.pairs,
                "batch_size": given.batch_size,
                **machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
