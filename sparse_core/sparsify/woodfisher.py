"""WoodFisher: gradual pruning by second-order saliency, the empirical Fisher matrix inverted in diagonal blocks.

Source: Singh & Alistarh, "WoodFisher: Efficient Second-Order Approximation for Neural Network Compression", NeurIPS 2020,
section 3 (Woodbury's identity, blocks) and section 4 (saliency and update).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sparse_core.datasets.dataset import Dataset
from sparse_core.engines.torch_cpu import thread_pool
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify.second_order import pruner
from sparse_core.sparsify.training import Sparsified, run
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report

BYTES_AT_A_TIME = 1 << 25  # of blocks in float64, in each thread


class BlockFisher:
    """The inverse of each block of B consecutive weights of F = λI + (1/N) Σ g gᵀ.

    ``gradients`` (N, d). The paper applies Woodbury's identity once per gradient, F⁻¹ ← F⁻¹ − F⁻¹g gᵀF⁻¹ / (N + gᵀF⁻¹g) from
    F⁻¹ = I/λ; in exact arithmetic the result is the inverse of the block's sum, which is factored here (Cholesky, float64), for
    many blocks at a time. Only gradients are kept: blocks are factored again for ``times``.
    """

    def __init__(self, gradients: Tensor, damping: float, block_size: int) -> None:
        self.gradients, self.damping = gradients, damping
        self.block = min(block_size, gradients.shape[1])

    def diagonal(self) -> Tensor:
        """[F⁻¹]_qq, (d,)."""
        return self._for_all(lambda _, factor: torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2))

    def times(self, vector: Tensor) -> Tensor:
        """F⁻¹ · vector, (d,)."""
        padded = F.pad(vector.double(), (0, -len(vector) % self.block)).view(-1, self.block, 1)
        return self._for_all(lambda first, factor: torch.cholesky_solve(padded[first : first + len(factor)], factor))

    def _for_all(self, work: Callable[[int, Tensor], Tensor]) -> Tensor:
        """What ``work`` gives for each weight (d,). It takes as many blocks at a time as memory is set aside for: the number of
        the first one, and their Cholesky factors (blocks, B, B)."""
        count, size = self.gradients.shape
        at_a_time = self.block * max(1, BYTES_AT_A_TIME // (8 * self.block * max(self.block, count)))
        # Filled in place: kept parts between what is freed would leave the C library with memory it cannot give back.
        found = torch.empty(size, dtype=self.gradients.dtype, device=self.gradients.device)

        def part(first: int) -> None:
            given = self.gradients[:, first : first + at_a_time]
            found[first : first + at_a_time] = work(first // self.block, self._factor(given)).flatten()[
                : given.shape[1]
            ]

        with thread_pool() as (pool, _):  # blocks are too small for several threads to share one
            list(pool.map(part, range(0, size, at_a_time)))
        return found

    def _factor(self, part: Tensor) -> Tensor:
        count = len(part)
        padded = F.pad(part, (0, -part.shape[1] % self.block)).double()
        blocks = padded.view(count, -1, self.block).transpose(0, 1)
        matrices = torch.bmm(blocks.transpose(1, 2), blocks).div_(count)
        matrices.diagonal(dim1=1, dim2=2).add_(self.damping)
        return torch.linalg.cholesky(matrices)


def sparsify(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Prune the backbone's dense weights on GMP's schedule by ρ = w² / (2 [F⁻¹]_qq), and update the remaining weights.

    Defaults: damping λ = 1e-5 (the paper's), 64 gradients of single images (means of 16 images in networks of over a million
    weights) and blocks of 50 weights (ours; the paper has 2,000 for ResNet50 on a GPU), new gradients for each pruning step.
    """
    invert = partial(BlockFisher, damping=spec.damping, block_size=spec.block_size)
    return run(backbone, dataset, spec, seed, pruner(invert), on_progress=on_progress, checkpoint=checkpoint)
