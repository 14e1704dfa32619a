"""The speedup of paired times: by hand, and the coverage of its interval under several kinds of noise."""

import math

import numpy as np
import pytest
from scipy.stats import quantile_test

from sparse_core.speed.ratios import paired_ratio
from tests.support.refusals import refused

SAMPLES = 400


def _skewed(generator: np.random.Generator, rounds: int) -> np.ndarray:
    """Noise with median 1 and a tail towards slow rounds: an exponential's median is log 2."""
    return (1 + generator.exponential(0.1, (SAMPLES, rounds))) / (1 + 0.1 * math.log(2))


NOISES = {
    "log-normal": lambda generator, rounds: generator.lognormal(0, 0.05, (2, SAMPLES, rounds)),
    "of different size": lambda generator, rounds: np.stack(
        [generator.lognormal(0, size, (SAMPLES, rounds)) for size in (0.02, 0.2)]
    ),
    "skewed": lambda generator, rounds: np.stack([_skewed(generator, rounds) for _ in range(2)]),
    "interrupted rounds": lambda generator, rounds: (
        generator.lognormal(0, 0.03, (2, SAMPLES, rounds))
        * (1 + (generator.random((1, SAMPLES, rounds)) < 0.2) * generator.exponential(0.5, (1, SAMPLES, rounds)))
    ),
    "outliers": lambda generator, rounds: (
        generator.lognormal(0, 0.03, (2, SAMPLES, rounds))
        * (1 + (generator.random((2, SAMPLES, rounds)) < 0.1) * generator.exponential(0.5, (2, SAMPLES, rounds)))
    ),
}


@pytest.mark.parametrize("rounds", [3, 5, 6, 10, 20])
@pytest.mark.parametrize("noise", NOISES)
def test_the_interval_holds_the_true_speedup_in_95_percent_of_measurements(noise, rounds):
    dense, sparse = NOISES[noise](np.random.default_rng(rounds), rounds)
    found = [paired_ratio(3 * slow, fast) for slow, fast in zip(dense, sparse, strict=True)]
    covered = np.mean([ratio.low <= 3 <= ratio.high for ratio in found])
    assert covered >= 0.95 - 2.6 * math.sqrt(0.05 * 0.95 / SAMPLES)  # 2.6 standard errors of a simulated share


def test_the_ratio_is_that_of_the_medians():
    found = paired_ratio([10, 12, 11, 13, 30], [5, 4, 5, 5, 6])
    assert found.ratio == pytest.approx(12 / 5)
    assert found.spread == pytest.approx((13 - 11) / 12)  # the sparse quartiles are both 5
    assert found.low <= found.ratio <= found.high


def test_three_rounds_have_students_interval_by_hand():
    found = paired_ratio([math.e, math.e**2, math.e**3], [1, 1, 1])  # logarithms 1, 2, 3: mean 2, standard error 1/√3
    half = 4.302653 / math.sqrt(3)  # the 97.5 % point of t with two degrees of freedom, from a table
    assert (found.low, found.high) == pytest.approx((math.exp(2 - half), math.exp(2 + half)))
    assert found.method == "Student's t"


def test_ten_rounds_have_the_second_and_the_ninth_ratio_as_interval():
    """The table of the sign test: with ten pairs, these enclose the median with 97.9 %."""
    found = paired_ratio([4, 2, 9, 3, 5, 10, 1, 7, 6, 8], [1] * 10)
    assert (found.low, found.high) == pytest.approx((2, 9))
    assert found.method == "order statistics"


@pytest.mark.parametrize("rounds", [6, 7, 8, 12, 31])
def test_more_rounds_have_scipys_interval_of_a_median(rounds):
    ratios = np.random.default_rng(rounds).lognormal(1, 0.2, rounds)
    expected = quantile_test(ratios).confidence_interval(0.95)
    found = paired_ratio(ratios, np.ones(rounds))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_an_interval_that_would_leave_out_the_ratio_of_the_medians_is_widened():
    found = paired_ratio([1, 100, 100, 10_000, 10_000], [1, 100, 10, 10_000, 1000])
    assert found.low <= found.ratio <= found.high


def test_what_slows_both_networks_of_a_round_leaves_the_ratio_unchanged():
    dense = [1.0, 5.0, 2.0, 9.0, 3.0]
    found = paired_ratio(dense, [value / 4 for value in dense])
    assert (found.ratio, found.low, found.high) == pytest.approx((4, 4, 4))


@pytest.mark.parametrize("rounds", [3, 8])
def test_constant_times_give_an_interval_of_one_value(rounds):
    found = paired_ratio([6] * rounds, [2] * rounds)
    assert (found.ratio, found.low, found.high, found.spread) == pytest.approx((3, 3, 3, 0))


@pytest.mark.parametrize(
    ("dense", "sparse", "gain"),
    [
        ([3, 3.1, 2.9, 3], [1, 1.1, 0.9, 1], "faster"),
        ([1, 1.1, 0.9, 1], [3, 3.1, 2.9, 3], "slower"),
        ([1, 3, 1, 3, 1, 3], [3, 1, 3, 1, 3, 1], "no gain"),
        ([1, 1, 1], [1, 1, 1], "no gain"),
        ([3, 3.3, 1.5], [1, 1, 1], "no gain"),  # three rounds that differ this much prove nothing
    ],
)
def test_the_gain_depends_on_which_side_of_1_the_interval_lies(dense, sparse, gain):
    assert paired_ratio(dense, sparse).gain == gain


@pytest.mark.parametrize(
    ("dense", "sparse"),
    [([1, 1], [1, 1]), ([], []), ([1, 1, 0], [1, 1, 1]), ([1, 1, 1], [1, -1, 1]), ([1, 1, float("nan")], [1, 1, 1])],
)
def test_too_few_rounds_and_invalid_times_are_refused(dense, sparse):
    assert "three rounds or more of finite times above 0" in refused(paired_ratio, dense, sparse)
