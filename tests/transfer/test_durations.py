"""Estimates of a transfer's duration: what they count, and which specs share one."""

import dataclasses

import pytest

from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.transfer import durations, runs
from sparse_core.transfer.training import no_report


def test_an_estimate_counts_features_epochs_seeds_and_swept_rates():
    known = durations.Estimate(images=1000, seconds_per_image=0.01, seconds_per_epoch=0.5)
    spec = ProbeSpec("b", "d", settings=Hyperparameters(epochs=10))
    assert known.seconds(spec, 2, features_cached=True) == pytest.approx(10)
    assert known.seconds(spec, 2, features_cached=False) == pytest.approx(20)
    # Three rates are tried on four fifths of the training data before, with five seeds whatever seeds are asked for.
    swept = dataclasses.replace(spec, sweep_lr=(0.1, 0.01, 0.001))
    assert known.seconds(swept, 2, features_cached=True) == pytest.approx(10 + 10 * 0.5 * 5 * 3 * 0.8)
    full = FinetuneSpec("b", "d", settings=Hyperparameters(epochs=10))
    assert known.seconds(full, 2, features_cached=True) == pytest.approx(10)


def test_estimates_of_other_batch_sizes_and_precisions_are_kept_apart(home):
    spec, small = (ProbeSpec("b", "d", settings=Hyperparameters(batch_size=size)) for size in (64, 1))
    durations.remember(home, spec, 10, 0.1, 4.0)
    assert durations.recall(home, small) is None
    durations.remember(home, small, 10, 5.0, 4.0)
    assert durations.recall(home, spec) == durations.Estimate(10, 0.25, 0.1)
    assert durations.recall(home, small) == durations.Estimate(10, 0.25, 5.0)
    assert durations.recall(home, dataclasses.replace(spec, precision="bf16")) is None
    assert durations.recall(home, dataclasses.replace(spec, sweep_lr=(0.1,))) == durations.recall(home, spec)


def test_the_automatic_precision_takes_the_estimate_of_bf16_if_there_is_one(home):
    spec = FinetuneSpec("b", "d")
    for precision, seconds in (("fp32", 3.0), ("bf16", 1.0)):
        assert durations.recall(home, dataclasses.replace(spec, precision=precision)) is None
        durations.remember(home, dataclasses.replace(spec, precision=precision), 10, seconds)
        assert durations.recall(home, spec) == durations.Estimate(10, 0.0, seconds)


def test_features_without_a_pace_leave_no_estimate(home):
    durations.remember(home, ProbeSpec("b", "d"), 10, 0.1, 0.0)
    assert durations.recall(home, ProbeSpec("b", "d")) is None


def test_a_known_time_is_not_estimated_again(home):
    """The estimate that a page asked for is done after the transfer itself, which leaves the real times."""
    spec = ProbeSpec("nobody", "nothing")
    durations.remember(home, spec, 10, 0.5, 4.0)
    expected = {"images": 10, "seconds_per_image": 0.25, "seconds_per_epoch": 0.5}
    assert runs.run_estimate(home, spec, (0,), no_report) == expected
