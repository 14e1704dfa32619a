"""How images are prepared belongs to a network: guessed, asked for, kept, part of its identity, and used."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sparse_core import cli
from sparse_core.catalog import NORMALISATIONS
from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.transforms import CIFAR, IMAGENET, IMAGENET_BICUBIC, LITE, Transform, from_document
from sparse_core.networks import architectures, backbones, classifier, importing, inspection, library, preprocessing
from sparse_core.networks.classifier import ClassifierNetwork
from sparse_core.specs.checkpoints import ImportSpec
from sparse_core.transfer import features
from tests.support.checkpoints import save
from tests.support.refusals import refused

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def file(resnet20, tmp_path):
    """A CIFAR ResNet20 of 7 classes."""
    return save({key.replace("fc", "linear"): tensor for key, tensor in resnet20[1].items()}, tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("network", "guess"),
    [
        (("resnet50", "", "AC/DC", "ImageNet"), IMAGENET),
        (("resnet50", "", "RigL ERK 1x", "ImageNet"), IMAGENET_BICUBIC),
        (("resnet50", "tensorflow", "Unknown", "ImageNet"), IMAGENET_BICUBIC),
        (("efficientnet_lite0", "", "Dense", "ImageNet"), LITE),
        (("resnet20", "A", "GMP", "CIFAR-10"), CIFAR),
        (("resnet56", "B", "GMP", "CIFAR-100"), Transform(32, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))),
        (("resnet18", "", "GMP", "CIFAR-100"), IMAGENET),
    ],
)
def test_guesses_follow_architecture_method_and_upstream(network, guess):
    assert preprocessing.guess(*network) == guess


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, CIFAR),
        ({"normalisation": "half"}, Transform(32, 32, HALF, HALF)),
        ({"mean": (0.5,), "std": (0.25,)}, Transform(32, 32, HALF, (0.25, 0.25, 0.25))),
        ({"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)}, Transform(32, 32, (0.1, 0.2, 0.3), (1, 2, 3))),
        ({"resize": 40}, dataclasses.replace(CIFAR, resize=40)),
        (
            {"resize": 300, "crop": 299, "interpolation": "bicubic"},
            Transform(300, 299, CIFAR.mean, CIFAR.std, "bicubic"),
        ),
    ],
)
def test_what_is_asked_for_takes_the_place_of_the_guess(asked, expected):
    assert preprocessing.chosen(ImportSpec("a.pth", "net", **asked), CIFAR) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"mean": (0.5,)}, "mean and a std together"),
        ({"std": (0.5,)}, "mean and a std together"),
        ({"mean": (0.5,), "std": (0.5,), "normalisation": "half"}, "got both"),
        ({"normalisation": "imagnet"}, "Did you mean imagenet"),
        ({"mean": (0.5, 0.5), "std": (0.5,)}, "one number or three"),
        ({"mean": (124.0, 116.0, 104.0), "std": (1.0,)}, "divide by 255"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "mean of each channel"),
        ({"mean": (0.5,), "std": (0.0,)}, "std of each channel must be finite and above 0"),
        ({"mean": (0.5,), "std": (-1.0,)}, "std of each channel"),
        ({"mean": (0.5,), "std": (float("inf"),)}, "std of each channel"),
        ({"crop": 7}, "crop must be whole pixels from 8 to 1024"),
        ({"resize": 1025}, "resize must be whole pixels from 8 to 1024"),
        ({"crop": 33}, "crop must be at most resize, 32 pixels"),
        ({"interpolation": "lanczos"}, "Unknown interpolation"),
    ],
)
def test_values_that_no_network_is_prepared_with_are_refused(home, file, asked, message):
    refused(importing.add, home, file, "mine", match=message, **asked)
    assert library.cards(home) == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"resize": 32},
        {**CIFAR.document(), "more": 1},
        {**CIFAR.document(), "mean": 0.5},
        {**CIFAR.document(), "mean": ["a", "b", "c"]},
        {**CIFAR.document(), "mean": [10**400, 0, 0]},
        {**CIFAR.document(), "crop": 32.0},
        {**CIFAR.document(), "crop": None},
        {**CIFAR.document(), "interpolation": []},
    ],
)
def test_a_document_that_is_no_preprocessing_is_refused(document):
    refused(from_document, document)


def test_a_document_is_read_as_it_was_written():
    assert from_document(json.loads(json.dumps(LITE.document()))) == LITE


def test_presets_scale_pixels_as_their_names_say():
    half, lite = NORMALISATIONS["half"], NORMALISATIONS["efficientnet_lite"]
    assert [(pixel - half.mean[0]) / half.std[0] for pixel in (0, 1)] == [-1, 1]
    assert (lite.mean[0], lite.std[0]) == (round(127 / 255, 3), round(128 / 255, 3))


def test_preprocessing_is_part_of_a_networks_identity_where_it_is_not_the_default(home, file):
    plain = importing.add(home, file, "plain")
    named = importing.add(home, file, "named", normalisation="cifar10", resize=32, crop=32, interpolation="bilinear")
    changed = importing.add(home, file, "changed", normalisation="half")
    assert plain.hash == named.hash and plain.preprocessing == named.preprocessing == CIFAR
    assert changed.hash != plain.hash
    assert [backbones.load(home, name).hash for name in ("plain", "changed")] == [plain.hash, changed.hash]
    assert backbones.load(home, "changed").transform == Transform(32, 32, HALF, HALF)
    options = ({"crop": 24}, {"resize": 40}, {"interpolation": "bicubic"}, {"mean": (0.5,), "std": (0.5, 0.5, 0.4)})
    more = [importing.add(home, file, f"more-{number}", **each).hash for number, each in enumerate(options)]
    assert len({plain.hash, changed.hash, *more}) == 6


def test_a_card_without_preprocessing_has_its_architectures_default(home, file):
    """Cards of version 0.1.0 have none; their hash stays valid."""
    card = importing.add(home, file, "old", method="RigL ERK 5x", interpolation="bilinear")
    path = library.folder(home) / "old" / "card.json"
    document = json.loads(path.read_text())
    assert document.pop("preprocessing") == CIFAR.document()
    path.write_text(json.dumps(document))
    assert library.cards(home) == [card] and backbones.load(home, "old").transform == CIFAR


@pytest.mark.parametrize("changed", [{"mean": [0.5, 0.5, 0.5]}, {"mean": [1, 2, 3]}, {"crop": "a"}])
def test_preprocessing_that_was_changed_in_a_card_is_noticed(home, file, changed):
    importing.add(home, file, "mine")
    path = library.folder(home) / "mine" / "card.json"
    document = json.loads(path.read_text())
    document["preprocessing"] |= changed
    path.write_text(json.dumps(document))
    refused(backbones.load, home, "mine", match="is damaged|Unknown backbone")


def test_features_are_those_of_the_networks_preprocessing(home, file):
    """Against torchvision's transforms."""
    importing.add(
        home, file, "mine", mean=(0.4, 0.5, 0.6), std=(0.3, 0.2, 0.1), resize=40, crop=28, interpolation="bicubic"
    )
    backbone = backbones.load(home, "mine")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    split = Split(np.zeros(1, np.int64), lambda _: Image.fromarray(pixels))
    dataset = Dataset("one", "top1", ["a"], split, split, "hash", "")
    made = features.extract(home, backbone, dataset, engine="torch").train
    steps = [
        v2.Resize(40, v2.InterpolationMode.BICUBIC),
        v2.CenterCrop(28),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.4, 0.5, 0.6], [0.3, 0.2, 0.1]),
    ]
    with torch.inference_mode():
        expected = backbone.module(v2.Compose(steps)(Image.fromarray(pixels))[None])
    np.testing.assert_allclose(made, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_finetuned_network_keeps_its_preprocessing_through_its_file(home, file, tmp_path):
    importing.add(home, file, "mine", normalisation="half", resize=40)
    backbone = backbones.load(home, "mine")
    network = ClassifierNetwork(backbone.module, torch.randn(3, 64), torch.zeros(3))
    saved = tmp_path / "network.safetensors"
    classifier.save(network, backbone, ["a", "b", "c"], saved, "my images")
    expected = Transform(40, 32, HALF, HALF)
    assert classifier.load(saved)[1]["transform"] == expected
    assert inspection.inspect(saved)["preprocessing"] == expected.document()
    assert importing.add(home, saved, "finetuned").preprocessing == expected
    assert importing.add(home, saved, "other", normalisation="imagenet", resize=32).preprocessing == Transform(
        32, 32, IMAGENET.mean, IMAGENET.std
    )
    assert backbones.load(home, f"resnet20:{saved}").transform == expected


def test_a_file_by_path_has_its_architectures_default(home, resnet20, tmp_path):
    """Whatever its method and upstream."""
    state = {key.replace("fc", "linear"): tensor for key, tensor in resnet20[1].items()}
    path = save({"state_dict": state, "method": "RigL ERK 1x", "dataset": "cifar100"}, tmp_path / "net.pth")
    named, bare = backbones.load(home, f"resnet20:{path}"), architectures.ARCHITECTURES["resnet20"].transform
    assert named.transform == bare == CIFAR
    guess = importing.add(home, path, "imported").preprocessing
    assert (guess.interpolation, guess.normalisation) == ("bicubic", "cifar100")


@pytest.mark.parametrize("text", ["", "[", "[" * 499, "{}", "null", '{"resize": 1e999}', "x" * 10_000])
def test_unusable_preprocessing_in_a_file_is_passed_over(home, resnet20, tmp_path, text):
    from safetensors.torch import save_file

    save_file(resnet20[1], tmp_path / "net.safetensors", {"transform": text})
    assert importing.add(home, tmp_path / "net.safetensors", "mine", architecture="resnet20").preprocessing == CIFAR


def test_the_command_line_asks_for_preprocessing_and_shows_it(home, file, capsys):
    wanted = ["--mean", "0.4,0.5,0.6", "--std", "0.2", "--resize", "48", "--crop", "40", "--interpolation", "bicubic"]
    assert cli.main(["import", str(file), "--name", "mine", *wanted, "--json"]) == 0
    expected = {"resize": 48, "crop": 40, "mean": [0.4, 0.5, 0.6], "std": [0.2] * 3, "interpolation": "bicubic"}
    assert json.loads(capsys.readouterr().out)["preprocessing"] == expected
    assert cli.main(["backbones", "--json"]) == 0
    listed = {card["name"]: card["preprocessing"] for card in json.loads(capsys.readouterr().out)}
    assert listed["mine"] == expected and listed["resnet50"] == IMAGENET.document()
    assert cli.main(["inspect", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preprocessing"] == CIFAR.document()
    assert cli.main(["import", str(file), "--name", "bad", "--mean", "0.5", "--std", "zero"]) == 2
    assert "--std takes numbers" in capsys.readouterr().err
