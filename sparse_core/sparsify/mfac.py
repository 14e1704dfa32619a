"""M-FAC: gradual pruning by second-order saliency with the whole empirical Fisher matrix, which is never formed.

Source: Frantar, Kurtic, Alistarh, "M-FAC: Efficient Matrix-Free Approximations of Second-Order Information", NeurIPS 2021, the
static algorithm, and its use for pruning.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify.second_order import pruner
from sparse_core.sparsify.training import Sparsified, run
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report

COLUMNS = 1 << 16  # weights at a time in float64


class MatrixFreeFisher:
    """Products with the inverse of F = λI + (1/N) GᵀG, from the gradients G (N, d) and an (N, N) matrix.

    Woodbury's identity for all gradients at once, F⁻¹ = (I − Gᵀ (NλI + GGᵀ)⁻¹ G) / λ, which the paper's recursion over the
    gradients computes too. With the Cholesky factor L of NλI + GGᵀ and Y = L⁻¹G, the diagonal is
    (1 − Σ_i Y_iq²) / λ. In float64, since 1 − Σ cancels; memory is that of G.
    """

    def __init__(self, gradients: Tensor, damping: float) -> None:
        self.gradients, self.damping = gradients, damping
        count = len(gradients)
        products = torch.zeros(count, count, dtype=torch.float64, device=gradients.device)
        for _, part in self._columns():
            products.addmm_(part, part.T)
        products.diagonal().add_(count * damping)
        self.factor = torch.linalg.cholesky(products)

    def diagonal(self) -> Tensor:
        """[F⁻¹]_qq, (d,)."""
        out = torch.empty_like(self.gradients[0])
        for columns, part in self._columns():
            solved = torch.linalg.solve_triangular(self.factor, part, upper=False)
            out[columns] = ((1 - solved.square_().sum(0)) / self.damping).to(out.dtype)
        return out

    def times(self, vector: Tensor) -> Tensor:
        """F⁻¹ · vector, (d,)."""
        projected = torch.zeros(len(self.gradients), 1, dtype=torch.float64, device=vector.device)
        for columns, part in self._columns():
            projected.addmm_(part, vector[columns, None].double())
        solved = torch.cholesky_solve(projected, self.factor)
        out = torch.empty_like(vector)
        for columns, part in self._columns():
            out[columns] = ((vector[columns].double() - (part.T @ solved)[:, 0]) / self.damping).to(out.dtype)
        return out

    def _columns(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.gradients.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            yield columns, self.gradients[:, columns].double()


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

    Defaults: damping λ = 1e-5 and 64 gradients, as in the authors' code; their gradients are means of 32 images, ours of single
    images in small networks and of 16 in those of over a million weights. One computation of the inverse per pruning step.
    """
    invert = partial(MatrixFreeFisher, damping=spec.damping)
    return run(backbone, dataset, spec, seed, pruner(invert), on_progress=on_progress, checkpoint=checkpoint)
