"""Ranks and ties of networks: intervals of pairs against SciPy's."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sparse_core.results import measures, ties
from tests.support.records import measured, row


def over_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    means = measures.summary(rows)
    return ties.over_tasks(means, measures.difference_to_dense(rows), means["method"]).set_index("method")


def on_task(rows: pd.DataFrame) -> pd.DataFrame:
    table = measures.difference_to_dense(rows)
    return ties.on_task(table, rows, table["method"]).set_index("method")


def test_over_tasks_the_pairs_are_tasks():
    accuracies = {"Dense": [0.9, 0.8, 0.7, 0.6], "A": [0.88, 0.8, 0.65, 0.61], "B": [0.86, 0.77, 0.63, 0.57]}
    rows = measured(
        *(
            row(method, 0.9 * (method != "Dense"), value, dataset=str(task))
            for method, values in accuracies.items()
            for task, value in enumerate(values)
        )
    )
    found = over_tasks(rows)
    dense = 1 - np.array(accuracies["Dense"])
    increase = {method: (1 - np.array(values) - dense) / dense for method, values in accuracies.items()}
    for method in "AB":
        expected = stats.ttest_1samp(increase[method], 0).confidence_interval()
        assert found.loc[method, ["increase_low", "increase_high"]].tolist() == pytest.approx(list(expected))
    pair = stats.ttest_rel(increase["A"], increase["B"]).confidence_interval()
    assert pair.high < 0  # A has fewer errors on every task
    assert found["rank"].to_dict() == {"A": 1, "B": 2}
    assert all(stats.ttest_1samp(increase[method], 0).pvalue > 0.05 for method in "AB")
    assert found["tied"].to_dict() == {"A": "dense", "B": "dense"}


def test_on_one_task_own_runs_with_the_same_seeds_are_pairs():
    seeds = {"Dense": [0.90, 0.80, 0.70], "A": [0.88, 0.78, 0.69], "B": [0.86, 0.76, 0.67]}
    made = [
        row(method, 0.9 * (method != "Dense"), value, seed)
        for method, values in seeds.items()
        for seed, value in enumerate(values)
    ]
    assert stats.ttest_rel(seeds["A"], seeds["B"]).confidence_interval().low > 0
    assert stats.ttest_ind(seeds["A"], seeds["B"], equal_var=False).confidence_interval().low < 0
    paired = on_task(measured(*made))
    assert paired.loc[["A", "B"], "rank"].tolist() == [1, 2]
    assert stats.ttest_rel(seeds["A"], seeds["Dense"]).pvalue < 0.05
    assert paired.loc[["A", "B"], "tied"].tolist() == ["", ""]
    others = on_task(
        measured(*({**each, "source": "published"} for each in made))
    )  # seeds of others say nothing: Welch
    assert others.loc[["A", "B"], "rank"].tolist() == [1, 1]
    assert others.loc["A", "tied"] == "B; dense"


def test_one_seed_gives_no_tie():
    found = on_task(measured(row("Dense", 0, 0.9), row("A", 0.9, 0.8), row("B", 0.9, 0.8)))
    assert set(found["tied"]) == {""}


def test_networks_of_other_sparsities_and_series_are_not_compared():
    levels = [("Dense", 0), ("A", 0.9), ("B", 0.8), ("C", 0.89)]
    rows = measured(
        *(
            row(method, level, 0.8 + 0.01 * seed, seed, source="published")
            for method, level in levels
            for seed in range(3)
        )
    )
    found = on_task(rows)
    assert found["tied"].to_dict() == {"A": "C; dense", "B": "dense", "C": "A; dense", "Dense": ""}
