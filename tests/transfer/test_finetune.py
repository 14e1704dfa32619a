"""Full transfer against a plain torch loop, and its guarantee: a pruned weight stays exactly 0, whatever the options."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from sparse_core.datasets import catalogue, loading
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import Cancelled, InputError
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone, BackboneCard
from sparse_core.specs.progress import Progress
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec
from sparse_core.transfer import finetune, network_training, training
from sparse_core.transfer.finetune import FixedMask
from sparse_core.transfer.training import Diverged, initial_classifier, shuffled_rows
from tests.support.images import torchvision_steps


@pytest.fixture(autouse=True)
def every_report(monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN", 0.0)


TINY = Transform(20, 16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


class Body(nn.Module):
    """A small backbone: convolutions, BatchNorm, pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, bias=False)
        self.bn2 = nn.BatchNorm2d(12)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x))).mean(dim=(2, 3))


@pytest.fixture
def backbone():
    torch.manual_seed(3)
    body = Body().eval().requires_grad_(False)
    masks.apply(body, masks.top_k(body, 0.6))
    card = BackboneCard("tiny", "tiny", "nothing", "Magnitude", 0.6, "file", "", True)
    return Backbone(card, body, 12, TINY, "hash", 0.6, mask=masks.from_zeros(body))


def make_images(root, classes: int = 3, count: int = 10) -> str:
    generator = np.random.default_rng(0)
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
        for index in range(count):
            values = generator.integers(70 * label, 70 * label + 90, (24, 30, 3), dtype=np.uint8)
            Image.fromarray(values).save(root / f"class{label}" / f"{index}.png")
    return str(root)


@pytest.fixture
def dataset(home, tmp_path):
    return catalogue.load(home, make_images(tmp_path / "p"))


def spec(**options) -> FinetuneSpec:
    values = {"epochs": 3, "learning_rate": 0.05, "batch_size": 7, "step_epochs": 2}
    settings = Hyperparameters(**{**values, **options.pop("settings", {})})
    return FinetuneSpec("tiny", "p", settings=settings, **{"precision": "fp32", **options})


def stop_at(done: int, error: type[BaseException]):
    """A report that raises ``error``. KeyboardInterrupt acts as a kill: it leaves the checkpoint."""

    def report(progress: Progress) -> None:
        if progress.done == done:
            raise error

    return report


def reference(backbone, dataset, seed: int, epochs: int, *, label_smoothing: float = 0.0):
    """The same training as a plain loop: torch.optim.SGD, the weights times the mask after each step."""
    body = copy.deepcopy(backbone.module).requires_grad_(True)
    classifier = nn.Linear(12, 3)
    for parameter, value in zip(classifier.parameters(), initial_classifier(seed, 3, 12), strict=True):
        parameter.data.copy_(value)
    network = nn.Sequential(body, classifier)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    steps = torchvision_steps(20, 16, TINY.mean, TINY.std)
    x = torch.stack([steps(dataset.train.load(row)) for row in range(len(dataset.train.labels))])
    y = torch.from_numpy(dataset.train.labels)
    for epoch in range(epochs):
        network.train()
        for rows in torch.from_numpy(shuffled_rows(seed, epoch, len(x))).split(7):
            loss = nn.functional.cross_entropy(network(x[rows]), y[rows], label_smoothing=label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for name, kept in backbone.mask.tensors.items():
                    body.get_parameter(name).mul_(kept)
        schedule.step()
    return network


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_training_equals_a_plain_loop_with_a_mask(backbone, dataset, label_smoothing):
    asked = spec(augment=False, label_smoothing=label_smoothing)
    result = finetune.train(backbone, dataset, asked, seed=4)
    expected = reference(backbone, dataset, 4, 3, label_smoothing=label_smoothing)
    trained = dict(zip(expected.state_dict(), result.network.state_dict().values(), strict=True))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adamw", "settings": {"learning_rate": 0.01}},
        {"from_scratch": True},
        {"freeze_batch_norm": True},
        {"precision": "bf16"},
        {"augment": False},
    ],
)
def test_pruned_weights_stay_exactly_zero(backbone, dataset, options):
    result = finetune.train(backbone, dataset, spec(**options), seed=0)
    assert result.curves["mask_violations"] == [0, 0, 0]
    assert masks.violations(result.network.body, backbone.mask) == 0
    assert result.details["sparsity_after"] == pytest.approx(result.details["sparsity_before"])
    kept = backbone.mask.tensors["conv2.weight"]
    moved = result.network.body.conv2.weight != backbone.module.conv2.weight
    assert bool(moved[kept].any())
    assert len(result.curves["top1"]) == 3
    right = result.predicted == dataset.test.labels
    assert (result.confusion.sum(), result.confusion.trace()) == (len(right), right.sum())
    assert (result.details["top1_final_fp32"] is None) == (options.get("precision") != "bf16")


def test_a_pruned_weight_that_is_not_zero_stops_the_training(backbone, dataset, monkeypatch):
    monkeypatch.setattr(FixedMask, "hold", lambda self: None)
    with pytest.raises(RuntimeError, match=r"pruned weights of seed 0 are not 0 in epoch 1\."):
        finetune.train(backbone, dataset, spec(), seed=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-30])
def test_pruned_weights_are_reset_to_zero_from_any_value(backbone, value):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        body = copy.deepcopy(backbone.module).to(memory_format=memory_format)
        before = {name: weight.clone() for name, weight in masks.prunable(body).items()}
        fixed = FixedMask(body, backbone.mask)
        for name, kept in backbone.mask.tensors.items():
            body.get_parameter(name).data[~kept] = value
        assert fixed.violations() > 0
        fixed.hold()
        assert fixed.violations() == 0
        for name, weight in masks.prunable(body).items():
            assert torch.equal(weight, before[name])


def test_frozen_batch_norm_does_not_change(backbone, dataset):
    result = finetune.train(backbone, dataset, spec(freeze_batch_norm=True), seed=0)
    for name, value in backbone.module.bn1.state_dict().items():
        assert torch.equal(result.network.body.bn1.state_dict()[name], value)


def test_random_initial_weights_replace_the_upstream_ones(backbone):
    body = copy.deepcopy(backbone.module)
    finetune.draw_weights(body, 0)
    again = copy.deepcopy(backbone.module)
    finetune.draw_weights(again, 0)
    assert torch.equal(body.conv1.weight, again.conv1.weight)
    assert not torch.equal(body.conv1.weight, backbone.module.conv1.weight)
    assert body.conv2.weight.std().item() == pytest.approx((2 / (12 * 9)) ** 0.5, rel=0.1)


def test_the_upstream_backbone_is_unchanged(backbone, dataset):
    before = copy.deepcopy(backbone.module.state_dict())
    finetune.train(backbone, dataset, spec(), seed=0)
    for name, value in backbone.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_an_interrupted_training_resumes_to_the_same_bits(backbone, dataset, tmp_path):
    whole = finetune.train(backbone, dataset, spec(), seed=1)
    file = tmp_path / "state.pt"
    for epoch in (2, 3, 3):
        with pytest.raises(KeyboardInterrupt):
            stop = stop_at(epoch, KeyboardInterrupt)
            finetune.train(backbone, dataset, spec(), seed=1, on_progress=stop, checkpoint=file)
    seconds = torch.load(file)["seconds"]
    events = []
    resumed = finetune.train(backbone, dataset, spec(), seed=1, on_progress=events.append, checkpoint=file)
    assert {event.done for event in events} == {3}
    assert len(resumed.seconds) == 3
    assert resumed.seconds[:2] == seconds
    assert file.exists()  # until the result is on disk
    assert resumed.curves == whole.curves
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)


def test_the_checkpoint_of_another_training_is_ignored(backbone, dataset, tmp_path):
    file = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        finetune.train(backbone, dataset, spec(), seed=1, on_progress=stop_at(2, KeyboardInterrupt), checkpoint=file)
    events = []
    finetune.train(backbone, dataset, spec(), seed=2, on_progress=events.append, checkpoint=file)
    assert {event.done for event in events} == {1, 2, 3}
    file.write_bytes(b"damaged")
    finetune.train(backbone, dataset, spec(), seed=2, checkpoint=file)


def test_a_cancelled_training_leaves_no_checkpoint(backbone, dataset, tmp_path):
    file = tmp_path / "state.pt"
    with pytest.raises(Cancelled):
        finetune.train(backbone, dataset, spec(), seed=0, on_progress=stop_at(2, Cancelled), checkpoint=file)
    assert not list(tmp_path.glob("state*"))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"learning_rate": 1e30}, "the loss"),
        ({"learning_rate": 1e25, "batch_size": 99}, "the output for a test image"),
        ({"learning_rate": 1e38, "batch_size": 99, "weight_decay": 100.0}, "a weight"),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_divergence_is_reported_in_one_line(backbone, dataset, options, part, optimizer):
    with pytest.raises(InputError, match=f"Training diverged: {part} .* in epoch 1 at .* Lower the learning rate"):
        finetune.train(backbone, dataset, spec(settings=options, optimizer=optimizer), seed=0)


def test_divergence_in_a_later_epoch_leaves_no_checkpoint(backbone, dataset, tmp_path, monkeypatch):
    file = tmp_path / "state.pt"

    def spoil(progress: Progress) -> None:
        if progress.done == 2:
            assert file.exists()
            monkeypatch.setattr(network_training, "normalised", lambda *_: torch.full((7, 3, 16, 16), float("nan")))

    with pytest.raises(Diverged):
        finetune.train(backbone, dataset, spec(), seed=0, on_progress=spoil, checkpoint=file)
    assert not list(tmp_path.glob("state*"))


def test_a_negative_variance_counts_as_divergence(backbone, dataset):
    backbone.module.bn2.running_var.fill_(-1.0)
    with pytest.raises(Diverged, match="if that does not help, the backbone is damaged"):
        finetune.train(backbone, dataset, spec(freeze_batch_norm=True), seed=0)


def test_crops_are_drawn_as_torchvision_draws_them():
    """Heights and widths have the same quartiles, and crops lie within the image."""
    generator = np.random.default_rng(0)
    ours = np.array([loading.random_crop(120, 90, generator) for _ in range(4000)])
    assert (ours[:, 0] + ours[:, 2] <= 120).all()
    assert (ours[:, 1] + ours[:, 3] <= 90).all()
    torch.manual_seed(0)
    image = torch.zeros(3, 90, 120)
    crop = v2.RandomResizedCrop(8)
    theirs = np.array([list(crop.make_params([image]).values()) for _ in range(4000)])
    quartiles = [0.25, 0.5, 0.75]
    expected = np.quantile(theirs[:, [3, 2]], quartiles, axis=0)
    np.testing.assert_allclose(np.quantile(ours[:, 2:], quartiles, axis=0), expected, atol=4)


def test_augmented_images_depend_on_seed_epoch_and_row_only(dataset):
    first = loading.ImageLoader(dataset.train, TINY, 10**6)
    again = loading.ImageLoader(dataset.train, TINY, 0)
    np.testing.assert_array_equal(first.augmented(3, 0, 1), again.augmented(3, 0, 1))
    assert not np.array_equal(first.augmented(3, 0, 1), first.augmented(3, 0, 2))
    assert first.augmented(3, 0, 1).shape == (16, 16, 3)


def test_the_last_batch_is_smaller_and_the_order_kept(dataset):
    labels = [batch[:, 0, 0, 0].tolist() for batch in loading.batches(lambda row: np.full((1, 1, 1), row), range(8), 3)]
    assert labels == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_the_estimate_of_an_epoch_decodes_only_what_it_times(backbone, dataset, monkeypatch):
    """Small images are decoded at once: of a large dataset that would take longer than what is timed."""
    monkeypatch.setattr(finetune, "TIMED_IMAGES", 2)
    monkeypatch.setattr(finetune, "TIMED_PIXELS", 4 * TINY.crop**2)
    decoded: list[str] = []
    splits = {
        name: replace(split, open=lambda row, name=name, split=split: decoded.append(name) or split.open(row))
        for name, split in (("train", dataset.train), ("test", dataset.test))
    }
    assert finetune.time_epoch(backbone, replace(dataset, **splits), spec(augment=False)) > 0
    assert (decoded.count("train"), decoded.count("test")) == (4, 4)
