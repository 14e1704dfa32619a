"""The study's linear transfer: a new linear classifier on frozen features, all seeds trained in one batch.

Shapes: S classifiers (one a seed), N training and T test samples, D features, C classes, B samples in a mini-batch.
The gradient of the mean cross entropy of a linear softmax classifier is known in closed form, (softmax − one-hot)ᵀ · X / B,
so one training step is two batched products and one update, without autograd.
"""

import math
import pickle
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_core.errors import Cancelled, InputError, unknown_name
from sparse_core.paths import atomic_file
from sparse_core.spec import Hyperparameters

CHECKPOINT_SECONDS = 10.0
VALIDATION_SHARE = 0.2
COPY_ROWS = 4096
EVALUATION_ROWS = 8192


@dataclass(frozen=True)
class Progress:
    """Where a training stands after ``epoch`` of ``epochs``: one value a seed, in the order of ``seeds``.

    ``stage`` is "train" or "sweep"; in a sweep the values are those of the learning rate that leads so far.
    """

    epoch: int
    epochs: int
    seeds: tuple[int, ...]
    loss: list[float]
    top1: list[float]
    mean_per_class: list[float]
    stage: str


@dataclass(frozen=True)
class ProbeResult:
    """One seed's classifier and its history.

    ``loss`` (mean training cross entropy over the epoch), ``top1`` and ``mean_per_class`` (0..1, on test) hold a value an
    epoch. ``confusion`` is (C, C) int64 after the last epoch, rows true and columns predicted. ``weight`` is (C, D) and
    ``bias`` (C,), float32.
    """

    seed: int
    learning_rate: float
    loss: list[float]
    top1: list[float]
    mean_per_class: list[float]
    confusion: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @property
    def top1_best(self) -> float:
        """The study's convention: the best epoch on test, hence optimistic."""
        return max(self.top1)

    @property
    def top1_final(self) -> float:
        return self.top1[-1]

    @property
    def mean_per_class_best(self) -> float:
        """The best epoch on test, hence optimistic."""
        return max(self.mean_per_class)

    @property
    def mean_per_class_final(self) -> float:
        return self.mean_per_class[-1]


def train(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    classes: int,
    seeds: Sequence[int],
    settings: Hyperparameters,
    *,
    products: str = "auto",
    on_epoch: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
) -> list[ProbeResult]:
    """Train one classifier a seed with the study's linear protocol (section 3) and test each after every epoch.

    Features are float (N, D) and (T, D), memory-mapped ones included; labels are whole numbers in [0, classes). The rule is
    torch.optim.SGD's: v ← momentum · v + gradient + weight_decay · w, then w ← w − rate · v, bias included; the rate falls
    by ``step_factor`` every ``step_epochs``; the last, smaller mini-batch of an epoch is kept. A seed fixes the initial
    weights (torch.nn.Linear's) and, with the epoch, the shuffling, so it gives the same result whichever seeds train
    beside it and after a resume: in fp32 because its products are computed apart, in bf16 because oneDNN's batched product
    has so far treated each matrix alike (tested, not promised by oneDNN). Another number of threads may round otherwise.

    ``products`` is the precision of the matrix products: "fp32", "bf16", or "auto", which is bf16 where the processor
    computes it natively. Weights, momentum and update are fp32 always.

    ``on_epoch`` may raise ``Cancelled``. ``checkpoint`` is a file the state goes to every ten seconds, from which the same
    training resumes; it is removed when the training ends or is cancelled.

    Raises ``InputError`` for features that are empty, non-finite or do not match their labels, labels out of range, a single
    class, and a training that diverges.
    """
    train_labels = _checked_labels("training", train_features, train_labels, classes)
    test_labels = _checked_labels("test", test_features, test_labels, classes)
    _require_classes(train_labels, classes)
    if train_features.shape[1] != test_features.shape[1]:
        raise InputError(
            f"Training and test features must have the same width; got {train_features.shape[1]} and "
            f"{test_features.shape[1]}. Extract both with the same backbone."
        )
    dtype = _product_type(products)
    training = _Training(
        _checked_copy("training", train_features, dtype),
        torch.from_numpy(train_labels),
        _Test(_checked_copy("test", test_features, dtype), test_labels, classes),
        [(seed, settings.learning_rate) for seed in seeds],
        settings,
    )
    kept = _Checkpoint(checkpoint, training) if checkpoint else None
    try:
        for epoch in training.epochs():
            _require_convergence(training)
            if on_epoch:
                loss, top1, mean_per_class = (
                    curve[-1] for curve in (training.loss, training.top1, training.mean_per_class)
                )
                on_epoch(Progress(epoch, settings.epochs, tuple(seeds), loss, top1, mean_per_class, "train"))
            if kept:
                kept.save_when_due()
    except Cancelled:
        if kept:
            kept.remove()
        raise
    if kept:
        kept.remove()
    return training.results()


def choose_learning_rate(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    classes: int,
    seeds: Sequence[int],
    settings: Hyperparameters,
    rates: Sequence[float],
    *,
    on_epoch: Callable[[Progress], None] | None = None,
) -> tuple[float, dict[float, float]]:
    """Choose among ``rates`` on a stratified fifth of the training data, all rates and seeds in one batch.

    Returns the rate with the highest final validation top-1 accuracy, averaged over seeds (the lower rate where two are
    equal), and that accuracy for every rate; a rate whose training diverges counts as 0. Test data is never seen here.
    """
    rates = sorted(set(rates))
    if not rates:
        raise InputError("No learning rates to choose from: give at least one.")
    labels = _checked_labels("training", train_features, train_labels, classes)
    _require_classes(labels, classes)
    fitted, held_out = validation_split(labels)
    features = _checked_copy("training", train_features, _product_type("auto"))
    training = _Training(
        features[torch.from_numpy(fitted)],
        torch.from_numpy(labels[fitted]),
        _Test(features[torch.from_numpy(held_out)], labels[held_out], classes),
        [(seed, rate) for rate in rates for seed in seeds],
        settings,
    )
    del features
    for epoch in training.epochs():
        loss, top1, mean_per_class = (
            np.asarray(curve[-1]).reshape(len(rates), len(seeds))
            for curve in (training.loss, training.top1, training.mean_per_class)
        )
        scores = np.where(np.isfinite(loss).all(axis=1), top1.mean(axis=1), 0.0)
        leader = int(scores.argmax())
        if not np.isfinite(loss).all(axis=1).any():
            raise InputError(f"Every learning rate diverged ({', '.join(f'{r:g}' for r in rates)}). Try lower ones.")
        if on_epoch:
            leading = [values[leader].tolist() for values in (loss, top1, mean_per_class)]
            on_epoch(Progress(epoch, settings.epochs, tuple(seeds), leading[0], leading[1], leading[2], "sweep"))
    return rates[leader], dict(zip(rates, scores.tolist(), strict=True))


def validation_split(labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to fit on and to validate on: a fifth of every class, rounded, is held out; both sorted."""
    generator = np.random.default_rng(seed)
    held_out = []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        held_out.append(rows[: round(VALIDATION_SHARE * len(rows))])
    validation = np.sort(np.concatenate(held_out))
    if not len(validation):
        raise InputError(f"Too few training samples to hold some out: {len(labels)}. Give the learning rate instead.")
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def shuffled_rows(seed: int, epoch: int, rows: int) -> np.ndarray:
    """The order in which ``seed`` sees its training rows in ``epoch`` (from 0): a function of nothing else."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def initial_classifier(seed: int, classes: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) as torch.nn.Linear draws them (Kaiming uniform with a = √5): U(−1/√D, 1/√D)."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(dimensions)
    weight = torch.empty(classes, dimensions).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator)
    return weight, bias


class _Test:
    """The test samples, and how well S classifiers do on them."""

    def __init__(self, features: Tensor, labels: np.ndarray, classes: int) -> None:
        self.features, self.classes = features, classes
        self.labels = torch.from_numpy(labels)
        counts = np.bincount(labels, minlength=classes)
        present = np.count_nonzero(counts)
        self.class_shares = torch.from_numpy(1 / (counts[labels] * present))

    def predict(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Predicted classes (S, T) of classifiers with weight (S, C, D), in the products' precision, and bias (S, C, 1)."""
        chunks = self.features.split(EVALUATION_ROWS)
        return torch.cat([(_logits_of_all(weight, rows) + bias).max(dim=1).indices for rows in chunks], dim=1)

    def score(self, predictions: Tensor) -> tuple[list[float], list[float]]:
        """Top-1 accuracy, and accuracy averaged over the classes that occur in test: one value a classifier."""
        right = (predictions == self.labels).double()
        return right.mean(dim=1).tolist(), (right @ self.class_shares).tolist()

    def confusion(self, predictions: Tensor) -> np.ndarray:
        """(C, C) int64 of one classifier's predictions (T,), rows true and columns predicted."""
        cells = torch.bincount(self.labels * self.classes + predictions, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes).numpy()


class _Training:
    """S classifiers, their momentum and their curves; ``replicas`` are (seed, learning rate), equal rates side by side."""

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        test: _Test,
        replicas: Sequence[tuple[int, float]],
        settings: Hyperparameters,
    ) -> None:
        self.features, self.labels, self.test = features, labels, test
        self.replicas, self.settings = list(replicas), settings
        self.epoch = 0
        self.loss: list[list[float]] = []
        self.top1: list[list[float]] = []
        self.mean_per_class: list[list[float]] = []
        self.predictions = torch.empty(0, dtype=torch.int64)
        dimensions = features.shape[1]
        drawn = [initial_classifier(seed, test.classes, dimensions) for seed, _ in self.replicas]
        self.weight = torch.stack([weight for weight, _ in drawn])
        self.bias = torch.stack([bias for _, bias in drawn])[:, :, None]
        self.weight_velocity = torch.zeros_like(self.weight)
        self.bias_velocity = torch.zeros_like(self.bias)
        self.weight_gradient = torch.empty_like(self.weight)
        self.product_weight = self.weight.to(features.dtype)
        self.product_gradient = self.weight_gradient.to(features.dtype)
        self.gathered = features.new_empty(len(self.replicas) * settings.batch_size, dimensions)

    def epochs(self) -> Iterator[int]:
        """Train and test epoch by epoch, from where the training stands; yields the number of epochs done."""
        while self.epoch < self.settings.epochs:
            with torch.inference_mode():
                self.loss.append(self._train_epoch())
                self.predictions = self.test.predict(self.product_weight, self.bias)
                top1, mean_per_class = self.test.score(self.predictions)
            self.top1.append(top1)
            self.mean_per_class.append(mean_per_class)
            self.epoch += 1
            yield self.epoch

    def results(self) -> list[ProbeResult]:
        return [
            ProbeResult(
                seed,
                rate,
                [losses[index] for losses in self.loss],
                [accuracies[index] for accuracies in self.top1],
                [accuracies[index] for accuracies in self.mean_per_class],
                self.test.confusion(self.predictions[index]),
                self.weight[index].numpy().copy(),
                self.bias[index, :, 0].numpy().copy(),
            )
            for index, (seed, rate) in enumerate(self.replicas)
        ]

    def _train_epoch(self) -> list[float]:
        """One pass over the training rows, each classifier in its own order; returns its mean loss."""
        rows = len(self.features)
        order = np.stack([shuffled_rows(seed, self.epoch, rows) for seed, _ in self.replicas])
        updates = self._updates()
        total = torch.zeros(len(self.replicas))
        for batch in torch.from_numpy(order).split(self.settings.batch_size, dim=1):
            total += self._step(batch, updates)
        return (total.double() / rows).tolist()

    def _step(self, batch: Tensor, updates: Sequence[Callable[[Tensor], None]]) -> Tensor:
        """One SGD step on rows ``batch`` (S, B); returns each classifier's summed loss, (S,)."""
        classifiers, size = batch.shape
        index = batch.reshape(-1)
        x = torch.index_select(self.features, 0, index, out=self.gathered[: len(index)]).view(classifiers, size, -1)
        labels = self.labels[batch][:, None, :]
        logits = _products(self.product_weight, x.mT) + self.bias
        log_probabilities = torch.log_softmax(logits, dim=1)
        loss = -log_probabilities.gather(1, labels).sum(dim=(1, 2))
        residual = log_probabilities.exp_()
        residual.scatter_add_(1, labels, residual.new_full((1, 1, 1), -1.0).expand_as(labels)).div_(size)
        _products(residual.to(x.dtype), x, out=self.product_gradient)
        if self.product_gradient is not self.weight_gradient:
            self.weight_gradient.copy_(self.product_gradient)
        bias_gradient = residual.sum(dim=2, keepdim=True)
        for update in updates:
            update(bias_gradient)
        if self.product_weight is not self.weight:
            self.product_weight.copy_(self.weight)
        return loss

    def _updates(self) -> list[Callable[[Tensor], None]]:
        """The epoch's update rule, one a learning rate, over the classifiers that have it."""
        decay = self.settings.step_factor ** (self.epoch // self.settings.step_epochs)
        rates = [rate for _, rate in self.replicas]
        return [
            self._update(slice(rates.index(rate), rates.index(rate) + rates.count(rate)), rate * decay)
            for rate in dict.fromkeys(rates)
        ]

    def _update(self, of: slice, rate: float) -> Callable[[Tensor], None]:
        parameters = [self.weight[of], self.bias[of]]
        velocities = [self.weight_velocity[of], self.bias_velocity[of]]

        def update(bias_gradient: Tensor) -> None:
            torch._fused_sgd_(
                parameters,
                [self.weight_gradient[of], bias_gradient[of]],
                velocities,
                lr=rate,
                momentum=self.settings.momentum,
                weight_decay=self.settings.weight_decay,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,  # velocities start at 0, which gives the same first step
            )

        return update


class _Checkpoint:
    """The state of a training in a file, so that a killed one goes on where it stood."""

    def __init__(self, file: Path, training: _Training) -> None:
        self.file, self.training = file, training
        self.fingerprint = _fingerprint(training)
        self.saved_at = time.monotonic()
        self._resume()

    def save_when_due(self) -> None:
        if time.monotonic() - self.saved_at >= CHECKPOINT_SECONDS:
            self.save()

    def save(self) -> None:
        state = {name: getattr(self.training, name) for name in _STATE}
        with atomic_file(self.file) as temporary:
            torch.save({"fingerprint": self.fingerprint, **state}, temporary)
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)

    def _resume(self) -> None:
        state = _read_state(self.file)
        if state.get("fingerprint") != self.fingerprint:
            return
        for name in _STATE:
            setattr(self.training, name, state[name])
        self.training.product_weight = self.training.weight.to(self.training.features.dtype)


_STATE = ("epoch", "loss", "top1", "mean_per_class", "weight", "bias", "weight_velocity", "bias_velocity")


def _read_state(file: Path) -> dict[str, Any]:
    """What ``save`` wrote; nothing where the file is missing or damaged, so that training begins anew."""
    try:
        return torch.load(file, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        return {}


def _fingerprint(training: _Training) -> str:
    """Tells trainings apart: data, precision of the products, seeds and rates, settings."""
    test = training.test
    tensors = (training.features, training.labels, test.features, test.labels)
    sums = [zlib.crc32(tensor.view(torch.uint8).numpy().data) for tensor in tensors]
    return f"{sums} {training.features.dtype} {test.classes} {training.replicas} {training.settings}"


def _products(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """S matrix products, (S, M, K) · (S, K, N), in the operands' precision.

    In fp32 they are computed one by one: MKL's batched product splits its work by S, and a seed's rounding would depend
    on how many train beside it.
    """
    if left.dtype == torch.bfloat16:
        return torch.bmm(left, right) if out is None else torch.bmm(left, right, out=out)
    out = left.new_empty(left.shape[0], left.shape[1], right.shape[2]) if out is None else out
    for one_left, one_right, one_out in zip(left, right, out, strict=True):
        torch.mm(one_left, one_right, out=one_out)
    return out


def _logits_of_all(weight: Tensor, features: Tensor) -> Tensor:
    """weight (S, C, D) · features (T, D) as (S, C, T), in fp32 one classifier at a time, for the reason above."""
    if weight.dtype == torch.bfloat16:
        return (weight.flatten(0, 1) @ features.T).view(*weight.shape[:2], -1)
    return torch.stack([one @ features.T for one in weight])


def _product_type(products: str) -> torch.dtype:
    names = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if products == "auto":
        return torch.bfloat16 if native_bf16() else torch.float32
    if products not in names:
        raise unknown_name("precision of products", products, ("auto", *names))
    return names[products]


def native_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; where torch would emulate it, it is slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _checked_labels(which: str, features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The labels as int64 (N,), if they and the features (N, D) fit each other."""
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels):
        raise InputError(
            f"The {which} features must be (N, D) and the labels (N,); got {features.shape} and {labels.shape}. "
            "Give one label for each row."
        )
    if not features.size:
        raise InputError(f"The {which} features are empty, shape {features.shape}: give at least one sample.")
    if labels.dtype.kind not in "iu":
        raise InputError(f"The {which} labels must be whole numbers; got {labels.dtype}. Number the classes from 0.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"The {which} labels must lie in 0..{classes - 1}; {len(wrong)} do not, first {labels[wrong[0]]} in row "
            f"{wrong[0]}. Number the classes from 0."
        )
    return np.array(labels, dtype=np.int64)


def _require_classes(labels: np.ndarray, classes: int) -> None:
    found = len(np.unique(labels))
    if found < 2:
        raise InputError(
            f"A classifier needs at least two classes in its training data; got {found} of {classes}. Add pictures of another."
        )


def _checked_copy(which: str, features: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The features (N, D) as a tensor of ``dtype``, if all are finite; copied in pieces, so a memory map stays on disk."""
    copied = torch.empty(features.shape, dtype=dtype)
    broken: list[int] = []
    for start in range(0, len(features), COPY_ROWS):
        rows = np.array(features[start : start + COPY_ROWS], dtype=np.float32)
        if not np.isfinite(rows.sum()):
            broken += (start + np.flatnonzero(~np.isfinite(rows).all(axis=1))).tolist()
        copied[start : start + COPY_ROWS] = torch.from_numpy(rows)
    if broken:
        raise InputError(
            f"The {which} features must be finite; {len(broken)} of {len(features)} rows are not, the first is row "
            f"{broken[0]}. Extract them again, or leave out those samples."
        )
    return copied


def _require_convergence(training: _Training) -> None:
    finite = np.isfinite(training.loss[-1])
    if not finite.all():
        seed, rate = training.replicas[int(np.argmin(finite))]
        raise InputError(
            f"Training diverged: the loss of seed {seed} is no longer finite in epoch {training.epoch} at learning rate "
            f"{rate:g}. Lower the learning rate."
        )
