"""Weights that do not fit an architecture: what is missing, unexpected or of another shape is listed."""

import copy

import pytest
import torch

from sparse_core.networks import checkpoints
from sparse_core.networks.state_dicts import MisfitError
from tests.support.checkpoints import linear, random_masks, save, wrapped
from tests.support.refusals import refused


def test_missing_unexpected_and_misshapen_weights_are_all_listed(resnet18, tmp_path):
    _, state = copy.deepcopy(resnet18)
    del state["layer1.0.bn1.bias"], state["layer3.1.conv2.weight"]
    state["conv1.weight"] = torch.ones(64, 3, 5, 5)
    state |= {f"bn2.{number}": torch.ones(1) for number in range(8)}
    path = save(state, tmp_path / "a.pth")
    with pytest.raises(MisfitError, match="do not fit ResNet18: 2 missing") as caught:
        checkpoints.read(path)
    assert caught.value.keys == {
        "missing": ["layer1.0.bn1.bias", "layer3.1.conv2.weight"],
        "unexpected": [f"bn2.{number}" for number in range(8)],
        "of another shape": ["conv1.weight (64, 3, 5, 5) instead of (64, 3, 7, 7)"],
    }
    assert "and 3 more" in str(caught.value) and "Library page lists them all" in str(caught.value)


def test_missing_masks_are_listed(resnet20, tmp_path):
    state = linear(resnet20[1])
    pruned = {name.replace("conv1.weight", "conv1.weight_orig"): tensor for name, tensor in state.items()}
    pruned["conv1.weight_mask"] = torch.ones_like(state["conv1.weight"])
    bare = wrapped(state, random_masks(state))
    del bare["layer1.0.conv1._weight_mask"]
    for document, missing in (
        (pruned, [f"layer{i}.{j}.conv1.weight_mask" for i in (1, 2, 3) for j in (0, 1, 2)]),
        (bare, ["layer1.0.conv1._weight_mask"]),
    ):
        with pytest.raises(MisfitError, match=f"without the masks .* {len(missing)} missing") as caught:
            checkpoints.read(save(document, tmp_path / "a.pth"))
        assert caught.value.keys == {"missing": missing}


def test_a_wrong_architecture_is_refused_with_one_that_fits(resnet18, tmp_path):
    path = save(resnet18[1], tmp_path / "a.pth")
    assert "do not fit ResNet50" in refused(checkpoints.read, path, "resnet50")
    assert refused(checkpoints.read, path, "resnet34").endswith(
        "They fit ResNet18. The dashboard's Library page lists them all."
    )
    assert "do not fit MobileNetV1" in refused(checkpoints.read, path, "mobilenet_v1")
    assert "Unknown architecture" in refused(checkpoints.read, path, "vgg")
    assert "Unknown variant" in refused(checkpoints.read, path, "resnet50-pytorch")
