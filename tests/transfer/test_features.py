"""Features against torchvision's, and their cache against damage and bad input."""

import dataclasses
import resource
import shutil
from importlib.metadata import version

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from sparse_core.datasets import catalogue
from sparse_core.datasets.transforms import CIFAR, IMAGENET, LITE, prepare
from sparse_core.engines import choice, compiling
from sparse_core.engines.extractor import Extractor
from sparse_core.networks import backbones
from sparse_core.results import predictions
from sparse_core.results.records import Records
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.transfer import durations, feature_cache, features, runs
from tests.support.images import torchvision_steps
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).eval()
    file = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save(network.state_dict(), file)
    return network, file


@pytest.fixture
def images(home, tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for index in range(6):
            size = (300 + 10 * index, 260, 3) if index % 2 else (256, 340, 3)
            values = generator.integers(0, 255, size, dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "d" / name / f"{index}.png")
    return catalogue.load(home, str(tmp_path / "d"))


@pytest.fixture
def backbone(home, weights):
    return backbones.load(home, f"resnet18:{weights[1]}")


def test_features_equal_torchvisions(home, weights, backbone, images):
    network, _ = weights
    extracted = features.extract(home, backbone, images)
    body = torch.nn.Sequential(*list(network.children())[:-1], torch.nn.Flatten())
    steps = torchvision_steps(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = torch.stack([steps(images.train.load(row)) for row in range(len(images.train.labels))])
    with torch.no_grad():
        expected = body(expected).numpy()
    np.testing.assert_allclose(extracted.train, expected, atol=1e-5 * np.abs(expected).max())
    assert extracted.train_labels.tolist() == images.train.labels.tolist()


@pytest.mark.parametrize("transform", [IMAGENET, LITE, CIFAR], ids=["bilinear", "bicubic", "cifar"])
@pytest.mark.parametrize("size", [(300, 200), (97, 1203), (8, 8), (30, 1000), (2000, 3), (1, 3000)])
def test_images_of_any_shape_are_resized_and_cropped_as_torchvision_does(transform, size):
    width, height = size
    x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
    waves = 127 + 80 * np.sin(x / 9 + np.arange(3)) + 40 * np.cos(y / 7 + np.arange(3))
    shown = Image.fromarray(waves.astype(np.uint8))
    resized = v2.Resize(transform.resize, v2.InterpolationMode(transform.interpolation))(shown)
    cropped = np.asarray(v2.CenterCrop(transform.crop)(resized))
    difference = np.abs(prepare(shown, transform).astype(int) - cropped)
    assert difference.max() <= (2 if max(size) > 16 * min(size) else 0)  # both passes round


def test_a_narrow_strip_is_resized_in_little_memory():
    """Resized whole, it would take 1.3 billion pixels."""
    strip = Image.linear_gradient("L").resize((1, 20_000)).convert("RGB")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert prepare(strip, IMAGENET).shape == (224, 224, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_features_are_read_from_the_cache_the_second_time(home, backbone, images):
    first = features.extract(home, backbone, images)
    again = features.extract(home, backbone, images)
    assert (first.cached, again.cached) == (False, True)
    np.testing.assert_array_equal(first.train, again.train)
    assert isinstance(again.train, np.memmap)


def test_damaged_features_are_extracted_again(backbone, images, home):
    first = np.array(features.extract(home, backbone, images).train)
    (file,) = (home / "features").glob("*/train.npy")
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    again = features.extract(home, backbone, images)
    assert not again.cached
    assert "damaged" in again.notes[0]
    np.testing.assert_array_equal(again.train, first)
    file.with_name("manifest.json").unlink()
    assert not features.extract(home, backbone, images).cached


def run_probe(home, weights, images_folder):
    settings = Hyperparameters(epochs=2, batch_size=4)
    spec = ProbeSpec(f"resnet18:{weights[1]}", str(images_folder), settings=settings, engine="torch")
    return spec, runs.run_probe(home, spec, (0,), lambda progress: None)


def test_an_extraction_killed_at_its_end_keeps_the_time_it_took(home, weights, images, tmp_path, monkeypatch):
    """All rows are written, so nothing is left to extract; the time they took was saved with them."""
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr(feature_cache.Unfinished, "finish", killed)
        run_probe(home, weights, tmp_path / "d")
    spec, given = run_probe(home, weights, tmp_path / "d")
    result = Records(home).read(given["runs"][0]).result
    assert result["images_per_second"] == pytest.approx(12 / result["seconds_features"])
    assert result["seconds_features"] > 0.01
    assert result["products"] == "fp32"
    predicted = predictions.decode(result["predicted"], result["test_images"], len(result["class_names"]))
    cells = np.stack([catalogue.load(home, spec.dataset).test.labels, predicted], axis=1)
    found, counts = np.unique(cells, axis=0, return_counts=True)
    assert np.column_stack([found, counts]).tolist() == result["confusion"]
    known = durations.recall(home, spec)
    assert known.seconds_per_image == pytest.approx(1 / result["images_per_second"])


def killed(*_):
    raise RuntimeError("killed")


def test_a_result_is_written_before_the_estimate(home, weights, images, tmp_path, monkeypatch):
    monkeypatch.setattr(durations, "remember", killed)
    with pytest.raises(RuntimeError, match="killed"):
        run_probe(home, weights, tmp_path / "d")
    assert len(Records(home).ids()) == 1


def test_reduced_precision_has_a_cache_of_its_own(home, backbone, images):
    full = features.extract(home, backbone, images)
    reduced = features.extract(home, backbone, images, precision="bf16")
    assert not reduced.cached
    assert not np.array_equal(full.train, reduced.train)
    assert np.abs(reduced.train - full.train).max() < 0.05 * np.abs(full.train).max()
    assert "Unknown precision" in refused(features.extract, home, backbone, images, precision="int4")


def test_other_engines_give_the_same_features_and_are_recorded(home, backbone, images):
    by_torch = features.extract(home, backbone, images, engine="torch")
    by_other = features.extract(home, backbone, images, engine="onnxruntime")
    assert not by_other.cached
    np.testing.assert_allclose(by_other.train, by_torch.train, atol=1e-3 * np.abs(by_torch.train).max())
    assert (by_torch.engine, by_torch.engine_version) == ("torch", torch.__version__)
    assert (by_other.engine, by_other.engine_version) == ("onnxruntime", version("onnxruntime"))
    assert features.extract(home, backbone, images, engine="onnxruntime").cached


def test_an_engine_that_is_not_exact_is_refused(backbone, images, monkeypatch, home):
    monkeypatch.setattr(compiling, "difference", lambda *_: 0.5)
    message = refused(features.extract, home, backbone, images, engine="onnxruntime")
    assert "ONNX Runtime differs from PyTorch's in fp32" in message
    assert not list((home / "features").glob("*"))


def test_the_engine_is_the_one_asked_for_then_the_cached_one_then_the_fastest(backbone, images, monkeypatch, home):
    asked = []

    def fastest(home, backbone, sample, images, report):
        asked.append((sample().shape, images))
        return Extractor("onnxruntime", backbone), ["a remark"]

    monkeypatch.setattr(choice, "open_fastest", fastest)
    spec = ProbeSpec("resnet18", "images")

    def extract(spec):
        return features.extract(home, backbone, images, precision=spec.precision, engine=spec.engine)

    assert extract(dataclasses.replace(spec, engine="torch")).engine == "torch"
    assert extract(spec).engine == "torch"
    assert not asked
    assert extract(dataclasses.replace(spec, precision="bf16")).engine == "torch"
    shutil.rmtree(home / "features")
    made = extract(spec)
    assert made.engine == "onnxruntime" and "a remark" in made.notes
    assert asked == [((features.SAMPLE_IMAGES, 224, 224, 3), 12)]


def test_features_that_are_not_finite_are_refused(backbone, images, home):
    backbone.module.layer4[1].bn2.weight.fill_(float("nan"))
    assert "NaN or infinite features" in refused(features.extract, home, backbone, images)
    assert not [entry for entry in (home / "features").iterdir() if not entry.name.startswith(".")]


def test_a_full_disk_is_refused_before_the_extraction(home, backbone, images, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    assert "Not enough disk space" in refused(features.extract, home, backbone, images)


def test_an_estimate_uses_the_known_times_and_compiles_nothing(home, backbone, images, monkeypatch):
    spec = ProbeSpec("b", "d")
    arguments = (home, backbone, images, spec.precision, spec.engine, lambda progress: None)
    assert 0 < features.seconds_per_image(*arguments) < 10  # by extracting
    monkeypatch.setattr(choice, "known_seconds", lambda home, backbone, count: 100.0 * count)
    monkeypatch.setattr(features, "open_extractor", killed)
    assert 100 < features.seconds_per_image(*arguments) < 101  # decoding comes on top


def test_another_image_size_gives_the_features_of_images_prepared_so(home, weights, backbone, images):
    network, _ = weights
    extracted = features.extract(home, backbones.for_images(backbone, 96), images)
    body = torch.nn.Sequential(*list(network.children())[:-1], torch.nn.Flatten())
    steps = torchvision_steps(110, 96, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # 256 · 96 / 224 = 109.7
    expected = torch.stack([steps(images.train.load(row)) for row in range(len(images.train.labels))])
    with torch.no_grad():
        np.testing.assert_allclose(extracted.train, body(expected).numpy(), rtol=1e-3, atol=1e-4)
    assert not features.extract(home, backbone, images).cached  # of another size
    assert features.extract(home, backbones.for_images(backbone, 96), images).cached


def test_an_image_size_is_kept_with_the_run_and_the_backbones_own_is_none(home, backbone, images, tmp_path):
    spec = ProbeSpec(backbone.card.name, str(tmp_path / "d"), settings=Hyperparameters(epochs=1), engine="torch")
    small = runs.run_probe(home, dataclasses.replace(spec, image_size=64), (0,), lambda _: None)
    record = Records(home).read(small["runs"][0])
    assert record.spec["image_size"] == 64 and "64 px images" in record.result["protocol"]
    _, _, own = runs.resolve(home, dataclasses.replace(spec, image_size=224), lambda _: None)
    assert own.image_size == 0


def test_an_image_size_that_the_network_does_not_take_is_refused(home):
    network = backbones.untrained("alexnet")
    assert "AlexNet".lower() in refused(backbones.for_images, network, 32).lower()
