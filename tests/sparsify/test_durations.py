"""Estimates of a sparsification's duration: what they count, and which specs share one."""

import dataclasses

import pytest

from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.sparsify import durations
from sparse_core.sparsify.durations import Pace, estimate_sparsify
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import no_report
from tests.support.networks import pruned_file


def spec(method: str = "GMP", **options) -> SparsifySpec:
    values = {"sparsity": 0.0 if method == "Dense" else 0.9, "epochs": 10, "precision": "fp32"}
    return SparsifySpec(method, "resnet20", "digits", **{**values, **options})


def test_nothing_is_estimated_before_something_was_measured(home):
    assert estimate_sparsify(home, spec(), (0,)) is None


def test_the_dense_pace_stands_for_methods_that_have_not_run(home):
    """12 epochs of 2 s; pilots add 30 % and STR's steps 10 %; 8 × 64 gradients cost 4 images each of the 1,000 of an epoch."""
    durations.keep(home, spec(), Pace(1000, 2.0, 0.0, 1), durations.DENSE)
    for method, options, seconds in (
        ("Dense", {}, 24.0),
        ("GMP", {}, 24.0),
        ("RigL ERK 5x", {}, 120.0),
        ("AC/DC", {"length_factor": 3.0}, 72.0),
        ("STR", {}, 24.0 * 1.1 * 1.3),
        ("STR", {"strength": 0.01}, 24.0 * 1.1),
        ("M-FAC", {}, 24.0 + 8 * 64 * 4 * 2.0 / 1000),
        ("Magnitude", {}, 2.0),
    ):
        assert estimate_sparsify(home, spec(method, epochs=12, **options), (0,)) == pytest.approx(seconds), method
    assert estimate_sparsify(home, spec(epochs=12), (0, 1, 2)) == pytest.approx(72.0)
    for other in ({"batch_size": 64}, {"augment": False}, {"precision": "bf16"}):
        assert estimate_sparsify(home, spec(**other), (0,)) is None
    assert estimate_sparsify(home, spec(precision="auto"), (0,)) == pytest.approx(20.0)


def test_a_run_teaches_its_own_method_and_the_dense_pace(home):
    """Of 30 s, five epochs of 4 s leave 10 s besides; the slow epoch, with second-order pruning, is not the usual one."""
    durations.remember(home, spec("WoodFisher", epochs=5), 1000, [14.0, 4.0, 4.0, 4.0, 4.0], 30.0)
    assert estimate_sparsify(home, spec("WoodFisher", epochs=10), (0,)) == pytest.approx(50.0)
    assert estimate_sparsify(home, spec("GMP", epochs=10), (0,)) == pytest.approx(40.0)
    durations.remember(home, spec("STR", epochs=5), 1000, [5.0] * 5, 35.0)  # pilots grow with the training
    assert estimate_sparsify(home, spec("STR", epochs=10), (0,)) == pytest.approx(70.0)
    durations.remember(home, spec("Magnitude"), 1000, [1.5], 1.5)
    assert estimate_sparsify(home, spec("Magnitude", epochs=99), (0,)) == pytest.approx(1.5)
    assert estimate_sparsify(home, spec("GMP", epochs=10), (0,)) == pytest.approx(40.0)


def test_networks_of_an_architecture_share_estimates(home, tmp_path, sparse_backbone):
    """So the time is known before the parent is made."""
    durations.keep(home, spec(), Pace(1000, 2.0, 0.0, 1), durations.DENSE)
    for name in (sparse_backbone, "resnet20-B", "resnet20"):
        assert estimate_sparsify(home, dataclasses.replace(spec(), backbone=name), (0,)) == pytest.approx(20.0)
    assert estimate_sparsify(home, dataclasses.replace(spec(), backbone="resnet18"), (0,)) is None


def test_an_estimate_is_measured_and_replaced_by_a_run(home, tmp_path, images):
    dense = f"resnet20:{pruned_file(tmp_path / 'dense.pth', 0.0)}"
    asked = SparsifySpec("GMP", dense, images, sparsity=0.5, epochs=4, batch_size=8, precision="fp32", pruning_steps=2)
    kinds.run(home, Job("estimate_sparsify", asked), no_report)
    measured = durations.recall(home, asked, durations.DENSE)
    assert measured.images == 16 and measured.seconds_per_epoch > 0
    assert estimate_sparsify(home, asked, (0,)) == pytest.approx(4 * measured.seconds_per_epoch)
    assert library.cards(home) == []
    kinds.run(home, Job("estimate_sparsify", dataclasses.replace(asked, backbone="resnet20", batch_size=4)), no_report)
    made = kinds.run(home, Job("sparsify", asked), no_report)["backbones"][0]
    assert estimate_sparsify(home, asked, (0,)) == pytest.approx(made["seconds"])
