"""The guide: three cases reasoned by hand from the paper's tables, and what each answer rests on."""

import json

import pandas as pd
import pytest

from sparse_core.cli import main
from sparse_core.errors import InputError
from sparse_core.results import measures
from sparse_core.results.advice import FAILS, MEETS, OPEN, Request, Speedup, advise
from sparse_core.results.store import published_rows
from tests.support.records import measured, row

DENSE_AND_STR = [("Dense", 0.0, 0.9), ("STR", 0.9, 0.8)]


@pytest.fixture(scope="module")
def rows():
    return published_rows()


def test_linear_transfer_at_90_percent_to_a_general_task(rows):
    """The paper: under linear transfer AC/DC is level with dense, RigL 5x next, WoodFisher and LTH-T behind."""
    found = advise(rows, Request("linear", "general", loss=0.02, sparsity=0.9))
    assert found.summary == "Take AC/DC 90 %; tied with RigL ERK 5x 90 %, STR 90 %."
    verdicts = {answer.name: answer.verdict for answer in found.answers}
    assert verdicts["LTH-T 90 %"] == FAILS and verdicts["WoodFisher 90 %"] != MEETS
    assert len(found.tasks) == 6 and "cifar10" in found.tasks


def test_many_tied_networks_are_counted_in_the_sentence():
    tasks = [f"task{number}" for number in range(4)]
    levels = [("Dense", 0.0), *(("GMP", level) for level in (0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92))]
    results = measured(
        *(
            row(method, level, 0.9 + 0.001 * ((place + number) % 3), dataset=task)
            for place, (method, level) in enumerate(levels)
            for number, task in enumerate(tasks)
        )
    )
    found = advise(results, Request("linear", loss=0.05, source="measured", architecture="resnet18"))
    assert len(found.answers[0].tied_with) == 6
    assert found.summary == f"Take {found.answers[0].name}; tied with 6 of 6 others."


def test_full_transfer_at_90_percent_to_a_specialised_task(rows):
    """The paper: the order reverses, WoodFisher loses nearly nothing."""
    found = advise(rows, Request("full", "specialised", loss=0.02, sparsity=0.9))
    best = found.answers[0]
    assert (best.method, best.sparsity, best.verdict) == ("WoodFisher", 0.9, MEETS)
    assert best.tasks_for == tuple(found.tasks) and not best.tasks_against
    assert best.rows == 6 * 3 * 2


def test_full_transfer_at_95_percent_with_half_a_point_to_lose(rows):
    """No method comes near: WoodFisher, the best, loses 1.7 points (0.9 to 2.5)."""
    found = advise(rows, Request("full", loss=0.005, sparsity=0.95))
    assert found.summary == "Every network that fits exceeds the accepted loss."
    assert found.answers[0].name == "WoodFisher 95 %"
    assert found.answers[0].loss.mean == pytest.approx(0.0171, abs=1e-4)
    assert {answer.sparsity for answer in found.answers} == {0.95, 0.98}


def test_without_a_methods_rows_the_answer_is_another(rows):
    request = Request("linear", "general", loss=0.02, sparsity=0.9)
    before = advise(rows, request)
    after = advise(rows[rows["method"] != before.answers[0].method], request)
    assert after.answers[0].name == "RigL ERK 5x 90 %"
    assert "AC/DC" not in str(after)


def test_other_rows_give_another_answer(rows):
    """WoodFisher and AC/DC swapped: the guide holds no opinion of its own."""
    swapped = rows.assign(method=rows["method"].replace({"AC/DC": "WoodFisher", "WoodFisher": "AC/DC"}))
    assert advise(swapped, Request("full", "specialised", loss=0.02, sparsity=0.9)).answers[0].method == "AC/DC"


def test_the_evidence_is_that_of_the_measures(rows):
    found = advise(rows, Request("linear", sparsity=0.9, loss=0.01))
    table = measures.summary(rows).query("architecture == 'resnet50' and transfer == 'linear' and sparsity == 0.9")
    expected = table.set_index("method")["mean_relative_error_increase"]
    for answer in found.answers:
        if answer.sparsity == 0.9:
            assert answer.increase.mean == pytest.approx(expected[answer.method])
            assert len(answer.tasks_for) + len(answer.tasks_against) == 12


def test_a_measured_difficulty_selects_the_nearest_tasks(rows):
    hard = advise(rows, Request("linear", difficulty=0.4, sparsity=0.9))
    easy = advise(rows, Request("linear", difficulty=0.0, sparsity=0.9))
    assert len(hard.tasks) == 6 and {"aircraft", "cars"} <= set(hard.tasks)
    assert "aircraft" not in easy.tasks


def test_one_task_is_not_enough_evidence():
    found = advise(
        measured(row("Dense", 0.0, 0.9), row("STR", 0.9, 0.9)), Request(source="measured", architecture="resnet18")
    )
    assert [answer.verdict for answer in found.answers] == [OPEN]
    assert "no network is shown to stay within" in found.summary


def test_a_network_pruned_without_training_is_no_evidence():
    tasks = [row("Dense", 0.0, 0.9, dataset=f"t{n}") for n in range(3)]
    sparse = [row("Magnitude", 0.9, 0.9 - n / 1000, dataset=f"t{n}", recipe="0 epochs") for n in range(3)]
    found = advise(measured(*tasks, *sparse), Request(source="measured", architecture="resnet18"))
    assert found.answers == [] and found.notes == ["Pruned without training after it, so no evidence: Magnitude 90 %."]


def test_sizes_and_speeds_leave_out_what_does_not_fit():
    tasks = [row("Dense", 0.0, 0.9, dataset=f"t{n}") for n in range(3)]
    sizes = {"STR": 100.0, "GMP": 900.0}
    sparse = [
        row(name, 0.9, 0.89 - n / 1000, dataset=f"t{n}", file_size=size)
        for name, size in sizes.items()
        for n in range(3)
    ]
    given = pd.DataFrame([*tasks, *sparse])
    small = advise(given, Request(source="measured", architecture="resnet18", file_size=500, loss=0.05))
    assert [answer.name for answer in small.answers] == ["STR 90 %"]
    assert small.notes == ["Too large: GMP 90 %."]
    request = Request(source="measured", architecture="resnet18", speedup=2, loss=0.05)
    three, one = Speedup(3.0, 2.5, 3.5, "DeepSparse"), Speedup(1.5, 1.4, 1.6, "timing-only mask")
    fast = advise(given, request, {("GMP", 0.9): three})
    assert [(answer.name, answer.speedup, answer.file_size) for answer in fast.answers] == [("GMP 90 %", three, 900.0)]
    assert fast.notes == ["Speed not measured: STR 90 %."]
    assert advise(given, request, {("GMP", 0.9): three, ("", 0.9): one}).notes == ["Too slow: STR 90 %."]


def test_a_sparsity_beyond_the_rows_is_said(rows):
    found = advise(rows, Request(sparsity=0.99))
    assert found.answers == [] and found.notes == ["The rows end at 98 % sparsity."]
    assert found.summary == "No network in these rows fits the needs."


@pytest.mark.parametrize(
    ("given", "message"),
    [({"loss": 1.5}, r"loss takes a fraction"), ({"sparsity": -1}, "sparsity takes"), ({"speedup": 0}, "above 0"),
     ({"kind": "odd"}, "kind of task"), ({"difficulty": float("nan")}, "difficulty"), ({"transfer": "both"}, "transfer")],
)  # fmt: skip
def test_contradictory_needs_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        Request(**given)


def test_networks_without_a_baseline_and_rows_without_networks_are_said():
    rows = measured(row("STR", 0.9, 0.8), row("GMP", 0.9, 0.8, dataset="pets"), row("Dense", 0.0, 0.9, dataset="pets"))
    found = advise(rows, Request("linear", source="measured", architecture="resnet18"))
    assert [answer.name for answer in found.answers] == ["GMP 90 %"]
    assert found.notes == ["No dense baseline to compare with, or one without errors: STR 90 %."]
    none = advise(rows, Request("full", source="measured", architecture="resnet18"))
    assert none.notes == ["There are no results of ResNet18 under full transfer here."] and not none.answers


def test_tasks_of_unknown_kind_are_named_and_are_no_evidence_of_a_kind():
    """Of tasks that are none of the paper's nothing is known; with no others, there is no evidence rather than no network."""
    rows = measured(*(row(m, s, a, dataset=d) for d in ("digits", "my task") for m, s, a in DENSE_AND_STR))
    found = advise(rows, Request(kind="general", loss=0.2, source="measured", architecture="resnet18"))
    assert found.summary == "Not enough evidence: there are no results of such tasks." and not found.answers
    assert found.notes == [
        "Whether these are general or specialised is not known, so they do not count: Digits, my task."
    ]
    known = measured(*(row(m, s, a, dataset=d) for d in ("pets", "my task") for m, s, a in DENSE_AND_STR))
    found = advise(known, Request(kind="specialised", loss=0.2, source="measured", architecture="resnet18"))
    assert [answer.tasks_for for answer in found.answers] == [("pets",)] and "my task" in found.notes[0]


def test_the_verb_prints_ranked_answers(capsys):
    assert (
        main(["guide", "--transfer", "full", "--kind", "specialised", "--loss", "0.02", "--sparsity", "0.9", "--json"])
        == 0
    )
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["method"] == "WoodFisher" and "Take WoodFisher 90 %" in printed.err
