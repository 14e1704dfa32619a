"""RigL's updates by hand."""

import torch

from sparse_core.networks import masks
from sparse_core.sparsify.methods import METHODS
from sparse_core.sparsify.rigl import RiggingPruner, rewired
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import SparseTraining
from tests.support.sparsify import tiny_spec


def test_the_smallest_weights_make_way_for_those_with_the_largest_gradients():
    kept = torch.tensor([[True, True, True, True], [False, False, False, False]])
    weight = torch.tensor([[4.0, -0.1, 2.0, 0.2], [0, 0, 0, 0]])
    gradient = torch.tensor([[9.0, 0.5, 9.0, 0.1], [0.2, -3.0, 0.4, 1.0]])
    assert rewired(kept, weight, gradient, 0.5).tolist() == [[True, False, True, False], [False, True, False, True]]


def test_a_weight_that_was_dropped_may_grow_again():
    kept = torch.tensor([True, True, False])
    changed = rewired(kept, torch.tensor([1.0, 0.1, 0.0]), torch.tensor([0.0, 5.0, 1.0]), 0.5)
    assert changed.tolist() == [True, True, False]


def test_of_equal_candidates_the_last_stay_and_grow():
    kept = torch.tensor([True] * 4 + [False] * 4)
    assert rewired(kept, torch.ones(8), torch.ones(8), 0.5).tolist() == [
        False,
        False,
        True,
        True,
        False,
        False,
        True,
        True,
    ]


def test_an_update_takes_the_place_of_a_step_and_keeps_every_layer_at_its_count(new_backbone, digits):
    spec = tiny_spec("RigL ERK 1x")
    training = SparseTraining(start(new_backbone, digits, spec, 0), new_backbone, digits, spec, 0, RiggingPruner)
    counts = {name: int(kept.sum()) for name, kept in training.mask.tensors.items()}
    images, labels = next(training.training_batches(range(20), 20)), digits.train.labels[:20]
    interval = training.pruner.updates.interval
    changed = 0
    for step in range(2 * interval + 1):
        before = training.mask
        weights = {name: weight.clone() for name, weight in masks.prunable(training.network.body).items()}
        training.before_step(step)
        training.step(images, labels)
        if not training.pruner.updates.are_due(step):
            assert training.mask is before
            continue
        changed += 1
        assert training.mask != before
        for name, kept in training.mask.tensors.items():
            assert int(kept.sum()) == counts[name]
            now = training.network.body.get_parameter(name)
            stayed = kept & before.tensors[name]
            assert torch.equal(now[stayed], weights[name][stayed])
            grown = kept & ~before.tensors[name]
            assert bool((now[grown] == 0).all())
            buffer = training.optimizer.state[now]["momentum_buffer"]
            assert bool((buffer[grown] == 0).all())
    assert changed == 2


def test_densities_are_those_of_erk_or_uniform(new_backbone, digits):
    for distribution in ("", "uniform"):
        spec = tiny_spec("RigL ERK 1x", distribution=distribution, epochs=1)
        result = METHODS["RigL ERK 1x"](new_backbone, digits, spec, 0)
        layers = masks.sparsity(result.mask).layers
        shares = {round(share, 2) for name, share in layers.items() if name != "conv1.weight"}
        assert (len(shares) == 1) == (distribution == "uniform")
        assert spec.label == ("RigL uniform 1x" if distribution else "RigL ERK 1x")
