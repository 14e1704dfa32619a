"""What the fixed mask costs: a full-transfer step with the mask applied against the same step without.

    python -m benchmarks.finetune_step [--pairs 15] [--batch-size 64]

ResNet18 at 90 % sparsity, 224 pixels: forward, backward, torch.optim.SGD's step and, in the masked one, clearing the bits of
every pruned weight. The two take turns; the ratio is the median over pairs. Prints one JSON line.
"""

import statistics

import torch
from torch import nn

from benchmarks import harness
from sparse_core.networks import architectures, masks
from sparse_core.transfer.finetune import FixedMask


def main() -> None:
    given = harness.parser(__doc__, pairs=15, batch_size=64).parse_args()
    torch.manual_seed(0)
    body = architectures.build("resnet18")
    mask = masks.top_k(body, 0.9)
    masks.apply(body, mask)
    network = nn.Sequential(body, nn.Linear(512, 10)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)
    fixed = FixedMask(body, mask)
    x = torch.randn(given.batch_size, 3, 224, 224).to(memory_format=torch.channels_last)
    y = torch.arange(given.batch_size) % 10

    def dense() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    def masked() -> None:
        dense()
        fixed.hold()

    masked()
    seconds = harness.seconds_in_turn({"masked": masked, "dense": dense}, given.pairs)
    ratio = statistics.median(a / b for a, b in zip(seconds["masked"], seconds["dense"], strict=True))
    harness.report(
        "finetune_step",
        ratio_masked_to_dense=round(ratio, 4),
        seconds_per_step=harness.rounded(seconds, 3),
        pairs=given.pairs,
        batch_size=given.batch_size,
    )


if __name__ == "__main__":
    main()
