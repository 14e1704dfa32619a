"""Full transfer: every unpruned weight, BatchNorm and a new dense classifier train; the mask stays fixed.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, sections 2 and 3. A weight that was pruned
upstream is exactly 0 after every step: momentum and weight decay may move it, and it is reset before the next forward pass.
"""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_core.datasets.dataset import Dataset
from sparse_core.datasets.loading import ImageLoader, batches, normalised
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.classifier import ClassifierNetwork
from sparse_core.networks.masks import Mask
from sparse_core.specs.progress import Report
from sparse_core.specs.transfer import FinetuneSpec
from sparse_core.transfer.training import (
    Curves,
    Diverged,
    Reporter,
    Result,
    TrainingState,
    initial_classifier,
    no_report,
    shuffled_rows,
)

TEST_BATCH = 16
MEMORY_SHARE = 0.4  # of the free memory, for decoded images
TIMED_IMAGES = 8


def train(
    backbone: Backbone,
    dataset: Dataset,
    spec: FinetuneSpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Result[ClassifierNetwork]:
    """Finetune one network and test it after every epoch. ``spec.precision`` is fp32 or bf16, no longer "auto".

    A seed fixes classifier, order, crops and flips, so the same seed gives the same result on the same machine and number
    of threads, in fp32 on a CPU bit by bit. ``checkpoint`` is a file for the state, saved after every epoch but the last; the
    caller discards it once the result is on disk. Raises Diverged at a loss, weight, statistic or logit that is not finite,
    and RuntimeError at a pruned weight that is not 0.

    The curves also hold ``mask_violations``. ``details`` hold the sparsity of the backbone's convolution weights before and
    after, ``seconds_training``, and ``top1_final_fp32``: the last accuracy tested again in fp32 where training was in bf16.
    """
    epochs = spec.settings.epochs
    training = _Training(backbone, dataset, spec, seed)
    state = TrainingState(checkpoint, f"{spec} {seed} {dataset.hash} {len(dataset.class_names)}")
    with state:
        training.resume(state.load())
        reporter = Reporter(on_progress, epochs, training.epoch)
        while training.epoch < epochs:
            training.run_epoch(reporter)
            if training.epoch < epochs:
                state.save(training.state())
                reporter.saved()
    return training.result()


def time_epoch(backbone: Backbone, dataset: Dataset, spec: FinetuneSpec) -> float:
    """Estimated seconds per epoch, test included, from one step on a few images after one to warm up."""
    train_labels, test_labels = dataset.train.labels, dataset.test.labels
    sample = min(TIMED_IMAGES, spec.settings.batch_size, len(train_labels))
    training = _Training(backbone, dataset, spec, 0)
    training.set_training_mode()

    def step() -> None:
        training.step(np.stack([training.image(row) for row in range(sample)]), train_labels[:sample])

    step()
    started = time.perf_counter()
    step()
    trained = time.perf_counter()
    tested = training.predict(spec.precision, range(min(TEST_BATCH, len(test_labels))))
    ended = time.perf_counter()
    return (trained - started) / sample * len(train_labels) + (ended - trained) / len(tested) * len(test_labels)


class FixedMask:
    """Keeps the pruned weights of ``body`` at exactly 0; call ``hold`` after every optimiser step."""

    def __init__(self, body: nn.Module, mask: Mask) -> None:
        self.body, self.mask = body, mask
        weights = dict(body.named_parameters())
        pruned = ((weights[name].data, kept) for name, kept in mask.tensors.items() if not bool(kept.all()))
        bits = [(weight.view(torch.int32), kept) for weight, kept in pruned]
        self._pairs = [(weight, torch.empty_like(weight).copy_(-kept.int())) for weight, kept in bits]

    def hold(self) -> None:
        """Clear the bits of each pruned weight: a product with 0 keeps NaN, and ``masked_fill_`` takes three times as long."""
        for weight, kept in self._pairs:
            weight.bitwise_and_(kept)

    def violations(self) -> int:
        """The number of pruned weights that are not exactly 0."""
        return masks.violations(self.body, self.mask)


class _Training:
    """One network, its optimiser and its curves; ``epoch`` epochs have ended."""

    def __init__(self, backbone: Backbone, dataset: Dataset, spec: FinetuneSpec, seed: int) -> None:
        self.spec, self.seed, self.dataset, self.transform = spec, seed, dataset, backbone.transform
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.epoch = 0
        self.curves: Curves = {"loss": [], "top1": [], "mean_per_class": [], "mask_violations": []}
        self.seconds: list[float] = []
        body = copy.deepcopy(backbone.module).requires_grad_(True)
        if spec.from_scratch:
            draw_weights(body, seed)
        masks.apply(body, backbone.mask)
        self.sparsity_before = masks.sparsity(body).total
        self.network = ClassifierNetwork(body, *initial_classifier(seed, len(dataset.class_names), backbone.dimensions))
        self.network.to(self.device).to(memory_format=torch.channels_last)
        if spec.freeze_batch_norm:
            for layer in _batch_norms(body):
                layer.requires_grad_(False)
        self.fixed = FixedMask(body, backbone.mask)
        self.optimizer = _optimizer(self.network, spec)
        budget = int(MEMORY_SHARE * psutil.virtual_memory().available)
        self.test = ImageLoader(dataset.test, backbone.transform, budget // 3)
        self.images = ImageLoader(dataset.train, backbone.transform, budget - budget // 3)
        self.predictions = np.empty(0, dtype=np.int64)

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
        settings = self.spec.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.step_factor ** (self.epoch // settings.step_epochs)
        labels = self.dataset.train.labels
        rows = shuffled_rows(self.seed, self.epoch, len(labels))
        steps = -(-len(rows) // settings.batch_size)
        curves = {self.seed: self.curves}
        self.set_training_mode()
        total = 0.0
        for step, images in enumerate(batches(self.image, rows.tolist(), settings.batch_size), start=1):
            chosen = rows[(step - 1) * settings.batch_size :][: len(images)]
            loss = self.step(images, labels[chosen])
            if not np.isfinite(loss):
                raise self._diverged("the loss")
            total += loss * len(images)
            reporter.update(f"Finetuning: step {step:,} of {steps:,} in epoch", self.epoch + step / steps, curves)
        self._finish_epoch(total / len(rows))
        self.seconds.append(time.perf_counter() - started)
        reporter.update(f"Finetuning: step {steps:,} of {steps:,} in epoch", self.epoch, curves)

    def result(self) -> Result[ClassifierNetwork]:
        labels = self.dataset.test.labels
        again = self.predict("fp32", range(len(labels))) if self.spec.precision == "bf16" else None
        return Result(
            self.seed,
            self.spec.settings.learning_rate,
            self.curves,
            confusion_matrix(labels, self.predictions, labels=np.arange(len(self.dataset.class_names))),
            self.network.cpu(),
            self.seconds,
            {
                "sparsity_before": self.sparsity_before,
                "sparsity_after": masks.sparsity(self.network.body).total,
                "top1_final_fp32": None if again is None else float((again == labels).mean()),
                "seconds_training": sum(self.seconds),
            },
        )

    def predict(self, precision: str, rows: Sequence[int]) -> np.ndarray:
        """The predicted class of each of these test images; −1 where its logits are not finite."""
        self.network.eval()
        with torch.inference_mode(), self._autocast(precision):
            predicted = [
                _classes(self.network(self._input(images))).cpu().numpy()
                for images in batches(self.test.centre_cropped, rows, TEST_BATCH)
            ]
        return np.concatenate(predicted)

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One step on images (N, H, W, 3) uint8 and labels (N,); returns the mean loss."""
        with self._autocast(self.spec.precision):
            logits = self.network(self._input(images))
        targets = torch.from_numpy(labels).to(self.device)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.spec.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.fixed.hold()
        return float(loss.detach())

    def image(self, row: int) -> np.ndarray:
        """Training image ``row`` as the present epoch uses it."""
        if self.spec.augment:
            return self.images.augmented(row, self.seed, self.epoch)
        return self.images.centre_cropped(row)

    def set_training_mode(self) -> None:
        """Training mode for all layers but frozen BatchNorm."""
        self.network.train()
        if self.spec.freeze_batch_norm:
            for layer in _batch_norms(self.network):
                layer.eval()

    def _finish_epoch(self, loss: float) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in self.network.state_dict().values()):
            raise self._diverged("a weight or a BatchNorm statistic")
        violations = self.fixed.violations()
        if violations:
            raise RuntimeError(f"{violations} pruned weights of seed {self.seed} are not 0 in epoch {self.epoch + 1}.")
        labels = self.dataset.test.labels
        self.predictions = self.predict(self.spec.precision, range(len(labels)))
        if (self.predictions < 0).any():
            raise self._diverged("the output for a test image")
        top1 = float((self.predictions == labels).mean())
        mean_per_class = float(balanced_accuracy_score(labels, self.predictions))
        for curve, value in zip(self.curves.values(), (loss, top1, mean_per_class, violations), strict=True):
            curve.append(value)
        self.epoch += 1

    def _diverged(self, part: str) -> Diverged:
        return Diverged(
            f"Training diverged: {part} of seed {self.seed} is no longer finite in epoch {self.epoch + 1} at learning rate "
            f"{self.spec.settings.learning_rate:g}. Lower the learning rate; if that does not help, the backbone is damaged."
        )

    def _input(self, images: np.ndarray) -> Tensor:
        return normalised(images, self.transform).to(self.device)

    def _autocast(self, precision: str) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")


def draw_weights(body: nn.Module, seed: int) -> None:
    """New weights in place of the upstream ones: He-normal convolutions (fan out), BatchNorm as new."""
    generator = torch.Generator().manual_seed(seed)
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight.data, mode="fan_out", nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias.data)
    for layer in _batch_norms(body):
        layer.reset_parameters()


def _classes(logits: Tensor) -> Tensor:
    """The class of the highest logit (N,); −1 where one is not finite, since ``argmax`` takes the first NaN for the highest."""
    return logits.argmax(1).where(logits.isfinite().all(1), -1)


def _batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


def _optimizer(network: nn.Module, spec: FinetuneSpec) -> torch.optim.Optimizer:
    settings = spec.settings
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    shared: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **shared)
    return torch.optim.SGD(parameters, momentum=settings.momentum, **shared)
