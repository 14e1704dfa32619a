"""What goes with errors: figure 3's regressions, networks by what pruning left of them, ranks, upstream accuracy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sparse_core.results import measures
from sparse_core.results.store import published_rows
from sparse_core.views import relations
from sparse_core.views.charts import relations as charts
from tests.support.records import measured, row

ZOO = pd.DataFrame(
    [("A0.9", "net a", 0.1), ("B0.9", "net b", 0.3), ("C0.9", "net c", 0.2)],
    columns=["network", "name", "filters_pruned"],
)


@pytest.fixture(scope="module")
def paper():
    return published_rows().query("architecture == 'resnet50'")


def three_networks(**others):
    made = [row("Dense", 0, 0.9, seed) for seed in range(3)]
    made += [row(method, 0.9, accuracy, **others) for method, accuracy in (("A", 0.9), ("B", 0.7), ("C", 0.8))]
    return measured(*made)


def test_the_difficulty_is_that_of_both_dense_transfers_although_the_rows_have_one(paper):
    linear = paper[paper["transfer"] == "linear"]
    points = relations.difficulty_points(linear, paper[paper["method"] == "Dense"], "best")
    table = relations.regression_table(relations.regressions(points)).set_index(["sparsity", "row"])
    assert relations.difficulty_points(linear, linear[linear["method"] == "Dense"], "best").empty
    assert table.loc[(0.8, "WoodFisher"), "rho"] == pytest.approx(0.63, abs=0.005)
    one = points[(points["line"] == "AC/DC") & (points["level"] == 0.9)]
    expected = stats.linregress(one["difficulty"], one["relative_error_increase"])
    assert table.loc[(0.9, "AC/DC"), "slope"] == pytest.approx(expected.slope)
    assert set(one["kind"]) == {"general", "specialised"}


def test_sparsities_near_to_each_other_are_one_panel():
    assert relations.levels([0.9, 0.89, 0.8, 0.9]) == {0.8: 0.8, 0.89: 0.9, 0.9: 0.9}


def test_networks_by_what_pruning_left_of_them():
    points = relations.with_structure(three_networks(), ZOO, "best").set_index("method")
    assert points["y"].to_dict() == pytest.approx({"A": 0.0, "B": 2.0, "C": 1.0})
    assert points["filters_pruned"].to_dict() == {"A": 0.1, "B": 0.3, "C": 0.2}
    found = relations.correlations(points.reset_index(), "filters_pruned", ["linear"])["linear"]
    assert found.rho == pytest.approx(1) and "n = 3" in relations.correlation_text({"linear": found})


def test_a_network_without_a_known_structure_or_baseline_has_no_point():
    assert relations.with_structure(three_networks(), ZOO.iloc[:0], "best").empty
    alone = three_networks()
    assert relations.with_structure(alone[alone["method"] != "Dense"], ZOO, "best").empty


def test_single_networks_count_although_they_are_joined():
    rows = three_networks().assign(member=lambda found: found["network"])
    joined = rows.assign(network=rows["network"].where(rows["method"] == "Dense", "joint"))
    assert len(relations.with_structure(joined, ZOO, "best")) == 3


def test_means_are_over_the_tasks_that_most_networks_have():
    rows = pd.concat(
        [three_networks(), measured(row("Dense", 0, 0.5, dataset="more"), row("A", 0.9, 0.1, dataset="more"))]
    )
    rows["run_id"] = range(len(rows))
    points = relations.with_structure(rows, ZOO, "best")
    assert points["tasks"].tolist() == [1, 1, 1]


def test_the_order_of_the_methods_changes_from_linear_to_full(paper):
    summary = measures.summary(paper)
    found = relations.ranks(summary, 0.9).set_index("method")
    assert found.loc["WoodFisher", ["linear", "full"]].tolist() == [5, 1]
    assert found.loc["AC/DC", ["linear", "full"]].tolist() == [1, 2]
    tau = stats.kendalltau(found["linear"], found["full"]).statistic
    assert f"τ = {tau:.2f}" in relations.rank_agreement(found)
    assert relations.ranks(summary[summary["transfer"] == "linear"], 0.9).empty


def test_upstream_accuracies_are_matched_on_nominal_sparsity(paper):
    points = relations.with_upstream(paper, relations.published_upstream(), ZOO.assign(upstream_accuracy=0.5), "best")
    known = points[points["transfer"] == "linear"].set_index(["method", "sparsity"])
    assert known.loc[("STR", 0.9), "upstream_accuracy"] == 0.7431
    assert known.loc[("STR", 0.9), "upstream_origin"] == "RAIVNLab/STR README"
    assert "AC/DC" not in set(points["method"]) and (points["tasks"] == 12).all()
    expected = paper.query("transfer == 'linear' and method == 'STR' and sparsity == 0.9")
    assert known.loc[("STR", 0.9), "y"] == pytest.approx(expected.groupby("dataset")["accuracy_best"].mean().mean())


def test_own_networks_have_the_upstream_accuracy_they_were_made_with():
    own = ZOO.assign(upstream_accuracy=[0.9, 0.7, 0.8], upstream_origin="made here")
    points = relations.with_upstream(three_networks(), relations.published_upstream(), own, "best")
    assert points.set_index("method")["upstream_accuracy"].to_dict() == {"A": 0.9, "B": 0.7, "C": 0.8}
    assert np.isnan(relations.correlations(points.iloc[:2], "upstream_accuracy", ["linear"])["linear"].rho)


def test_no_point_of_figure_3_lies_outside_of_its_panel(paper):
    linear = paper[(paper["transfer"] == "linear") & (paper["method"].isin(["STR", "Dense"]))]
    points = relations.difficulty_points(linear, paper[paper["method"] == "Dense"], "best")
    figure = charts.against_difficulty(points, [0.8, 0.98], relations.regressions(points))
    low, high = figure.layout.yaxis.range
    assert (
        low <= 100 * points["relative_error_increase"].min() and high >= 100 * points["relative_error_increase"].max()
    )


def test_changing_ranks_are_named_at_their_ends_best_on_top(paper):
    figure = charts.rank_change(relations.ranks(measures.summary(paper), 0.9))
    places = {note.text: note.y for note in figure.layout.annotations}
    paper_order = ["WoodFisher", "AC/DC", "RigL ERK 5x", "STR", "RigL ERK 1x", "LTH-T"]
    assert {name: places[name] for name in paper_order} == pytest.approx(
        dict(zip(paper_order, range(1, 7), strict=True))
    )


def test_where_names_of_ranks_find_no_room_there_is_a_legend(paper):
    found = relations.ranks(measures.summary(paper), 0.9)
    figure = charts.rank_change(
        found.assign(name=[f"a long name of a network, number {n}: " + "n" * 60 for n in found.index])
    )
    assert figure.layout.showlegend and not figure.layout.annotations
