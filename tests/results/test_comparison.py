"""Comparisons of networks over tasks, by hand and against SciPy, statsmodels and scikit-posthocs."""

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sparse_core.errors import InputError
from sparse_core.results import comparison, measures
from sparse_core.results.store import published_rows

TASKS = pd.MultiIndex.from_tuples([(f"t{n}", "", "top1") for n in range(12)], names=measures.CONTENT_KEY)


def grid(networks=4, tasks=12, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(0, 1, (tasks, networks)) + np.arange(networks) + random.normal(0, 3, (tasks, 1))
    return pd.DataFrame(values, TASKS[:tasks], [f"net{n}" for n in range(networks)])


def linear(*methods, sparsity=0.9):
    rows = published_rows().query("architecture == 'resnet50' and transfer == 'linear'")
    table = measures.difference_to_dense(rows)
    return table[table["method"].isin(methods) & (table["sparsity"] == sparsity)]


def test_pairs_against_scipy_and_statsmodels():
    values = grid()
    table = comparison.pairs(values)
    assert len(table) == 6
    for row in table.itertuples():
        expected = stats.ttest_rel(values[row.first], values[row.second])
        interval = expected.confidence_interval()
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
        assert row.p == pytest.approx(stats.wilcoxon(values[row.first], values[row.second], method="exact").pvalue)
        assert row.first_lower + row.equal + row.first_higher == row.tasks == 12
    assert table["p_holm"].tolist() == pytest.approx(multipletests(table["p"], method="holm")[1])


def test_wilcoxon_by_hand():
    """Six tasks, all in favour of one network: p = 2 / 2^6. With one of rank 1 the other way: p = 4 / 2^6."""
    assert comparison.signed_rank(np.array([1.0, 2, 3, 4, 5, 6])) == pytest.approx(0.03125)
    assert comparison.signed_rank(np.array([-1.0, 2, 3, 4, 5, 6])) == pytest.approx(0.0625)
    assert np.isnan(comparison.signed_rank(np.array([1.0, 2, 3, 4, 5])))
    assert comparison.signed_rank(np.zeros(8)) == 1


def test_holm_by_hand():
    corrected = comparison.holm(np.array([0.01, 0.04, np.nan, 0.03]))
    assert corrected[[0, 1, 3]] == pytest.approx([0.03, 0.06, 0.06]) and np.isnan(corrected[2])


def test_acdc_and_dense_cannot_be_told_apart_at_90_percent():
    """−2.0 % of the error with a standard error of 1.7; Wilcoxon's p of the accuracies is 0.20."""
    table = linear("AC/DC")
    mean = comparison.t_interval(table["relative_error_increase"])
    assert 100 * mean.mean == pytest.approx(-2.0, abs=0.05) and mean.low < 0 < mean.high
    assert comparison.signed_rank(table["difference"].to_numpy()) == pytest.approx(0.20, abs=0.01)


def test_friedman_and_nemenyi_against_scipy_and_scikit_posthocs():
    values = grid()
    test = comparison.rank_test(values)
    expected = stats.friedmanchisquare(*(values[name] for name in values))
    assert (test.statistic, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(values.to_numpy())
    assert test.pairs.to_numpy() == pytest.approx(nemenyi.to_numpy())
    assert test.ranks.to_dict() == pytest.approx(values.rank(axis=1).mean().to_dict())
    for first in test.ranks.index:  # Nemenyi's p and the critical difference are one rule
        for second in test.ranks.index:
            apart = abs(test.ranks[first] - test.ranks[second]) > test.critical_difference
            assert apart == (test.pairs.loc[first, second] < 0.05)


def test_the_critical_difference_is_that_of_demsars_table():
    """Demšar 2006, table 5: q = 2.569 for four classifiers; on 14 data sets the critical difference is 1.25."""
    values = pd.DataFrame(np.random.default_rng(0).random((14, 4)), columns=list("abcd"))
    assert comparison.rank_test(values).critical_difference == pytest.approx(1.25, abs=0.005)


def test_groups_of_networks_that_cannot_be_told_apart():
    ranks = pd.Series({"a": 1.0, "b": 1.8, "c": 2.5, "d": 4.7})
    assert comparison.tied_groups(ranks, 1.0) == [["a", "b"], ["b", "c"]]
    assert comparison.tied_groups(ranks, 2.0) == [["a", "b", "c"]]
    assert comparison.tied_groups(ranks, 0.1) == []


def test_won_drawn_and_lost_by_welchs_interval():
    keys = pd.DataFrame({"dataset": list("abcd"), "dataset_hash": "", "metric": "top1"})
    side = {"accuracy_std": 0.01, "seeds": 5}
    first = keys.assign(name="one", accuracy_mean=[0.9, 0.5, 0.7, 0.7], **side)
    second = keys.assign(name="two", accuracy_mean=[0.8, 0.6, 0.701, 0.6], **side)
    second.loc[3, "seeds"] = 1
    pairs = pd.DataFrame({"first": ["two", "one", "one"], "second": ["one", "two", "none"]})
    counts = comparison.won_drawn_lost(pd.concat([first, second]), pairs)
    assert counts.iloc[1].to_dict() == {"won": 1, "drawn": 1, "lost": 1, "unknown": 1}
    assert counts["won"].tolist() == counts["lost"].tolist() == [1, 1, 0] and counts.iloc[2].sum() == 0


def test_a_grid_has_a_row_for_each_task():
    table = linear("AC/DC", "STR")
    values = comparison.grid(table, list(table["method"]))
    assert values.shape == (12, 2)
    assert values["STR"].mean() == pytest.approx(table.loc[table["method"] == "STR", "relative_error_increase"].mean())


def test_fewer_than_six_tasks_give_intervals_only():
    values = grid(networks=2, tasks=5)
    table = comparison.pairs(values)
    assert table["p"].isna().all() and table["p_holm"].isna().all() and table["low"].notna().all()
    assert "cannot reach p = 0.05" in comparison.notes(values)[0]
    assert "Compare fewer networks" in comparison.notes(grid(networks=8, tasks=6))[0]
    assert comparison.notes(grid(networks=3)) == []


def test_one_task_and_missing_tasks_are_said():
    values = grid(networks=2, tasks=2)
    values.iloc[1, 0] = np.nan
    assert comparison.notes(values) == [
        "Left out, because not all networks have them: t1.",
        "One task: a difference between networks says nothing about other tasks.",
    ]
    assert not comparison.t_interval([0.3]).known and not comparison.t_interval([0.3, 0.3]).known
    assert comparison.t_interval([np.nan]).n == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: comparison.shared(grid(networks=1)), "two or more networks"),
        (lambda: comparison.shared(grid(2) * [1, np.nan]), "share no task"),
        (lambda: comparison.rank_test(grid(networks=2)), "three or more networks"),
        (lambda: comparison.rank_test(grid() * 0), "equal on every task"),
        (lambda: comparison.grid(linear("AC/DC", "STR"), ["x"] * 24), "two values on"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("tasks", [2, 3, 6, 12])
def test_the_t_interval_covers_its_mean(tasks):
    random = np.random.default_rng(tasks)
    intervals = [comparison.t_interval(random.normal(0.1, 1, tasks)) for _ in range(1500)]
    assert 0.93 <= np.mean([each.low <= 0.1 <= each.high for each in intervals]) <= 0.97
