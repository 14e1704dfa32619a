"""The networks that are compared: masks for timing."""

import pytest
import torch

from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.speed.pair import prepare
from tests.support.speed import spec


@pytest.mark.parametrize("distribution", ["uniform", "erk"])
def test_a_mask_for_timing_prunes_all_but_the_first_convolution(home, distribution):
    pair = prepare(home, spec(sparsity=0.8, distribution=distribution))
    zeros = {
        name: float((layer.weight == 0).float().mean())
        for name, layer in pair.sparse.named_modules()
        if isinstance(layer, torch.nn.Conv2d)
    }
    assert zeros.pop("conv1") == 0
    if distribution == "uniform":
        assert list(zeros.values()) == pytest.approx([0.8] * len(zeros), abs=0.01)
    else:
        assert max(zeros.values()) > 0.8 > min(zeros.values())
    assert masks.sparsity(pair.dense).total == 0


def test_a_mask_for_timing_takes_the_layer_densities_of_a_backbone(home, sparse_backbone):
    asked = spec(sparsity=0.0, densities_of=sparse_backbone)
    pair = prepare(home, asked)
    made, taken = (
        masks.sparsity(pair.sparse),
        masks.sparsity(prepare(home, spec(backbone=sparse_backbone)).sparse),
    )
    assert made.layers == pytest.approx(taken.layers, abs=1e-9)
    assert (pair.description["timing_only"], pair.description["backbone"]) == (True, "")
    assert (pair.description["distribution"], pair.description["sparsity"]) == ("as in pruned", 0.8)
    with pytest.raises(InputError, match="only in one"):
        prepare(home, spec(architecture="resnet32", sparsity=0.0, densities_of=sparse_backbone))
    with pytest.raises(InputError, match="need an architecture instead"):
        spec(backbone=sparse_backbone, densities_of=sparse_backbone)
