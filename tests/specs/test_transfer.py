"""Specs of transfers: identity, refusals, and the protocol as text."""

import json

import pytest

from sparse_core.jobs.kinds import Job, job_from_json
from sparse_core.specs.identity import run_id, to_json
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import ProbeSpec, protocol
from tests.support.refusals import refused


def test_the_order_of_swept_rates_does_not_change_a_run():
    one, other = (ProbeSpec("b", "d", sweep_lr=rates) for rates in ((0.1, 0.01, 0.1), (0.01, 0.1)))
    assert one.sweep_lr == (0.01, 0.1)
    assert run_id(one, 0) == run_id(other, 0)
    assert protocol(one) == protocol(other)
    assert job_from_json(json.loads(to_json(Job("probe", one)))).spec == one


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0, -0.1])
def test_invalid_learning_rates_are_refused(rate):
    refused(ProbeSpec, "b", "d", sweep_lr=(0.1, rate), match=f"learning rate of the sweep must be .*; got {rate}")
    refused(Hyperparameters, learning_rate=rate, match=f"learning_rate must be .*; got {rate}")


def test_protocols_differ_where_a_number_differs_in_its_last_digit():
    def text(**settings):
        return protocol(ProbeSpec("b", "d", settings=Hyperparameters(**settings)))

    assert text() == (
        "SGD lr 0.01 ×0.1 every 50 epochs, momentum 0.9, weight decay 0.0005, 150 epochs, batch 64, fp32 features"
    )
    assert "lr 0.0001 " in text(learning_rate=1e-4)
    assert "lr 100 " in text(learning_rate=100.0)
    assert "lr 0.010000001 " in text(learning_rate=0.010000001)
    assert "weight decay 0.00050000001," in text(weight_decay=0.00050000001)
    chosen = (protocol(ProbeSpec("b", "d", sweep_lr=(0.1, rate))) for rate in (0.01, 0.010000001))
    assert len(set(chosen)) == 2
