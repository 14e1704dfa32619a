"""Online training against the same steps by hand, its stream of images, and its records. No test checks a time."""

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_core.datasets import catalogue, loading
from sparse_core.datasets.transforms import CIFAR
from sparse_core.engines import compiling
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import InputError
from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, masks
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import online_training, paired_timing, speedup
from sparse_core.transfer.training import initial_classifier
from tests.support.engines import AVAILABLE, calibrated

CLASSES, IMAGES = 3, 40
DIMENSIONS = 6


class Means(Compiled):
    """An engine whose features are the mean and the standard deviation of each colour."""

    def __init__(self):
        super().__init__("torch", CIFAR.crop, online_training.BATCH_SIZE, 1)

    def _run_batch(self, given):
        return np.concatenate([given.mean((2, 3)), given.std((2, 3))], axis=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three classes of coloured noise, JPEGs of different sizes."""
    generator = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("images")
    for label in range(CLASSES):
        (root / f"class{label}").mkdir()
        for index in range(IMAGES):
            values = generator.integers(0, 90, (44 + index, 60, 3), dtype=np.uint8)
            values[..., label] += 120
            Image.fromarray(values).save(root / f"class{label}" / f"{index}.jpg", quality=95)
    return catalogue.load(tmp_path_factory.mktemp("home"), str(root))


@pytest.fixture
def pipeline(dataset):
    return online_training.Pipeline(Means(), dataset, CIFAR, DIMENSIONS)


def test_the_classifier_takes_the_steps_of_sgd(pipeline, dataset):
    rows = np.random.default_rng(1).permutation(len(dataset.train.labels)).tolist()
    weight, bias = (tensor.double().numpy() for tensor in initial_classifier(0, CLASSES, DIMENSIONS))
    weight_velocity, bias_velocity = np.zeros_like(weight), np.zeros_like(bias)
    for epoch in (0, 1):
        for start in range(0, len(rows), 64):
            some = rows[start : start + 64]
            batch = np.stack([pipeline.images.augmented(row, 0, epoch) for row in some])
            scaled = (batch / 255 - CIFAR.mean) / CIFAR.std
            features = np.concatenate([scaled.mean((1, 2)), scaled.std((1, 2))], axis=1)
            scores = np.exp(features @ weight.T + bias)
            wrong = scores / scores.sum(1, keepdims=True) - np.eye(CLASSES)[dataset.train.labels[some]]
            weight_velocity = 0.9 * weight_velocity + wrong.T @ features / len(some) + 5e-4 * weight
            bias_velocity = 0.9 * bias_velocity + wrong.mean(0) + 5e-4 * bias
            weight -= 0.01 * weight_velocity
            bias -= 0.01 * bias_velocity
        pipeline.train(rows, epoch)
    np.testing.assert_allclose(pipeline.classifier.weight.detach(), weight, atol=1e-5)
    np.testing.assert_allclose(pipeline.classifier.bias.detach(), bias, atol=1e-5)


def test_accuracy_is_that_of_the_test_images(pipeline, dataset):
    for epoch in range(10):
        pipeline.train(range(len(dataset.train.labels)), epoch)
    whole = loading.ImageLoader(dataset.test, CIFAR, 0)
    rows = range(len(dataset.test.labels))
    given = loading.normalised(np.stack([whole.centre_cropped(row) for row in rows]), CIFAR).numpy()
    features = Means().run(given)
    scores = features @ pipeline.classifier.weight.detach().numpy().T + pipeline.classifier.bias.detach().numpy()
    accuracy = pipeline.accuracy()
    assert accuracy == (scores.argmax(1) == dataset.test.labels).mean()
    assert accuracy > 0.9  # of three colours


def test_the_stream_is_the_same_for_both_networks_and_differs_between_epochs(pipeline, dataset):
    other = online_training.Pipeline(Means(), dataset, CIFAR, DIMENSIONS)
    rows = list(range(len(dataset.train.labels)))
    sizes = []
    for ours, theirs in zip(pipeline.stream(rows, 0), other.stream(rows, 0), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == np.float32 and ours.flags.c_contiguous
        sizes.append(len(ours))
    assert sizes == [64, len(rows) - 64]
    assert not np.array_equal(next(pipeline.stream(rows, 0)), next(pipeline.stream(rows, 1)))


def test_the_split_sums_the_time_of_each_part(pipeline, dataset, monkeypatch):
    """A clock that advances only when the backbone runs (5), the classifier steps (2), and a batch is waited for (1)."""
    passed = [0.0]

    def takes(function, seconds):
        def taking(*given, **named):
            passed[0] += seconds
            return function(*given, **named)

        return taking

    monkeypatch.setattr(online_training.time, "perf_counter", lambda: passed[0])
    monkeypatch.setattr(pipeline.compiled, "run", takes(pipeline.compiled.run, 5))
    monkeypatch.setattr(pipeline, "_step", takes(pipeline._step, 2))
    monkeypatch.setattr(online_training, "normalised", takes(online_training.normalised, 1))
    rows = range(len(dataset.train.labels))
    steps = -(-len(rows) // 64)
    assert pipeline.train(rows, 0) == 8 * steps
    assert pipeline.seconds == {"waiting": steps, "backbone": 5 * steps, "classifier": 2 * steps}


@pytest.mark.parametrize(
    ("rows", "epochs", "size"),
    [
        (10_000, 1, 256),
        (768, 1, 256),
        (767, 1, 192),  # three full chunks and a remainder
        (192, 1, 64),
        (191, 2, 64),  # two chunks per epoch
        (64, 3, 64),
        (10, 3, 10),  # one batch that is not full
    ],
)
def test_a_chunk_has_whole_batches_and_there_are_at_least_three(rows, epochs, size):
    assert online_training.chunk_size(rows, epochs) == size
    assert rows // size * epochs >= 3


@pytest.mark.parametrize(("rows", "epochs", "needed"), [(191, 1, 2), (127, 2, 3), (10, 1, 3)])
def test_too_few_images_for_the_epochs_are_refused(rows, epochs, needed):
    with pytest.raises(InputError, match=f"on {rows} training images takes at least {needed} epochs; got {epochs}"):
        online_training.chunk_size(rows, epochs)
    assert online_training.chunk_size(rows, needed)


def test_too_small_a_dataset_is_refused_before_anything_is_compiled(home, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "compile", None)
    monkeypatch.setattr(catalogue, "load", lambda home, name: dataset)
    spec = SpeedupSpec(architecture="resnet20", sparsity=0.9, mode="training", dataset="small")
    with pytest.raises(InputError, match="96 training images takes at least 3 epochs; got 1"):
        kinds.run(home, Job("speedup", spec), lambda _: None)


@pytest.fixture
def networks(monkeypatch):
    """A pruned CIFAR network that classifies digits somewhat, as a backbone and as random weights."""
    torch.manual_seed(0)
    dense = calibrated(architectures.build("resnet20"))
    torch.manual_seed(0)
    sparse = architectures.build("resnet20")
    masks.apply(sparse, masks.top_k(sparse, 0.5))
    known = paired_timing.prepare

    def prepare(home, spec):
        made = known(home, spec)
        timing_only = spec.dataset != "digits"
        return paired_timing.Pair(dense, calibrated(sparse), CIFAR, {**made.description, "timing_only": timing_only})

    monkeypatch.setattr(speedup, "prepare", prepare)
    monkeypatch.setattr("sparse_core.engines.compiled.MEASURE_SECONDS", 0.0)


def test_a_record_of_online_training(home, networks):
    spec = SpeedupSpec(architecture="resnet20", sparsity=0.5, mode="training", dataset="digits", threads=1, epochs=2)
    events = []
    record = kinds.run(home, Job("speedup", spec), events.append)
    (line,) = record["lines"]
    chunks = 1437 // 256 * 2
    assert len(line["samples"]["dense"]) == len(line["samples"]["sparse"]) == chunks
    assert line["engine"] == AVAILABLE[0]
    assert line["batch_size"] == 64
    assert line["seconds_per_epoch"] == pytest.approx(np.median(line["samples"]["sparse"]) * 1.437)
    assert line["dense_seconds_per_epoch"] == pytest.approx(np.median(line["samples"]["dense"]) * 1.437)
    assert line["ratio"] == pytest.approx(line["dense_seconds_per_epoch"] / line["seconds_per_epoch"])
    for split in (line["split"], line["dense_split"]):
        assert set(split) == {"decode", "waiting", "backbone", "classifier"} and min(split.values()) > 0
    assert 0.17 < line["accuracy"] <= 1  # chance is 0.1, with a deviation of 0.016
    assert events[0].stage.endswith("compiling")
    assert [event.done for event in events[1:]] == list(range(chunks + 2))  # each epoch ends with a partial chunk


def test_both_train_again_on_a_chunk_with_a_restart(dataset, monkeypatch):
    """Each batch takes one second, except the sparse pipeline's second one: 50, because its engine restarts."""
    passed, batches, died = [0.0], [], [0]

    class Dying(Means):
        def __init__(self, name):
            super().__init__()
            self.name = name

        restarts = property(lambda self: died[0] if self.name == "sparse" else 0)

        def _run_batch(self, given):
            batches.append(self.name)
            dies = self.name == "sparse" and batches.count("sparse") == 2
            died[0] += dies
            passed[0] += 50 if dies else 1
            return super()._run_batch(given)

    monkeypatch.setattr(online_training.time, "perf_counter", lambda: passed[0])
    names = ("dense", "sparse")
    pipelines = {name: online_training.Pipeline(Dying(name), dataset, CIFAR, DIMENSIONS) for name in names}
    samples = online_training._train_in_turn(pipelines, 96, 32, 1, lambda _: None)
    assert samples == {name: [1000 / 32] * 3 for name in pipelines}
    assert batches.count("dense") == batches.count("sparse") == 4
    assert all(pipeline.seconds["backbone"] == 3 for pipeline in pipelines.values())


def test_random_weights_have_no_accuracy(home, networks, dataset, monkeypatch):
    monkeypatch.setattr(catalogue, "load", lambda home, name: dataset)
    chosen = {"mode": "training", "dataset": "p", "engines": ("onnxruntime", "torch"), "threads": 1, "epochs": 3}
    spec = SpeedupSpec(architecture="resnet20", sparsity=0.5, **chosen)
    record = kinds.run(home, Job("speedup", spec), lambda _: None)
    assert [(line["engine"], line["accuracy"]) for line in record["lines"]] == [("onnxruntime", None), ("torch", None)]
    assert all(len(line["samples"]["sparse"]) == 3 for line in record["lines"])
