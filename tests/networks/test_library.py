"""The library: what an import keeps, names that stay inside its folder, damage that is noticed, nothing lost, nothing left."""

import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from sparse_core import cli
from sparse_core.errors import InputError
from sparse_core.jobs import queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, backbones, guesses, importing, library, masks, uploads
from sparse_core.paths import REPOSITORY
from sparse_core.specs.checkpoints import ImportSpec
from tests.networks.test_damaged_checkpoints import BAD_FILES
from tests.support.networks import live_batch_norm


@pytest.fixture(scope="module")
def state():
    """A CIFAR ResNet20 of 10 classes, 90 % of its convolution weights 0."""
    torch.manual_seed(0)
    module = live_batch_norm(architectures.build("resnet20"))
    masks.apply(module, masks.top_k(module, 0.9))
    return {**module.state_dict(), "linear.weight": torch.randn(10, 64), "linear.bias": torch.randn(10)}


@pytest.fixture
def file(state, tmp_path):
    torch.save(state, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def kept(home):
    """All that lies in the library's folder, hidden or not."""
    return sorted(os.listdir(library.folder(home))) if library.folder(home).exists() else []


def refused(work, *arguments, **named):
    with pytest.raises(InputError) as caught:
        work(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What an import keeps.


def test_an_import_keeps_weights_mask_and_where_they_came_from(home, file, state):
    card = importing.add(home, file, "mine", method="ac/dc", upstream="CIFAR-10", origin="a colleague")
    entry = library.folder(home) / "mine"
    weights, classifier = (load_file(entry / f"{name}.safetensors") for name in ("weights", "classifier"))
    assert all(torch.equal(weights[name], tensor) for name, tensor in state.items() if not name.startswith("linear"))
    assert len(weights) == len(state) - 2
    assert torch.equal(classifier["weight"], state["linear.weight"])
    zeros = sum(int((weights[name] == 0).sum()) for name in masks.load(entry / "mask.safetensors").tensors)
    total = sum(kept.numel() for kept in masks.load(entry / "mask.safetensors").tensors.values())
    assert card.measured_sparsity == zeros / total == pytest.approx(0.9, abs=1e-4)
    told = (card.architecture, card.method, card.sparsity, card.upstream, card.origin, card.classes, card.kind)
    assert told == ("resnet20", "AC/DC", 0.9, "CIFAR-10", "a colleague", 10, "library")
    assert library.cards(home) == [card]
    file.unlink()
    module, mask = library.read(home, card)
    assert not module.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(kept, state[name] != 0) for name, kept in mask.tensors.items())


def test_what_is_not_said_is_told_from_the_file(home, file):
    card = importing.add(home, file, "mine")
    assert (card.method, card.sparsity, card.upstream, card.origin) == ("Unknown", 0.9, "CIFAR-10", "net.pth")
    assert card.formats == ("CIFAR ResNet",)


def test_a_weight_that_the_mask_keeps_stays_kept_where_it_is_zero(home, state, tmp_path):
    kept = (state["conv1.weight"] != 0).float()
    first = tuple(index[0].item() for index in torch.where(kept == 0))
    kept[first] = 1
    wrapped = {name: tensor for name, tensor in state.items() if name != "conv1.weight"}
    wrapped |= {"conv1.weight_orig": state["conv1.weight"], "conv1.weight_mask": kept}
    torch.save(wrapped, tmp_path / "net.pth")
    backbone = backbones.load(home, importing.add(home, tmp_path / "net.pth", "mine").name)
    assert backbone.module.conv1.weight[first] == 0 and backbone.mask.tensors["conv1.weight"][first]


def test_a_nominal_sparsity_far_from_the_zeros_is_noted(home, file):
    card = importing.add(home, file, "mine", sparsity=0.98)
    assert (card.sparsity, card.note) == (0.98, "imported from net.pth; known as 98 % sparse, measured 90 %")


def test_two_imports_of_one_file_are_one_content(home, file):
    first, second = importing.add(home, file, "one", method="GMP"), importing.add(home, file, "two", method="STR")
    assert first.hash == second.hash == backbones.load(home, "one").hash == backbones.load(home, "two").hash
    changed = torch.load(file)
    changed["conv1.weight"][0, 0, 0, 0] += 1
    torch.save(changed, file)
    assert importing.add(home, file, "three").hash != first.hash
    assert [card.name for card in library.cards(home)] == ["one", "three", "two"]


def test_an_import_as_a_job_and_as_a_command(home, file, monkeypatch, capsys):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    job_id = queue.submit(home, Job("import", ImportSpec(str(file), "by-job", method="GMP")))
    worker.work(home, job_id)
    assert queue.status(home, job_id).result["method"] == "GMP"
    again = queue.submit(home, Job("import", ImportSpec(str(file), "by-job")))
    worker.work(home, again)
    assert (queue.status(home, again).state, "already" in queue.status(home, again).message) == ("failed", True)
    words = ["import", str(file), "--name", "by-command", "--method", "WoodFisher", "--sparsity", "0.9", "--json"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "WoodFisher"
    assert cli.main(words) == 2
    assert "already" in capsys.readouterr().err
    assert [card.method for card in library.cards(home)] == ["WoodFisher", "GMP"]


def test_listing_needs_no_torch(home, file):
    importing.add(home, file, "mine")
    script = (
        "import sys, pathlib; from sparse_core.networks import library;"
        "print(library.cards(pathlib.Path(sys.argv[1]))[0].name, 'torch' in sys.modules)"
    )
    listed = subprocess.run(
        [sys.executable, "-c", script, str(home)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == ["mine", "False"]


# Names.


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "../out", "a/b", "/tmp/a", "a\\b", "a b", "-rf", "a\0", "a\n", "nét", "x" * 65],
)
def test_a_name_is_a_plain_word(home, file, name):
    assert "1 to 64 letters" in refused(importing.add, home, file, name)
    assert kept(home) == []
    assert "Unknown backbone of the library" in refused(library.remove, home, name)
    assert "not in the library's trash" in refused(library.restore, home, name)


@pytest.mark.parametrize("name", ["mine", "MINE", "efficientnet_lite0", "ResNet50"])
def test_a_name_is_taken_once(home, file, name):
    before = importing.add(home, file, "mine")
    assert "already" in refused(importing.add, home, file, name)
    assert library.cards(home) == [before]


def test_whoever_finishes_first_keeps_the_name(home, file, monkeypatch):
    write = importing._write

    def slow(target, *content):
        write(target, *content)
        shutil.copytree(target, library.folder(home) / "mine")  # another import of that name ends meanwhile
        card = json.loads((target / "card.json").read_text())
        (library.folder(home) / "mine" / "card.json").write_text(json.dumps({**card, "origin": "the other"}))

    monkeypatch.setattr(library, "_write", slow)
    assert "got another 'mine' meanwhile" in refused(importing.add, home, file, "mine")
    assert [card.origin for card in library.cards(home)] == ["the other"] and kept(home) == ["mine"]


def test_a_free_name_is_one(home, file):
    assert library.free_name(home, "ResNet 50 (AC/DC) 90 %") == "ResNet-50-AC-DC-90-"
    assert library.free_name(home, "../../etc") == "etc"
    assert library.free_name(home, "…") == "backbone"
    importing.add(home, file, "net")
    importing.add(home, file, "Net-2")
    assert library.free_name(home, "net") == "net-3"


# What is refused, and leaves nothing.


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_cannot_be_read_leaves_nothing(home, state, tmp_path, kind):
    make, _ = BAD_FILES[kind]
    weights = {name.replace("linear", "fc"): tensor for name, tensor in state.items()}
    make(tmp_path / "bad.pth", weights)
    refused(importing.add, home, tmp_path / "bad.pth", "bad")
    assert kept(home) == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"architecture": "resnet50"}, "do not fit ResNet50"),
        ({"architecture": "resnet21"}, "resnet20"),
        ({"method": "WoodFischer"}, "WoodFisher"),
        ({"sparsity": 1.0}, "in \\[0, 1\\)"),
        ({"sparsity": -0.1}, "in \\[0, 1\\)"),
        ({"sparsity": float("nan")}, "in \\[0, 1\\)"),
    ],
)
def test_wrong_words_are_refused(home, file, asked, told):
    with pytest.raises(InputError, match=told):
        importing.add(home, file, "mine", **asked)
    assert kept(home) == []


def test_an_import_that_is_cut_off_leaves_nothing(home, file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(masks, "save", full)
    with pytest.raises(OSError, match="No space left"):
        importing.add(home, file, "mine")
    assert kept(home) == []
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert "Not enough disk space" in refused(importing.add, home, file, "mine")
    assert kept(home) == []


def test_what_a_killed_import_left_is_swept_after_a_day(home, file):
    importing.add(home, file, "mine")
    library.remove(home, "mine")
    for left, age in ((".old.a1b2c3", uploads.KEPT_SECONDS + 9), (".new.a1b2c3", 0.0), (".trash", 2e6)):
        (library.folder(home) / left).mkdir(exist_ok=True)
        os.utime(library.folder(home) / left, (time.time() - age,) * 2)
    library.cards(home)
    assert kept(home) == [".new.a1b2c3", ".trash"] and library.removed(home) == ["mine"]


# Entries that changed on disk.


@pytest.mark.parametrize("part", ["weights.safetensors", "mask.safetensors"])
@pytest.mark.parametrize("damage", ["cut off", "another bit", "gone"])
def test_damage_is_noticed_when_the_backbone_is_used(home, file, part, damage):
    importing.add(home, file, "mine")
    path = library.folder(home) / "mine" / part
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[-1] ^= 1
        path.write_bytes(content)
    assert "'mine' is damaged" in refused(backbones.load, home, "mine")


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"name": "mine"}', '{"name": "../mine", "formats": []}'])
def test_an_entry_whose_card_cannot_be_read_is_not_listed_but_keeps_its_name(home, file, card):
    importing.add(home, file, "mine")
    (library.folder(home) / "mine" / "card.json").write_text(card)
    assert library.cards(home) == []
    assert "already" in refused(importing.add, home, file, "mine")
    library.remove(home, "mine")
    assert "is damaged" in refused(library.restore, home, "mine")
    assert importing.add(home, file, "mine").name == "mine"


def test_a_card_under_another_name_is_not_listed(home, file):
    importing.add(home, file, "mine")
    os.rename(library.folder(home) / "mine", library.folder(home) / "yours")
    assert library.cards(home) == []


# Out, and back.


def test_a_removed_backbone_comes_back_as_it_was(home, file):
    card = importing.add(home, file, "mine")
    library.remove(home, "mine")
    assert library.cards(home) == [] and library.removed(home) == ["mine"]
    assert "mine" not in [other.name for other in library.available(home)]
    assert "Unknown backbone" in refused(backbones.load, home, "mine")
    assert library.restore(home, "mine") == card
    assert library.removed(home) == [] and backbones.load(home, "mine").hash == card.hash


def test_nothing_is_restored_over_another(home, file):
    importing.add(home, file, "mine", method="GMP")
    library.remove(home, "mine")
    importing.add(home, file, "mine", method="STR")
    assert "has another 'mine' by now" in refused(library.restore, home, "mine")
    library.remove(home, "mine")
    assert library.restore(home, "mine").method == "STR"  # the last one that was removed


def test_the_trash_can_be_emptied(home, file):
    importing.add(home, file, "mine")
    library.remove(home, "mine")
    library.trash(home).empty()
    assert kept(home) == []
    assert "not in the library's trash" in refused(library.restore, home, "mine")


def test_removing_names_the_nearest(home, file):
    importing.add(home, file, "resnet20-gmp")
    assert "resnet20-gmp" in refused(library.remove, home, "resnet20-gpm")


# Guesses.


@pytest.mark.parametrize(
    ("measured", "nominal"),
    [(0, 0), (0.001, 0), (0.896, 0.9), (0.9049, 0.9), (0.93, 0.93), (0.9796, 0.98), (0.989, 0.99), (0.9999, 0.99)],
)
def test_a_nominal_sparsity_is_a_round_figure(measured, nominal):
    assert guesses.nominal(measured) == nominal


def test_method_and_upstream_are_guessed_only_where_the_file_tells():
    assert [guesses.guess_method(*told) for told in (("STR", 0.9), (None, 0.001), (None, 0.9))] == [
        "STR",
        "Dense",
        "Unknown",
    ]
    told = {
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
    assert {each: guesses.guess_upstream(*each) for each in told} == told


@pytest.mark.parametrize(("said", "known"), [("acdc", "AC/DC"), ("rigl_erk-1X", "RigL ERK 1x"), ("SNIP", "SNIP")])
def test_a_method_is_spelled_as_in_the_catalog_whoever_says_it(home, file, state, tmp_path, said, known):
    torch.save({"state_dict": state, "method": said}, tmp_path / "told.pth")
    assert importing.add(home, tmp_path / "told.pth", "by-file").method == known
    assert importing.add(home, file, "by-user", method=said).method == known


def test_a_slip_in_a_file_is_no_method(home, state, tmp_path):
    torch.save({"state_dict": state, "method": "WoodFischer"}, tmp_path / "told.pth")
    assert importing.add(home, tmp_path / "told.pth", "mine").method == "Unknown"


def test_what_was_not_used_is_noted(home, state, tmp_path):
    torch.save({"state_dict": state, "masks": {"nowhere": torch.ones(3)}}, tmp_path / "net.pth")
    assert importing.add(home, tmp_path / "net.pth", "mine").note == "imported from net.pth; not used: masks.nowhere"
