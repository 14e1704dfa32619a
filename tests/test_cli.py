"""The command line: what its verbs print, what goes to stderr, their exit codes."""

import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sparse_core.cli import main
from sparse_core.networks import finetuned, importing, library
from sparse_core.paths import REPOSITORY
from sparse_core.results import measures
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.views import footnotes, labels
from tests.support.images import image_folder
from tests.support.networks import pruned_file


@pytest.fixture
def answer(capsys):
    """A function that runs a verb with ``--json``: the document that it prints."""

    def run(*arguments):
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


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


@pytest.fixture
def probed(home, images, tmp_path, capsys):
    """A function that imports a new network under a name, probes it with two seeds and returns its content hash."""

    def probe(name, seed, **described):
        card = importing.add(home, pruned_file(tmp_path / "net.pth", 0.9 * bool(described), seed), name, **described)
        assert main(["probe", "--backbone", name, "--dataset", images, "--seeds", "2", "--epochs", "2"]) == 0
        capsys.readouterr()
        return card.hash

    return probe


def test_networks_of_one_method_and_sparsity_are_not_pooled(probed, summary):
    """Neither are dense networks: they are the baseline together, by the mean of their means."""
    hashes = {name: probed(name, seed, method="Magnitude") for seed, name in ((5, "net5"), (6, "net6"))}
    hashes |= {name: probed(name, seed) for seed, name in ((7, "dense7"), (8, "dense8"))}
    rows, said = summary("--source", "measured", "--per-task")
    assert dict(zip(rows["network_name"], rows["network"], strict=True)) == hashes
    assert rows["seeds"].tolist() == [2, 2, 2, 2]
    by_name = rows.set_index("network_name")
    baseline = by_name.loc[["dense7", "dense8"], "accuracy_mean"].mean()
    assert by_name["baseline_accuracy"].tolist() == pytest.approx([baseline] * 4)
    assert "(dense7, dense8), the baseline is the mean of their means" in said
    means, _ = summary("--source", "measured")
    assert sorted(means["network_name"]) == ["net5", "net6"]


def test_a_network_imported_under_the_name_of_a_removed_one_is_another(probed, summary, home):
    first = probed("mine", 5, method="STR")
    library.remove(home, "mine")
    second = probed("mine", 6, method="STR")
    rows, _ = summary("--source", "measured", "--per-task")
    assert set(rows["network"]) == {first, second} and set(rows["network_name"]) == {"mine"}
    assert rows["runs"].tolist() == [2, 2]


def test_two_folders_of_one_name_are_two_tasks(sparse_backbone, tmp_path, summary, home, capsys):
    for place, counts in (("easy", {"a": 8, "b": 8}), ("hard", {"left": 8, "right": 8, "up": 8})):
        folder = str(image_folder(tmp_path / place / "images", counts))
        assert main(["probe", "--backbone", sparse_backbone, "--dataset", folder, "--seeds", "2", "--epochs", "2"]) == 0
    capsys.readouterr()
    rows, _ = summary("--source", "measured", "--per-task")
    assert set(rows["dataset"]) == {"images"} and rows["dataset_hash"].nunique() == 2
    assert rows["seeds"].tolist() == [2, 2]
    runs = Store(Records(home)).results(source="measured")
    named = set(labels.name_tasks(runs))
    assert len(named) == 2 and all(name.startswith("images (") for name in named)
    assert {Records(home).read(name).result["task"] for name in runs["run_id"]} == {
        ""
    }  # a user's folder is no study task


def test_summary_prints_one_document():
    verb = ["summary", "--architecture", "resnet50", "--transfer", "linear", "--json"]
    printed = subprocess.check_output([sys.executable, "-m", "sparse_core", *verb], cwd=REPOSITORY)
    found = {(row["method"], row["sparsity"]): row for row in json.loads(printed)}
    assert round(100 * found["AC/DC", 0.8]["mean_relative_error_increase"], 1) == -3.2
    assert {"architecture", "transfer", "method", "sparsity", "standard_error", "tasks"} <= set(found["AC/DC", 0.8])


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_reader_that_closes_the_pipe_is_no_error(home, form):
    verb = [sys.executable, "-m", "sparse_core", "summary", *form]
    writer = subprocess.Popen(verb, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdout.close()  # before anything is printed
    _, said = writer.communicate(timeout=60)
    assert writer.returncode == 141
    assert all(line.startswith("Note: ") for line in said.decode().splitlines())


def test_probe_and_features_give_the_promised_fields(images, answer):
    arguments = ["--backbone", "efficientnet_lite0", "--dataset", images]
    printed = answer("features", *arguments)
    assert (printed["train"], printed["test"], printed["dimensions"], printed["cached"]) == (16, 4, 1280, False)
    printed = answer("probe", *arguments, "--seeds", "3", "--epochs", "4")
    best = [run["accuracy_best"] for run in printed["runs"]]
    assert printed["metric"] == "top1"
    assert printed["accuracy_mean"] == pytest.approx(np.mean(best))
    assert printed["accuracy_std"] == pytest.approx(np.std(best, ddof=1))
    assert {"top1_best", "top1_final", "mean_per_class_best", "mean_per_class_final"} <= set(printed["runs"][0])
    answer("probe", *arguments, "--seeds", "3", "--epochs", "4", "--rerun")
    assert sorted(row["replicate"] for row in answer("runs")) == [0, 0, 0, 1, 1, 1]
    swept = answer("probe", *arguments, "--seeds", "2", "--epochs", "4", "--sweep-lr", "0.001", "0.1")
    assert swept["runs"][0]["learning_rate"] in (0.001, 0.1)


def test_finetune_gives_the_promised_fields_and_a_network_to_export(
    home, sparse_backbone, images, tmp_path, answer, capsys
):
    arguments = ["--backbone", sparse_backbone, "--dataset", images, "--epochs", "1", "--batch-size", "8"]
    printed = answer("finetune", *arguments, "--learning-rate", "0.02")
    name = printed["runs"][0]["run_id"]
    assert printed["mask_violations"] == 0
    assert printed["sparsity_before"] == printed["sparsity_after"] == pytest.approx(0.5, abs=1e-5)
    assert printed["checkpoint"] == str(finetuned.file(home, name))
    assert printed["runs"][0]["learning_rate"] == 0.02
    assert {"metric", "accuracy_mean", "accuracy_std"} <= set(printed)
    for ending in ("onnx", "safetensors"):
        answer("export", str(tmp_path / f"net.{ending}"), "--run", name)
    assert (tmp_path / "net.safetensors").read_bytes() == finetuned.file(home, name).read_bytes()
    assert main(["export", str(tmp_path / "net.txt"), "--run", name]) == 2
    assert "ending in .safetensors or .onnx" in capsys.readouterr().err


def test_a_killed_finetuning_resumes_to_the_same_network(sparse_backbone, images, home, monkeypatch):
    """Killed after an epoch and started again, it ends in the bits of a run that was not killed."""
    arguments = ["finetune", "--backbone", sparse_backbone, "--dataset", images, "--epochs", "20"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more gain nothing on a network this small
    command = [sys.executable, "-m", "sparse_core", *arguments, "--batch-size", "8", "--precision", "fp32", "--json"]
    killed = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((home / "checkpoints").glob("full-*.pt")) and killed.poll() is None:
        assert time.monotonic() < deadline, "No checkpoint was written."
        time.sleep(0.05)
    assert killed.poll() is None, "It ended before it could be killed."
    killed.kill()
    killed.wait()
    assert Records(home).ids() == set()
    resumed = json.loads(subprocess.check_output(command, cwd=REPOSITORY))
    assert not list((home / "checkpoints").iterdir())
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(home / "other"))
    whole = json.loads(subprocess.check_output(command, cwd=REPOSITORY))
    assert resumed["checkpoint"] != whole["checkpoint"]
    first, second = (load_file(answer["checkpoint"]) for answer in (resumed, whole))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "--architecture", "resnet5"], "Did you mean resnet56 or resnet50"),
        (["summary", "--architecture", "mobilenet", "--json"], "Did you mean mobilenet_v1"),
        (["summary", "--methods", "WoodFischer", "--json"], "Did you mean WoodFisher?"),
        (["summary", "--tasks", "cifar", "--json"], "Did you mean cifar10"),
        (["probe", "--backbone", "resnet", "--dataset", "digits"], "Unknown backbone 'resnet'"),
        (["probe", "--backbone", "efficientnet_lite0", "--dataset", "digit"], "Did you mean digits"),
        (["probe", "--backbone", "efficientnet_lite0", "--dataset", "digits", "--seeds", "0"], "at least 1; got 0"),
        (["probe", "--backbone", "efficientnet_lite0", "--dataset", "digits", "--epochs", "0"], "epochs must be"),
        (["nothing"], "invalid choice"),
        (["export", "x.xlsx"], "ending in .parquet or .csv"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["runs", "--json"], ["datasets"], ["rebuild"], ["summary"]])
def test_a_home_that_is_a_file_is_refused(arguments, home, capsys):
    home.write_text("")
    assert main(arguments) == 2
    message = f"Error: SPARSE_TRANSFER_HOME takes a folder; got the file {home}. Give a folder, existing or new.\n"
    assert capsys.readouterr() == ("", message)


def test_files_that_cannot_be_written_are_refused_and_leave_nothing(tmp_path, capsys):
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "file").touch()
    for target, message in [
        ("a.csv", "Expected a file, but {}/a.csv is a folder"),
        ("file/b.csv", "Expected a folder, but {}/file is a file"),
        ("file/deep/b.csv", "Expected a folder, but part of the path {}/file/deep is a file"),
        (f"{'long' * 70}.csv", "Expected file names that the disk allows, but one in {}/long"),
    ]:
        assert main(["export", str(tmp_path / target)]) == 2
        assert f"Error: {message.format(tmp_path)}" in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "file"]


def test_lists_rebuild_and_export(tmp_path, answer):
    for verb in ("backbones", "datasets", "runs"):
        answer(verb)
    assert answer("rebuild")["rows"] == answer("export", str(tmp_path / "x.csv"))["rows"] == 2655
