"""What the fixed mask costs: a full-transfer step with the mask applied against the same step without.

    python -m benchmarks.finetune_step [--pairs 15] [--batch-size 64]

ResNet18 at 90 % sparsity, 224 pixels: forward, backward, torch.optim.SGD's step and, in the masked one, clearing the bits of
every pruned weight. The two take turns; the ratio is the median over pairs. Prints one JSON line.
"""

import torch

from benchmarks import harness
from benchmarks.finetune_speed import sgd_step, sparse_network
from sparse_core.transfer.finetune import FixedMask


def main() -> None:
    given = harness.parser(__doc__, pairs=15, batch_size=64).parse_args()
    network, body, mask = sparse_network("resnet18")
    x = torch.randn(given.batch_size, 3, 224, 224).to(memory_format=torch.channels_last)
    y = torch.arange(given.batch_size) % 10
    dense = sgd_step(network.to(memory_format=torch.channels_last), x, y, fused=True)
    fixed = FixedMask(body, mask)

    def masked() -> None:
        dense()
        fixed.hold()

    masked()
    seconds = harness.seconds_in_turn({"masked": masked, "dense": dense}, given.pairs)
    harness.report(
        "finetune_step",
        given,
        ratio_masked_to_dense=round(harness.median_ratio(seconds["masked"], seconds["dense"]), 4),
        seconds_per_step=harness.rounded(seconds, 3),
    )


if __name__ == "__main__":
    main()
