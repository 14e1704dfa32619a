"""A finished training is not lost to the paths of its home folder, its data or its network."""

import json
import os
from pathlib import Path

import pytest

from sparse_core.cli import main
from sparse_core.networks import classifier, finetuned
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs.identity import recorded
from tests.support.images import image_folder
from tests.support.networks import pruned_file

LONG = Path("données_über_数据集_" * 5) / ("пример 画像 " * 6)
QUICK = ("--epochs", "1", "--batch-size", "8", "--precision", "fp32", "--seeds", "1", "--json")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder whose path is far over 200 characters, the present one, with data ``images`` and a network ``net.pth``."""
    folder = tmp_path / LONG
    image_folder(folder / "images", {"dunkelgrün 暗い": 5, "hell": 5})
    pruned_file(folder / "net.pth", 0.5)
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    assert len(os.fsencode(folder)) > 255
    return folder


@pytest.mark.parametrize("verb", ["probe", "finetune"])
def test_long_and_foreign_paths(verb, work, capsys, tmp_path, monkeypatch):
    engine = ("--engine", "torch") if verb == "probe" else ()
    code = main([verb, "--backbone", "resnet20:net.pth", "--dataset", "images", *engine, *QUICK])
    out, err = capsys.readouterr()
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    record = Records(work / "home").read(run["run_id"])
    assert record.result["class_names"] == ["dunkelgrün 暗い", "hell"]
    assert Store(Records(work / "home")).results(source="measured")["dataset"].tolist() == ["images"]
    if verb == "finetune":
        _, metadata = classifier.load(finetuned.file(work / "home", run["run_id"]))
        assert metadata["class_names"] == ["dunkelgrün 暗い", "hell"]
    names = [
        entry.name for folder in ("runs", "networks", "structure") for entry in (work / "home" / folder).rglob("*")
    ]
    assert max(map(len, names)) <= 80  # Windows allows a path 260 characters
    # Relative paths were made absolute: the same spec is found, and rerun, from any folder.
    spec = recorded(record.spec)
    assert (spec.backbone, spec.dataset) == (f"resnet20:{work / 'net.pth'}", str(work / "images"))
    monkeypatch.chdir(tmp_path)
    again = [verb, "--backbone", spec.backbone, "--dataset", spec.dataset, *engine, *QUICK]
    assert main([*again, "--rerun"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["accuracy_mean"] == json.loads(out)["accuracy_mean"]


def test_names_that_are_no_text(work, capsys):
    """As an old archive makes them: Latin-1 on a system of UTF-8."""
    strange = os.fsdecode(b"caf\xe9")
    image_folder(work / strange, {os.fsdecode(b"d\xe9"): 5, "hell": 5})
    code = main(["finetune", "--backbone", "resnet20:net.pth", "--dataset", strange, *QUICK])
    out, err = capsys.readouterr()
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    _, metadata = classifier.load(finetuned.file(work / "home", run["run_id"]))
    assert len(metadata["class_names"]) == 2
    (row,) = Store(Records(work / "home")).results(source="measured").to_dict("records")
    assert row["dataset"].startswith("caf")


@pytest.mark.parametrize("verb", ["probe", "finetune", "features", "speedup"])
@pytest.mark.parametrize("path", ["/somewhere/net.pth", "net.pth", "./net"])
def test_a_weight_file_without_its_architecture_is_refused_in_one_line(verb, path, capsys):
    asked = ["--backbone", path] + (["--dataset", "digits"] if verb != "speedup" else [])
    assert main([verb, *asked]) == 2
    err = capsys.readouterr().err.strip()
    assert err.count("\n") == 0
    assert f"ARCHITECTURE:FILE such as resnet50:{path}; got a path alone" in err


@pytest.mark.parametrize(
    "name", ["resnet20:/nowhere/net.pth", "resnet:net.pth", "nothing", "resnet50:", ":net.pth", ":"]
)
def test_other_wrong_backbones_are_refused_in_one_line(name, capsys):
    assert main(["probe", "--backbone", name, "--dataset", "digits"]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
