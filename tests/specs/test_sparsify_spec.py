"""The spec of a sparsification: its command reads back as the same spec, refusals, and its identity."""

import dataclasses
import json
import shlex

import pytest

from sparse_core.catalog import METHODS
from sparse_core.cli import _parser
from sparse_core.specs import options
from sparse_core.specs.identity import network_id, parse, to_json
from sparse_core.specs.sparsify import SparsifySpec
from tests.support.refusals import refused


def spec(method="GMP", sparsity=0.9, **given):
    return SparsifySpec(method, "net", "my images", 0.0 if method == "Dense" else sparsity, **given)


@pytest.mark.parametrize(
    "asked",
    [
        spec(),
        spec("Dense", epochs=3, nesterov=True, augment=False),
        spec("RigL ERK 5x", 0.95, updates=12, distribution="uniform"),
        spec("WoodFisher", gradients=10, gradient_batch=2, damping=1e-4, block_size=7, name="mine"),
        spec(
            "STR", strength=0.002, length_factor=3.0, label_smoothing=0.1, learning_rate=0.05, rate_schedule="one-cycle"
        ),
    ],
)
def test_a_command_reads_back_as_the_same_spec(asked):
    arguments = shlex.split(options.command("sparsify", asked))[len(options.PROGRAM) :]
    assert options.from_arguments(SparsifySpec, _parser().parse_args(arguments)) == asked
    assert parse(SparsifySpec, json.loads(to_json(asked))) == asked


@pytest.mark.parametrize(("given", "method"), [("acdc", "AC/DC"), ("rigl erk 1X", "RigL ERK 1x"), ("m_fac", "M-FAC")])
def test_case_and_punctuation_of_a_method_are_forgiven(given, method):
    assert spec(given).method == method
    assert set(METHODS) >= {method}


def test_the_length_of_a_training():
    assert (
        spec("RigL ERK 5x", epochs=10).total_epochs
        == 50
        == spec("RigL ERK 5x", epochs=10, length_factor=5).total_epochs
    )
    assert spec("AC/DC", epochs=10, length_factor=3).total_epochs == 30
    for method, factor in (("RigL ERK 5x", 1.0), ("RigL ERK 1x", 5.0)):
        assert "contradicts" in refused(spec, method, length_factor=factor)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sparsity": 1.0}, "in (0, 1)"),
        ({"sparsity": 0.0}, "in (0, 1)"),
        ({"sparsity": float("nan")}, "in (0, 1)"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 0.0}, "finite and above 0"),
        ({"nesterov": True, "momentum": 0.0}, "above 0 with Nesterov"),
        ({"updates": 12}, "GMP has no updates; only RigL ERK 1x, RigL ERK 5x have. Leave it out."),
        ({"method": "RigL ERK 1x", "updates": 5}, "updates must be at least 10"),
        ({"method": "AC/DC", "pruning_steps": 3}, "AC/DC has no pruning steps"),
    ],
)
def test_values_out_of_range_and_options_of_other_methods_are_refused(given, message):
    assert message in refused(spec, **given)


def test_the_identity_follows_content_and_not_names():
    known = {"backbone_hash": "a", "dataset_hash": "b"}
    first = spec(**known)
    renamed = dataclasses.replace(first, backbone="other", dataset="elsewhere", name="mine")
    assert network_id(first, 0) == network_id(renamed, 0)
    others = [spec(), spec(**{**known, "backbone_hash": "c"}), spec(**known, replicate=1), spec(**known, epochs=31)]
    assert len({network_id(each, 0) for each in (first, *others)}) == 5
    assert network_id(first, 0) != network_id(first, 1)
