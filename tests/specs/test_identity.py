"""Specs as JSON, what they refuse, the names of runs that follow from them, and their protocols as text."""

import json

import pytest

from sparse_core.jobs.kinds import Job, job_from_json
from sparse_core.specs import identity
from sparse_core.specs.identity import run_id, to_json
from sparse_core.specs.training import Hyperparameters, full_learning_rate
from sparse_core.specs.transfer import ProbeSpec, protocol
from tests.support.refusals import refused


def test_specs_survive_json_and_determine_the_run_id():
    spec = ProbeSpec("net", "d", settings=Hyperparameters(epochs=3, batch_size=8), sweep_lr=(0.1, 0.2), replicate=2)
    assert identity.parse(ProbeSpec, json.loads(to_json(spec))) == spec
    assert identity.recorded(identity.record_document(spec, 3)) == spec
    assert run_id(spec, 0) == run_id(spec, 0) != run_id(spec, 1)
    resolved = ProbeSpec("net", "d", backbone_hash="h", dataset_hash="k")
    renamed = ProbeSpec("other", "e", backbone_hash="h", dataset_hash="k")
    assert run_id(resolved, 0) == run_id(renamed, 0)


def test_unknown_fields_and_invalid_values_are_refused():
    assert "Not a ProbeSpec" in refused(identity.parse, ProbeSpec, {"backbone": "a", "dataset": "b", "colour": 1})
    assert "learning_rate must be finite and above 0; got -1" in refused(Hyperparameters, learning_rate=-1)


def test_the_default_learning_rate_of_full_transfer_is_the_papers():
    names = ("cars", "aircraft", "pets", "/my/folder", "/my/cars")
    assert [full_learning_rate(name) for name in names] == [0.01, 0.01, 0.001, 0.001, 0.001]


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

    usual = "SGD lr 0.01 ×0.1 every 50 epochs, momentum 0.9, weight decay 0.0005, 150 epochs, batch 64, fp32 features"
    assert text() == usual
    assert "lr 0.0001 " in text(learning_rate=1e-4)
    assert "lr 100 " in text(learning_rate=100.0)
    assert "lr 0.010000001 " in text(learning_rate=0.010000001)
    assert "weight decay 0.00050000001," in text(weight_decay=0.00050000001)
    chosen = (protocol(ProbeSpec("b", "d", sweep_lr=(0.1, rate))) for rate in (0.01, 0.010000001))
    assert len(set(chosen)) == 2


def test_the_image_size_is_part_of_a_run_only_where_it_is_asked_for():
    usual = ProbeSpec("net", "d", backbone_hash="h", dataset_hash="k")
    small = ProbeSpec("net", "d", backbone_hash="h", dataset_hash="k", image_size=32)
    assert run_id(usual, 0) == "linear-0-231d8b79940c"  # as before there was such an option
    assert run_id(small, 0) != run_id(usual, 0)
    assert protocol(small) == protocol(usual).replace("batch 64,", "batch 64, 32 px images,")
    assert "image_size must be whole pixels from 8 to 1024; got 4" in refused(ProbeSpec, "net", "d", image_size=4)
