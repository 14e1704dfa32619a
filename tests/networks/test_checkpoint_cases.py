"""Files as other tools of the field leave them: with entries that are no layers, heads of their own, objects, averages, masks."""

import collections
import copy
import datetime
import re
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.ao.pruning import FakeSparsity
from torch.nn.utils import parametrize

from sparse_core.networks import architectures, checkpoints, importing, inspection
from sparse_core.networks.state_dicts import SeveralSetsError
from tests.support.checkpoints import Runs, check, dense, linear, masked, parallel, random_masks, save
from tests.support.refusals import refused

PLAIN = ["CIFAR ResNet"]
NESTED = ["nested", "CIFAR ResNet"]


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def other():
    """A second ResNet20, such as an average of the first."""
    module, state = dense("resnet20", "A")
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(0.1)
    return module, {**state, **module.state_dict()}


LAYERLESS = {  # what is saved, from a state dict; formats; what is named as not used
    "a loss's weights beside Lightning's prefix": (
        lambda state: {"state_dict": {**under("model.", state), "criterion.weight": torch.ones(10)}},
        (NESTED, "criterion.weight"),
    ),
    "a metric's counts": (
        lambda state: {**under("model.", state), "val_acc.correct": torch.tensor(3), "val_acc.total": torch.tensor(5)},
        (NESTED, "val_acc.correct, val_acc.total"),
    ),
    "MoCo's queue": (
        lambda state: {
            **under("module.encoder_q.", state),
            "module.queue": torch.ones(8, 64),
            "module.queue_ptr": torch.zeros(1, dtype=torch.int64),
        },
        (["DataParallel", *NESTED], "module.queue, module.queue_ptr"),
    ),
    "counters of thop": (
        lambda state: {**state, "conv1.total_ops": torch.zeros(1), "layer1.0.bn1.total_params": torch.zeros(1)},
        (PLAIN, "conv1.total_ops, layer1.0.bn1.total_params"),
    ),
    "the count of AveragedModel": (
        lambda state: {"n_averaged": torch.tensor(5), **parallel(state)},
        (["DataParallel", *PLAIN], "n_averaged"),
    ),
    "entries that are no tensors": (
        lambda state: {**state, "epoch": 3, "a.b": "text", "": torch.ones(1), 3: torch.ones(1)},
        (PLAIN, ", epoch, a.b, 3"),
    ),
    "a decoder": (
        lambda state: {**under("encoder.", state), "decoder.conv.weight": torch.ones(4, 64, 3, 3)},
        (NESTED, "decoder.conv.weight"),
    ),
}


@pytest.mark.parametrize("kind", LAYERLESS)
def test_what_belongs_to_no_layer_is_named_and_not_used(resnet20, tmp_path, kind):
    make, (formats, unused) = LAYERLESS[kind]
    module, state = resnet20
    found = check(save(make(linear(state)), tmp_path / "a.pth"), module, formats, "resnet20", "A", classes=7)
    assert found.notes == (f"not used: {unused}",)


@pytest.mark.parametrize("name", ["last_linear", "classifier", "head.fc", "fc.1", "model.head"])
def test_a_lone_linear_layer_is_the_classifier_whatever_its_name(resnet20, tmp_path, name):
    module, state = resnet20
    prefix = "model.backbone." if name.startswith("model.") else ""
    backbone = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    document = {**under(prefix, backbone), f"{name}.weight": state["fc.weight"], f"{name}.bias": state["fc.bias"]}
    path = save(document, tmp_path / "a.pth")
    found = check(path, module, NESTED if prefix else PLAIN, "resnet20", "A", classes=7)
    assert torch.equal(found.classifier["weight"], state["fc.weight"])
    assert found.notes == (f"its classifier is {name.removeprefix('model.')}",)


@pytest.mark.parametrize("wide", [False, True])
def test_a_head_of_several_layers_or_for_other_features_is_left_out(resnet20, tmp_path, wide):
    module, state = resnet20
    backbone = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    layers = {"projector.weight": torch.ones(4, 64), "classifier.weight": torch.ones(7, 99)} if wide else {}
    layers = layers or {"fc.0.weight": torch.ones(64, 64), "fc.2.weight": torch.ones(7, 64), "fc.2.bias": torch.ones(7)}
    path = save({**backbone, **layers}, tmp_path / "a.pth")
    found = check(path, module, PLAIN, "resnet20", "A", classes=None, classifier=None)
    assert found.notes == (f"not used: {', '.join(layers)}",)


@pytest.fixture
def lightning(monkeypatch):
    """Classes of Lightning as they were pickled, in modules that are not there when the file is read."""
    made = {}
    for name, base in (("AttributeDict", dict), ("ModelCheckpoint", object)):
        module = types.ModuleType(f"lightning_of_old_{name.lower()}")
        made[name] = type(name, (base,), {"__module__": module.__name__})
        setattr(module, name, made[name])
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def test_objects_beside_the_weights_are_passed_over_and_named(resnet20, tmp_path, lightning, monkeypatch):
    module, state = resnet20
    history = collections.defaultdict(list)
    history["loss"] += [1.0, 0.5]
    callback = lightning["ModelCheckpoint"]()
    callback.best = torch.tensor(0.9)
    objects = {
        "collections.defaultdict": history,
        "datetime.datetime": datetime.datetime(2024, 1, 2),
        "lightning_of_old_attributedict.AttributeDict": lightning["AttributeDict"](lr=0.1),
        "lightning_of_old_modelcheckpoint.ModelCheckpoint": {lightning["ModelCheckpoint"]: {"score": 1.0}},
        "lightning_of_old_modelcheckpoint.ModelCheckpoint (itself)": [callback, {callback: 1}],
        "fractions.Fraction": Runs(sys.modules["fractions"].Fraction, "1/3"),
    }
    for number, (name, value) in enumerate(objects.items()):
        for legacy in (False, True):
            path = save({"state_dict": linear(state), "extra": value}, tmp_path / f"{number}{legacy}", legacy)
            found = check(path, module, NESTED, "resnet20", "A", classes=7)
            (note,) = found.notes
            assert note.startswith("objects passed over, not run: ") and name.partition(" ")[0] in note


def test_a_network_that_was_saved_whole_is_read_from_its_tensors(tmp_path):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = architectures.build("resnet20", "A").eval()
            self.head = nn.Linear(64, 7)

    Whole.__qualname__ = "Whole"
    globals()["Whole"] = Whole  # pickled by its name
    torch.manual_seed(0)
    whole = Whole()
    found = check(save({"model": whole}, tmp_path / "a.pth"), whole.body, NESTED, "resnet20", "A", classes=7)
    assert any("test_checkpoint_cases.Whole" in note for note in found.notes)
    text = refused(checkpoints.read, save(whole, tmp_path / "old.pth", legacy=True))
    assert "is not damaged, but" in text and "save its state dict alone" in text


def test_files_of_an_unknown_kind_are_not_called_damaged(resnet20, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": linear(resnet20[1])}, path, pickle_protocol=4)
    text = refused(checkpoints.read, path)
    assert "not damaged" in text and "cut off" not in text
    for content, words in (
        (b"\x1f\x8b\x08" + bytes(99), "compressed with gzip.*Unpack it first"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file.*state dict with torch.save"),
        (b"<!DOCTYPE html><html>", "a web page.*Download the file again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
    ):
        path.write_bytes(content)
        refused(checkpoints.read, path, match=words)


AVERAGES = {  # the document; the names of the sets, the usual first; its formats
    "timm": (lambda a, b: {"state_dict": a, "state_dict_ema": b}, ("state_dict", "state_dict_ema")),
    "torchvision": (
        lambda a, b: {"model": a, "model_ema": {"n_averaged": torch.tensor(5), **parallel(b)}},
        ("model", "model_ema"),
    ),
    "nested": (lambda a, b: {"net": a, "ema": {"decay": 0.9, "shadow": b}}, ("net", "ema.shadow")),
    "MoCo": (
        lambda a, b: {"state_dict": {**under("module.encoder_q.", a), **under("module.encoder_k.", b)}},
        ("encoder_q", "encoder_k"),
    ),
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_of_several_sets_of_weights_the_user_can_choose(resnet20, other, tmp_path, kind, home):
    make, names = AVERAGES[kind]
    path = save(make(linear(resnet20[1]), linear(other[1])), tmp_path / "a.pth")
    usual = checkpoints.read(path)
    assert (usual.weights, usual.weight_sets) == (names[0], names)
    assert f"weights of {names[0]}; the file also holds {names[1]}" in usual.notes
    for name, (module, _) in zip(names, (resnet20, other), strict=True):
        read = checkpoints.read(path, weights=name)
        assert read.weights == name
        assert torch.equal(read.state["conv1.weight"], module.state_dict()["conv1.weight"])
    assert inspection.inspect(path, weights=names[1])["weights"] == names[1]
    card = importing.add(home, path, "mine", weights=names[1])
    assert f"weights of {names[1]}" in card.note
    assert card.hash != importing.add(home, path, "usual").hash
    assert f"no set of weights called 'swa'. It holds {', '.join(names)}" in refused(
        checkpoints.read, path, weights="swa"
    )


def test_a_teacher_and_a_student_have_to_be_told_apart_by_the_user(resnet20, other, tmp_path):
    document = {
        "student": under("module.backbone.", linear(resnet20[1])),
        "teacher": under("backbone.", linear(other[1])),
    }
    path = save({**document, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(SeveralSetsError, match="--weights student") as caught:
        checkpoints.read(path)
    assert caught.value.weight_sets == ["student", "teacher"]
    assert checkpoints.read(path, weights="teacher").weights == "teacher"
    single = save(linear(resnet20[1]), tmp_path / "b.pth")
    assert "a single one, which needs no name" in refused(checkpoints.read, single, weights="ema")


def test_masks_of_torch_ao_pruning_are_kept(resnet20, tmp_path):
    module, state = resnet20
    given = {name: mask for name, mask in random_masks(state).items() if mask.dim() == 4}
    pruned = copy.deepcopy(module)
    for name, layer in pruned.named_modules():
        if isinstance(layer, nn.Conv2d):
            parametrize.register_parametrization(layer, "weight", FakeSparsity(given[f"{name}.weight"]))
    bare = {**pruned.state_dict(), "fc.weight": state["fc.weight"]}  # torch leaves the masks out, other code does not
    document = bare | {name.replace(".weight", ".parametrizations.weight.0.mask"): given[name] for name in given}
    found = check(save(document, tmp_path / "a.pth"), pruned, ["torch.ao.pruning", *PLAIN], "resnet20", "A")
    assert all(torch.equal(found.mask.tensors[name], mask.bool()) for name, mask in given.items())
    text = refused(checkpoints.read, save(bare, tmp_path / "b.pth"))
    assert "without the masks" in text and "conv1.parametrizations.weight.0.mask" in text and "squash_mask()" in text


def test_masks_wherever_they_lie(resnet20, tmp_path):
    module, state = resnet20
    given = {name: mask for name, mask in random_masks(state).items() if mask.dim() == 4}
    of_layers = {f"{name.removesuffix('weight')}mask": mask for name, mask in given.items()}
    net = under("model.", linear(state))
    for number, (document, formats) in enumerate(
        (
            ({**linear(state), **of_layers}, ["masks of layers", *PLAIN]),
            ({"state_dict": net, "pruning": {"final": {"masks": given}}}, NESTED),
            ({"state_dict": net, "kept": under("model.", given)}, NESTED),
            ({"state_dict": net, "masks": {name: mask.to_sparse() for name, mask in given.items()}}, NESTED),
        )
    ):
        found = check(save(document, tmp_path / f"{number}"), masked(module, given), formats, "resnet20", "A", notes=())
        assert all(torch.equal(found.mask.tensors[name], mask.bool()) for name, mask in given.items())


def test_masks_that_cannot_be_used_are_told_first(resnet20, tmp_path):
    document = {"state_dict": {**linear(resnet20[1]), "thing": torch.ones(1)}, "masks": [torch.ones(2)]}
    assert checkpoints.read(save(document, tmp_path / "a.pth")).notes == ("not used: masks, thing",)


def test_sparse_tensors_are_read(resnet20, tmp_path):
    module, state = resnet20
    given = random_masks(state, 0.9)
    pruned = {name: tensor * given.get(name, 1) for name, tensor in state.items()}
    as_coo = {name: tensor.to_sparse() if tensor.dim() == 4 else tensor for name, tensor in linear(pruned).items()}
    as_csr = {**linear(pruned), "linear.weight": pruned["fc.weight"].to_sparse_csr()}
    for number, (document, legacy) in enumerate([(as_coo, False), (as_coo, True), (as_csr, False)]):
        found = check(save(document, tmp_path / f"{number}", legacy), masked(module, given), PLAIN, "resnet20", "A")
        assert torch.equal(found.classifier["weight"], pruned["fc.weight"])


def test_sparse_tensors_that_would_fill_the_memory_are_refused(tmp_path):
    huge = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (1 << 20, 1 << 20))
    text = refused(checkpoints.read, save({"a.weight": huge}, tmp_path / "a.pth"))
    assert "more than 20 times the file" in text and "to_dense()" in text


def renamed(state, *steps):
    for pattern, replacement in steps:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return state


@pytest.fixture(scope="module")
def resnet50():
    return dense("resnet50")


def test_names_of_sparseml(resnet50, tmp_path):
    module, state = resnet50
    steps = [(r"^(conv|bn)1\.", r"input.\1.")]
    steps += [(rf"^layer{number}\.", f"sections.{number - 1}.") for number in (1, 2, 3, 4)]
    steps += [(r"downsample\.0", "identity.conv"), (r"downsample\.1", "identity.bn"), (r"^fc\.", "classifier.fc.")]
    path = save({"state_dict": renamed(state, *steps), "optimizer": {}, "epoch": 1}, tmp_path / "a.pth")
    check(path, module, ["nested", "SparseML"], "resnet50", classes=7)


def test_names_of_hugging_face(resnet50, tmp_path):
    module, state = resnet50
    kinds = {"conv": "convolution", "bn": "normalization"}
    steps = []
    for short, long in kinds.items():
        steps += [(rf"^{short}1\.", f"resnet.embedder.embedder.{long}.")]
        steps += [(rf"^(layer\d\.\d+)\.{short}{number + 1}\.", rf"\1.layer.{number}.{long}.") for number in range(3)]
    steps += [(r"downsample\.0", "shortcut.convolution"), (r"downsample\.1", "shortcut.normalization")]
    steps += [
        (rf"^layer{number}\.(\d+)\.", rf"resnet.encoder.stages.{number - 1}.layers.\1.") for number in (1, 2, 3, 4)
    ]
    save_file(renamed(state, *steps, (r"^fc\.", "classifier.1.")), tmp_path / "a", {"format": "pt"})
    found = check(tmp_path / "a", module, ["safetensors", "nested", "Hugging Face"], "resnet50", classes=7)
    assert found.notes == ("its classifier is classifier.1",)


def test_resnets_with_a_stem_for_small_images(tmp_path, home):
    """The code with ``shortcut`` has no max pooling; under torchvision's names only the user can tell."""
    module, state = dense("resnet18", "cifar")
    own = renamed(state, (r"downsample", "shortcut"), (r"^fc\.", "linear."))
    path = save({"net": parallel(own), "acc": 95.1}, tmp_path / "a.pth")
    found = check(
        path, module, ["nested", "DataParallel", "CIFAR ResNet"], "resnet18", "cifar", classes=7, alternatives=()
    )
    assert inspection.inspect(path)["preprocessing"]["crop"] == 32
    path = save(state, tmp_path / "b.pth")
    found = check(path, module, PLAIN, "resnet18", "cifar")
    assert found.alternatives == ("resnet18-cifar", "resnet18-cifar_maxpool")
    text = refused(importing.add, home, path, "mine")
    assert "Name resnet18-cifar or resnet18-cifar_maxpool as the architecture" in text
    assert importing.add(home, path, "mine", architecture="resnet18-cifar_maxpool").variant == "cifar_maxpool"
    pooled = architectures.assemble("resnet18", "cifar_maxpool", module.state_dict()).eval()
    with torch.no_grad():
        images = torch.randn(1, 3, 32, 32)
        assert not torch.allclose(pooled(images), module(images), rtol=0.01)
