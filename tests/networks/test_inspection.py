"""Counts of zeros, filters and channels in the document of ``inspect``."""

import copy
import json

import numpy as np
import pytest
import torch
import torchvision

from sparse_core.networks import inspection
from tests.support.checkpoints import parallel, save, weights_of, with_thresholds


def test_inspect_counts_zeros_filters_and_channels(resnet18, tmp_path):
    _, state = copy.deepcopy(resnet18)
    generator = np.random.default_rng(0)
    for name, tensor in state.items():
        if name.endswith("weight") and tensor.dim() > 1:
            tensor *= torch.tensor(generator.random(tensor.shape) > 0.5)
    state["layer1.0.conv1.weight"][[3, 5, 8]] = 0
    state["layer2.0.conv1.weight"][:, [0, 9]] = 0
    state["fc.weight"][2] = 0
    document = inspection.inspect(save({"state_dict": parallel(state)}, tmp_path / "a.pth"))
    assert json.loads(json.dumps(document)) == document
    assert (document["classes"], document["method"], document["dataset"]) == (7, None, None)
    assert (document["formats"], document["architecture"]) == (["nested", "DataParallel"], "resnet18")
    network = torchvision.models.resnet18(num_classes=7)
    assert document["parameters"] == sum(tensor.numel() for tensor in network.parameters())
    arrays = {name: state[name].numpy() for name in weights_of(network)}
    assert [layer["name"] for layer in document["layers"]] == list(arrays)
    zeros = {name: int((array == 0).sum()) for name, array in arrays.items()}
    assert document["sparsity"] == pytest.approx(sum(zeros.values()) / sum(array.size for array in arrays.values()))
    small = sum(array.size for name, array in arrays.items() if name != "fc.weight")
    assert document["backbone_sparsity"] == pytest.approx((sum(zeros.values()) - zeros["fc.weight"]) / small)
    for layer in document["layers"]:
        array = arrays[layer["name"]]
        others = tuple(range(1, array.ndim))
        assert layer["shape"] == list(array.shape)
        assert layer["sparsity"] == pytest.approx(zeros[layer["name"]] / array.size)
        assert (layer["filters"], layer["channels"]) == array.shape[:2]
        assert layer["filters_pruned"] == int((np.abs(array).sum(others) == 0).sum())
        assert layer["channels_pruned"] == int((np.abs(array).sum((0, *others[1:])) == 0).sum())
    pruned = {layer["name"]: layer["filters_pruned"] for layer in document["layers"]}
    assert (pruned["layer1.0.conv1.weight"], pruned["fc.weight"]) == (3, 1)
    assert next(x["channels_pruned"] for x in document["layers"] if x["name"] == "layer2.0.conv1.weight") == 2
    # 20 convolutions with 4,800 filters: 64 + 4·64 + 5·128 + 5·256 + 5·512; only one layer has pruned ones, 3 of 64
    assert document["filters_pruned_share"] == pytest.approx(3 / 4800)
    assert document["mean_layer_filters_pruned_share"] == pytest.approx(3 / 64 / 20)


def test_inspect_counts_a_depthwise_layers_channels_as_its_filters(mobilenet, tmp_path):
    _, state = copy.deepcopy(mobilenet)
    state["model.3.0.weight"][:5] = 0
    document = inspection.inspect(save(with_thresholds(state, -30), tmp_path / "a.pth"))
    layer = next(layer for layer in document["layers"] if layer["name"] == "model.3.0.weight")
    assert [layer[key] for key in ("filters", "filters_pruned", "channels", "channels_pruned")] == [128, 5, 128, 5]
    assert document["layers"][-1]["shape"] == [7, 1024, 1, 1]
    assert document["parameters"] == 4_231_976 - 1_025_000 + 7 * 1024
