"""Estimates of a transfer's duration: what they count, and which specs share one."""

from dataclasses import asdict, replace

import pytest

from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.transfer import durations, runs
from sparse_core.transfer.durations import Estimate, Timed
from sparse_core.transfer.training import no_report


def test_an_estimate_counts_features_epochs_seeds_and_swept_rates():
    known = Estimate(images=1000, seconds_per_image=0.01, seconds_per_epoch=0.5)
    spec = ProbeSpec("b", "d", settings=Hyperparameters(epochs=10))
    assert known.seconds(spec, 2, features_cached=True) == pytest.approx(10)
    assert known.seconds(spec, 2, features_cached=False) == pytest.approx(20)
    # Three rates are tried on four fifths of the training data before, with five seeds whatever seeds are asked for.
    swept = replace(spec, sweep_lr=(0.1, 0.01, 0.001))
    assert known.seconds(swept, 2, features_cached=True) == pytest.approx(10 + 10 * 0.5 * 5 * 3 * 0.8)
    full = FinetuneSpec("b", "d", settings=Hyperparameters(epochs=10))
    assert known.seconds(full, 2, features_cached=True) == pytest.approx(10)


def timed(spec, seconds_per_epoch: float, pace: float | None = None, besides: float = 0.0, **changed) -> Timed:
    """A run of 10 images and one seed."""
    whole = (10 / pace if pace else 0.0) + spec.settings.epochs * seconds_per_epoch + besides
    return replace(Timed(whole, 1, 10, seconds_per_epoch, pace), **changed)


def times(found: Estimate | None) -> tuple[float, float]:
    assert found is not None
    return found.seconds_per_image, found.seconds_per_epoch


def test_estimates_of_other_batch_sizes_and_precisions_are_kept_apart(home):
    spec, small = (ProbeSpec("b", "d", settings=Hyperparameters(batch_size=size)) for size in (64, 1))
    durations.remember(home, spec, timed(spec, 0.1, 4.0))
    assert durations.recall(home, small) is None
    durations.remember(home, small, timed(small, 5.0, 4.0))
    assert times(durations.recall(home, spec)) == (0.25, 0.1)
    assert times(durations.recall(home, small)) == (0.25, 5.0)
    assert durations.recall(home, replace(spec, precision="bf16")) is None
    assert durations.recall(home, replace(spec, sweep_lr=(0.1,))) == durations.recall(home, spec)


def test_the_automatic_precision_takes_the_estimate_of_bf16_if_there_is_one(home):
    spec = FinetuneSpec("b", "d")
    for precision, seconds in (("fp32", 3.0), ("bf16", 1.0)):
        assert durations.recall(home, replace(spec, precision=precision)) is None
        durations.remember(home, replace(spec, precision=precision), timed(spec, seconds))
        assert times(durations.recall(home, spec)) == (0.0, seconds)


def test_features_without_a_pace_leave_no_estimate(home):
    spec = ProbeSpec("b", "d")
    durations.remember(home, spec, timed(spec, 0.1, 0.0, features_cached=True))
    assert durations.recall(home, spec) is None


def test_cached_features_keep_the_pace_that_was_known(home):
    spec = ProbeSpec("b", "d")
    durations.remember(home, spec, timed(spec, 0.1, 4.0))
    durations.remember(home, spec, timed(spec, 0.1, 0.0, features_cached=True))
    assert times(durations.recall(home, spec)) == pytest.approx((0.25, 0.1))


def test_the_median_of_the_last_runs_counts(home):
    """One run beside other work, which took five times as long, changes nothing."""
    spec = FinetuneSpec("b", "d", precision="fp32")
    for seconds in (1.0, 1.2, 5.0):
        durations.remember(home, spec, timed(spec, seconds))
    assert durations.estimate(home, spec, 1, features_cached=True) == pytest.approx(150 * 1.2)


def test_real_runs_of_the_architecture_go_before_a_sample(home):
    spec = FinetuneSpec("new", "d", precision="fp32")
    durations.keep(home, spec, Estimate(10, 0.0, 9.0, sampled=True))
    assert durations.estimate(home, spec, 1, True, "resnet20") == pytest.approx(150 * 9.0)
    durations.remember(home, replace(spec, backbone="resnet20"), timed(spec, 2.0))
    assert durations.estimate(home, spec, 1, True, "resnet20") == pytest.approx(150 * 2.0)


# Jobs of one machine: the transfer, what a sample had estimated before, and how long the job took.
RECORDED = [
    (
        FinetuneSpec("a", "d", precision="fp32", settings=Hyperparameters(epochs=10)),
        Estimate(1797, 0.0, 150.0, sampled=True),
        420.0,
    ),
    (ProbeSpec("a", "d", settings=Hyperparameters(epochs=20)), Estimate(1797, 0.003, 0.01, sampled=True), 20.0),
]


@pytest.mark.parametrize(("spec", "sample", "seconds"), RECORDED)
def test_estimates_learn_from_how_long_jobs_took(home, spec, sample, seconds):
    """25 minutes were estimated for 7, and 6 seconds for 20. After one job the next estimate is within a factor of 1.5, of the
    same job and of one with another network, which was sampled only."""
    durations.keep(home, spec, sample)
    durations.keep(home, replace(spec, backbone="other"), sample)
    pace = None if spec.transfer == "full" else 500.0
    durations.remember(home, spec, Timed(seconds, 1, 1797, 0.6 * seconds / spec.settings.epochs, pace))
    for name in ("a", "other"):
        found = durations.estimate(home, replace(spec, backbone=name), 1, features_cached=False)
        assert seconds / 1.5 < found < 1.5 * seconds, name


def test_a_correction_never_exceeds_its_bounds(home):
    durations.learn_correction(home, "full", 1.0, 1e9)
    assert durations.correction(home, "full") == pytest.approx(durations.LARGEST)
    assert durations.correction(home, "linear") == 1.0


def test_a_known_time_is_not_estimated_again(home):
    """The estimate that a page asked for is done after the transfer itself, which leaves the real times."""
    spec = ProbeSpec("nobody", "nothing")
    durations.remember(home, spec, timed(spec, 0.5, 4.0))
    assert runs.run_estimate(home, spec, (0,), no_report) == asdict(durations.recall(home, spec))


def test_a_run_at_the_backbones_own_size_is_known_by_number_too(home, images, sparse_backbone):
    spec = ProbeSpec(sparse_backbone, str(images), engine="torch", settings=Hyperparameters(epochs=1))
    runs.run_probe(home, spec, (0,), no_report)
    assert durations.recall(home, spec) == durations.recall(home, replace(spec, image_size=32)) is not None
