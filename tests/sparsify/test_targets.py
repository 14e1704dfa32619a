"""Layer densities computed by hand, targets met to one weight, ties."""

import pytest
import torch

from sparse_core.networks import masks
from sparse_core.sparsify import targets
from tests.support.refusals import refused

# The first layer stays dense, so 0.5 of 1,000 + 400 + 600 = 2,000 leaves the last two none; see the tests.
SHAPES = {"a": (10, 10, 1, 1), "b": (20, 10, 1, 1), "c": (20, 20, 3, 3)}  # 100, 200 and 3,600 weights


def test_uniform_densities_leave_the_first_layer_dense_and_meet_the_total():
    """Of 3,900 weights 1,950 are pruned, out of the last 3,800: a density of 1 − 1950 / 3800 = 0.48684."""
    assert targets.kept_counts(SHAPES, 0.5, "uniform") == {"a": 100, "b": 97, "c": 1753}
    assert targets.kept_counts(SHAPES, 0.5, "uniform", prune_first=True) == {"a": 50, "b": 100, "c": 1800}


def test_erk_densities_computed_by_hand():
    """Raw densities: b (20 + 10 + 1 + 1) / 200 = 0.16, c (20 + 20 + 3 + 3) / 3600 = 0.012778. At sparsity 0.95, 195 weights are
    kept, 95 of them in b and c: the factor is 95 / (32 + 46), so b keeps 38.97 and c 56.03."""
    assert targets.kept_counts(SHAPES, 0.95, "erk") == {"a": 100, "b": 39, "c": 56}


def test_a_layer_that_erk_would_fill_stays_dense():
    """At 0.8, 780 are kept, 680 of them in b and c: 680 / 78 · 32 = 279 exceeds the 200 of b, so c keeps 480."""
    assert targets.kept_counts(SHAPES, 0.8, "erk") == {"a": 100, "b": 200, "c": 480}


@pytest.mark.parametrize("distribution", ["global", "uniform", "erk"])
@pytest.mark.parametrize("sparsity", [0.0, 0.123, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("prune_first", [False, True])
def test_the_target_is_met_to_one_weight(distribution, sparsity, prune_first):
    generator = torch.Generator().manual_seed(1)
    scores = {name: torch.rand(shape, generator=generator) for name, shape in SHAPES.items()}
    mask = targets.highest(scores, sparsity, distribution, prune_first)
    pruned = sum(int((~kept).sum()) for kept in mask.tensors.values())
    assert pruned == round(sparsity * 3900)
    assert bool(mask.tensors["a"].all()) or prune_first
    for name, kept in mask.tensors.items():  # within a layer, none that is pruned scores higher than one that is kept
        if not bool(kept.all()) and bool(kept.any()):
            assert scores[name][~kept].max() <= scores[name][kept].min()


def test_of_equal_scores_the_first_are_pruned():
    equal = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    across = targets.highest(equal, 250 / 3900).tensors
    assert not bool(across["b"].any()) and across["c"].flatten().tolist() == [False] * 50 + [True] * 3550
    within = targets.highest(equal, 0.5, "uniform").tensors
    assert within["b"].flatten().tolist() == [False] * 103 + [True] * 97


def test_pruned_weights_are_pruned_again_before_any_other():
    scores = {"a": torch.zeros(10, 10, 1, 1), "b": torch.zeros(20, 10, 1, 1), "c": torch.zeros(20, 20, 3, 3)}
    kept = masks.Mask({name: torch.ones_like(score).bool() for name, score in scores.items()})
    kept.tensors["c"].view(-1)[-300:] = False
    again = targets.highest(targets.marked(scores, kept), 300 / 3900).tensors
    assert torch.equal(again["c"], kept.tensors["c"]) and bool(again["b"].all())


@pytest.mark.parametrize("distribution", ["global", "uniform", "erk"])
def test_targets_out_of_reach_are_refused(distribution):
    scores = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    for sparsity in (1.0, -0.1, 0.98):
        assert "cannot be reached" in refused(targets.highest, scores, sparsity, distribution)
    assert "at most 0.9741" in refused(targets.highest, scores, 0.98, distribution)
