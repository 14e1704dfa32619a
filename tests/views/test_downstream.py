"""Pruning on the task beside sparse transfer: which networks are compared, joined and averaged, on numbers worked out by hand."""

import json
import math

import pandas as pd
import pytest

from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.views import downstream
from sparse_core.views.charts import sparsify as charts
from tests.support.made import made_card
from tests.support.records import measured, row

TASK = {"dataset_hash": "task", "dataset": "digits"}
GMP = SparsifySpec("GMP", "dense", "digits", 0.9, epochs=2, dataset_hash="task")


def finetuned(accuracy: float, seed: int = 0, network: str = "a", method: str = "GMP", epochs: int = 2, **others):
    sparsity = 0.0 if method == "Dense" else 0.9
    spec = {"dataset": "digits", "settings": {"epochs": epochs}}
    given = {
        "architecture": "resnet20",
        "transfer": "full",
        "network": network,
        "recipe": "alike",
        "spec": json.dumps(spec),
        **TASK,
    }
    return row(method, sparsity, accuracy, seed, **{**given, **others})


def compared(runs: pd.DataFrame, made, accuracy: str = "final") -> pd.DataFrame:
    return downstream.points(downstream.rows(runs, made), accuracy).set_index(["route", "method"])


def test_a_point_is_the_mean_of_the_networks_means_and_n_counts_networks():
    runs = measured(finetuned(0.80, 0), finetuned(0.84, 1), finetuned(0.90, 0, "b"))
    table = compared(runs, [made_card(GMP, 0.70), made_card(GMP, 0.76, 1), made_card(GMP, 0.79, 2)])
    upstream, task = table.loc[("transferred", "GMP")], table.loc[("task", "GMP")]
    assert (upstream["networks"], upstream["runs"]) == (2, 3)
    assert upstream["accuracy_mean"] == pytest.approx(0.86)  # of 0.82 and 0.90, not 0.8467 of all three
    assert upstream["accuracy_std"] == pytest.approx(0.08 / math.sqrt(2))
    assert upstream["seed_std"] == pytest.approx(0.04 / math.sqrt(2))
    assert (task["networks"], task["accuracy_mean"]) == (3, pytest.approx(0.75))
    assert task["accuracy_std"] == pytest.approx(math.sqrt((0.05**2 + 0.01**2 + 0.04**2) / 2))
    assert math.isnan(task["seed_std"])


def test_networks_of_other_options_are_other_points():
    longer = SparsifySpec("GMP", "dense", "digits", 0.9, epochs=2, label_smoothing=0.1, dataset_hash="task")
    table = downstream.points(
        downstream.rows(measured(finetuned(0.8)), [made_card(GMP), made_card(longer, seed=1)]), "final"
    )
    assert sorted(table["networks"]) == [1, 1, 1]


def test_a_finetuning_of_a_network_pruned_on_the_same_task_is_on_neither_side():
    card = made_card(GMP)
    runs = measured(finetuned(0.8, network=card.hash), finetuned(0.7, network="b", upstream="Digits"))
    assert list(downstream.rows(runs, [card])["route"]) == ["task"]


def test_probes_and_paper_results_do_not_count():
    runs = measured(finetuned(0.8, transfer="linear"), finetuned(0.8, source="published"))
    assert downstream.rows(runs, []).empty


def test_the_best_epoch_counts_only_at_the_final_sparsity():
    """Epoch 1 of the made-up training has 95 %, but nothing was pruned then."""
    runs = measured(finetuned(0.8))
    assert compared(runs, [made_card(GMP, 0.7)], "best").loc[("task", "GMP"), "accuracy_mean"] == pytest.approx(0.7)


def test_both_sides_are_in_the_metric_of_the_task():
    runs = measured(finetuned(0.8, metric="mean_per_class"))
    table = compared(runs, [made_card(GMP, 0.7)])
    assert table.loc[("task", "GMP"), "accuracy_mean"] == pytest.approx(0.35)


def test_the_difference_is_that_of_the_means_with_welchs_interval_over_networks():
    from scipy import stats

    first, second = [0.70, 0.76, 0.79], [0.80, 0.83, 0.89]
    runs = measured(*(finetuned(accuracy, network=str(accuracy)) for accuracy in second))
    rows = downstream.rows(runs, [made_card(GMP, accuracy, seed) for seed, accuracy in enumerate(first)])
    (found,) = downstream.differences(downstream.points(rows, "final")).itertuples()
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (found.difference_low, found.difference_high) == pytest.approx((interval.low, interval.high))
    said = downstream.sentence(found)
    assert "75.0 % pruned on the task (n = 3), 84.0 % transferred (n = 3), difference -9.0 points" in said


def test_few_networks_have_no_interval():
    rows = downstream.rows(measured(finetuned(0.8)), [made_card(GMP, 0.7)])
    (found,) = downstream.differences(downstream.points(rows, "final")).itertuples()
    assert "difference -10.0 points (no interval with so few networks)" in downstream.sentence(found)


@pytest.mark.parametrize(
    ("epochs", "said"),
    [(2, "Both routes: 2 epochs on the task"), (150, "Epochs on the task differ: 150 after the transfer, 2 where")],
)
def test_whether_epochs_are_equal_is_said(epochs, said):
    table = downstream.points(downstream.rows(measured(finetuned(0.8, epochs=epochs)), [made_card(GMP)]), "final")
    assert downstream.epochs_note(table).startswith(said)


def test_tasks_with_both_sides_come_first():
    other = made_card(SparsifySpec("GMP", "dense", "pets", 0.9, dataset_hash="pets"), upstream="Oxford-IIIT Pets")
    rows = downstream.rows(measured(finetuned(0.8)), [other, made_card(GMP)])
    assert list(downstream.tasks(rows)) == ["ResNet20 on Digits", "ResNet20 on Oxford-IIIT Pets"]


def test_the_chart_shows_both_routes_and_dense_as_lines():
    dense = SparsifySpec("Dense", "resnet20", "digits", dataset_hash="task")
    runs = measured(finetuned(0.8), finetuned(0.95, network="d", method="Dense"))
    table = downstream.points(downstream.rows(runs, [made_card(GMP, 0.7), made_card(dense, 0.97)]), "final")
    figure = charts.routes(table, "top1")
    assert {trace.name: trace.y[0] for trace in figure.data} == {
        "GMP, pruned on the task": pytest.approx(70),
        "GMP, transferred": pytest.approx(80),
    }
    assert sorted(shape.y0 for shape in figure.layout.shapes) == pytest.approx([95, 97])
    low, high = figure.layout.yaxis.range
    assert low < 70 and high > 97


def test_a_task_has_both_routes_only_where_both_were_run():
    runs, made = measured(finetuned(0.8)), [made_card(GMP)]
    assert downstream.has_both_routes(runs, made)
    elsewhere = [made_card(SparsifySpec("GMP", "dense", "digits", 0.9, epochs=2, dataset_hash="other"))]
    dense = measured(finetuned(0.9, method="Dense"))
    for given in ((runs.iloc[:0], made), (runs, []), (runs, elsewhere), (dense, made)):
        assert not downstream.has_both_routes(*given)
