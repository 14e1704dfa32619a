"""The study's linear transfer: a new linear classifier on frozen features, all seeds trained side by side.

Shapes: S classifiers (one a seed), N training and T test samples, D features, C classes, B samples in a mini-batch.
The gradient of the mean cross entropy of a linear softmax classifier is known in closed form, (softmax − one-hot)ᵀ · X / B,
so one training step is two products and one update, without autograd. Nearly half of the arithmetic would be the test after
each epoch; most of it is spared, because it can be shown which predictions cannot have changed.
"""

import math
import pickle
import time
import warnings
import zlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_core.engines.torch_cpu import native_bf16, thread_pool
from sparse_core.errors import Cancelled, InputError, unknown_name
from sparse_core.paths import atomic_file
from sparse_core.specs.training import VALIDATION_SHARE, Hyperparameters

CHECKPOINT_SECONDS = 10.0
COPY_ROWS = 4096
EVALUATION_ROWS = 256  # the matrix library slows down where one factor is much longer
EPOCHS_AHEAD = 2
SMALL_CLASSIFIER = 16_384  # weights; up to here the conversions to bf16 cost more than its products save


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
    ``bias`` (C,), float32. ``products`` is the precision that the matrix products had, "fp32" or "bf16". ``computed`` is
    the share of the epochs' predictions that had to be computed; the others were shown to stand.
    """

    seed: int
    learning_rate: float
    loss: list[float]
    top1: list[float]
    mean_per_class: list[float]
    confusion: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    products: str
    computed: float

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
    beside it, on any number of cores, and after a resume.

    ``products`` is the precision of the matrix products: "fp32", "bf16", or "auto", which is bf16 where the processor
    computes it natively and the classifier is large enough to gain by it. Weights, momentum and update are fp32 always.

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
    dtype = _product_type(products, classes, train_features.shape[1])
    training = _Training(
        _checked_copy("training", train_features, dtype),
        torch.from_numpy(train_labels),
        _Test(_checked_copy("test", test_features, dtype), test_labels, classes),
        [(seed, settings.learning_rate) for seed in seeds],
        settings,
        keep_states=checkpoint is not None,
    )
    kept = _Checkpoint(checkpoint, training) if checkpoint else None
    try:
        with closing(training.epochs()) as epochs:
            for epoch in epochs:
                loss, top1, mean_per_class = training.curves(epoch)
                _require_convergence(training, epoch, loss)
                if on_epoch:
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
    """Choose among ``rates`` on a stratified fifth of the training data, all rates and seeds side by side.

    Returns the rate with the highest final validation top-1 accuracy, averaged over seeds (the lower rate where two are
    equal), and that accuracy for every rate; a rate whose training diverges counts as 0. Test data is never seen here.
    """
    rates = sorted(set(rates))
    if not rates:
        raise InputError("No learning rates to choose from: give at least one.")
    labels = _checked_labels("training", train_features, train_labels, classes)
    _require_classes(labels, classes)
    fitted, held_out = validation_split(labels)
    features = _checked_copy("training", train_features, _product_type("auto", classes, train_features.shape[1]))
    training = _Training(
        features[torch.from_numpy(fitted)],
        torch.from_numpy(labels[fitted]),
        _Test(features[torch.from_numpy(held_out)], labels[held_out], classes),
        [(seed, rate) for rate in rates for seed in seeds],
        settings,
    )
    del features
    with closing(training.epochs()) as epochs:
        for epoch in epochs:
            loss, top1, mean_per_class = (
                np.reshape(values, (len(rates), len(seeds))) for values in training.curves(epoch)
            )
            finite = np.isfinite(loss).all(axis=1)
            scores = np.where(finite, top1.mean(axis=1), 0.0)
            leader = int(scores.argmax())
            if not finite.any():
                raise InputError(
                    f"Every learning rate diverged ({', '.join(f'{r:g}' for r in rates)}). Try lower ones."
                )
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


class _Training:
    """S classifiers trained side by side; ``replicas`` are their (seed, learning rate).

    Each trains in one thread at a time, with products of one thread. So it rounds alike whichever train beside it and on
    any number of cores, and a busy machine slows one classifier instead of making all threads wait for each other.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        test: "_Test",
        replicas: Sequence[tuple[int, float]],
        settings: Hyperparameters,
        *,
        keep_states: bool = False,
    ) -> None:
        self.features, self.labels, self.test = features, labels, test
        self.replicas, self.settings = list(replicas), settings
        self.classifiers = [_Classifier(self, seed, rate, keep_states) for seed, rate in replicas]

    def epochs(self) -> Generator[int, None, None]:
        """Train and test from where the training stands; yields each epoch once all classifiers have done it.

        A classifier may run some epochs ahead, so that no core waits where there are more classifiers than cores.
        """
        epoch = min(classifier.epoch for classifier in self.classifiers)
        busy: dict[Future[None], _Classifier] = {}
        with thread_pool() as (pool, threads):
            while epoch < self.settings.epochs:
                end = min(epoch + EPOCHS_AHEAD, self.settings.epochs)
                idle = [one for one in self.classifiers if one.epoch < end and one not in busy.values()]
                for classifier in sorted(idle, key=lambda one: one.epoch)[: threads - len(busy)]:
                    busy[pool.submit(classifier.train_epoch)] = classifier
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    future.result()
                    del busy[future]
                while epoch < min(classifier.epoch for classifier in self.classifiers):
                    epoch += 1
                    yield epoch

    def curves(self, epoch: int) -> tuple[list[float], list[float], list[float]]:
        """Loss, top-1 and mean per-class accuracy of each classifier after ``epoch`` (from 1)."""
        loss, top1, mean_per_class = (
            [getattr(classifier, name)[epoch - 1] for classifier in self.classifiers]
            for name in ("loss", "top1", "mean_per_class")
        )
        return loss, top1, mean_per_class

    def results(self) -> list[ProbeResult]:
        return [classifier.result() for classifier in self.classifiers]


class _Classifier:
    """One classifier, its momentum, its predictions on test and its curves."""

    def __init__(self, training: _Training, seed: int, rate: float, keep_states: bool) -> None:
        self.training, self.seed, self.rate, self.keep_states = training, seed, rate, keep_states
        self.epoch = 0
        self.loss: list[float] = []
        self.top1: list[float] = []
        self.mean_per_class: list[float] = []
        features, classes = training.features, training.test.classes
        self.weight, bias = initial_classifier(seed, classes, features.shape[1])
        self.bias = bias[:, None]
        self.weight_velocity = torch.zeros_like(self.weight)
        self.bias_velocity = torch.zeros_like(self.bias)
        self.product_weight = self.weight.to(features.dtype)
        self.gradients = [torch.empty_like(self.weight), torch.empty_like(self.bias)]
        reduced = features.dtype != self.weight.dtype
        self.gradient = torch.empty_like(self.weight, dtype=features.dtype) if reduced else self.gradients[0]
        self.gathered = features.new_empty(training.settings.batch_size, features.shape[1])
        self.predictions = _Predictions(training.test)
        self.state: dict[str, Any] = {}

    def train_epoch(self) -> None:
        """One pass over the training rows in the seed's own order, then the test."""
        settings, rows = self.training.settings, len(self.training.features)
        rate = self.rate * settings.step_factor ** (self.epoch // settings.step_epochs)
        order = torch.from_numpy(shuffled_rows(self.seed, self.epoch, rows))
        with torch.inference_mode():
            loss = _scripted_sgd_epoch(
                self.training.features,
                self.training.labels,
                order,
                [self.weight, self.bias],
                [self.weight_velocity, self.bias_velocity],
                self.gradients,
                self.product_weight,
                self.gradient,
                self.gathered,
                rate,
                settings.momentum,
                settings.weight_decay,
            )
            predicted = self.predictions.update(self.product_weight, self.bias)
            top1, mean_per_class = self.training.test.score(predicted)
        self.loss.append(float(loss) / rows)
        self.top1.append(top1)
        self.mean_per_class.append(mean_per_class)
        if self.keep_states:
            self.state = self._snapshot()
        self.epoch += 1

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` was when it was kept."""
        for name, value in state.items():
            setattr(self, name, value)
        self.product_weight = self.weight.to(self.product_weight.dtype)
        self.state = state

    def result(self) -> ProbeResult:
        computed = self.predictions.computed / (len(self.training.test.features) * self.epoch)
        with torch.inference_mode():
            predicted = self.predictions.update(self.product_weight, self.bias)
        return ProbeResult(
            self.seed,
            self.rate,
            self.loss,
            self.top1,
            self.mean_per_class,
            self.training.test.confusion(predicted),
            self.weight.numpy().copy(),
            self.bias[:, 0].numpy().copy(),
            "bf16" if self.product_weight.dtype == torch.bfloat16 else "fp32",
            computed,
        )

    def _snapshot(self) -> dict[str, Any]:
        curves = {name: list(getattr(self, name)) for name in ("loss", "top1", "mean_per_class")}
        tensors = ("weight", "bias", "weight_velocity", "bias_velocity")
        return {"epoch": self.epoch + 1, **curves, **{name: getattr(self, name).clone() for name in tensors}}


def _sgd_epoch(
    features: Tensor,
    labels: Tensor,
    order: Tensor,
    parameters: list[Tensor],
    velocities: list[Tensor],
    gradients: list[Tensor],
    product_weight: Tensor,
    gradient: Tensor,
    gathered: Tensor,
    rate: float,
    momentum: float,
    weight_decay: float,
) -> Tensor:
    """SGD steps over the rows in ``order`` (N,), as many at once as ``gathered`` (B, D) holds; returns the summed loss.

    ``parameters``, ``velocities`` and ``gradients`` are weight (C, D) and bias (C, 1) each, as lists: of others TorchScript
    would drop torch.optim.SGD's fused update, which returns nothing. ``gradient`` is the weight's in the products'
    precision, as ``product_weight`` is the weight; it and ``gathered`` are memory to work in.
    """
    weight, bias = parameters[0], parameters[1]
    reduced = product_weight.dtype != weight.dtype
    loss = torch.zeros(())
    for batch in torch.split(order, gathered.size(0)):
        size = batch.size(0)
        x = torch.index_select(features, 0, batch, out=gathered[:size])
        target = labels[batch].unsqueeze(0)
        log_probabilities = torch.log_softmax(torch.mm(product_weight, x.t()) + bias, dim=0)
        loss = loss - log_probabilities.gather(0, target).sum()
        residual = log_probabilities.exp_()
        residual.scatter_add_(0, target, residual.new_full((1, 1), -1.0).expand_as(target)).div_(size)
        torch.mm(residual.to(x.dtype), x, out=gradient)
        if reduced:
            gradients[0].copy_(gradient)
        torch.sum(residual, dim=1, keepdim=True, out=gradients[1])
        torch._fused_sgd_(
            parameters,
            gradients,
            velocities,
            weight_decay=weight_decay,
            momentum=momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        if reduced:
            product_weight.copy_(weight)
    return loss


# TorchScript runs the loop without Python's lock, which threads of small steps would otherwise wait for most of their time.
# torch.compile, which torch recommends in its place, needs a C++ compiler on the user's machine.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    _scripted_sgd_epoch = torch.jit.script(_sgd_epoch)


class _Test:
    """The test samples, and how well predictions of them do.

    ``mean`` x̄ (D,), ``spread`` ‖x − x̄‖ and ``reach`` max(‖x‖, ‖x̄‖), both (T,), serve to show that predictions stand.
    """

    def __init__(self, features: Tensor, labels: np.ndarray, classes: int) -> None:
        self.features, self.classes = features, classes
        self.labels = torch.from_numpy(labels)
        counts = np.bincount(labels, minlength=classes)
        present = np.count_nonzero(counts)
        self.class_shares = torch.from_numpy(1 / (counts[labels] * present))
        chunks = features.split(COPY_ROWS)
        self.mean = torch.stack([rows.float().sum(dim=0) for rows in chunks]).sum(dim=0) / len(features)
        self.spread = torch.cat([(rows.float() - self.mean).norm(dim=1) for rows in chunks])
        lengths = torch.cat([rows.float().norm(dim=1) for rows in chunks])
        self.reach = lengths.clamp_min(float(self.mean.norm()))

    def score(self, predictions: Tensor) -> tuple[float, float]:
        """Top-1 accuracy, and accuracy averaged over the classes that occur in test."""
        right = (predictions == self.labels).double()
        return float(right.mean()), float(right @ self.class_shares)

    def confusion(self, predictions: Tensor) -> np.ndarray:
        """(C, C) int64 counts of predictions (T,), rows true and columns predicted."""
        cells = torch.bincount(self.labels * self.classes + predictions, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes).numpy()


class _Predictions:
    """One classifier's predictions of the test samples, computed anew only where they may have changed.

    Since all logits were last computed, that of class c on x has moved by ΔW_c · x + Δb_c = (ΔW_c · x̄ + Δb_c) + ΔW_c · (x − x̄):
    the first part is known, the second at most ‖ΔW_c‖ ‖x − x̄‖ (Cauchy–Schwarz). Where this cannot close the margin between
    the first and the second class, not even with the most that rounding may do, the first class is still the prediction.
    """

    def __init__(self, test: _Test) -> None:
        self.test = test
        summing = test.features.shape[1] * 2.0**-24
        storing = 2.0**-9 if test.features.dtype == torch.bfloat16 else 0.0
        self.rounding = 8 * summing + 2 * storing  # of four logits, two drifts, and the bounds themselves
        self.computed = self.spent = 0
        self.classes = torch.empty(0, dtype=torch.int64)

    def update(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Predicted classes (T,) of the classifier with weight (C, D), in the products' precision, and bias (C, 1)."""
        rows = self._uncertain(weight, bias) if len(self.classes) else None
        total = len(self.test.features)
        if rows is None or self.spent + len(rows) > total:
            self._compute_all(weight, bias)
            return self.classes
        self.spent += len(rows)
        self.computed += len(rows)
        predicted = self.classes.clone()
        for chunk in rows.split(EVALUATION_ROWS):
            logits = torch.mm(weight, self.test.features[chunk].T) + bias
            predicted[chunk] = logits.max(dim=0).indices
        return predicted

    def _uncertain(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Rows of which it cannot be shown that their prediction is what it was when all were computed."""
        change = weight.float() - self.weight
        drift = torch.mv(change, self.test.mean) + (bias - self.bias)[:, 0]
        moved = change.norm(dim=1)
        size = self.size + _largest_row(weight)
        first = self.classes
        left = self.margin + drift[first] - drift.max() - self.test.spread * (moved[first] + moved.max())
        return torch.logical_not(left > self.rounding * size * self.test.reach).nonzero()[:, 0]

    def _compute_all(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.float().clone(), bias.clone()
        self.size = _largest_row(weight)
        self.spent = 0
        self.computed += len(self.test.features)
        classes, margins = [], []
        for chunk in self.test.features.split(EVALUATION_ROWS):
            logits = torch.mm(weight, chunk.T) + bias
            first = logits.max(dim=0)
            second = logits.scatter_(0, first.indices[None], -math.inf).amax(dim=0)
            classes.append(first.indices)
            margins.append(first.values - second)
        self.classes, self.margin = torch.cat(classes), torch.cat(margins)


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
        states = [classifier.state for classifier in self.training.classifiers]
        with atomic_file(self.file) as temporary:
            torch.save({"fingerprint": self.fingerprint, "states": states}, temporary)
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)

    def _resume(self) -> None:
        kept = _read_state(self.file)
        if kept.get("fingerprint") != self.fingerprint:
            return
        for classifier, state in zip(self.training.classifiers, kept["states"], strict=True):
            classifier.resume(state)


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


def _largest_row(weight: Tensor) -> float:
    return float(weight.float().norm(dim=1).max())


def _product_type(products: str, classes: int, dimensions: int) -> torch.dtype:
    names = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if products == "auto":
        gains = classes * dimensions > SMALL_CLASSIFIER and native_bf16()
        return torch.bfloat16 if gains else torch.float32
    if products not in names:
        raise unknown_name("precision of products", products, ("auto", *names))
    return names[products]


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
            f"A classifier needs at least two classes in its training data; got {found} of {classes}. Add images of another."
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


def _require_convergence(training: _Training, epoch: int, loss: list[float]) -> None:
    finite = np.isfinite(loss)
    if not finite.all():
        seed, rate = training.replicas[int(np.argmin(finite))]
        raise InputError(
            f"Training diverged: the loss of seed {seed} is no longer finite in epoch {epoch} at learning rate "
            f"{rate:g}. Lower the learning rate."
        )
