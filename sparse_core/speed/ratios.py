"""The speedup from paired times, with an interval that holds its coverage. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparse_core.errors import InputError

COVERAGE = 0.95
DISTRIBUTION_FREE_ROUNDS = 6  # fewer rounds have no distribution-free 95 % interval: (1/2)⁵ + (1/2)⁵ is above 5 %


@dataclass(frozen=True)
class Ratio:
    """The speedup: dense median over sparse median, with its 95 % interval; above 1, sparse is faster.

    ``spread`` is the larger interquartile range over median of the two; ``method`` names the interval's.
    """

    ratio: float
    low: float
    high: float
    spread: float
    method: str

    @property
    def gain(self) -> str:
        """Faster or slower if the interval lies on one side of 1, else "no gain"; as records store it."""
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "no gain"


def paired_ratio(dense: Sequence[float], sparse: Sequence[float]) -> Ratio:
    """The ratio of paired samples (seconds or any unit), one pair per round.

    The interval is that of the median of the rounds' ratios: from six rounds on between two order statistics, which needs
    no assumption on the times' distribution (Conover, Practical Nonparametric Statistics, section 3.2), below that
    Student's t on the logarithms. Either is widened where it would leave out the ratio of the medians.
    Raises InputError for fewer than three rounds or times that are not finite and positive.
    """
    from scipy import stats  # here, as its import takes half a second of any page that only reads measurements

    pairs = np.asarray([dense, sparse], dtype=float)
    if pairs.shape[1] < 3 or not ((pairs > 0) & np.isfinite(pairs)).all():
        raise InputError(f"A ratio needs three rounds or more of finite times above 0; got {pairs.shape[1]} rounds.")
    medians = np.median(pairs, axis=1)
    ratio = float(medians[0] / medians[1])
    logarithms, rounds = np.sort(np.log(pairs[0] / pairs[1])), pairs.shape[1]
    if rounds >= DISTRIBUTION_FREE_ROUNDS:
        # As many rounds' ratios are below their median as heads fall in ``rounds`` tosses.
        method, left_out = "order statistics", int(stats.binom.ppf((1 - COVERAGE) / 2, rounds, 0.5)) - 1
        low, high = np.exp(logarithms[[left_out, -1 - left_out]])
    else:
        method, half = "Student's t", stats.t.ppf((1 + COVERAGE) / 2, rounds - 1) * stats.sem(logarithms)
        low, high = np.exp([logarithms.mean() - half, logarithms.mean() + half])
    quartiles = np.percentile(pairs, [25, 50, 75], axis=1)
    spread = float(((quartiles[2] - quartiles[0]) / quartiles[1]).max())
    return Ratio(ratio, min(float(low), ratio), max(float(high), ratio), spread, method)
