"""Upstream accuracies of a network with its classifier, against predictions of plain torch; layouts of ImageNet's three label
sets, with ten classes in place of a thousand."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_core.cli import main
from sparse_core.errors import InputError
from sparse_core.networks import backbones
from sparse_core.transfer import upstream_evaluation
from sparse_core.transfer.upstream_evaluation import evaluate
from tests.support.images import torchvision_steps
from tests.support.networks import pruned_file

CLASSES = 10


@pytest.fixture(autouse=True)
def ten_classes(monkeypatch):
    monkeypatch.setattr(upstream_evaluation, "CLASSES", CLASSES)


@pytest.fixture
def network(tmp_path):
    return f"resnet20:{pruned_file(tmp_path / 'net.pth', 0.5)}"


def write_images(folder, names, seed=0, each=2):
    """Random images in folders of these names, numbered through as ImageNet's validation images are."""
    random, number = np.random.default_rng(seed), 0
    for name in names:
        (folder / name).mkdir(parents=True)
        for _ in range(each):
            number += 1
            pixels = random.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"ILSVRC2012_val_{number:08}.png")
    return folder


def expected_predictions(home, network, files):
    backbone = backbones.load(home, network)
    transform = backbone.transform
    steps = torchvision_steps(transform.resize, transform.crop, transform.mean, transform.std)
    batch = torch.stack([steps(Image.open(file)) for file in files])
    with torch.no_grad():
        return torch.nn.functional.linear(backbone.module(batch), *backbone.classifier).argmax(dim=1).numpy()


def quietly(home, network, dataset, data):
    return evaluate(home, network, dataset, data, lambda _: None)


def test_imagenet_folders(home, network, tmp_path):
    """Folders in alphabetical order are the labels."""
    folder = write_images(tmp_path / "images" / "val", [f"n{n:04}" for n in range(CLASSES)])
    files = sorted(folder.glob("*/*"))
    predicted = expected_predictions(home, network, files)
    labels = np.repeat(np.arange(CLASSES), 2)
    found = quietly(home, network, "imagenet", tmp_path / "images")
    assert found.images == 20 and found.parts == {}
    assert found.top1 == pytest.approx((predicted == labels).mean())
    by_class = [(predicted[labels == n] == n).mean() for n in range(CLASSES)]
    assert found.mean_per_class == pytest.approx(np.mean(by_class))


def test_real_counts_any_label_of_the_set_and_leaves_out_empty_ones(home, network, tmp_path):
    folder = write_images(tmp_path / "images", [f"n{n:04}" for n in range(CLASSES)])
    files = sorted(folder.glob("*/*"))
    predicted = expected_predictions(home, network, files)
    sets = [[int(label), 3] for label in predicted]
    sets[0], sets[1] = [], [int(predicted[1] + 1) % CLASSES]
    (folder / "real.json").write_text(json.dumps(sets))
    found = quietly(home, network, "imagenet-real", folder)
    assert (found.images, found.mean_per_class) == (19, None)
    assert found.top1 == pytest.approx(18 / 19)


def test_imagenetv2_is_the_mean_of_its_three_parts(home, network, tmp_path):
    names = [
        "imagenetv2-matched-frequency-format-val",
        "imagenetv2-threshold0.7-format-val",
        "imagenetv2-top-images-format-val",
    ]
    for seed, name in enumerate(names):
        write_images(tmp_path / "v2" / name, [str(n) for n in range(CLASSES)], seed)
    found = quietly(home, network, "imagenetv2", tmp_path / "v2")
    each = [quietly(home, network, "imagenet", tmp_path / "v2" / name).top1 for name in names]
    assert found.images == 60
    assert list(found.parts) == ["matched-frequency", "threshold-0.7", "top-images"]
    assert list(found.parts.values()) == pytest.approx(each)
    assert found.top1 == pytest.approx(np.mean(each))


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(upstream_evaluation, "CLASSES", 11)
    folder = write_images(tmp_path / "v2", [str(n) for n in range(11)], each=1)
    split = upstream_evaluation.imagenet_split(folder)
    assert [int(name.split("/")[0]) for name in split.names] == split.labels.tolist() == list(range(11))


def test_the_background_class_of_tensorflow_is_left_out(home, tmp_path):
    backbone = backbones.load(home, f"resnet20:{pruned_file(tmp_path / 'net.pth', 0.5)}")
    weight, bias = torch.randn(CLASSES + 1, 64), torch.randn(CLASSES + 1)
    kept, _ = upstream_evaluation._with_classes(backbone, (weight, bias), CLASSES)
    assert torch.equal(kept, weight[1:])


def test_the_verb_on_a_dataset_of_the_users(network, tmp_path, capsys):
    write_images(tmp_path / "own", [str(n) for n in range(CLASSES)], each=5)
    assert main(["evaluate", "--backbone", network, "--dataset", str(tmp_path / "own"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"top1", "mean_per_class", "images", "parts"}
    assert printed["images"] == 10 and 0 <= printed["top1"] <= 1


def test_what_is_missing_is_said(home, network, tmp_path, images):
    empty = tmp_path / "empty"
    empty.mkdir()
    for dataset, data, message in (
        ("imagenet", None, "Expected the images of imagenet in"),
        ("imagenet", empty, "class folders in"),
        ("imagenet-real", empty, "Expected ReaL's labels in"),
        ("imagenetv2", empty, "one folder of ImageNetV2's matched-frequency"),
        (images, None, "these images have 2"),
    ):
        with pytest.raises(InputError, match=message):
            quietly(home, network, dataset, data)
    (empty / "real.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="a JSON list of label lists"):
        quietly(home, network, "imagenet-real", empty)


def test_a_backbone_without_classifier_is_refused(home, tmp_path, images):
    state = torch.load(pruned_file(tmp_path / "net.pth", 0.5))
    torch.save({name: value for name, value in state.items() if not name.startswith("linear")}, tmp_path / "bare.pth")
    with pytest.raises(InputError, match="has no classifier"):
        quietly(home, f"resnet20:{tmp_path / 'bare.pth'}", images, None)
