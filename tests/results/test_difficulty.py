"""Error against difficulty: the paper's rank correlations, NumPy's and SciPy's lines, and the band's coverage."""

import numpy as np
import pytest
from scipy import stats

from sparse_core.results import difficulty
from sparse_core.results.store import published_rows
from tests.support.records import measured, row


@pytest.fixture(scope="module")
def points():
    found = difficulty.points(published_rows())
    return found[(found["architecture"] == "resnet50") & (found["transfer"] == "linear")]


def line(points, method, sparsity):
    rows = points[(points["method"] == method) & (points["sparsity"] == sparsity)]
    return difficulty.regression(rows["difficulty"].to_numpy(), rows["relative_error_increase"].to_numpy())


def test_the_papers_rank_correlations(points):
    """Rho falls from 80 to 90 %, and is negative for AC/DC, STR and RigL, positive for WoodFisher."""
    assert len(points) == 19 * 12
    rho = {(name, level): line(points, name, level).rho for name in points["method"].unique() for level in (0.8, 0.9)}
    assert rho["AC/DC", 0.8] == pytest.approx(-0.37, abs=0.005)
    assert rho["AC/DC", 0.9] == pytest.approx(-0.48, abs=0.005)
    assert rho["WoodFisher", 0.8] == pytest.approx(0.63, abs=0.005)
    assert rho["WoodFisher", 0.9] == pytest.approx(0.41, abs=0.005)
    assert all(rho[name, 0.9] < 0 for name in ("STR", "RigL ERK 1x", "RigL ERK 5x"))


def test_the_line_is_that_of_least_squares(points):
    x = np.array([0.0, 0.1, 0.2, 0.4])
    y = np.array([1.0, 3.0, 2.0, 6.0])
    found = difficulty.regression(x, y)
    assert [found.slope, found.intercept] == pytest.approx(np.polyfit(x, y, 1))
    middle, low, high = found.band(x)
    assert middle == pytest.approx(np.polyval(np.polyfit(x, y, 1), x))
    assert np.all(low < middle) and np.all(middle < high)
    assert found.slope_low < found.slope < found.slope_high


def test_the_band_and_the_slope_cover_the_truth():
    random = np.random.default_rng(0)
    for n in (3, 6, 12):
        x, inside = np.linspace(0, 0.4, n), []
        for _ in range(600):
            found = difficulty.regression(x, 0.1 + 0.5 * x + random.normal(0, 0.1, n))
            _, low, high = found.band(np.array([0.3]))
            inside.append((low[0] <= 0.25 <= high[0], found.slope_low <= 0.5 <= found.slope_high))
        assert np.all((np.mean(inside, axis=0) >= 0.93) & (np.mean(inside, axis=0) <= 0.97)), n


def test_the_p_of_few_tasks_is_exact():
    three = difficulty.regression(np.array([0.1, 0.2, 0.4]), np.array([3.0, 2.0, 1.0]))
    assert (three.rho, three.p) == (-1.0, pytest.approx(2 / 6))  # of six orders, two are as extreme
    x, y = np.array([0.1, 0.3, 0.2, 0.7, 0.5, 0.5]), np.array([1.0, 2.0, 4.0, 4.0, 3.0, 6.0])
    by_scipy = stats.permutation_test(
        (x,),
        lambda order: abs(stats.spearmanr(order, y).statistic),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=np.inf,
    )
    assert difficulty.regression(x, y).p == pytest.approx(by_scipy.pvalue)


def test_too_few_tasks_have_no_line():
    found = difficulty.regression(np.array([0.1, 0.2]), np.array([1.0, 2.0]))
    assert found.n == 2 and np.isnan(found.slope) and np.isnan(found.rho)
    assert np.isnan(difficulty.regression(np.full(4, 0.1), np.arange(4.0)).slope)


def test_the_users_tasks_join_where_both_dense_runs_are_there():
    rows = measured(
        row("Dense", 0.0, 0.8),
        row("Dense", 0.0, 0.95, transfer="full"),
        row("STR", 0.9, 0.7),
        row("Dense", 0.0, 0.8, dataset="linear only"),
        row("STR", 0.9, 0.7, dataset="linear only"),
    )
    found = difficulty.points(rows)
    assert found["dataset"].tolist() == ["digits"]
    assert found["difficulty"].tolist() == pytest.approx([0.15])
    assert found["relative_error_increase"].tolist() == pytest.approx([0.5])
