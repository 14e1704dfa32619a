"""Measures and statistics by hand and against SciPy, then against the statements of the paper; comparisons of backbones."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sparse_core.errors import InputError
from sparse_core.results import measures, statistics
from sparse_core.results.records import Records
from sparse_core.results.store import COLUMNS, Store
from sparse_core.views import footnotes
from tests.support.records import measured, row


def rows(*runs: tuple[str, float, str, float]) -> pd.DataFrame:
    """Rows of (method, sparsity, dataset, accuracy); the rest is the same for all."""
    frame = pd.DataFrame(runs, columns=["method", "sparsity", "dataset", "accuracy_best"])
    constants = {name: "x" for name in COLUMNS if name not in (*frame.columns, "seed", "accuracy_final")}
    return frame.assign(**constants, seed=range(len(frame)), accuracy_final=np.nan)


def test_relative_error_increase_by_hand():
    dense = [("Dense", 0, "t", 0.8), ("Dense", 0, "t", 0.9), ("Dense", 0, "u", 0.5)]
    frame = rows(*dense, ("GMP", 0.9, "t", 0.7), ("GMP", 0.9, "u", 0.6))
    table = measures.difference_to_dense(frame)
    sparse = table[table["method"] == "GMP"].set_index("dataset")["relative_error_increase"]
    assert sparse["t"] == pytest.approx(1.0)  # 0.30 errors where dense makes 0.15
    assert sparse["u"] == pytest.approx(-0.2)  # 0.4 where dense makes 0.5
    means = measures.summary(frame).iloc[0]
    assert means["mean_relative_error_increase"] == pytest.approx(0.4)
    assert means["standard_error"] == pytest.approx(stats.sem([1.0, -0.2]))
    assert means["tasks"] == means["runs"] == 2


def test_without_a_baseline_the_increase_is_unknown():
    table = measures.difference_to_dense(rows(("GMP", 0.9, "t", 0.7), ("Dense", 0, "u", 0.7)))
    assert table.loc[table["method"] == "GMP", "relative_error_increase"].isna().all()
    means = measures.summary(rows(("GMP", 0.9, "t", 0.7)))
    assert means["tasks"].tolist() == [0] and means["runs"].tolist() == [1]  # a run without a baseline is still a run
    assert means["mean_relative_error_increase"].isna().all()


def test_the_error_of_a_ratio_over_seeds_covers_what_a_simulation_gives():
    """Means over 5 seeds of errors around 0.30 and 0.20, drawn 20,000 times: the spread of their ratio."""
    draw = np.random.default_rng(0)
    sparse, dense = draw.normal(0.30, 0.02, (20_000, 5)), draw.normal(0.20, 0.01, (20_000, 5))
    true = (sparse.mean(1) / dense.mean(1)).std()
    sides = [(pd.Series([spread]), pd.Series([5])) for spread in (0.02, 0.01)]
    found = statistics.ratio_error(pd.Series([0.3]), pd.Series([0.2]), *sides, pd.Series([0.0]))
    assert found.item() == pytest.approx(true, rel=0.02)


def test_the_mean_over_tasks_has_its_error_over_seeds_too():
    runs = [("Dense", 0, "t", 0.8), ("Dense", 0, "t", 0.82), ("GMP", 0.9, "t", 0.7), ("GMP", 0.9, "t", 0.74)]
    frame = rows(*runs, *((method, level, "u", accuracy) for method, level, _, accuracy in runs)).assign(
        source="published"
    )
    one = statistics.ratio_error(
        *(pd.Series([error]) for error in (0.28, 0.19)),
        *((pd.Series([spread / np.sqrt(2)]), pd.Series([2])) for spread in (0.04, 0.02)),
        pd.Series([0.0]),
    ).item()
    assert measures.summary(frame)["seed_error"].item() == pytest.approx(one / np.sqrt(2))
    assert measures.summary(frame[frame["dataset"] == "t"])["seed_error"].item() == pytest.approx(one)


@pytest.mark.parametrize("column", measures.BASELINE_KEY)
def test_a_baseline_with_another_key_does_not_count(column):
    frame = rows(("Dense", 0, "t", 0.8), ("GMP", 0.9, "t", 0.7))
    frame[column] = frame[column].astype(object)
    frame.loc[0, column] = "other"
    assert measures.summary(frame)["tasks"].tolist() == [0]


def test_a_dense_network_without_errors_gives_no_ratio():
    assert measures.summary(rows(("Dense", 0, "t", 1.0), ("GMP", 0.9, "t", 0.7)))["tasks"].tolist() == [0]


def test_the_deviation_over_seeds_is_the_sample_deviation():
    table = measures.per_configuration(rows(("GMP", 0.9, "t", 0.7), ("GMP", 0.9, "t", 0.8), ("GMP", 0.9, "t", 0.75)))
    assert table["accuracy_std"].item() == pytest.approx(np.std([0.7, 0.8, 0.75], ddof=1))
    assert np.isnan(measures.per_configuration(rows(("GMP", 0.9, "t", 0.7)))["accuracy_std"].item())


def test_unknown_accuracy_is_refused():
    with pytest.raises(InputError, match="Did you mean final"):
        measures.summary(rows(("GMP", 0.9, "t", 0.7)), "finl")


@pytest.mark.parametrize(
    ("architecture", "transfer", "method", "sparsity", "percent"),
    [
        ("resnet50", "linear", "AC/DC", 0.8, -3.2),
        ("resnet50", "linear", "AC/DC", 0.9, -2.0),
        ("resnet50", "full", "WoodFisher", 0.8, 0.7),
        ("resnet50", "full", "WoodFisher", 0.9, 4.0),
        ("resnet50", "full", "WoodFisher", 0.95, 13.4),
        ("resnet50", "full", "AC/DC", 0.8, 7.7),
        ("resnet50", "full", "AC/DC", 0.9, 12.0),
        ("resnet50", "full", "AC/DC", 0.95, 21.3),
        ("resnet50", "linear", "LTH-T", 0.8, 79),
        ("resnet50", "linear", "LTH-T", 0.95, 402),
        ("mobilenet_v1", "linear", "M-FAC", 0.75, 4),
        ("mobilenet_v1", "linear", "STR", 0.75, 11),
        ("mobilenet_v1", "full", "STR", 0.75, 33),
    ],
)
def test_statements_of_the_paper(home, architecture, transfer, method, sparsity, percent):
    table = measures.summary(Store(Records(home)).results(architecture=architecture, transfer=transfer))
    found = table[(table["method"] == method) & (table["sparsity"] == sparsity)]
    tolerance = 0.05 if percent != round(percent) or abs(percent) < 3 else 0.5
    assert 100 * found["mean_relative_error_increase"].item() == pytest.approx(percent, abs=tolerance)
    assert found["tasks"].item() == 12


@pytest.mark.parametrize(("method", "at_80", "at_90"), [("AC/DC", -0.37, -0.48), ("WoodFisher", 0.63, 0.41)])
def test_correlation_of_error_and_difficulty_in_the_paper(home, method, at_80, at_90):
    results = Store(Records(home)).results(architecture="resnet50")
    table = measures.difference_to_dense(results[results["transfer"] == "linear"])
    hard = measures.difficulty(results)[["dataset", "difficulty"]]
    for sparsity, rho in ((0.8, at_80), (0.9, at_90)):
        chosen = table[(table["method"] == method) & (table["sparsity"] == sparsity)].merge(hard, on="dataset")
        found = stats.spearmanr(chosen["relative_error_increase"], chosen["difficulty"]).statistic
        assert found == pytest.approx(rho, abs=0.01)


def test_means_do_not_depend_on_the_order_of_the_rows(home):
    results = Store(Records(home)).results()
    means = measures.per_configuration(results)["accuracy_mean"]
    assert measures.per_configuration(results[::-1])["accuracy_mean"].equals(means)


def test_means_are_over_the_tasks_that_all_backbones_have():
    rows = measured(
        *(row("Dense", 0, accuracy, dataset=task) for task, accuracy in (("a", 0.9), ("b", 0.5))),
        *(row("STR", 0.5, accuracy, seed, dataset="a") for seed, accuracy in enumerate((0.7, 0.8, 0.9))),
    )
    table = measures.over_same_tasks(measures.per_configuration(rows)).set_index("method")
    assert table.loc["Dense", "accuracy_mean"] == pytest.approx(0.9)
    assert np.isnan(table.loc["Dense", "standard_error"])
    assert table.loc["STR", "standard_error"] == pytest.approx(0.1 / np.sqrt(3))
    assert table["tasks"].tolist() == [1, 1]


def test_paper_results_have_no_sizes(home):
    resnet50 = Store(Records(home)).results(architecture="resnet50")
    sized = measures.with_sizes(measures.summary(resnet50), resnet50)
    assert len(sized) == len(measures.summary(resnet50))
    assert sized[list(measures.SIZES)].isna().all(axis=None)
    notes = footnotes.size_notes("file_size", len(resnet50))
    assert "in MB" in notes[0] and notes[1].startswith("1,923 paper results left out")
    assert footnotes.size_notes("sparsity", 0) == []


def test_pareto_optimal_rows_by_hand():
    frame = pd.DataFrame({"sparsity": [0.5, 0.8, 0.8, 0.9, 0.9], "accuracy": [0.9, 0.85, 0.8, 0.7, np.nan]})
    assert statistics.pareto_optimal(frame, "sparsity", "accuracy").tolist() == [True, True, False, True, False]


def test_wilson_interval_by_hand():
    low, high = statistics.wilson_interval(np.array([8, 0, 5]), np.array([10, 4, 5]))
    # (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96
    assert low == pytest.approx([0.4901625, 0, 0.5655175], abs=1e-6)
    assert high == pytest.approx([0.9433178, 0.4898910, 1], abs=1e-6)
    assert [len(ends) for ends in statistics.wilson_interval(np.array([]), np.array([]))] == [0, 0]
