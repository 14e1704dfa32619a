"""Detectors are pruned with their prediction layers left as they are, and finetuned under the mask."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sparse_core import cli
from sparse_core.datasets import catalogue
from sparse_core.networks import backbones, importing, library, masks
from sparse_core.sparsify import detectors
from sparse_core.specs.sparsify import SparsifySpec
from tests.support import boxes as drawn
from tests.support.detectors import detector
from tests.support.networks import pruned_file


@pytest.fixture
def command(home, tmp_path, capsys):
    """A function that runs a verb on a dense YOLOv5n with 3 classes, named "dense": its answer and what it says on stderr."""
    _, network = detector("yolov5n", "v6")
    save_file(network.state_dict(), tmp_path / "dense.safetensors")
    importing.add(
        home, tmp_path / "dense.safetensors", "dense", architecture="yolov5n-v6", upstream="COCO", resize=64, crop=64
    )

    def run(verb, *arguments, backbone="dense", code=0):
        assert cli.main([verb, "--backbone", backbone, *arguments, "--json"]) == code
        printed = capsys.readouterr()
        return (json.loads(printed.out) if printed.out else None), printed.err

    return run


def test_one_shot_pruning_without_data_takes_the_smallest_weights_of_the_body(home, command, tmp_path):
    made, _ = command("sparsify", "--method", "magnitude", "--sparsity", "0.7", "--name", "sparse")
    assert (made["upstream_accuracy"], made["epochs"], made["method"]) == (None, 0, "Magnitude")
    dense, sparse = backbones.load(home, "dense"), backbones.load(home, "sparse")
    before = {name: weight.numpy() for name, weight in masks.prunable(dense.module).items()}
    after = {name: weight.numpy() for name, weight in masks.prunable(sparse.module).items()}
    first, *others = before
    magnitudes = np.concatenate([np.abs(before[name]).ravel() for name in others])
    total = magnitudes.size + before[first].size
    bound = np.sort(magnitudes)[round(0.7 * total) - 1]
    assert np.array_equal(after[first], before[first])
    for name in others:
        assert np.array_equal(after[name], np.where(np.abs(before[name]) > bound, before[name], 0)), name
    assert made["backbone_sparsity"] == pytest.approx(0.7, abs=1 / total)
    for layer, kept in zip(dense.predictions, sparse.predictions, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(layer, kept, strict=True))
    norms = [name for name in dense.module.state_dict() if "running" in name]
    assert all(torch.equal(dense.module.state_dict()[name], sparse.module.state_dict()[name]) for name in norms)
    card = sparse.card
    assert (card.upstream, card.classes, card.sparsity, card.architecture) == ("COCO", 3, 0.7, "yolov5n")
    assert card.provenance.parents == (dense.hash,)
    again, said = command("sparsify", "--method", "Magnitude", "--sparsity", "0.7")
    assert again["name"] == "sparse" and "made before" in said


def test_a_detector_that_was_pruned_is_finetuned_under_its_mask(home, command, tmp_path):
    command("sparsify", "--method", "magnitude", "--sparsity", "0.5", "--name", "sparse")
    data = str(drawn.voc(tmp_path / "voc", 4, 2))
    options = ("--dataset", data, "--image-size", "64", "--epochs", "1", "--batch-size", "2")
    answer, _ = command("finetune", *options, backbone="sparse")
    assert answer["mask_violations"] == 0 and answer["sparsity_before"] == pytest.approx(0.5, abs=1e-3)


def test_data_tune_batch_norm_and_give_a_map_where_the_classes_fit(home, command, tmp_path):
    data = str(drawn.voc(tmp_path / "voc", 24, 2, ["circle", "square"]))
    made, said = command("sparsify", "--method", "magnitude", "--sparsity", "0.5", "--name", "two", "--dataset", data)
    assert made["upstream_accuracy"] is None and "are for 3 classes, and 'voc' has 2" in said
    card = library.find(home, "two")
    assert card.upstream == "COCO → voc (own data)" and card.provenance.details["tuning_images"] == 22
    dense, tuned = (backbones.load(home, name).module.state_dict() for name in ("dense", "two"))
    norms = [name for name in dense if "running_mean" in name]
    assert not any(torch.equal(dense[name], tuned[name]) for name in norms)
    file = drawn.yolo(tmp_path / "three", 24, 2)
    (file / "data.yaml").write_text("names: [circle, square, triangle]\n")
    made, _ = command("sparsify", "--method", "magnitude", "--sparsity", "0.5", "--dataset", str(file))
    assert 0 <= made["upstream_accuracy"] <= 1
    assert library.find(home, made["name"]).provenance.details["upstream_map"] <= made["upstream_accuracy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "WoodFisher", "--sparsity", "0.5"],
            "WoodFisher does not prune detectors here; they take Dense, Magnitude, GMP, AC/DC",
        ),
        (["--method", "GMP", "--sparsity", "0.5"], "GMP takes upstream data. Name it with --dataset."),
        (["--method", "GMP", "--sparsity", "0.5", "--nesterov"], "has no nesterov to choose"),
        (["--method", "magnitude", "--sparsity", "0.5", "--dataset", "digits"], "images with boxes"),
        (["--method", "magnitude", "--sparsity", "0.9999"], "cannot be reached"),
    ],
)
def test_what_a_detector_cannot_be_pruned_by_is_refused_in_one_line(home, command, arguments, message):
    _, said = command("sparsify", *arguments, code=2)
    assert message in said and said.count("\n") == 1
    assert [card.name for card in library.cards(home)] == ["dense"]


def test_a_sparse_detector_and_a_classifier_without_data_are_refused(home, command, tmp_path):
    command("sparsify", "--method", "magnitude", "--sparsity", "0.5", "--name", "sparse")
    _, said = command("sparsify", "--method", "magnitude", "--sparsity", "0.8", backbone="sparse", code=2)
    assert "50 % sparse. Name a dense backbone." in said
    network = f"resnet20:{pruned_file(tmp_path / 'net.pth', 0.0)}"
    _, said = command("sparsify", "--method", "magnitude", "--sparsity", "0.8", backbone=network, code=2)
    assert "Magnitude takes upstream data. Name it with --dataset." in said


@pytest.fixture
def three_classes(tmp_path):
    folder = drawn.yolo(tmp_path / "three", 8, 2)
    (folder / "data.yaml").write_text("names: [circle, square, triangle]\n")
    return folder


@pytest.mark.parametrize("method", ["GMP", "AC/DC", "Dense"])
def test_detectors_are_pruned_in_training_and_their_prediction_layers_stay_dense(home, command, three_classes, method):
    training = ("--epochs", "4", "--batch-size", "1", "--dataset", str(three_classes), "--precision", "fp32")
    asked = () if method == "Dense" else ("--sparsity", "0.6")
    steps = ("--pruning-steps", "3") if method == "GMP" else ()
    made, _ = command("sparsify", "--method", method, *asked, *steps, *training, "--name", "made")
    card = library.find(home, "made")
    options, curves = card.provenance.options, card.provenance.details["curves"]
    assert (options["learning_rate"], options["momentum"], options["weight_decay"]) == (0.01, 0.937, 5e-4)
    sparse, dense = backbones.load(home, "made"), backbones.load(home, "dense")
    expected = 0.0 if method == "Dense" else 0.6
    assert made["backbone_sparsity"] == sparse.sparsity == pytest.approx(expected, abs=1e-4)
    assert masks.violations(sparse.module, sparse.mask) == 0
    assert not any(bool((weight == 0).any()) for weight, _ in sparse.predictions)
    assert [epoch["epoch"] for epoch in curves] == [1, 2, 3, 4] and curves[-1]["map50"] == made["upstream_accuracy"]
    sparsities = [round(epoch["sparsity"], 2) for epoch in curves]
    if method == "GMP":  # 5 % before the first of 24 steps, the target before the last of the first 40 %
        assert sparsities[-1] == 0.6 and sparsities[0] < 0.6
        assert card.provenance.parents == (dense.hash,)
    if method == "AC/DC":  # of 24 steps, 2 to 3, 5, 7, 10, 12, 14 to 15, 17 and 20 to 23 are compressed; an epoch has 6
        assert sparsities == [0.6, 0.0, 0.6, 0.6] and card.provenance.parents == ()


def test_a_resumed_pruning_is_the_same(home, command, three_classes, tmp_path):
    backbone = backbones.load(home, "dense")
    data = catalogue.load_boxes(home, str(three_classes))
    spec = SparsifySpec(
        "AC/DC", "dense", "three", 0.6, epochs=4, batch_size=1, learning_rate=0.01, precision="fp32", augment=False
    )
    whole = detectors.sparsify(backbone, data, spec, 0)

    def stop(progress):
        if progress.saved and progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detectors.sparsify(backbone, data, spec, 0, on_progress=stop, checkpoint=tmp_path / "state.pt")
    again = detectors.sparsify(backbone, data, spec, 0, checkpoint=tmp_path / "state.pt")
    assert again.curves == whole.curves and again.mask == whole.mask
    state = whole.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.network.state_dict().items())
