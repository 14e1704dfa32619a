"""AC/DC's phases, step by step."""

import torch

from sparse_core.networks import masks
from sparse_core.sparsify import acdc, schedules
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import SparseTraining
from tests.support.sparsify import tiny_spec


def test_weights_are_pruned_in_compressed_phases_and_free_in_dense_ones(new_backbone, digits):
    spec = tiny_spec("AC/DC")
    training = SparseTraining(
        start(new_backbone, digits, spec, 0), new_backbone, digits, spec, 0, acdc.AlternatingPruner
    )
    compressed = {step for start, end in schedules.compressed_phases(training.steps) for step in range(start, end)}
    body = training.network.body
    for step in range(training.steps):
        training.before_step(step)
        inside = step in compressed
        assert round(training.pruner.sparsity(), 3) == (0.9 if inside else 0.0)
        for parameter in body.parameters():  # any gradient moves all weights
            parameter.grad = torch.ones_like(parameter)
        training.update()
        zeros = masks.sparsity(body).total
        assert (abs(zeros - 0.9) < 1e-3) if inside else zeros == 0
    assert inside


def test_momentum_starts_anew_when_weights_are_released(new_backbone, digits):
    spec = tiny_spec("AC/DC")
    training = SparseTraining(
        start(new_backbone, digits, spec, 0), new_backbone, digits, spec, 0, acdc.AlternatingPruner
    )
    for parameter in training.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    first, end = schedules.compressed_phases(training.steps)[0]
    training.before_step(first)
    training.update()
    assert all(bool(state["momentum_buffer"].any()) for state in training.optimizer.state.values())
    training.before_step(end)
    assert not any(bool(state["momentum_buffer"].any()) for state in training.optimizer.state.values())
