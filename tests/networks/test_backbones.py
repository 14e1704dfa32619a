"""Backbones as they are loaded: bundled ones, files of weights, and downloads."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_images

from sparse_core.datasets.loading import normalised
from sparse_core.datasets.transforms import prepare
from sparse_core.networks import backbones, masks, reader_process
from tests.support.checkpoints import save
from tests.support.refusals import refused


@pytest.mark.parametrize("percent", [30, 50, 70])
def test_magnitude_copies_have_the_sparsity_in_their_name(home, percent):
    dense = backbones.load(home, "efficientnet_lite0")
    pruned = backbones.load(home, f"efficientnet_lite0_magnitude_{percent}")
    assert pruned.sparsity == pytest.approx(percent / 100, abs=1e-6)
    assert dense.sparsity < 0.01
    assert pruned.hash != dense.hash
    assert pruned.dimensions == 1280


def test_the_offline_backbone_has_real_weights(home):
    """An image resembles its flipped copy more than another image."""
    backbone = backbones.load(home, "efficientnet_lite0")
    shown = [Image.fromarray(image) for image in load_sample_images().images]
    shown += [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in shown]
    batch = np.stack([prepare(image, backbone.transform) for image in shown])
    with torch.inference_mode():
        vectors = backbone.module(normalised(batch, backbone.transform)).numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    assert similarity[0, 2] > 0.8 > similarity[0, 1]
    assert similarity[1, 3] > 0.8 > similarity[1, 2]


def test_the_weights_of_the_package_need_no_other_process(home, monkeypatch):
    monkeypatch.setattr(reader_process, "read", None)
    assert backbones.load(home, "efficientnet_lite0").dimensions == 1280


def test_weight_files_that_do_not_fit_are_refused(home, resnet18, tmp_path):
    file = save(resnet18[1], tmp_path / "net.pth")
    refused(backbones.load, home, f"resnet34:{file}", match=r"do not fit ResNet34: \d+ missing")
    assert "no weight file at" in refused(backbones.load, home, "resnet18:/nowhere.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    assert "read safely" in refused(backbones.load, home, f"resnet18:{tmp_path / 'junk.pth'}")
    assert "Did you mean efficientnet_lite0" in refused(backbones.load, home, "eficientnet_lite0")


def save_weights(state, file, sparsity=0.0):
    """Save the weights of a ResNet18 of 7 classes, pruned to ``sparsity``."""
    network = torchvision.models.resnet18(num_classes=7)
    network.load_state_dict(state)
    masks.apply(network, masks.top_k(network, sparsity))
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)


def test_a_pruned_file_does_not_pass_for_the_dense_baseline(resnet18, home):
    state = resnet18[1]
    file = home / "backbones" / "resnet18.pth"
    save_weights(state, file, sparsity=0.9)
    message = r"Expected dense weights at .*resnet18.pth, .* 90 % sparse. .*import it in the Library"
    refused(backbones.load, home, "resnet18", match=message)
    save_weights(state, file, sparsity=0.03)
    assert backbones.load(home, "resnet18").sparsity == pytest.approx(0.03, abs=1e-4)


def test_a_replaced_weight_file_is_loaded_again(resnet18, home):
    state = copy.deepcopy(resnet18[1])
    file = home / "backbones" / "resnet18.pth"
    save_weights(state, file)
    names = ("resnet18", f"resnet18:{file}")
    before = [backbones.load_cached(home, name) for name in names]
    assert [backbones.load_cached(home, name) for name in names] == before
    state["conv1.weight"] += 1
    save_weights(state, file)
    after = [backbones.load_cached(home, name) for name in names]
    assert all(new.hash != old.hash for new, old in zip(after, before, strict=True))


def test_a_failed_download_is_refused(home, monkeypatch):
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(weights, "url", "http://127.0.0.1:9/resnet18-00000000.pth")
    assert "Could not download the weights of ResNet18" in refused(backbones.load, home, "resnet18")
