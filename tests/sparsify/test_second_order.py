"""WoodFisher and M-FAC against dense inverses, the paper's recursion, and the exact solution on a quadratic."""

import numpy as np
import pytest
import torch

from sparse_core.sparsify import gradients, woodfisher
from sparse_core.sparsify.methods import METHODS
from sparse_core.sparsify.mfac import MatrixFreeFisher
from sparse_core.sparsify.second_order import SecondOrderPruner
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import SparseTraining
from sparse_core.sparsify.woodfisher import BlockFisher
from tests.support.refusals import refused
from tests.support.sparsify import tiny_spec

DAMPING = 1e-3


@pytest.fixture
def sampled():
    """Gradients (12, 23) of very different sizes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 23, generator=generator) * torch.logspace(-2, 1, 23)


def dense_inverse(sampled, block=None):
    """The inverse of the Fisher matrix, of its diagonal blocks only where a block size is given."""
    fisher = sampled.double().T @ sampled.double() / len(sampled)
    if block:
        places = torch.arange(len(fisher)) // block
        fisher = fisher * (places[:, None] == places[None])
    return torch.linalg.inv(fisher + DAMPING * torch.eye(len(fisher)))


def recursion(sampled):
    """The inverse as WoodFisher's equation 6 builds it, gradient by gradient."""
    inverse = torch.eye(sampled.shape[1], dtype=torch.float64) / DAMPING
    for gradient in sampled.double():
        product = inverse @ gradient
        inverse = inverse - torch.outer(product, product) / (len(sampled) + gradient @ product)
    return inverse


@pytest.mark.parametrize("columns", [5, 1 << 16])
def test_mfac_is_the_dense_inverse(sampled, columns, monkeypatch):
    monkeypatch.setattr("sparse_core.sparsify.mfac.COLUMNS", columns)
    check(MatrixFreeFisher(sampled, DAMPING), dense_inverse(sampled))


@pytest.mark.parametrize("at_a_time", [1, 1 << 26])
@pytest.mark.parametrize("block", [1, 4, 5, 23, 50])
def test_woodfisher_is_the_dense_inverse_of_its_blocks(sampled, block, at_a_time, monkeypatch):
    monkeypatch.setattr(woodfisher, "BYTES_AT_A_TIME", at_a_time)
    check(BlockFisher(sampled, DAMPING, block), dense_inverse(sampled, block))


def test_one_block_is_what_the_recursion_of_the_paper_gives(sampled):
    torch.testing.assert_close(dense_inverse(sampled), recursion(sampled), rtol=1e-6, atol=1e-6)
    check(BlockFisher(sampled, DAMPING, 23), recursion(sampled))


def check(inverse, expected):
    vector = torch.linspace(-1, 1, 23)
    torch.testing.assert_close(inverse.diagonal().double(), expected.diagonal(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(inverse.times(vector).double(), expected @ vector.double(), rtol=1e-4, atol=1e-3)


def test_the_update_reaches_the_minimum_of_a_quadratic_without_the_pruned_weight(sampled):
    """Of ½ (w − w₀)ᵀ F (w − w₀), the minimum with w_q = 0 is where the gradient of all other weights is 0, and the loss there is
    the saliency of q."""
    fisher = torch.linalg.inv(dense_inverse(sampled))
    weights = torch.linspace(0.5, 2, 23).double()
    inverse = MatrixFreeFisher(sampled, DAMPING)
    diagonal = inverse.diagonal()
    q = 7
    pruned = torch.zeros(23)
    pruned[q] = weights[q] / diagonal[q]
    after = weights - inverse.times(pruned).double()
    moved = after - weights
    gradient = fisher @ moved
    assert float(after[q]) == pytest.approx(0, abs=1e-4)
    assert torch.cat([gradient[:q], gradient[q + 1 :]]).abs().max() < 1e-3 * gradient[q].abs()
    assert float(0.5 * moved @ fisher @ moved) == pytest.approx(float(weights[q] ** 2 / (2 * diagonal[q])), rel=1e-3)


@pytest.mark.parametrize("method", ["WoodFisher", "M-FAC"])
def test_a_pruning_step_follows_the_formulas(method, dense_backbone, digits):
    """Saliencies, the mask of the lowest, and the summed updates, with the gradients of a plain loop and a dense inverse, on the
    weights of one layer."""
    spec = tiny_spec(method, gradients=20, damping=1e-3, block_size=10**9 if method == "WoodFisher" else 50)
    captured = {}

    class Dense:
        def __init__(self, found):
            captured["gradients"], captured["inverse"] = found, self
            self.made = BlockFisher(found, 1e-3, 40) if method == "WoodFisher" else MatrixFreeFisher(found, 1e-3)

        def diagonal(self):
            captured["diagonal"] = self.made.diagonal()
            return captured["diagonal"]

        def times(self, vector):
            captured["vector"] = vector.clone()
            captured["product"] = self.made.times(vector)
            return captured["product"]

    begin = start(dense_backbone, digits, spec, 0)
    training = SparseTraining(
        begin, dense_backbone, digits, spec, 0, lambda made: SecondOrderPruner(made, invert=Dense)
    )
    names = list(training.mask.tensors)[1:]
    before = torch.cat([training.network.body.get_parameter(name).detach().flatten() for name in names])
    training.pruner.prune(3, 0.6)
    kept = torch.cat([training.mask.tensors[name].flatten() for name in names])
    after = torch.cat([training.network.body.get_parameter(name).detach().flatten() for name in names])
    saliency = before.square() / (2 * captured["diagonal"])
    assert saliency[~kept].max() <= saliency[kept].min()
    assert torch.equal(captured["vector"], torch.where(kept, 0.0, before / captured["diagonal"]))
    torch.testing.assert_close(after, torch.where(kept, before - captured["product"], 0.0))
    assert captured["gradients"].shape == (20, len(before))


def test_gradients_are_those_of_single_images(dense_backbone, digits):
    spec = tiny_spec("M-FAC")
    network = start(dense_backbone, digits, spec, 0).network
    weights = [network.body.get_parameter("layer1.0.conv1.weight")]
    kept = torch.ones(weights[0].numel(), dtype=torch.bool)
    kept[::3] = False
    rows = gradients.draw_rows(digits, 6, 2, [1, 5])
    assert len(set(rows)) == 12 and rows == gradients.draw_rows(digits, 6, 2, [1, 5])
    found = gradients.collect(network, weights, kept, digits, dense_backbone.transform, rows, 2)
    for number in range(6):
        images = torch.stack(
            [
                torch.from_numpy(np.array(digits.train.load(row))).permute(2, 0, 1) / 255
                for row in rows[2 * number :][:2]
            ]
        )
        loss = torch.nn.functional.cross_entropy(
            network((images - 0.3) / 0.4), torch.from_numpy(digits.train.labels[rows[2 * number :][:2]])
        )
        expected = torch.autograd.grad(loss, weights)[0].flatten()[kept]
        torch.testing.assert_close(found[number], expected, rtol=1e-3, atol=1e-6)


def test_too_few_upstream_images_are_refused(dense_backbone, digits):
    message = refused(METHODS["WoodFisher"], dense_backbone, digits, tiny_spec("WoodFisher", gradients=301), 0)
    assert message.startswith("301 gradients of 1 images each take 301 upstream images; 'digits' has 300 for training.")
    assert gradients.images_per_gradient(0, 272_474) == 1 and gradients.images_per_gradient(0, 23_454_912) == 16
