"""Speedup of a full-transfer step over a plain way to train with a fixed mask.

    python -m benchmarks.finetune_speed [--rounds 7] [--batch-size 16]

ResNet50 at 90 % sparsity, 224 pixels. Plain: fp32, default memory layout, the mask multiplied into the weights in every
forward pass (torch.nn.utils.parametrize). Ours, as in the product: channels last, bf16 autocast where the processor computes
it natively, pruned weights reset after the step. The two take turns; the ratio is the median over rounds. Prints one JSON line.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from benchmarks import harness
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.networks import architectures, masks
from sparse_core.transfer.finetune import FixedMask


class Masked(nn.Module):
    """A weight times its mask, computed in every forward pass."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept.float())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


def plain_step(x: Tensor, y: Tensor) -> Callable[[], None]:
    network, _, mask = sparse_network()
    for name, kept in mask.tensors.items():
        layer = network[0].get_submodule(name.removesuffix(".weight"))
        parametrize.register_parametrization(layer, "weight", Masked(kept))
    return sgd_step(network, x, y)


def sgd_step(network: nn.Module, x: Tensor, y: Tensor, *, fused: bool = False) -> Callable[[], None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=fused)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def product_step(x: Tensor, y: Tensor) -> Callable[[], None]:
    network, body, mask = sparse_network()
    network = network.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)
    fixed = FixedMask(body, mask)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16()):
            logits = network(x)
        loss = nn.functional.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fixed.hold()

    return step


def sparse_network(architecture: str = "resnet50") -> tuple[nn.Module, nn.Module, masks.Mask]:
    torch.manual_seed(0)
    body = architectures.build(architecture)
    mask = masks.top_k(body, 0.9)
    masks.apply(body, mask)
    return nn.Sequential(body, nn.Linear(body.dimensions, 10)).train(), body, mask


def main() -> None:
    given = harness.parser(__doc__, rounds=7, batch_size=16).parse_args()
    torch.manual_seed(0)
    x, y = torch.randn(given.batch_size, 3, 224, 224), torch.arange(given.batch_size) % 10
    steps = {"plain": plain_step(x, y), "ours": product_step(x, y)}
    for step in steps.values():
        step()
    seconds = harness.seconds_in_turn(steps, given.rounds)
    harness.report(
        "finetune_speed",
        given,
        ratio_plain_to_ours=round(harness.median_ratio(seconds["plain"], seconds["ours"]), 2),
        seconds_per_step=harness.rounded(seconds, 3),
    )


if __name__ == "__main__":
    main()
