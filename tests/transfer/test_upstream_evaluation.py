"""Upstream accuracies of a network with its classifier, against predictions of plain torch; layouts of ImageNet's three label
sets, with ten classes in place of a thousand."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_core.cli import main
from sparse_core.datasets import imagenet
from sparse_core.errors import Cancelled, InputError
from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import Job
from sparse_core.networks import backbones, importing
from sparse_core.results import evaluations
from sparse_core.specs.evaluation import V2_PARTS, EvaluateSpec
from sparse_core.transfer import upstream_evaluation
from sparse_core.transfer.evaluation_checks import require_evaluable
from tests.support.images import torchvision_steps
from tests.support.networks import pruned_file

CLASSES = 10


@pytest.fixture(autouse=True)
def ten_classes(monkeypatch):
    monkeypatch.setattr(imagenet, "CLASSES", CLASSES)


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
    spec = EvaluateSpec.of(network, dataset, str(data) if data else "")
    return upstream_evaluation.evaluate(home, backbones.load(home, network), spec, lambda _: None)


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
    monkeypatch.setattr(imagenet, "CLASSES", 11)
    folder = write_images(tmp_path / "v2", [str(n) for n in range(11)], each=1)
    split = imagenet.validation_split(folder)
    assert [int(name.split("/")[0]) for name in split.names] == split.labels.tolist() == list(range(11))


def test_the_background_class_of_tensorflow_is_left_out():
    weight, bias = torch.randn(CLASSES + 1, 64), torch.randn(CLASSES + 1)
    kept, _ = upstream_evaluation.with_classes("a", (weight, bias), CLASSES)
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


def always(file, predicted):
    """A network that finds the class ``predicted`` in every image."""
    state = torch.load(pruned_file(file, 0.5))
    state["linear.weight"] = torch.zeros(CLASSES, 64)
    state["linear.bias"] = torch.nn.functional.one_hot(torch.tensor(predicted), CLASSES).float()
    torch.save(state, file)
    return f"resnet20:{file}"


def job(home, network, dataset, data="", report=lambda _: None):
    return kinds.run(home, Job("evaluate", EvaluateSpec.of(network, dataset, str(data))), report)


def test_accuracies_counted_by_hand_are_kept(home, tmp_path):
    """A network that says 3 to all: right on ImageNet for 1 of 10 images; on V2's samples for 1 of 10, 3 of 12 and 5 of 14; on
    ReaL for the four images with 3 in their sets, of the eight with a set."""
    network = always(tmp_path / "three.pth", 3)
    names = [f"n{n:04}" for n in range(CLASSES)]
    folder = write_images(tmp_path / "imagenet", names, each=1)
    (folder / "real.json").write_text(json.dumps([[3], [3, 4], [], [5], [3], [1, 2, 3], [7], [8], [9], []]))
    for extra, sample in zip((0, 2, 4), ("matched", "threshold", "top"), strict=True):
        write_images(tmp_path / "v2" / sample, [str(n) for n in range(CLASSES)], each=1)
        for number in range(extra):
            image = next((tmp_path / "v2" / sample / "3").iterdir())
            (image.with_stem(f"more{number}")).write_bytes(image.read_bytes())
    expected = {
        "imagenet": (folder, 1 / 10, 10, {}),
        "imagenet-real": (folder, 4 / 8, 8, {}),
        "imagenetv2": (
            tmp_path / "v2",
            (1 / 10 + 3 / 12 + 5 / 14) / 3,
            36,
            dict(zip(V2_PARTS, (1 / 10, 3 / 12, 5 / 14), strict=True)),
        ),
    }
    for dataset, (data, top1, images, parts) in expected.items():
        found = job(home, network, dataset, data)
        assert (found["top1"], found["images"]) == (pytest.approx(top1), images)
        assert found["parts"] == pytest.approx(parts) and evaluations.problem(found) == ""
    kept = {record["dataset"]: record for record in evaluations.read_all(home)}
    assert {name: record["top1"] for name, record in kept.items()} == {
        name: pytest.approx(top1) for name, (_, top1, _, _) in expected.items()
    }
    assert (
        kept["imagenet"]["mean_per_class"] == pytest.approx(1 / 10) and kept["imagenet-real"]["mean_per_class"] is None
    )
    assert {record["network"] for record in kept.values()} == {backbones.load(home, network).hash}
    assert main(["evaluate", "--backbone", network, "--dataset", "imagenet", "--data", str(folder), "--json"]) == 0
    assert len(evaluations.read_all(home)) == 3  # the same again


def test_the_users_own_data_have_a_name_of_their_own(home, tmp_path):
    """Also a folder that is called as one of ImageNet's sets."""
    network = always(tmp_path / "three.pth", 3)
    write_images(tmp_path / "imagenet", [str(n) for n in range(CLASSES)], each=5)
    found = job(home, network, str(tmp_path / "imagenet"))
    assert found["dataset"] == "imagenet (own data)" and found["dataset_hash"]
    assert (found["top1"], found["images"]) == (pytest.approx(0.1), 10)  # one test image a class


def test_a_cancelled_or_failed_evaluation_leaves_nothing(home, tmp_path):
    network = always(tmp_path / "three.pth", 3)
    folder = write_images(tmp_path / "imagenet", [str(n) for n in range(CLASSES)], each=1)

    def cancel(progress):
        if progress.done:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        job(home, network, "imagenet", folder, cancel)
    (folder / "7" / "broken.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"broken\.png cannot be read as an image"):
        job(home, network, "imagenet", folder)
    assert evaluations.read_all(home) == []


def refused(home, backbone, dataset, data=""):
    with pytest.raises(InputError) as caught:
        require_evaluable(home, EvaluateSpec.of(backbone, dataset, str(data)))
    (line,) = str(caught.value).splitlines()
    return line


def test_what_is_known_before_is_refused_before(home, tmp_path, images):
    """Nothing is loaded: the network's card and the names of folders suffice."""
    importing.add(home, pruned_file(tmp_path / "net.pth", 0.5), "ten")
    state = torch.load(tmp_path / "net.pth")
    torch.save({name: value for name, value in state.items() if not name.startswith("linear")}, tmp_path / "bare.pth")
    importing.add(home, tmp_path / "bare.pth", "bare", architecture="resnet20")
    folder = write_images(tmp_path / "imagenet", [str(n) for n in range(CLASSES)])
    assert "class folders in" in refused(home, "ten", "imagenet", tmp_path)
    assert "has no classifier" in refused(home, "bare", "imagenet", folder)
    assert "these images have 2" in refused(home, "ten", images)
    assert "Expected the images of imagenet in" in refused(home, "ten", "imagenet")
    assert "Expected ReaL's labels in" in refused(home, "ten", "imagenet-real", folder)
    assert "one folder of ImageNetV2's matched-frequency" in refused(home, "ten", "imagenetv2", folder)
    assert "There is no folder or file at" in refused(home, "ten", str(tmp_path / "nowhere" / "images"))
    assert "is a detector" in refused(home, "yolov3_tiny", "imagenet", folder)
    for dataset in ("imagenet", "cifar10", str(folder)):
        require_evaluable(home, EvaluateSpec.of("ten", dataset, "" if dataset != "imagenet" else str(folder)))
    with pytest.raises(InputError, match="dataset must be"):
        EvaluateSpec("ten", " ")
