"""The library: imports, names, damaged entries, trash and guesses."""

import json
import os
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from sparse_core import cli
from sparse_core.jobs import queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, backbones, guesses, importing, library, masks
from sparse_core.paths import LEFTOVER_SECONDS, REPOSITORY
from sparse_core.specs.checkpoints import ImportSpec
from tests.networks.test_damaged_checkpoints import BAD_FILES
from tests.support.checkpoints import save
from tests.support.imports import loads_torch
from tests.support.networks import live_batch_norm
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def state():
    """A CIFAR ResNet20 of 10 classes, 90 % of its convolution weights 0."""
    torch.manual_seed(0)
    module = live_batch_norm(architectures.build("resnet20"))
    masks.apply(module, masks.top_k(module, 0.9))
    return {**module.state_dict(), "linear.weight": torch.randn(10, 64), "linear.bias": torch.randn(10)}


@pytest.fixture
def file(state, tmp_path):
    return save(state, tmp_path / "net.pth")


def contents(home):
    """All entries of the library's folder, hidden ones included."""
    return sorted(os.listdir(library.folder(home))) if library.folder(home).exists() else []


def test_an_import_stores_weights_mask_and_provenance(home, file, state):
    card = importing.add(home, file, "mine", method="ac/dc", upstream="CIFAR-10", origin="a colleague")
    entry = library.folder(home) / "mine"
    weights, classifier = (load_file(entry / f"{name}.safetensors") for name in ("weights", "classifier"))
    assert all(torch.equal(weights[name], tensor) for name, tensor in state.items() if not name.startswith("linear"))
    assert len(weights) == len(state) - 2
    assert torch.equal(classifier["weight"], state["linear.weight"])
    mask = masks.load(entry / "mask.safetensors").tensors
    zeros = sum(int((weights[name] == 0).sum()) for name in mask)
    total = sum(kept.numel() for kept in mask.values())
    assert card.measured_sparsity == zeros / total == pytest.approx(0.9, abs=1e-4)
    facts = (card.architecture, card.method, card.sparsity, card.upstream, card.origin, card.classes, card.kind)
    assert facts == ("resnet20", "AC/DC", 0.9, "CIFAR-10", "a colleague", 10, "library")
    assert library.cards(home) == [card]
    file.unlink()
    backbone = backbones.load(home, "mine")
    assert not backbone.module.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in backbone.module.state_dict().items())
    assert all(torch.equal(kept, state[name] != 0) for name, kept in backbone.mask.tensors.items())


def test_defaults_come_from_the_file(home, file):
    card = importing.add(home, file, "mine")
    assert (card.method, card.sparsity, card.upstream, card.origin) == ("Unknown", 0.9, "CIFAR-10", "net.pth")
    assert card.formats == ("CIFAR ResNet",)


def test_a_zero_weight_kept_by_the_mask_stays_kept(home, state, tmp_path):
    kept = (state["conv1.weight"] != 0).float()
    first = tuple(index[0].item() for index in torch.where(kept == 0))
    kept[first] = 1
    wrapped = {name: tensor for name, tensor in state.items() if name != "conv1.weight"}
    wrapped |= {"conv1.weight_orig": state["conv1.weight"], "conv1.weight_mask": kept}
    importing.add(home, save(wrapped, tmp_path / "net.pth"), "mine")
    backbone = backbones.load(home, "mine")
    assert backbone.module.conv1.weight[first] == 0 and backbone.mask.tensors["conv1.weight"][first]


def test_a_nominal_sparsity_far_from_the_measured_one_is_noted(home, file):
    card = importing.add(home, file, "mine", sparsity=0.98)
    assert (card.sparsity, card.note) == (0.98, "imported from net.pth; known as 98 % sparse, measured 90 %")


def test_imports_of_the_same_file_have_the_same_content_hash(home, file):
    first, second = importing.add(home, file, "one", method="GMP"), importing.add(home, file, "two", method="STR")
    assert first.hash == second.hash == backbones.load(home, "one").hash == backbones.load(home, "two").hash
    changed = torch.load(file)
    changed["conv1.weight"][0, 0, 0, 0] += 1
    torch.save(changed, file)
    assert importing.add(home, file, "three").hash != first.hash
    assert [card.name for card in library.cards(home)] == ["one", "three", "two"]


def test_import_as_a_job_and_as_a_command(home, file, monkeypatch, capsys):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    job_id = queue.submit(home, Job("import", ImportSpec(str(file), "by-job", method="GMP")))
    worker.work(home, job_id)
    assert queue.status(home, job_id).result["method"] == "GMP"
    again = queue.submit(home, Job("import", ImportSpec(str(file), "by-job")))
    worker.work(home, again)
    assert (queue.status(home, again).state, "already" in queue.status(home, again).message) == ("failed", True)
    arguments = ["import", str(file), "--name", "by-command", "--method", "WoodFisher", "--sparsity", "0.9", "--json"]
    assert cli.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "WoodFisher"
    assert cli.main(arguments) == 2
    assert "already" in capsys.readouterr().err
    assert [card.method for card in library.cards(home)] == ["WoodFisher", "GMP"]


def test_listing_needs_no_torch(home, file):
    importing.add(home, file, "mine")
    script = (
        "import pathlib; from sparse_core.networks import library; (card,) = library.cards(pathlib.Path(sys.argv[1]))"
    )
    assert not loads_torch(f"{script}; assert card.name == 'mine'", home)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "../out", "a/b", "/tmp/a", "a\\b", "a b", "-rf", "a\0", "a\n", "nét", "x" * 65]
)
def test_malformed_names_are_refused(home, file, name):
    assert "1 to 64 letters" in refused(importing.add, home, file, name)
    assert contents(home) == []
    assert "Unknown backbone of the library" in refused(library.remove, home, name)
    assert "not in the trash" in refused(library.restore, home, name)


@pytest.mark.parametrize("name", ["mine", "MINE", "efficientnet_lite0", "ResNet50"])
def test_a_used_name_is_refused(home, file, name):
    before = importing.add(home, file, "mine")
    assert "already" in refused(importing.add, home, file, name)
    assert library.cards(home) == [before]


def test_of_two_concurrent_imports_the_first_to_finish_keeps_the_name(home, file, monkeypatch):
    write = importing._write

    def overtaken(target, *content):
        write(target, *content)
        shutil.copytree(target, library.folder(home) / "mine")  # another import of that name finishes first
        card = json.loads((target / "card.json").read_text())
        (library.folder(home) / "mine" / "card.json").write_text(json.dumps({**card, "origin": "the other"}))

    monkeypatch.setattr(importing, "_write", overtaken)
    assert "created 'mine' at the same time" in refused(importing.add, home, file, "mine")
    assert [card.origin for card in library.cards(home)] == ["the other"] and contents(home) == ["mine"]


def test_free_names_are_valid_and_unused(home, file):
    assert library.free_name(home, "ResNet 50 (AC/DC) 90 %") == "ResNet-50-AC-DC-90-"
    assert library.free_name(home, "../../etc") == "etc"
    assert library.free_name(home, "…") == "backbone"
    importing.add(home, file, "net")
    importing.add(home, file, "Net-2")
    assert library.free_name(home, "net") == "net-3"


@pytest.mark.parametrize("kind", BAD_FILES)
def test_an_unreadable_file_leaves_nothing(home, state, tmp_path, kind):
    make, _ = BAD_FILES[kind]
    weights = {name.replace("linear", "fc"): tensor for name, tensor in state.items()}
    make(tmp_path / "bad.pth", weights)
    refused(importing.add, home, tmp_path / "bad.pth", "bad")
    assert contents(home) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "resnet50"}, "do not fit ResNet50"),
        ({"architecture": "resnet21"}, "resnet20"),
        ({"method": "WoodFischer"}, "WoodFisher"),
        ({"method": "dense"}, "Dense means sparsity 0, not 90 %"),
        ({"method": "Dense", "sparsity": 0.5}, "Dense means sparsity 0, not 50 %"),
        ({"sparsity": 1.0}, "in \\[0, 1\\)"),
        ({"sparsity": -0.1}, "in \\[0, 1\\)"),
        ({"sparsity": float("nan")}, "in \\[0, 1\\)"),
    ],
)
def test_wrong_options_are_refused(home, file, options, message):
    refused(importing.add, home, file, "mine", **options, match=message)
    assert contents(home) == []


def test_a_failed_import_leaves_nothing(home, file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(masks, "save", full)
    with pytest.raises(OSError, match="No space left"):
        importing.add(home, file, "mine")
    assert contents(home) == []
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert "Not enough disk space" in refused(importing.add, home, file, "mine")
    assert contents(home) == []


def test_leftovers_of_killed_imports_are_deleted_after_a_day(home, file):
    importing.add(home, file, "mine")
    library.remove(home, "mine")
    for name, age in ((".old.a1b2c3", LEFTOVER_SECONDS + 9), (".new.a1b2c3", 0.0), (".trash", 2e6)):
        (library.folder(home) / name).mkdir(exist_ok=True)
        os.utime(library.folder(home) / name, (time.time() - age,) * 2)
    library.cards(home)
    assert contents(home) == [".new.a1b2c3", ".trash"] and library.removed(home) == ["mine"]


@pytest.mark.parametrize("part", ["weights.safetensors", "mask.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "missing"])
def test_damage_is_reported_when_the_backbone_is_loaded(home, file, part, damage):
    importing.add(home, file, "mine")
    path = library.folder(home) / "mine" / part
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        half, flipped = content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes(half if damage == "truncated" else flipped)
    assert "'mine' is damaged" in refused(backbones.load, home, "mine")


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"name": "mine"}', '{"name": "../mine", "formats": []}'])
def test_an_entry_with_an_unreadable_card_is_not_listed_but_reserves_its_name(home, file, card):
    importing.add(home, file, "mine")
    (library.folder(home) / "mine" / "card.json").write_text(card)
    assert library.cards(home) == []
    assert "already" in refused(importing.add, home, file, "mine")
    library.remove(home, "mine")
    assert "is damaged" in refused(library.restore, home, "mine")
    assert importing.add(home, file, "mine").name == "mine"


def test_a_card_that_calls_a_sparse_network_dense_has_an_unknown_method(home, file, caplog):
    """An earlier version accepted this."""
    importing.add(home, file, "mine", method="STR")
    card = library.folder(home) / "mine" / "card.json"
    card.write_text(card.read_text().replace('"STR"', '"Dense"'))
    for _ in range(2):
        (found,) = library.cards(home)
    assert (found.method, found.sparsity) == ("Unknown", 0.9)
    assert caplog.text.count("calls a network of sparsity 0.9 dense") == 1
    assert backbones.load(home, "mine").card.method == "Unknown"


def test_a_renamed_entry_is_not_listed(home, file):
    importing.add(home, file, "mine")
    os.rename(library.folder(home) / "mine", library.folder(home) / "yours")
    assert library.cards(home) == []


def test_a_removed_backbone_is_restored_unchanged(home, file):
    card = importing.add(home, file, "mine")
    library.remove(home, "mine")
    assert library.cards(home) == [] and library.removed(home) == ["mine"]
    assert "mine" not in [other.name for other in library.available(home)]
    assert "Unknown backbone" in refused(backbones.load, home, "mine")
    assert library.restore(home, "mine") == card
    assert library.removed(home) == [] and backbones.load(home, "mine").hash == card.hash


def test_restoring_never_replaces_another_backbone(home, file):
    importing.add(home, file, "mine", method="GMP")
    library.remove(home, "mine")
    importing.add(home, file, "mine", method="STR")
    assert "Another 'mine' exists by now" in refused(library.restore, home, "mine")
    library.remove(home, "mine")
    assert library.restore(home, "mine").method == "STR"  # the last one removed


def test_the_trash_can_be_emptied(home, file):
    importing.add(home, file, "mine")
    library.remove(home, "mine")
    library.trash(home).empty()
    assert contents(home) == []
    assert "not in the trash" in refused(library.restore, home, "mine")


def test_removing_an_unknown_name_suggests_the_nearest(home, file):
    importing.add(home, file, "resnet20-gmp")
    assert "resnet20-gmp" in refused(library.remove, home, "resnet20-gpm")


@pytest.mark.parametrize(
    ("measured", "nominal"),
    [(0, 0), (0.001, 0), (0.896, 0.9), (0.9049, 0.9), (0.93, 0.93), (0.9796, 0.98), (0.989, 0.99), (0.9999, 0.99)],
)
def test_a_nominal_sparsity_is_a_round_figure(measured, nominal):
    assert guesses.nominal(measured) == nominal


def test_guesses_of_method_and_upstream():
    methods = {("STR", 0.9): "STR", (None, 0.001): "Dense", (None, 0.9): "Unknown", ("Dense", 0.9): "Unknown"}
    assert {each: guesses.guess_method(*each) for each in methods} == methods
    upstreams = {
        ("imagenet", None, 10, "resnet20"): "ImageNet",
        ("cifar10", None, None, "resnet50"): "CIFAR-10",
        ("my images", None, 10, "resnet20"): "my images",
        ("digits", "ImageNet", 10, "resnet50"): "ImageNet → Digits",
        ("digits", "ImageNet → Digits", 10, "resnet50"): "ImageNet → Digits",
        (None, "ImageNet", 10, "resnet50"): "ImageNet",
        (None, None, 1000, "efficientnet_lite0"): "ImageNet",
        (None, None, 10, "resnet20"): "CIFAR-10",
        (None, None, 100, "resnet56"): "CIFAR-100",
        (None, None, 10, "efficientnet_lite0"): "Unknown",
        (None, None, 100, "resnet50"): "Unknown",
        (None, None, 7, "resnet20"): "Unknown",
        (None, None, None, "resnet20"): "Unknown",
    }
    assert {each: guesses.guess_upstream(*each) for each in upstreams} == upstreams


@pytest.mark.parametrize(("stated", "known"), [("acdc", "AC/DC"), ("rigl_erk-1X", "RigL ERK 1x"), ("SNIP", "SNIP")])
def test_methods_get_the_spelling_of_the_catalog(home, file, state, tmp_path, stated, known):
    stating = save({"state_dict": state, "method": stated}, tmp_path / "net2.pth")
    assert importing.add(home, stating, "by-file").method == known
    assert importing.add(home, file, "by-user", method=stated).method == known


def test_a_misspelled_method_in_a_file_is_unknown(home, state, tmp_path):
    file = save({"state_dict": state, "method": "WoodFischer"}, tmp_path / "net2.pth")
    assert importing.add(home, file, "mine").method == "Unknown"


def test_unused_tensors_are_noted(home, state, tmp_path):
    file = save({"state_dict": state, "masks": {"nowhere": torch.ones(3)}}, tmp_path / "net.pth")
    assert importing.add(home, file, "mine").note == "imported from net.pth; not used: masks.nowhere"


def test_the_dense_baseline_is_the_parent_else_one_trained_alike(tmp_path):
    cards = library.available(tmp_path, REPOSITORY / "data" / "zoo")
    by_name = {card.name: card for card in cards}
    for name, dense in (
        ("resnet20_gmp_90_s1", "resnet20_dense_s1"),  # its parent
        ("resnet20_acdc_90_s2", "resnet20_dense_s2"),  # new weights of the same seed
        ("resnet20_acdc_smoothed_90_s0", "resnet20_dense_smoothed_s0"),  # with label smoothing
        ("efficientnet_lite0_magnitude_50", "efficientnet_lite0"),
    ):
        assert library.dense_baseline(by_name[name], cards) == by_name[dense]
    assert library.dense_baseline(by_name["resnet20_dense_s0"], cards) is None
    other = replace(by_name["resnet20_acdc_90_s0"], upstream="Photos")
    assert library.dense_baseline(other, cards) is None
