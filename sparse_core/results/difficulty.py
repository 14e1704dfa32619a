"""Relative error increase against task difficulty (the paper's figure 3): a regression line and a rank correlation."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from sparse_core.results import measures
from sparse_core.results.measures import TASK_KEY

FEWEST_TASKS = 3  # fewer leave a line without a spread
MOST_PAIRED = 7  # points whose 5,040 pairings give an exact p; a t distribution would give 0 for three points in a row


@dataclass(frozen=True)
class Regression:
    """The least-squares line y = ``intercept`` + ``slope`` · x through ``n`` points, with the slope's 95 % t interval, Spearman's
    ``rho`` and its ``p``, exact for few points. NaN where ``n`` is below ``FEWEST_TASKS`` or x does not vary.

    ``mean_x``, ``spread_x`` (Σ(x − x̄)²) and ``residual`` (standard deviation, n − 2) give the line's confidence band.
    """

    n: int
    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    rho: float
    p: float
    mean_x: float
    spread_x: float
    residual: float

    def band(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The line at ``x`` (N,) and the low and high end of its pointwise 95 % confidence band, each (N,)."""
        from scipy.special import stdtrit

        line = self.intercept + self.slope * x
        error = self.residual * np.sqrt(1 / self.n + (x - self.mean_x) ** 2 / self.spread_x)
        half = float(stdtrit(max(self.n - 2, 1), 0.975)) * error
        return line, line - half, line + half


def points(results: pd.DataFrame, accuracy: str = "best", dense: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of ``measures.difference_to_dense`` of sparse networks whose task has a ``difficulty``, which is added.

    Difficulty is dense full minus dense linear accuracy of the same source, architecture and upstream; of several protocols that
    pair counts that has most seeds. ``dense`` are the runs of dense networks that give it, by default those among the results.
    """
    table = measures.difference_to_dense(results, accuracy)
    known = measures.difficulty(results if dense is None else dense, accuracy).sort_values(
        "seeds", ascending=False, kind="stable"
    )
    tasks = known.drop_duplicates(TASK_KEY)[[*TASK_KEY, "difficulty"]]
    found = table[table["method"] != "Dense"].dropna(subset=["relative_error_increase"]).merge(tasks, on=TASK_KEY)
    return found.sort_values("difficulty", kind="stable", ignore_index=True)


def regression(x: np.ndarray, y: np.ndarray) -> Regression:
    """The line through points x, y (N,), with its uncertainty; see ``Regression``."""
    n = len(x)
    if n < FEWEST_TASKS or not np.ptp(x):
        return Regression(n, *[float("nan")] * 9)
    from scipy.special import stdtrit
    from scipy.stats import linregress, spearmanr

    line, ranks = linregress(x, y), spearmanr(x, y)
    half = float(stdtrit(n - 2, 0.975)) * line.stderr
    residual = float(np.sqrt(np.sum((y - line.intercept - line.slope * x) ** 2) / (n - 2)))
    spread = float(np.sum((x - x.mean()) ** 2))
    slope = (float(line.slope), float(line.slope - half), float(line.slope + half), float(line.intercept))
    p = _exact_p(x, y) if n <= MOST_PAIRED else float(ranks.pvalue)
    return Regression(n, *slope, float(ranks.statistic), p, float(x.mean()), spread, residual)


def _exact_p(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sided p of Spearman's rho: the share of all pairings of x and y (N,) whose rho is at least as far from 0."""
    from scipy.stats import rankdata

    first, second = (ranks - ranks.mean() for ranks in map(rankdata, (x, y)))
    products = np.abs(np.array(list(permutations(second))) @ first)
    return float(np.mean(products >= abs(first @ second) - 1e-9))


def rho_interval(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of Spearman's rho of ``n`` points, NaN below ten: there it covers more than 97 %.

    Fisher's z with the variance of Bonett and Wright (Psychometrika 65, 2000), which has no place for a rho of exactly 1 or −1:
    0.999 stands for it.
    """
    if n < 10 or np.isnan(rho):
        return float("nan"), float("nan")
    rho = min(max(rho, -0.999), 0.999)
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return float(np.tanh(np.arctanh(rho) - half)), float(np.tanh(np.arctanh(rho) + half))
