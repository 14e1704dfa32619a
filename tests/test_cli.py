"""The command line's verbs on results: what they give, what they say on stderr, their exit codes."""

import json
from pathlib import Path

import pandas as pd
import pytest

from sparse_core.cli import main
from sparse_core.results import measures
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import footnotes


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "words", [["summary", "--transfer", "full"], ["runs", "--source", "published"], ["export", "all.parquet"]]
)
def test_the_note_on_rigl_stands_wherever_its_rows_do(
    words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(home)
    assert main([*words, "--json"]) == 0
    assert footnotes.RIGL_NOTE in capsys.readouterr().err


def test_rows_without_rigl_bear_no_note(capsys: pytest.CaptureFixture) -> None:
    assert main(["summary", "--transfer", "linear", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_choices_without_paper_results_are_noted(capsys: pytest.CaptureFixture) -> None:
    assert main(["summary", "--architecture", "resnet18", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "No paper results" in said.err


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["--architecture", "mobilenet"], "Did you mean mobilenet_v1"),
        (["--methods", "WoodFischer"], "Did you mean WoodFisher?"),
        (["--tasks", "cifar"], "Did you mean cifar10"),
    ],
)
def test_unknown_names_name_the_nearest(words: list[str], nearest: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["summary", *words, "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and nearest in said.err and said.err.count("\n") == 1


def test_summary_filters_as_the_measures_do(home: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--architecture", "resnet50", "--methods", "STR", "LTH-T", "--tasks", "pets", "dtd"]
    assert main(["summary", *words, "--sparsity", "0.85", "0.95", "--without-lottery", "--json"]) == 0
    given = pd.DataFrame(json.loads(capsys.readouterr().out))
    rows = Store(Records(home)).results(architecture="resnet50")
    rows = rows[rows["dataset"].isin(["pets", "dtd"])]
    wanted = measures.summary(rows)
    wanted = wanted[wanted["method"].isin(["STR", "LTH-T"]) & wanted["sparsity"].between(0.85, 0.95)]
    wanted = wanted[(wanted["method"] != "LTH-T") | (wanted["transfer"] == "full")].reset_index(drop=True)
    pd.testing.assert_frame_equal(given, wanted, check_dtype=False, rtol=1e-9)


def test_summary_per_task_is_the_difference_to_dense(home: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["summary", "--per-task", "--architecture", "resnet50", "--tasks", "pets", "--json"]) == 0
    given = pd.DataFrame(json.loads(capsys.readouterr().out))
    rows = Store(Records(home)).results(architecture="resnet50", datasets=["pets"])
    wanted = measures.difference_to_dense(rows)
    assert given["difference"].tolist() == pytest.approx(wanted["difference"].tolist())
    assert len(given) == len(wanted) > 30
