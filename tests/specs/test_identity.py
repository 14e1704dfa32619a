"""Specs as JSON, and the names of runs that follow from them."""

import json

from sparse_core.specs import identity
from sparse_core.specs.identity import run_id
from sparse_core.specs.training import Hyperparameters, full_learning_rate
from sparse_core.specs.transfer import ProbeSpec
from tests.support.refusals import refused


def test_specs_survive_json_and_determine_the_run_id():
    spec = ProbeSpec("net", "d", settings=Hyperparameters(epochs=3, batch_size=8), sweep_lr=(0.1, 0.2), replicate=2)
    assert identity.parse(ProbeSpec, json.loads(identity.to_json(spec))) == spec
    assert identity.recorded(identity.record_document(spec, 3)) == spec
    assert run_id(spec, 0) == run_id(spec, 0) != run_id(spec, 1)
    resolved = ProbeSpec("net", "d", backbone_hash="h", dataset_hash="k")
    renamed = ProbeSpec("other", "e", backbone_hash="h", dataset_hash="k")
    assert run_id(resolved, 0) == run_id(renamed, 0)


def test_unknown_fields_and_invalid_values_are_refused():
    assert "Not a ProbeSpec" in refused(identity.parse, ProbeSpec, {"backbone": "a", "dataset": "b", "colour": 1})
    assert "learning_rate must be finite and above 0; got -1" in refused(Hyperparameters, learning_rate=-1)


def test_the_default_learning_rate_of_full_transfer_is_the_papers():
    names = ("cars", "aircraft", "pets", "/my/folder")
    assert [full_learning_rate(name) for name in names] == [0.01, 0.01, 0.001, 0.001]
