"""The study's full transfer: every unpruned weight, BatchNorm and a new dense classifier train; the mask stays fixed.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, sections 2 and 3. A weight that was pruned
upstream is exactly 0 after every step: momentum and weight decay may move it, and it is set back before the next forward.
"""

import copy
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.errors import Cancelled, InputError
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.classifier import ClassifierNetwork
from sparse_core.networks.masks import Mask
from sparse_core.paths import atomic_file
from sparse_core.specs.transfer import FinetuneSpec
from sparse_core.transfer.probe import initial_classifier, shuffled_rows

TEST_BATCH = 16
MEMORY_SHARE = 0.4  # of what is free, for decoded images
TIMED_IMAGES = 8
BF16_TOLERANCE = 2e-2  # largest difference of features relative to the largest


@dataclass(frozen=True)
class Progress:
    """Where a training stands: ``step`` of ``steps`` in ``epoch`` (from 1) of ``epochs``; the curves have a value for each
    epoch that has ended."""

    epoch: int
    epochs: int
    step: int
    steps: int
    curves: "Curves"


@dataclass
class Curves:
    """A value an epoch: mean training loss; top-1 and mean per-class accuracy on test (0..1); weights that broke the mask."""

    loss: list[float] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)
    mean_per_class: list[float] = field(default_factory=list)
    mask_violations: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class FinetuneResult:
    """One seed's finetuned network after its last epoch, and its history. ``confusion`` is (C, C) int64, true classes in rows;
    sparsities are those of the backbone's convolution weights. ``top1_fp32`` is the last accuracy tested again in fp32 where
    training was in bf16, so that a difference shows. ``seconds`` has a value for each epoch, its test included, also for
    those that ended before the training was taken up again."""

    seed: int
    curves: Curves
    confusion: np.ndarray
    network: ClassifierNetwork
    sparsity_before: float
    sparsity_after: float
    top1_fp32: float | None
    seconds: list[float]


class Diverged(InputError):
    """A training left the finite numbers; nothing of it is worth keeping."""


class FixedMask:
    """Keeps the pruned weights of ``body`` at exactly 0; ``hold`` is called after every optimiser step."""

    def __init__(self, body: nn.Module, mask: Mask) -> None:
        self.body, self.mask = body, mask
        weights = dict(body.named_parameters())
        pruned = ((weights[name].data, kept) for name, kept in mask.tensors.items() if not bool(kept.all()))
        bits = [(weight.view(torch.int32), kept) for weight, kept in pruned]
        self._pairs = [(weight, torch.empty_like(weight).copy_(-kept.int())) for weight, kept in bits]

    def hold(self) -> None:
        """Clear the bits of each pruned weight: a product with 0 leaves NaN, and ``masked_fill_`` takes three times as long."""
        for weight, kept in self._pairs:
            weight.bitwise_and_(kept)

    def violations(self) -> int:
        """How many pruned weights are not exactly 0."""
        return masks.violations(self.body, self.mask)


def train(
    backbone: Backbone,
    dataset: Dataset,
    spec: FinetuneSpec,
    seed: int,
    *,
    on_step: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
) -> FinetuneResult:
    """Finetune one network, tested after every epoch. ``spec.precision`` is fp32 or bf16, decided beforehand.

    A seed fixes classifier, order, crops and flips, so the same seed gives the same result on the same machine and number of
    threads, in fp32 on a CPU bit by bit. ``on_step`` may raise ``Cancelled``. ``checkpoint`` is a file the state goes to after
    every epoch, from which the same training resumes; it is removed when the training ends, is cancelled or diverges. Raises
    Diverged at a loss, weight, statistic or logit that is not finite, and RuntimeError at a pruned weight that is not 0.
    """
    training = _Training(backbone, dataset, spec, seed)
    kept = _Checkpoint(checkpoint, training) if checkpoint else None
    try:
        while training.epoch < spec.settings.epochs:
            training.run_epoch(on_step)
            if kept and training.epoch < spec.settings.epochs:
                kept.save()
    except (Cancelled, Diverged):
        if kept:
            kept.remove()
        raise
    if kept:
        kept.remove()
    return training.result()


def time_epoch(backbone: Backbone, dataset: Dataset, spec: FinetuneSpec) -> float:
    """About how many seconds an epoch takes, test included, from one step on a few images after one to warm up."""
    sample = min(TIMED_IMAGES, spec.settings.batch_size, len(dataset.train.labels))
    training = _Training(backbone, dataset, spec, 0)
    training.set_training_mode()
    rows = list(range(sample))
    training.step(np.stack([training.image(row) for row in rows]), dataset.train.labels[:sample])
    started = time.perf_counter()
    training.step(np.stack([training.image(row) for row in rows]), dataset.train.labels[:sample])
    trained = time.perf_counter()
    tested = training.predict(spec.precision, range(min(TEST_BATCH, len(dataset.test.labels))))
    ended = time.perf_counter()
    return (trained - started) / sample * len(dataset.train.labels) + (ended - trained) / len(tested) * len(
        dataset.test.labels
    )


def best_precision(backbone: Backbone) -> str:
    """bf16 where the processor computes it natively and the features agree with those in fp32; else fp32."""
    if torch.cuda.is_available() or not native_bf16():
        return "fp32"
    side = backbone.transform.crop
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = backbone.module(images)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = backbone.module(images).float()
    difference = (reduced - exact).abs().max() / exact.abs().max()
    return "bf16" if float(difference) <= BF16_TOLERANCE else "fp32"


class _Training:
    """One network, its optimiser and its curves, from where it stands."""

    def __init__(self, backbone: Backbone, dataset: Dataset, spec: FinetuneSpec, seed: int) -> None:
        self.spec, self.seed, self.dataset, self.transform = spec, seed, dataset, backbone.transform
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.epoch = 0
        self.curves = Curves()
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

    def run_epoch(self, on_step: Callable[[Progress], None] | None) -> None:
        started = time.perf_counter()
        settings = self.spec.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.step_factor ** (self.epoch // settings.step_epochs)
        labels = self.dataset.train.labels
        rows = shuffled_rows(self.seed, self.epoch, len(labels))
        steps = -(-len(rows) // settings.batch_size)
        self.set_training_mode()
        total = 0.0
        for step, images in enumerate(batches(self.image, rows.tolist(), settings.batch_size), start=1):
            chosen = rows[(step - 1) * settings.batch_size :][: len(images)]
            loss = self.step(images, labels[chosen])
            if not np.isfinite(loss):
                raise self._diverged("the loss")
            total += loss * len(images)
            if on_step:
                on_step(Progress(self.epoch + 1, settings.epochs, step, steps, self.curves))
        self._finish_epoch(total / len(rows))
        self.seconds.append(time.perf_counter() - started)
        if on_step:
            on_step(Progress(self.epoch, settings.epochs, steps, steps, self.curves))

    def result(self) -> FinetuneResult:
        labels = self.dataset.test.labels
        again = self.predict("fp32", range(len(labels))) if self.spec.precision == "bf16" else None
        return FinetuneResult(
            self.seed,
            self.curves,
            confusion_matrix(labels, self.predictions, labels=np.arange(len(self.dataset.class_names))),
            self.network.cpu(),
            self.sparsity_before,
            masks.sparsity(self.network.body).total,
            None if again is None else float((again == labels).mean()),
            self.seconds,
        )

    def predict(self, precision: str, rows: Sequence[int]) -> np.ndarray:
        """The class that the network gives each of these test images; −1 where its logits are not finite."""
        self.network.eval()
        with torch.inference_mode(), self._autocast(precision):
            predicted = [
                _classes(self.network(self._input(images))).cpu().numpy()
                for images in batches(self.test.centre_cropped, rows, TEST_BATCH)
            ]
        return np.concatenate(predicted)

    def _finish_epoch(self, loss: float) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in self.network.state_dict().values()):
            raise self._diverged("a weight or a BatchNorm statistic")
        violations = self.fixed.violations()
        if violations:
            raise RuntimeError(f"{violations} pruned weights of seed {self.seed} are not 0 in epoch {self.epoch + 1}.")
        labels = self.dataset.test.labels
        self.predictions = self.predict(self.spec.precision, range(len(labels)))
        if (self.predictions < 0).any():
            raise self._diverged("what the network gives for a test image")
        self.curves.loss.append(loss)
        self.curves.top1.append(float((self.predictions == labels).mean()))
        self.curves.mean_per_class.append(float(balanced_accuracy_score(labels, self.predictions)))
        self.curves.mask_violations.append(violations)
        self.epoch += 1

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"Training diverged: {what} of seed {self.seed} is no longer finite in epoch {self.epoch + 1} at learning rate "
            f"{self.spec.settings.learning_rate:g}. Lower the learning rate; if that does not help, the backbone is damaged."
        )

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
        return (
            self.images.augmented(row, self.seed, self.epoch) if self.spec.augment else self.images.centre_cropped(row)
        )

    def _input(self, images: np.ndarray) -> Tensor:
        return normalised(images, self.transform).to(self.device)

    def _autocast(self, precision: str) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def set_training_mode(self) -> None:
        self.network.train()
        if self.spec.freeze_batch_norm:
            for layer in _batch_norms(self.network):
                layer.eval()


class _Checkpoint:
    """The state of a training in a file, so that a killed one goes on from the last epoch."""

    def __init__(self, file: Path, training: _Training) -> None:
        self.file, self.training = file, training
        spec, dataset = training.spec, training.dataset
        self.fingerprint = f"{spec} {training.seed} {dataset.hash} {len(dataset.class_names)}"
        self._resume()

    def save(self) -> None:
        training = self.training
        with atomic_file(self.file) as temporary:
            torch.save(
                {
                    "fingerprint": self.fingerprint,
                    "epoch": training.epoch,
                    "curves": vars(training.curves),
                    "seconds": training.seconds,
                    "network": training.network.state_dict(),
                    "optimizer": training.optimizer.state_dict(),
                },
                temporary,
            )

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)

    def _resume(self) -> None:
        state = _read_state(self.file)
        if state.get("fingerprint") != self.fingerprint:
            return
        training = self.training
        training.network.load_state_dict(state["network"])
        training.optimizer.load_state_dict(state["optimizer"])
        training.epoch, training.curves = state["epoch"], Curves(**state["curves"])
        training.seconds = state.get("seconds", [])  # not there in what an earlier version saved


def _read_state(file: Path) -> dict[str, Any]:
    """What ``save`` wrote; nothing where the file is missing or damaged, so that training begins anew."""
    try:
        return torch.load(file, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return {}


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
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )
