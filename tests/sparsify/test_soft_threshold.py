"""STR: its function and gradient by hand, its fold, and the search for the strength."""

import math
from functools import partial

import pytest
import torch

from sparse_core.networks import masks
from sparse_core.sparsify import soft_threshold
from sparse_core.sparsify.methods import METHODS
from sparse_core.sparsify.soft_threshold import Search, SoftThreshold, ThresholdPruner
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import SparseTraining
from tests.support.sparsify import tiny_spec


def test_function_and_gradient_by_hand():
    """g = sigmoid(0) = 0.5, g' = 0.25: weights within ±0.5 are 0 and have no gradient; with output gradients 1, 2, 3, 4 the
    threshold's is −0.25 · (−1 · 1 + 1 · 4)."""
    threshold = SoftThreshold(0.0)
    weight = torch.tensor([-0.75, -0.25, 0.4, 2.0]).view(4, 1, 1, 1).requires_grad_(True)
    out = threshold(weight)
    assert out.flatten().tolist() == [-0.25, 0, 0, 1.5]
    out.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1))
    assert weight.grad.flatten().tolist() == [1, 0, 0, 4]
    assert threshold.s.grad.item() == pytest.approx(-0.25 * (-1 + 4))


def test_it_is_the_papers_formula():
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.sign(weight) * torch.relu(weight.abs() - torch.sigmoid(torch.tensor(-1.5)))
    torch.testing.assert_close(SoftThreshold(-1.5)(weight), expected)


def trained(new_backbone, digits, thresholds):
    """A training whose thresholds have these values of s, layer by layer."""
    spec = tiny_spec("STR")
    make = partial(ThresholdPruner, search=Search(strength=1e-3))
    training = SparseTraining(start(new_backbone, digits, spec, 0), new_backbone, digits, spec, 0, make)
    for parameter in training.network.parameters():
        if parameter.shape == (1, 1):
            parameter.data.fill_(thresholds)
    return training


@pytest.mark.parametrize(("s", "sparser"), [(-6.0, False), (-1.0, True)])
def test_folding_keeps_the_network_but_for_the_trim_to_the_target(new_backbone, digits, s, sparser):
    training = trained(new_backbone, digits, s)
    body = training.network.body
    used = {name: weight.clone() for name, weight in masks.prunable(body).items()}
    learnt = masks.sparsity(body).total
    assert training.pruner.sparsity() == learnt and (learnt > 0.9) == sparser
    training.before_step(training.pruner.fold_at)
    folded = training.pruner.folded
    size = sum(weight.numel() for weight in used.values())
    assert masks.sparsity(body).total == pytest.approx(0.9, abs=0.5 / size)
    assert folded["learnt_sparsity"] == learnt
    assert (folded["revived"] > 0, folded["trimmed"] > 0) == (sparser, not sparser)
    for name, weight in masks.prunable(body).items():
        kept = training.mask.tensors[name]
        moved = weight[kept] - used[name][kept]
        if name == "conv1.weight" or not sparser:
            assert bool((moved == 0).all())
        else:  # all thresholds were lowered by the same amount
            assert moved.abs().max() <= folded["threshold_lowered"] * 1.001
    assert not any(".parametrizations." in name for name, _ in body.named_parameters())


def test_folded_weights_go_on_training_under_the_mask(new_backbone, digits):
    training = trained(new_backbone, digits, -6.0)
    training.before_step(training.pruner.fold_at)
    for parameter in training.network.body.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: weight.clone() for name, weight in masks.prunable(training.network.body).items()}
    training.update()
    for name, weight in masks.prunable(training.network.body).items():
        assert bool((weight != before[name])[training.mask.tensors[name]].all())
    assert masks.violations(training.network.body, training.mask) == 0


def test_the_search_interpolates_between_pilots():
    assert soft_threshold.next_strength([], 0.9, 2.0) == 2.0
    assert soft_threshold.next_strength([[2.0, 0.8]], 0.9, 2.0) == 3.0
    assert soft_threshold.next_strength([[2.0, 0.95]], 0.9, 2.0) == pytest.approx(2 / 1.5)
    between = soft_threshold.next_strength([[1.0, 0.8], [4.0, 0.95]], 0.9, 1.0)
    logits = [math.log(share / (1 - share)) for share in (0.8, 0.9, 0.95)]
    assert math.log(between) == pytest.approx(math.log(4) * (logits[1] - logits[0]) / (logits[2] - logits[0]))
    assert soft_threshold.next_strength([[1.0, 0.2], [1.5, 0.21]], 0.9, 1.0) == pytest.approx(1.5 * 1.5**2)


def test_decay_alone_with_the_first_strength_ends_at_the_targets_share_of_the_initial_weights(new_backbone, digits):
    spec, steps = tiny_spec("STR"), 400
    body = start(new_backbone, digits, spec, 0).network.body
    strength = soft_threshold.first_strength(body, spec, steps)
    threshold = torch.nn.Parameter(torch.tensor([soft_threshold.INITIAL]))
    optimizer = torch.optim.SGD([threshold], lr=0.1, momentum=0.9, weight_decay=strength)
    for step in range(360):
        optimizer.param_groups[0]["lr"] = soft_threshold.schedules.learning_rate("cosine", 0.1, step, steps)
        threshold.grad = torch.zeros(1)
        optimizer.step()
    below = sum(
        int((w.abs() < torch.sigmoid(threshold)).sum())
        for name, w in masks.prunable(body).items()
        if name != "conv1.weight"
    )
    total = sum(weight.numel() for weight in masks.prunable(body).values())
    assert below / total == pytest.approx(0.9, abs=0.03)


def test_at_most_three_pilots_and_their_seconds_count(new_backbone, digits, monkeypatch):
    result = METHODS["STR"](new_backbone, digits, tiny_spec("STR", epochs=2), 0)
    assert 1 <= len(result.details["pilots"]) <= 3
    assert result.details["seconds"] > sum(result.seconds)
    given = METHODS["STR"](new_backbone, digits, tiny_spec("STR", epochs=2, strength=result.details["strength"]), 0)
    assert given.details["pilots"] == []
    assert torch.equal(given.network.body.layer1[0].conv1.weight, result.network.body.layer1[0].conv1.weight)
