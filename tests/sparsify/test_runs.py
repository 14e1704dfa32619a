"""From the command line to a backbone of the library with its provenance; what is there already is found."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from sparse_core import __version__, stored
from sparse_core.cli import main
from sparse_core.networks import backbones, library, masks
from sparse_core.networks.library import BackboneCard
from tests.support.networks import pruned_file


@pytest.fixture
def upstream(tmp_path):
    """A folder of 44 small images in two classes that differ in brightness."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        for label in range(2):
            folder = tmp_path / "upstream" / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count // 2):
                values = generator.integers(120 * label, 120 * label + 130, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(values).save(folder / f"{index}.png")
    return str(tmp_path / "upstream")


@pytest.fixture
def sparsify(upstream, tmp_path, capsys):
    """A function that runs ``sparsify`` on a dense ResNet20: its document and what it says on stderr."""
    dense = f"resnet20:{pruned_file(tmp_path / 'net.pth', 0.0)}"

    def run(*arguments, backbone=dense, code=0):
        given = ["--backbone", backbone, "--dataset", upstream, "--batch-size", "8", "--precision", "fp32"]
        assert main(["sparsify", *given, *arguments, "--json"]) == code
        printed = capsys.readouterr()
        return (json.loads(printed.out) if printed.out else None), printed.err

    return run


def test_a_backbone_is_made_into_the_library_with_its_provenance(home, sparsify):
    made, _ = sparsify(
        "--method", "gmp", "--sparsity", "0.8", "--epochs", "4", "--name", "mine", "--pruning-steps", "3"
    )
    assert made.keys() >= {"name", "method", "sparsity", "backbone_sparsity", "upstream_accuracy", "epochs", "seconds"}
    assert (made["name"], made["method"], made["sparsity"], made["epochs"]) == ("mine", "GMP", 0.8, 4)
    backbone = backbones.load(home, "mine")
    weights = masks.prunable(backbone.module)
    size = sum(weight.numel() for weight in weights.values())
    assert made["backbone_sparsity"] == pytest.approx(0.8, abs=1 / size)
    assert backbone.sparsity == pytest.approx(made["backbone_sparsity"])
    assert backbone.card.upstream.endswith("upstream") and backbone.card.classes == 2
    assert backbone.classifier[0].shape == (2, 64)
    made_by = backbone.card.provenance
    assert made_by.parents == (made_by.options["backbone_hash"],) and made_by.product_version == __version__
    assert made_by.upstream_accuracy == made["upstream_accuracy"]
    assert made_by.options["pruning_steps"] == 3 and made_by.seed == 0
    assert [epoch["epoch"] for epoch in made_by.details["curves"]] == [1, 2, 3, 4]
    assert not list((home / "checkpoints").glob("*.pt"))


def test_new_weights_take_an_architecture_by_its_name_and_trained_ones_do_not(home, sparsify):
    made, _ = sparsify("--method", "AC/DC", "--sparsity", "0.5", "--epochs", "5", backbone="resnet20")
    assert backbones.load(home, made["name"]).card.architecture == "resnet20"
    _, said = sparsify("--method", "GMP", "--sparsity", "0.5", backbone="resnet20", code=2)
    assert "resnet20" in said and len(said.splitlines()) == 1


def test_the_same_network_is_found_and_not_made_again(sparsify):
    arguments = ("--method", "magnitude", "--sparsity", "0.5")
    made, said = sparsify(*arguments)
    again, said_again = sparsify(*arguments)
    assert made == again
    assert "made before" in said_again and "made before" not in said
    assert sparsify(*arguments, "--seed", "1")[0]["name"] != made["name"]


def test_seconds_of_the_parents_are_counted(home, sparsify):
    dense, _ = sparsify("--method", "Dense", "--epochs", "2", "--name", "dense")
    pruned, _ = sparsify("--method", "Magnitude", "--sparsity", "0.7", "--name", "pruned", backbone="dense")
    assert pruned["seconds_with_parents"] == pytest.approx(pruned["seconds"] + dense["seconds"])
    cards = {card.name: card for card in library.cards(home)}
    assert cards["pruned"].provenance.parents == (cards["dense"].hash,)
    assert cards["pruned"].upstream == cards["dense"].upstream


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "GMP", "--sparsity", "1.0"], "sparsity must be in (0, 1), such as 0.9, for GMP; got 1.0."),
        (["--method", "GMP", "--sparsity", "-0.2"], "sparsity must be in (0, 1), such as 0.9, for GMP; got -0.2."),
        (["--method", "Dense", "--sparsity", "0.5"], "sparsity must be 0 for Dense; got 0.5."),
        (["--method", "GMP", "--sparsity", "0.999"], "A sparsity of 0.999 cannot be reached"),
        (["--method", "GMPP", "--sparsity", "0.9"], "Unknown method 'GMPP'. Did you mean GMP"),
        (
            ["--method", "RigL ERK 5x", "--sparsity", "0.9", "--length-factor", "3"],
            "a length factor of 3 contradicts it",
        ),
        (["--method", "AC/DC", "--sparsity", "0.9", "--epochs", "1"], "Train for more epochs"),
        (["--method", "AC/DC", "--sparsity", "0.9", "--updates", "20"], "AC/DC has no updates"),
        (["--method", "GMP", "--sparsity", "0.9", "--name", "a b"], "A backbone's name has"),
    ],
)
def test_wrong_input_is_refused_in_one_line_and_leaves_nothing(home, sparsify, arguments, message):
    _, said = sparsify(*arguments, code=2)
    assert message in said and said.count("\n") == 1
    assert library.cards(home) == []
    assert not list(home.rglob("*.pt"))


def test_a_sparse_start_is_refused(sparsify, tmp_path):
    sparse = f"resnet20:{pruned_file(tmp_path / 'sparse.pth', 0.9)}"
    _, said = sparsify("--method", "GMP", "--sparsity", "0.95", "--epochs", "4", backbone=sparse, code=2)
    assert "90 % sparse. Name a dense backbone." in said


def test_cards_without_provenance_are_read():
    """Those that earlier versions wrote."""
    document = {"name": "a", "architecture": "resnet20", "upstream": "b", "method": "GMP", "sparsity": 0.9}
    document |= {"kind": "library", "note": "", "ready": True}
    assert stored.made(BackboneCard, document).provenance is None


def test_a_card_with_provenance_survives_its_file(home, sparsify):
    sparsify("--method", "Magnitude", "--sparsity", "0.5", "--name", "kept")
    (card,) = library.cards(home)
    again = stored.made(BackboneCard, json.loads(json.dumps(dataclasses.asdict(card))))
    assert again == card and hash(again) == hash(card)
