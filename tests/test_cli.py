"""The command line's verbs on results: what they print, what goes to stderr, their exit codes."""

import json

import pandas as pd
import pytest

from sparse_core.cli import main
from sparse_core.results import measures
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import footnotes


@pytest.fixture
def summary(capsys):
    """A function that runs ``summary`` with ``--json`` and these arguments: its rows and what it says on stderr."""

    def run(*arguments):
        assert main(["summary", *arguments, "--json"]) == 0
        printed = capsys.readouterr()
        return pd.DataFrame(json.loads(printed.out)), printed.err

    return run


@pytest.mark.parametrize(
    "arguments", [["summary", "--transfer", "full"], ["runs", "--source", "published"], ["export", "all.parquet"]]
)
def test_the_note_on_rigl_accompanies_its_rows(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--json"]) == 0
    assert footnotes.RIGL_NOTE in capsys.readouterr().err


def test_rows_without_rigl_have_no_note(summary):
    assert summary("--transfer", "linear")[1] == ""


def test_choices_without_paper_results_are_noted(summary):
    rows, messages = summary("--architecture", "resnet18")
    assert rows.empty
    assert "No paper results" in messages


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["--architecture", "mobilenet"], "Did you mean mobilenet_v1"),
        (["--methods", "WoodFischer"], "Did you mean WoodFisher?"),
        (["--tasks", "cifar"], "Did you mean cifar10"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(arguments, nearest, capsys):
    assert main(["summary", *arguments, "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and nearest in printed.err and printed.err.count("\n") == 1


def test_summary_filters_as_the_measures_do(home, summary):
    choices = ["--architecture", "resnet50", "--methods", "STR", "LTH-T", "--tasks", "pets", "dtd"]
    given, _ = summary(*choices, "--sparsity", "0.85", "0.95", "--without-lottery")
    rows = Store(Records(home)).results(architecture="resnet50")
    expected = measures.summary(rows[rows["dataset"].isin(["pets", "dtd"])])
    expected = expected[expected["method"].isin(["STR", "LTH-T"]) & expected["sparsity"].between(0.85, 0.95)]
    expected = expected[(expected["method"] != "LTH-T") | (expected["transfer"] == "full")].reset_index(drop=True)
    pd.testing.assert_frame_equal(given, expected, check_dtype=False, rtol=1e-9)


def test_summary_per_task_is_the_difference_to_dense(home, summary):
    given, _ = summary("--per-task", "--architecture", "resnet50", "--tasks", "pets")
    expected = measures.difference_to_dense(Store(Records(home)).results(architecture="resnet50", datasets=["pets"]))
    assert given["difference"].tolist() == pytest.approx(expected["difference"].tolist())
    assert len(given) == len(expected) > 30
