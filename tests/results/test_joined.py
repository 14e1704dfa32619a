"""Networks trained alike from different upstream seeds as one result: the mean of their means, spread in both parts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sparse_core.results import measures, store
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import footnotes, labels, tables
from tests.support.records import measured, record, row

NETWORKS = {"a": (0.60, 0.62), "b": (0.70, 0.72), "c": (0.80, 0.82)}
DENSE = {"d": (0.90, 0.92), "e": (0.94, 0.96), "x": (0.92, 0.94)}


def rows(networks=NETWORKS, method="AC/DC", sparsity=0.9, recipe="12 epochs", **others):
    return [
        row(method, sparsity, accuracy, seed, network=hash_, network_name=f"net_{hash_}", recipe=recipe)
        | {"run_id": f"{method}{recipe}{hash_}{seed}"}
        | others
        for hash_, accuracies in networks.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def test_networks_of_one_recipe_are_samples_and_the_spread_has_two_parts():
    table = measures.difference_to_dense(measures.joined(measured(*rows(), *rows(DENSE, "Dense", 0.0))))
    sparse = table[table["method"] == "AC/DC"].iloc[0]
    means = [np.mean(values) for values in NETWORKS.values()]
    assert (sparse["networks"], sparse["seeds"], sparse["runs"]) == (3, 3, 6)
    assert sparse["accuracy_mean"] == pytest.approx(np.mean(means))
    assert sparse["accuracy_std"] == pytest.approx(np.std(means, ddof=1))
    assert sparse["seed_std"] == pytest.approx(np.std([0.60, 0.62], ddof=1))
    assert labels.samples(sparse) == "3 networks, 6 runs"
    assert (sparse["baseline_networks"], sparse["baseline_accuracy"]) == (3, pytest.approx(0.93))
    expected = stats.ttest_ind(means, [0.91, 0.95, 0.93], equal_var=False).confidence_interval()
    assert (sparse["difference_low"], sparse["difference_high"]) == pytest.approx((expected.low, expected.high))


def test_other_recipes_and_networks_of_unknown_recipe_stay_apart():
    longer = rows({"f": (0.5, 0.5)}, recipe="36 epochs")
    unknown = rows({"g": (0.1, 0.1), "h": (0.2, 0.2)}, recipe="")
    results = measures.joined(measured(*rows(), *longer, *unknown))
    table = measures.per_configuration(results)
    assert sorted(table["networks"]) == [1, 1, 1, 3]
    assert set(results.loc[results["recipe"] != "12 epochs", "network"]) == {"f", "g", "h"}
    assert set(results["member"]) == set("abcfgh")


def test_lines_join_sparsities_of_one_recipe_and_name_what_sets_another_apart():
    results = measured(
        *rows(),
        *rows({"i": (0.4, 0.4)}, sparsity=0.95),
        *rows({"f": (0.5, 0.5)}, recipe="36 epochs"),
        *rows({"k": (0.5, 0.5)}, recipe="12 epochs, label smoothing 0.1"),
        *rows(DENSE, "Dense", 0.0),
    )
    table = tables.task_table(measures.joined(results), "best", {})
    lines = table.groupby("line")["sparsity"].apply(list).to_dict()
    assert lines == {
        "AC/DC, your runs": [0.9, 0.95],
        "AC/DC, 36 epochs, your runs": [0.9],
        "AC/DC, label smoothing 0.1, your runs": [0.9],
        "Dense, your runs": [0.0],
    }
    assert len(measures.underlying_runs(measures.joined(results), table[table["sparsity"] == 0.95])) == 2 + 6


def test_dense_networks_of_the_most_frequent_recipe_are_the_baseline():
    smoothed = rows({"s": (0.2, 0.2)}, "Dense", 0.0, recipe="12 epochs, label smoothing 0.1")
    results = measured(*rows(), *rows(DENSE, "Dense", 0.0), *smoothed)
    table = measures.difference_to_dense(results)
    assert table["baseline_accuracy"].tolist() == pytest.approx([0.93] * len(table))
    (note,) = footnotes.baseline_notes(measures.joined(results))
    assert f"({len(DENSE)} networks trained alike, net_s)" in note
    assert any("most frequent recipe" in note for note in footnotes.row_notes(results))


def test_joined_networks_are_said(home):
    notes = footnotes.row_notes(measures.joined(measured(*rows())))
    assert any("trained alike" in note for note in notes)
    assert not any(
        "trained alike" in note for note in footnotes.row_notes(measures.joined(measured(*rows({"a": (1,)}))))
    )


def test_shipped_results_are_a_source_of_their_own_even_of_the_same_run(home, tmp_path, monkeypatch):
    made = [record(seed=seed, best=0.5 + 0.1 * seed) for seed in range(2)]
    monkeypatch.setattr(store, "SHIPPED_RESULTS", tmp_path / "measured" / "results.parquet")
    store.write_shipped(made, tmp_path / "measured")
    Records(home).write(made[0])
    opened = Store(Records(home))
    assert opened.results(source="measured")["run_id"].tolist() == [made[0].run_id]
    shipped = opened.results(source="shipped")
    assert shipped["accuracy_best"].tolist() == pytest.approx([0.5, 0.6])
    assert opened.read([shipped["run_id"].iloc[1]])[0].result == made[1].result
    counts = opened.results()["source"].value_counts()
    assert (counts["shipped"], counts["measured"]) == (2, 1)
    table = measures.per_configuration(pd.concat([shipped, opened.results(source="measured")]))
    assert sorted(table["seeds"]) == [1, 2]


def test_without_shipped_results_there_are_none(home, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED_RESULTS", tmp_path / "missing.parquet")
    assert Store(Records(home)).results(source="shipped").empty
