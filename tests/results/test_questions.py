"""What one setting changes, all else equal: by hand and by SciPy."""

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from sparse_core.results import measures, questions
from sparse_core.results.store import published_rows
from tests.support.records import measured, row

LENGTH, SMOOTHING, STRUCTURE, SCRATCH = questions.QUESTIONS


def titles(rows):
    return [question.title for question in questions.asked(rows)]


def test_longer_training_against_the_shortest():
    short = {"digits": [0.80, 0.81, 0.82], "pets": [0.6, 0.6, 0.62], "cars": [0.5, 0.5, 0.52]}
    gains = {"digits": 0.02, "pets": 0.05, "cars": -0.01}
    rows = []
    for task, accuracies in short.items():
        for seed, accuracy in enumerate(accuracies):
            rows.append(row("AC/DC", 0.9, accuracy, seed, dataset=task, recipe="12 epochs", network="short"))
            rows.append(
                row("AC/DC", 0.9, accuracy + gains[task], seed, dataset=task, recipe="36 epochs", network="long")
            )
            rows.append(
                row("AC/DC", 0.9, 0.1, seed, dataset=task, recipe="36 epochs, label smoothing 0.1", network="s")
            )
    found = questions.answer(measures.joined(measured(*rows)), LENGTH)
    only = found.means.iloc[0]
    assert len(found.means) == 1 and (only["setting"], only["first"]) == ("36 epochs", "12 epochs")
    values = np.array(list(gains.values()))
    half = t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    assert only[["mean", "low", "high"]].tolist() == pytest.approx([0.02, 0.02 - half, 0.02 + half])
    assert (only["tasks"], only["runs"]) == (3, 18)
    digits = found.tasks.set_index("dataset").loc["digits"]
    expected = ttest_ind([0.82, 0.83, 0.84], [0.80, 0.81, 0.82], equal_var=False).confidence_interval()
    assert (digits["low"], digits["high"]) == pytest.approx((expected.low, expected.high))
    assert digits["difference"] == pytest.approx(0.02)


def test_the_papers_rigl_is_compared_by_its_multiple():
    rows = published_rows().query("architecture == 'resnet50' and transfer == 'linear'")
    assert titles(rows) == ["Training length"]
    found = questions.answer(rows, LENGTH).means.set_index("sparsity")
    of = {
        name: rows[(rows["method"] == f"RigL ERK {name}") & (rows["sparsity"] == 0.9)]
        .groupby("dataset")["accuracy_best"].mean()
        for name in ("1x", "5x")
    }  # fmt: skip
    assert found.loc[0.9, "mean"] == pytest.approx((of["5x"] - of["1x"]).mean())
    assert found.loc[0.9, "setting"] == "5x" and set(found["method"]) == {"RigL ERK"}


def test_label_smoothing_against_none():
    rows = measured(
        row("Dense", 0, 0.9, recipe="12 epochs"), row("Dense", 0, 0.7, recipe="12 epochs, label smoothing 0.1", network="s"),
        row("STR", 0.9, 0.5, recipe="12 epochs, label smoothing 0.1", network="t"), row("GMP", 0.9, 0.5),
    )  # fmt: skip
    assert titles(rows) == ["Label smoothing"]
    found = questions.answer(rows, SMOOTHING).means
    assert found["mean"].tolist() == pytest.approx([-0.2]) and found["method"].tolist() == ["Dense"]


def test_structured_networks_stand_beside_each_that_was_trained_as_long():
    rows = measured(
        row("Structured", 0.9, 0.6, recipe="12 epochs"), row("GMP", 0.9, 0.8, recipe="12 epochs"),
        row("STR", 0.9, 0.7, recipe="12 epochs"), row("RigL ERK 5x", 0.9, 0.9, recipe="60 epochs"),
        row("Magnitude", 0.9, 0.1, recipe="0 epochs"), row("Dense", 0, 0.9, recipe="12 epochs"),
    )  # fmt: skip
    assert titles(rows) == ["Structured pruning"]
    found = questions.answer(rows, STRUCTURE).means
    assert dict(zip(found["method"], found["mean"], strict=True)) == pytest.approx({"GMP": -0.2, "STR": -0.1})


def test_from_scratch_against_transferred_weights():
    scratch = "P, from scratch with the mask"
    rows = measured(
        row("GMP", 0.9, 0.8, transfer="full"), row("GMP", 0.9, 0.5, transfer="full", protocol=scratch),
        row("STR", 0.9, 0.5, transfer="full", protocol=f"{scratch}, BatchNorm frozen"),
    )  # fmt: skip
    assert titles(rows) == ["From scratch"]
    found = questions.answer(rows, SCRATCH).means
    assert found["mean"].tolist() == pytest.approx([-0.3]) and found["protocol"].tolist() == ["P"]


def test_no_rows_and_settings_on_different_tasks_answer_nothing():
    none = published_rows().iloc[:0]
    assert questions.asked(none) == []
    apart = measured(
        row("Dense", 0, 0.9, recipe="12 epochs"), row("Dense", 0, 0.9, dataset="b", recipe="36 epochs", network="n")
    )
    for rows in (none, apart):
        found = questions.answer(rows, LENGTH)
        assert found.means.empty and found.tasks.empty
        assert "difference" in found.tasks
