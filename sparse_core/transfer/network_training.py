"""The training of a backbone with its classifier on images: steps, tests after every epoch, state to resume from.

``finetune`` trains under a fixed mask, ``sparsify`` while it prunes: they subclass ``NetworkTraining``.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.dataset import Dataset
from sparse_core.datasets.loading import ImageLoader, batches, normalised, shifted
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError
from sparse_core.networks.classifier import ClassifierNetwork
from sparse_core.transfer.evaluation import Scores
from sparse_core.transfer.training import Curves, Diverged, Reporter, Result, no_report, shuffled_rows

TEST_BATCH = 16
MEMORY_SHARE = 0.4  # of the free memory, for decoded images
AnyDataset = TypeVar("AnyDataset", Dataset, BoxDataset)


@dataclass(frozen=True)
class Passes:
    """How the images pass through the network in training. ``augmentation`` is "" (whole images), "crops" (random resized crops
    and flips) or "shifts" (small shifts and flips, for small images); ``precision`` is fp32 or bf16; ``stage`` is what the
    progress calls the training."""

    batch_size: int
    precision: str
    label_smoothing: float
    augmentation: str
    stage: str
    test_batch: int = TEST_BATCH


class EpochTraining:
    """The epochs of one network's training, whatever it learns: its optimiser, its curves, its state; ``epoch`` epochs have
    ended. Subclasses make network and optimiser, and override ``learning_rate``, ``learn``, ``test`` and what they need of the
    others."""

    network: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, images: int, batch_size: int, stage: str, seed: int) -> None:
        self.stage, self.seed, self.rows = stage, seed, images
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.epoch = 0
        self.curves: Curves = {"loss": []}
        self.seconds: list[float] = []
        self.steps_per_epoch = -(-images // batch_size)

    def learn(self, rows: np.ndarray) -> Iterator[tuple[float, int]]:
        """Train on these training images in their order; after each step, its mean loss and its number of images.
        ``begin_step`` is called before each."""
        raise NotImplementedError

    def test(self) -> dict[str, float]:
        """Test the network, as it is after an epoch: values for the curves."""
        raise NotImplementedError

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over the whole training."""
        raise NotImplementedError

    def before_step(self, step: int) -> None:
        """Called before the forward pass of a step."""

    def update(self) -> None:
        """Change the weights after the backward pass of a step."""
        self.optimizer.step()

    def set_training_mode(self) -> None:
        """Called before the steps of an epoch."""
        self.network.train()

    def measure(self) -> dict[str, float]:
        """More values for the curves, after the steps of an epoch and before its test."""
        return {}

    def diverged(self, part: str) -> InputError:
        """The error for ``part`` being no longer finite."""
        return Diverged(
            f"Training diverged: {part} is no longer finite in epoch {self.epoch + 1}. Lower the learning rate."
        )

    def state(self) -> dict[str, Any]:
        """What ``resume`` needs to continue bit by bit."""
        tensors = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {"epoch": self.epoch, "curves": self.curves, "seconds": self.seconds, **tensors}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved ``state``; an empty one changes nothing."""
        if not state:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.curves = state["epoch"], state["curves"]
        self.seconds = state.get("seconds", [])  # missing in states that an earlier version saved

    def run_epoch(self, reporter: Reporter) -> None:
        """Train on every image once, then test."""
        started = time.perf_counter()
        steps, curves, total = self.steps_per_epoch, {self.seed: self.curves}, 0.0
        self.set_training_mode()
        for number, (loss, images) in enumerate(self.learn(shuffled_rows(self.seed, self.epoch, self.rows)), 1):
            if not np.isfinite(loss):
                raise self.diverged("the loss")
            total += loss * images
            reporter.update(f"{self.stage}: step {number:,} of {steps:,} in epoch", self.epoch + number / steps, curves)
        self.finish_epoch(total / self.rows)
        self.seconds.append(time.perf_counter() - started)
        reporter.update(f"{self.stage}: step {steps:,} of {steps:,} in epoch", self.epoch, curves)

    def begin_step(self, number: int) -> None:
        """Set the learning rate of a step of this epoch, counted from 0."""
        step = self.epoch * self.steps_per_epoch + number
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.before_step(step)

    def autocast(self, precision: str) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def finish_epoch(self, loss: float) -> None:
        """Check the network, test it, and add to the curves; ``loss`` is the mean over the epoch's images."""
        if not all(bool(tensor.isfinite().all()) for tensor in self.network.state_dict().values()):
            raise self.diverged("a weight or a BatchNorm statistic")
        measured = self.measure()
        for name, value in {"loss": loss, **self.test(), **measured}.items():
            self.curves.setdefault(name, []).append(value)
        self.epoch += 1


class NetworkTraining(EpochTraining):
    """The training of a network that classifies images."""

    network: ClassifierNetwork

    def __init__(self, dataset: Dataset, transform: Transform, passes: Passes, seed: int) -> None:
        super().__init__(len(dataset.train.labels), passes.batch_size, passes.stage, seed)
        self.dataset, self.transform, self.passes = dataset, transform, passes
        self.curves |= {"top1": [], "mean_per_class": []}
        budget = int(MEMORY_SHARE * psutil.virtual_memory().available)
        self.test_images = ImageLoader(dataset.test, transform, budget // 3)
        self.images = ImageLoader(dataset.train, transform, budget - budget // 3)
        self.scores = Scores(dataset.test.labels, len(dataset.class_names))
        self.predictions = np.empty(0, dtype=np.int64)

    def learn(self, rows: np.ndarray) -> Iterator[tuple[float, int]]:
        labels, size = self.dataset.train.labels, self.passes.batch_size
        for number, images in enumerate(self.training_batches(rows.tolist(), size)):
            self.begin_step(number)
            yield self.step(self._augmented(images, number), labels[rows[number * size :][: len(images)]]), len(images)

    def test(self) -> dict[str, float]:
        self.predictions = self.predict(self.passes.precision, range(len(self.dataset.test.labels)))
        if (self.predictions < 0).any():
            raise self.diverged("the output for a test image")
        top1, mean_per_class = self.scores.score(torch.from_numpy(self.predictions))
        return {"top1": top1, "mean_per_class": mean_per_class}

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One step on images (N, H, W, 3) uint8 and labels (N,); returns the mean loss."""
        with self.autocast(self.passes.precision):
            logits = self.network(self.input(images))
        targets = torch.from_numpy(labels).to(self.device)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.passes.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.update()
        return float(loss.detach())

    def training_batches(self, rows: Sequence[int], size: int) -> Iterator[np.ndarray]:
        """Training images as the present epoch uses them, before shifts."""
        if self.passes.augmentation == "crops":
            return batches(lambda row: self.images.augmented(row, self.seed, self.epoch), rows, size)
        return self.images.centre_cropped_batches(rows, size)

    def predict(self, precision: str, rows: Sequence[int]) -> np.ndarray:
        """The predicted class of each of these test images; −1 where its logits are not finite."""
        self.network.eval()
        with torch.inference_mode(), self.autocast(precision):
            predicted = [
                _classes(self.network(self.input(images))).cpu().numpy()
                for images in self.test_images.centre_cropped_batches(rows, self.passes.test_batch)
            ]
        return np.concatenate(predicted)

    def result(self, learning_rate: float, details: dict[str, Any]) -> Result[ClassifierNetwork]:
        """The network as it is now, on the CPU, with its history."""
        confusion, network = self.scores.confusion(torch.from_numpy(self.predictions)), self.network.cpu()
        history = (confusion, self.predictions.copy(), network, self.seconds)
        return Result(self.seed, learning_rate, self.curves, *history, details)

    def input(self, images: np.ndarray) -> Tensor:
        """Images (N, H, W, 3) uint8 as the network takes them."""
        return normalised(images, self.transform).to(self.device)

    def _augmented(self, images: np.ndarray, number: int) -> np.ndarray:
        if self.passes.augmentation != "shifts":
            return images
        return shifted(images, np.random.default_rng([self.seed, self.epoch, number]))


def time_epoch(train: Callable[[AnyDataset], EpochTraining], dataset: AnyDataset, images: int, tested: int) -> float:
    """Estimated seconds per epoch, test included: from an epoch of what ``train`` makes for a part of the dataset, up to
    ``images`` to train on and ``tested`` to test, after one to warm up, in which they are decoded."""
    rows, test_rows = len(dataset.train.labels), len(dataset.test.labels)
    part = dataclasses.replace(
        dataset,
        train=dataset.train.only(np.arange(min(images, rows))),
        test=dataset.test.only(np.arange(min(tested, test_rows))),
    )
    training = train(part)
    reporter = Reporter(no_report, 2)
    for _ in range(2):
        training.run_epoch(reporter)
    started = time.perf_counter()
    training.test()
    test = time.perf_counter() - started
    trained = max(0.0, training.seconds[-1] - test)
    return trained / len(part.train.labels) * rows + test / len(part.test.labels) * test_rows


def _classes(logits: Tensor) -> Tensor:
    """The class of the highest logit (N,); −1 where one is not finite, since ``argmax`` takes the first NaN for the highest."""
    return logits.argmax(1).where(logits.isfinite().all(1), -1)
