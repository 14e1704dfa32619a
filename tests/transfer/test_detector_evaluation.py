"""The mAP of a detector with its own prediction layers is that of the training which made it, and is known upstream by it."""

import json

import pytest
import torch

from sparse_core import cli
from sparse_core.catalog import MAP, STRICT_MAP
from sparse_core.networks import backbones, importing
from sparse_core.results import evaluations
from sparse_core.specs.evaluation import EvaluateSpec
from sparse_core.speed import network_facts
from sparse_core.transfer.evaluation_checks import require_evaluable
from tests.support import boxes as drawn
from tests.support.detectors import detector
from tests.support.evaluations import evaluation
from tests.support.refusals import refused


@pytest.fixture
def folder(tmp_path):
    return str(drawn.yolo(tmp_path / "shapes", 8, 4))


@pytest.fixture
def answer(home, capsys):
    """A function that runs a verb: its answer, or what it says where it refuses."""

    def run(*arguments, code=0):
        assert cli.main([*arguments, "--json"]) == code
        printed = capsys.readouterr()
        return json.loads(printed.out) if printed.out else printed.err

    return run


def add(home, tmp_path, name="dense", upstream="COCO", predictions=True):
    _, network = detector("yolov5n", "v6")
    state = {key: each for key, each in network.state_dict().items() if predictions or not key.startswith("model.24.")}
    torch.save(state, tmp_path / f"{name}.pt")
    sizes = {"upstream": upstream, "resize": 64, "crop": 64}
    return importing.add(home, tmp_path / f"{name}.pt", name, architecture="yolov5n-v6", **sizes)


def test_a_detector_has_the_map_of_its_training(home, answer, folder, tmp_path):
    add(home, tmp_path)
    training = ("--epochs", "2", "--batch-size", "2", "--image-size", "64", "--precision", "fp32")
    (run,) = answer("finetune", "--backbone", "dense", "--dataset", folder, *training)["runs"]
    sizes = {"upstream": "COCO → shapes", "resize": 64, "crop": 64}
    importing.add(home, run["checkpoint"], "tuned", architecture="yolov5n-v6", **sizes)
    found = answer("evaluate", "--backbone", "tuned", "--dataset", folder)
    assert found == {"map50": pytest.approx(run["map50_final"]), "map": pytest.approx(run["map_final"]), "images": 4}
    (record,) = evaluations.read_all(home)
    assert record["dataset"] == "shapes" and "top1" not in record
    network = backbones.load(home, "tuned").hash
    for metric, value in ((MAP, "map50"), (STRICT_MAP, "map")):
        known = network_facts.own_upstream(home, metric)
        assert known.set_index("network")["upstream_accuracy"].to_dict() == {network: found[value]}
    assert network_facts.own_upstream(home).empty  # never among accuracies


def test_the_map_that_a_detector_was_pruned_with_is_its_upstream_map(home, answer, tmp_path):
    folder = drawn.yolo(tmp_path / "three", 24, 4)
    (folder / "data.yaml").write_text("names: [circle, square, triangle]\n")
    add(home, tmp_path)
    asked = ("--method", "Magnitude", "--sparsity", "0.5", "--dataset", str(folder))
    made = answer("sparsify", "--backbone", "dense", *asked, "--name", "half")
    found = answer("evaluate", "--backbone", "half", "--dataset", str(folder))
    assert found["map50"] == pytest.approx(made["upstream_accuracy"])
    known = network_facts.own_upstream(home, MAP)
    assert known["upstream_accuracy"].tolist() == [made["upstream_accuracy"]]
    assert network_facts.own_upstream(home, STRICT_MAP)["upstream_accuracy"].tolist() == [pytest.approx(found["map"])]


def test_what_a_detector_cannot_be_evaluated_on_is_refused(home, answer, folder, tmp_path):
    add(home, tmp_path)
    add(home, tmp_path, "bare", predictions=False)
    for backbone, dataset, message in (
        ("dense", folder, "was trained on 3 classes; these images have 2"),
        ("dense", "imagenet", "is a detector: evaluate it on voc"),
        ("dense", str(tmp_path), "is a detector: evaluate it on voc"),
        ("bare", folder, "no classifier or prediction layers"),
    ):
        said = answer("evaluate", "--backbone", backbone, "--dataset", dataset, code=2)
        assert message in said and said.count("\n") == 1
    refused(require_evaluable, home, EvaluateSpec("dense", "cifar10"), match="is a detector")
    refused(require_evaluable, home, EvaluateSpec("bare", folder), match="prediction layers")
    assert evaluations.read_all(home) == []


def test_a_record_has_accuracies_or_map():
    good = evaluation(dataset="boxes", map50=0.5, map=0.3)
    del good["top1"]
    assert evaluations.problem(good) == "" and evaluations.is_of_detector(good)
    assert not evaluations.is_upstream(good | {"upstream": "shapes"})
    assert evaluations.is_upstream(good | {"upstream": "shapes → boxes"})
    assert evaluations.is_upstream(good | {"upstream": "COCO"})  # other images were refused: its classes are COCO's
    assert "'map50' with 'map'" in evaluations.problem(good | {"top1": 0.5})
    assert "'map50' with 'map'" in evaluations.problem({key: each for key, each in good.items() if key != "map"})
    assert "0..1" in evaluations.problem(good | {"map": 1.5})
