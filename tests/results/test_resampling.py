"""The bootstrap: coverage at the sample sizes for which it is drawn, and its agreement with the t interval; power against
statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from sparse_core.errors import InputError
from sparse_core.results import comparison, measures, resampling
from sparse_core.results.resampling import Samples, bootstrap
from sparse_core.results.store import published_rows
from tests.support.records import measured, row


def simulated(names, tasks, networks=1, seeds=5, *, task_sd=0.1, network_sd=0.0, seed_sd=0.02, new=True):
    """Errors of ``names`` independent methods, each with a mean increase of 5 %, on tasks of their own or all on the same."""
    random = np.random.default_rng(tasks * 100 + seeds)
    base = np.linspace(0.05, 0.4, tasks)[:, None, None]
    increases = 0.05 + task_sd * random.standard_normal((names if new else 1, tasks, 1, 1))
    shifts = network_sd * random.standard_normal((names, 1, networks, 1))
    noise = seed_sd * random.standard_normal((names, tasks, networks, seeds))
    errors = base * (1 + increases + shifts + noise)
    return Samples([str(n) for n in range(names)], errors, base), float(increases.mean(axis=1)[0, 0, 0])


def share_covered(given, truth, population):
    intervals, _ = bootstrap(given, population, resamples=500)
    return np.mean([each.low <= truth <= each.high for each in intervals])


@pytest.mark.parametrize(("tasks", "task_sd", "seed_sd"), [(6, 0.1, 0.02), (12, 0.1, 0.02), (12, 0.01, 0.1)])
def test_the_interval_over_tasks_covers_the_mean_of_new_tasks(tasks, task_sd, seed_sd):
    given, _ = simulated(1500, tasks, task_sd=task_sd, seed_sd=seed_sd)
    assert 0.93 <= share_covered(given, 0.05, "new") <= 0.97


@pytest.mark.parametrize(("tasks", "seeds"), [(1, 6), (3, 3), (12, 3), (12, 5), (1, 150)])
def test_the_interval_over_seeds_covers_the_mean_of_these_tasks(tasks, seeds):
    given, truth = simulated(700, tasks, seeds=seeds, new=False)
    assert 0.93 <= share_covered(given, truth, "these") <= 0.97


def test_means_of_many_draws_are_as_spread_as_drawn_ones(monkeypatch):
    residuals = stats.expon.rvs(size=150, random_state=0)
    residuals -= residuals.mean()
    made = resampling._drawn_means(residuals, np.random.default_rng(1), 10_000)
    monkeypatch.setattr(resampling, "MANY_SEEDS", 1000)
    drawn = resampling._drawn_means(residuals, np.random.default_rng(2), 10_000)
    ends = [2.5, 97.5]
    assert np.percentile(made, ends) == pytest.approx(
        np.percentile(drawn, ends), abs=0.08 * np.ptp(np.percentile(drawn, ends))
    )
    assert made.std() == pytest.approx(drawn.std(), rel=0.03)


@pytest.mark.parametrize("population", ["new", "these"])
def test_the_interval_covers_with_drawn_networks(population):
    given, truth = simulated(
        700, 12 if population == "new" else 2, networks=6, seeds=3, network_sd=0.05, new=population == "new"
    )
    assert 0.93 <= share_covered(given, 0.05 if population == "new" else truth, population) <= 0.97


def test_few_tasks_or_seeds_have_no_interval():
    for population, shape in (("new", (5, 1, 5)), ("these", (1, 1, 3)), ("these", (12, 1, 1))):
        given, _ = simulated(1, *shape)
        (interval,), _ = bootstrap(given, population, resamples=100)
        assert not interval.known and "too few" in interval.method


def published(*methods):
    rows = published_rows().query("architecture == 'resnet50' and transfer == 'linear'")
    rows = rows[(rows["sparsity"] == 0.9) & rows["method"].isin(methods) | (rows["method"] == "Dense")]
    names = rows["method"].replace("Dense", "").tolist()
    return rows, resampling.samples(rows, names)


def test_means_are_those_of_the_measures_and_the_interval_is_near_the_t_interval():
    rows, given = published("AC/DC", "WoodFisher")
    assert given.errors.shape == (2, 12, 1, 5) and given.dense.shape == (12, 1, 5)
    intervals, drawn = bootstrap(given)
    table = measures.difference_to_dense(rows)
    assert drawn.shape == (2, 10_000)
    for name, interval in zip(given.names, intervals, strict=True):
        expected = comparison.t_interval(table.loc[table["method"] == name, "relative_error_increase"])
        assert interval.mean == pytest.approx(expected.mean)
        assert interval.high - interval.low == pytest.approx(expected.high - expected.low, rel=0.15)
        assert interval.method == "bootstrap over tasks"
    of_these, _ = bootstrap(given, "these")
    assert all(a.high - a.low < 0.5 * (b.high - b.low) for a, b in zip(of_these, intervals, strict=True))


def test_samples_average_reruns_and_keep_shared_tasks_only():
    rows = measured(
        row("STR", 0.9, 0.8),
        row("STR", 0.9, 0.6) | {"replicate": 1},
        row("STR", 0.9, 0.5, seed=1, network="other"),
        row("STR", 0.9, 0.5, dataset="alone"),
        row("Dense", 0.0, 0.9),
    )
    given = resampling.samples(rows, [name.replace("Dense", "") for name in rows["method"]])
    assert given.errors.shape == (1, 1, 2, 1)
    assert sorted(given.errors.ravel()) == pytest.approx([0.3, 0.5])
    with pytest.raises(InputError, match="share no task"):
        resampling.samples(rows[:2], ["STR", "STR"])


def test_the_tasks_needed_are_those_of_a_t_test():
    differences = np.array([0.1, 0.3, -0.1, 0.2, 0.0, 0.2])
    effect = differences.mean() / differences.std(ddof=1)
    expected = TTestPower().solve_power(effect, power=0.8, alpha=0.05)
    assert resampling.tasks_needed(differences) == pytest.approx(np.ceil(expected), abs=1)
    assert resampling.tasks_needed(np.array([0.1, -0.1])) is None
    assert resampling.tasks_needed(np.array([0.1, -0.099])) is None  # more than anyone would run


def test_the_seeds_needed_are_those_of_a_t_test():
    deviations = [np.full(3, 0.02), np.full(3, 0.02)]
    found = resampling.seeds_needed(0.01, deviations)
    deviation = np.sqrt(6 * 0.02**2 / 9)

    def power(seeds):
        noncentral = stats.nct(6 * (seeds - 1), 0.01 / (deviation / np.sqrt(seeds)))
        return noncentral.sf(stats.t.ppf(0.975, 6 * (seeds - 1)))

    assert power(found + 1) > 0.8 > power(found - 2)
    assert resampling.seeds_needed(0.01, [np.full(3, np.nan)] * 2) is None
