"""ONNX files give the same results in ONNX Runtime as in torch: backbones of every architecture, and classifiers."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from sparse_core.datasets import transforms
from sparse_core.networks import architectures, classifier, finetuned, onnx_export
from sparse_core.networks.backbones import Backbone, BackboneCard
from sparse_core.networks.classifier import ClassifierNetwork
from tests.support.engines import features, images
from tests.support.networks import FourierTransform
from tests.support.refusals import refused

DEEPER = ("resnet32", "resnet44", "resnet56")  # more of resnet20's blocks
VARIANTS = [
    (name, variant)
    for name, known in architectures.ARCHITECTURES.items()
    for variant in known.variants
    if name not in DEEPER
]


def run(path, given):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": given})


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def assert_same_features(network, path, given):
    expected = features(network, given)
    np.testing.assert_allclose(run(path, given)[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(params=VARIANTS, ids="-".join)
def network(request):
    torch.manual_seed(0)
    return architectures.build(*request.param).eval()


def test_an_exported_backbone_gives_the_features_of_torch(network, tmp_path):
    path = tmp_path / "backbone.onnx"
    onnx_export.backbone(network, 64, path, batch_size=2)
    onnx.checker.check_model(str(path), full_check=True)
    assert_same_features(network, path, images(2, 64))
    assert onnx.load(path).opset_import[0].version == onnx_export.OPSET


@pytest.mark.parametrize("size", [63, 64])
def test_asymmetric_padding_moves_into_the_convolution(size, tmp_path):
    torch.manual_seed(0)
    network = architectures.build("efficientnet_lite0").eval()
    path = tmp_path / "backbone.onnx"
    onnx_export.backbone(network, size, path, batch_size=1)
    assert set(operators(path)) == {"Conv", "Clip", "Add", "GlobalAveragePool", "Flatten"}
    assert_same_features(network, path, images(1, size))


def test_zero_padding_merges_into_max_pooling_only_after_a_relu(tmp_path):
    pooling = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, stride=2), nn.Flatten())
    below = -np.ones((1, 3, 8, 8), np.float32)
    for network, padded in ((pooling, ["Pad", "MaxPool"]), (nn.Sequential(nn.ReLU(), pooling), ["Relu", "MaxPool"])):
        path = tmp_path / f"{padded[0]}.onnx"
        onnx_export.backbone(network, 8, path, batch_size=1)
        assert operators(path)[: len(padded)] == padded
        np.testing.assert_array_equal(run(path, below)[0], features(network, below))


def test_without_a_batch_size_any_is_accepted(tmp_path):
    network = architectures.build("resnet20").eval()
    path = tmp_path / "backbone.onnx"
    onnx_export.backbone(network, 32, path)
    for batch in (1, 5):
        assert run(path, np.zeros((batch, 3, 32, 32), np.float32))[0].shape == (batch, 64)


@pytest.mark.parametrize("architecture", ["resnet20", "efficientnet_lite0"])
def test_an_exported_classifier_normalises_images_itself(architecture, tmp_path):
    torch.manual_seed(0)
    transform = architectures.ARCHITECTURES[architecture].transform
    body = architectures.build(architecture)
    network = nn.Sequential(body, nn.Linear(body.dimensions, 3)).eval()
    path = tmp_path / "network.onnx"
    onnx_export.classifier_network(network, ["cat", "dög", "cow"], transform, path)

    values = np.random.default_rng(0).integers(0, 256, (3, 300, 260, 3), dtype=np.uint8)
    cropped = np.stack([transforms.prepare(Image.fromarray(value), transform) for value in values])
    mean, std = np.float32(transform.mean), np.float32(transform.std)
    expected = features(network, ((cropped / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    logits, probabilities = run(path, cropped)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(probabilities, np.exp(expected) / np.exp(expected).sum(1, keepdims=True), atol=1e-4)

    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata["class_names"]) == ["cat", "dög", "cow"]
    preprocessing = json.loads(metadata["preprocessing"])
    assert (preprocessing["resize_shorter_side"], preprocessing["centre_crop"]) == (transform.resize, transform.crop)
    assert preprocessing["interpolation"] == transform.interpolation


@pytest.mark.parametrize(
    ("dataset", "label"), [("cifar10", "CIFAR-10"), ("digits", "Digits"), ("my images", "my images")]
)
def test_a_finetuned_network_records_its_training_data(home, dataset, label):
    body = architectures.build("resnet20", "A")
    card = BackboneCard("tiny", "resnet20", "ImageNet", "Magnitude", 0.6, "file", "", True)
    backbone = Backbone(card, body, 64, transforms.CIFAR, "hash", 0.6, mask=None, variant="A")
    network = ClassifierNetwork(body, torch.randn(2, 64), torch.zeros(2))
    classifier.save(network, backbone, ["cat", "dog"], finetuned.file(home, "run"), dataset)
    expected = {"architecture": "resnet20", "method": "Magnitude", "dataset": label, "upstream": f"ImageNet → {label}"}
    metadata = classifier.load(finetuned.file(home, "run"))[1]
    assert {name: metadata[name] for name in expected} == expected
    in_onnx = {entry.key: entry.value for entry in onnx.load(onnx_export.finetuned_network(home, "run")).metadata_props}
    assert {name: in_onnx[name] for name in expected} == expected
    assert json.loads(in_onnx["class_names"]) == ["cat", "dog"]


def test_class_names_must_match_the_network(tmp_path):
    network = nn.Sequential(architectures.build("resnet20"), nn.Linear(64, 3)).eval()
    export = onnx_export.classifier_network
    message = refused(export, network, ["cat", "dog"], transforms.CIFAR, tmp_path / "network.onnx")
    assert "3 classes; got 2 class names" in message
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_exported_gives_a_one_line_error(tmp_path, capfd):
    path = tmp_path / "backbone.onnx"
    refused(onnx_export.backbone, FourierTransform(), 32, path, 1, match=r"cannot be exported to ONNX: .*fft_fft")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_exporting_prints_nothing_and_leaves_no_other_files(tmp_path, capfd, recwarn):
    onnx_export.backbone(architectures.build("resnet20").eval(), 32, tmp_path / "backbone.onnx", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["backbone.onnx"]
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
