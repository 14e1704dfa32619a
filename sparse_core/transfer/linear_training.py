"""Linear classifiers on features, trained side by side: the paper's linear transfer, vectorised.

Shapes: N training and T test samples, D features, C classes. Each step is two matrix products and one update
(``fused_sgd``); most test predictions are shown to be unchanged rather than computed (``unchanged_predictions``).
"""

import time
import zlib
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sparse_core.engines.torch_cpu import native_bf16, thread_pool
from sparse_core.errors import InputError, unknown_name
from sparse_core.specs.progress import Report
from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer.evaluation import COPY_ROWS, EvaluationSet
from sparse_core.transfer.fused_sgd import sgd_epoch
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
from sparse_core.transfer.unchanged_predictions import Predictions

SAVING_SECONDS = 1.0  # at least, between two saves of the state
SAVING_SHARE = 0.02  # of the time, at most, for saving it
EPOCHS_AHEAD = 2
SMALL_CLASSIFIER = 16_384  # weights; up to here the conversions to bf16 cost more than its products save


class Samples(NamedTuple):
    """``features`` (N, D), float, memory-mapped ones included, and ``labels`` (N,), whole numbers."""

    features: np.ndarray
    labels: np.ndarray


def train(
    training: Samples,
    test: Samples,
    classes: int,
    seeds: Sequence[int],
    settings: Hyperparameters,
    *,
    products: str = "auto",
    on_progress: Report = no_report,
    checkpoints: Mapping[int, Path] | None = None,
) -> list[Result[nn.Linear]]:
    """Train one classifier per seed with the paper's linear protocol (section 3) and test each after every epoch.

    The rule is torch.optim.SGD's: v ← momentum · v + gradient + weight_decay · w, then w ← w − rate · v, bias included; the
    rate falls by ``step_factor`` every ``step_epochs``; the last, smaller mini-batch of an epoch is kept. A seed gives the
    same result whichever seeds train beside it, on any number of cores, and after a resume. ``products`` is the precision
    of the matrix products: "fp32", "bf16", or "auto", which is bf16 where the processor computes it natively and the
    classifier is large enough to gain by it. Weights, momentum and update are always fp32. ``checkpoints`` hold a file for
    each seed's state, saved as often as it costs little; the caller discards it once the seed's result is on disk. Raises
    InputError for unusable samples, and Diverged.
    """
    labels = checked_training_labels(training, classes)
    test_labels = checked_labels("test", test, classes)
    width, test_width = training.features.shape[1], test.features.shape[1]
    if width != test_width:
        raise InputError(
            f"Training and test features must have the same width; got {width} and {test_width}. "
            "Extract both with the same backbone."
        )
    dtype = product_type(products, classes, width)
    work = Training(
        checked_features("training", training.features, dtype),
        torch.from_numpy(labels),
        EvaluationSet(checked_features("test", test.features, dtype), test_labels, classes),
        [(seed, settings.learning_rate) for seed in seeds],
        settings,
        keep_states=checkpoints is not None,
    )
    return _run(work, on_progress, checkpoints or {})


def product_type(products: str, classes: int, dimensions: int) -> torch.dtype:
    """The type of the matrix products of a classifier of this size; see ``train``."""
    names = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if products == "auto":
        gains = classes * dimensions > SMALL_CLASSIFIER and native_bf16()
        return torch.bfloat16 if gains else torch.float32
    if products not in names:
        raise unknown_name("precision of products", products, ("auto", *names))
    return names[products]


class Training:
    """Classifiers trained side by side on features (N, D) and labels (N,), or on these ``rows`` of them; ``replicas`` are
    their (seed, learning rate).

    Each trains in one thread at a time, with single-threaded products. So it rounds alike whichever classifiers train
    beside it and on any number of cores, and a busy machine slows one classifier instead of making all threads wait.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        test: EvaluationSet,
        replicas: Sequence[tuple[int, float]],
        settings: Hyperparameters,
        *,
        rows: Tensor | None = None,
        keep_states: bool = False,
    ) -> None:
        self.features, self.labels, self.test = features, labels, test
        self.rows = torch.arange(len(features)) if rows is None else rows
        self.replicas, self.settings = list(replicas), settings
        self.classifiers = [Classifier(self, seed, rate, keep_states) for seed, rate in replicas]

    @property
    def epoch(self) -> int:
        """The epochs that all classifiers have finished."""
        return min(classifier.epoch for classifier in self.classifiers)

    def epochs(self) -> Generator[int, None, None]:
        """Train and test from the present epoch on; yields each epoch once all classifiers have finished it. A
        classifier may run some epochs ahead, so that no core waits where there are more classifiers than cores."""
        epoch = self.epoch
        busy: dict[Future[None], Classifier] = {}
        with thread_pool() as (pool, threads):
            while epoch < self.settings.epochs:
                end = min(epoch + EPOCHS_AHEAD, self.settings.epochs)
                idle = [one for one in self.classifiers if one.epoch < end and one not in busy.values()]
                for classifier in sorted(idle, key=lambda one: one.epoch)[: threads - len(busy)]:
                    busy[pool.submit(classifier.train_epoch)] = classifier
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    future.result()
                    del busy[future]
                while epoch < self.epoch:
                    epoch += 1
                    yield epoch

    def values(self, name: str, epoch: int) -> list[float]:
        """The value of one curve after ``epoch`` (from 1), for each classifier."""
        return [classifier.curves[name][epoch - 1] for classifier in self.classifiers]

    def identity(self) -> str:
        """Identifies what all classifiers share: data, precision of the products, settings."""
        tensors = (self.features, self.labels, self.test.features, self.test.labels)
        sums = [zlib.crc32(tensor.view(torch.uint8).numpy().data) for tensor in tensors]
        return f"{sums} {self.features.dtype} {self.test.classes} {self.settings}"


class Classifier:
    """One classifier, its momentum, its test predictions and its curves."""

    def __init__(self, training: Training, seed: int, rate: float, keep_states: bool) -> None:
        self.training, self.seed, self.rate, self.keep_states = training, seed, rate, keep_states
        self.epoch = 0
        self.curves: Curves = {"loss": [], "top1": [], "mean_per_class": []}
        features, classes = training.features, training.test.classes
        self.weight, bias = initial_classifier(seed, classes, features.shape[1])
        self.bias = bias[:, None]
        self.weight_velocity = torch.zeros_like(self.weight)
        self.bias_velocity = torch.zeros_like(self.bias)
        self.product_weight = self.weight.to(features.dtype)
        self.gradients = [torch.empty_like(self.weight), torch.empty_like(self.bias)]
        reduced = features.dtype != self.weight.dtype
        self.product_gradient = torch.empty_like(self.weight, dtype=features.dtype) if reduced else self.gradients[0]
        self.gathered = features.new_empty(training.settings.batch_size, features.shape[1])
        self.predictions = Predictions(training.test)
        self.state: dict[str, Any] = {}

    def train_epoch(self) -> None:
        """One pass over the training rows in the seed's own order, then the test."""
        settings, rows = self.training.settings, self.training.rows
        rate = self.rate * settings.step_factor ** (self.epoch // settings.step_epochs)
        order = rows[torch.from_numpy(shuffled_rows(self.seed, self.epoch, len(rows)))]
        with torch.inference_mode():
            data = (self.training.features, self.training.labels, order)
            vectors = ([self.weight, self.bias], [self.weight_velocity, self.bias_velocity], self.gradients)
            buffers = (self.product_weight, self.product_gradient, self.gathered)
            loss = sgd_epoch(*data, *vectors, *buffers, rate, settings.momentum, settings.weight_decay)
            predicted = self.predictions.update(self.product_weight, self.bias)
            scores = self.training.test.score(predicted)
        for curve, value in zip(self.curves.values(), (float(loss) / len(rows), *scores), strict=True):
            curve.append(value)
        if self.keep_states:
            # Assigned when complete, and never changed: another thread saves it while this one trains on.
            self.state = {
                "epoch": self.epoch + 1,
                "curves": {name: list(values) for name, values in self.curves.items()},
                "tensors": {name: tensor.clone() for name, tensor in self._trained().items()},
                "predictions": self.predictions.state(),
            }
        self.epoch += 1

    def resume(self, state: dict[str, Any]) -> None:
        """Continue bit by bit from a former ``state``, which stays as it is."""
        for name, tensor in self._trained().items():
            tensor.copy_(state["tensors"][name])
        self.product_weight.copy_(self.weight)
        for name, values in state["curves"].items():
            self.curves[name][:] = values
        self.predictions.resume(state["predictions"])
        self.epoch, self.state = state["epoch"], state

    def _trained(self) -> dict[str, Tensor]:
        """What an epoch changes in place."""
        names = ("weight", "bias", "weight_velocity", "bias_velocity")
        return {name: getattr(self, name) for name in names}

    def result(self, seconds_per_epoch: float) -> Result[nn.Linear]:
        """The trained classifier. ``details`` say the precision of its products and the share of predictions computed."""
        computed = self.predictions.computed / (len(self.training.test.features) * self.epoch)
        with torch.inference_mode():
            predicted = self.predictions.update(self.product_weight, self.bias)
        classes, dimensions = self.weight.shape
        products = "bf16" if self.product_weight.dtype == torch.bfloat16 else "fp32"
        network = nn.Linear(dimensions, classes, device="meta")  # no values are drawn
        network.load_state_dict({"weight": self.weight.clone(), "bias": self.bias[:, 0].clone()}, assign=True)
        return Result(
            self.seed,
            self.rate,
            self.curves,
            self.training.test.confusion(predicted),
            predicted.numpy(),
            network,
            [seconds_per_epoch] * self.epoch,
            {"products": products, "share_of_tests_computed": computed},
        )


class Saving:
    """Continues a training from its saved state, and saves it as often as that costs little, while it is open.

    ``files`` are the state's files, each with the classifiers whose state it holds.
    """

    def __init__(self, training: Training, files: Mapping[Path, Sequence[Classifier]]) -> None:
        identity = training.identity() if files else ""
        self._parts = [
            (TrainingState(file, f"{identity} {[(each.seed, each.rate) for each in classifiers]}"), classifiers)
            for file, classifiers in files.items()
        ]
        self._open = ExitStack()

    def __enter__(self) -> "Saving":
        earlier = 0.0
        for state, classifiers in self._parts:
            saved = self._open.enter_context(state).load()
            for classifier, values in zip(classifiers, saved.get("classifiers", ()), strict=False):
                classifier.resume(values)
            earlier += saved.get("seconds", 0.0)
        self._started = time.perf_counter() - earlier
        self._save_at = time.perf_counter() + SAVING_SECONDS
        return self

    def __exit__(self, *raised: Any) -> None:
        self._open.__exit__(*raised)

    @property
    def seconds(self) -> float:
        """The time that the training has taken, that before an interruption included."""
        return time.perf_counter() - self._started

    def save(self, reporter: Reporter) -> None:
        """Save the state if it is time, and report that."""
        started = time.perf_counter()
        if not self._parts or started < self._save_at:
            return
        for state, classifiers in self._parts:
            seconds = self.seconds / len(self._parts)
            state.save({"classifiers": [each.state for each in classifiers], "seconds": seconds})
        ended = time.perf_counter()
        self._save_at = ended + max(SAVING_SECONDS, (ended - started) / SAVING_SHARE)
        reporter.saved()


def _run(training: Training, on_progress: Report, checkpoints: Mapping[int, Path]) -> list[Result[nn.Linear]]:
    files = {checkpoints[each.seed]: [each] for each in training.classifiers if each.seed in checkpoints}
    with Saving(training, files) as saving, closing(training.epochs()) as epochs:
        curves = {classifier.seed: classifier.curves for classifier in training.classifiers}
        reporter = Reporter(on_progress, training.settings.epochs, training.epoch)
        for epoch in epochs:
            _require_convergence(training, epoch)
            reporter.update("Training the classifiers", epoch, curves)
            saving.save(reporter)
        seconds = saving.seconds / (training.settings.epochs * len(training.classifiers))
    return [classifier.result(seconds) for classifier in training.classifiers]


def _require_convergence(training: Training, epoch: int) -> None:
    finite = np.isfinite(training.values("loss", epoch))
    if not finite.all():
        seed, rate = training.replicas[int(np.argmin(finite))]
        raise Diverged(
            f"Training diverged: the loss of seed {seed} is no longer finite in epoch {epoch} at learning rate "
            f"{rate:g}. Lower the learning rate."
        )


def checked_labels(split: str, samples: Samples, classes: int) -> np.ndarray:
    """The labels as int64 (N,). Raises InputError unless they match the features and lie in [0, classes)."""
    features, labels = samples
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels):
        raise InputError(
            f"The {split} features must be (N, D) and the labels (N,); got {features.shape} and {labels.shape}. "
            "Give one label for each row."
        )
    if not features.size:
        raise InputError(f"The {split} features are empty, shape {features.shape}: give at least one sample.")
    if labels.dtype.kind not in "iu":
        raise InputError(f"The {split} labels must be whole numbers; got {labels.dtype}. Number the classes from 0.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"The {split} labels must lie in 0..{classes - 1}; {len(wrong)} do not, first {labels[wrong[0]]} in row "
            f"{wrong[0]}. Number the classes from 0."
        )
    return np.array(labels, dtype=np.int64)


def checked_training_labels(samples: Samples, classes: int) -> np.ndarray:
    """``checked_labels`` of training samples, which must have at least two classes."""
    labels = checked_labels("training", samples, classes)
    found = len(np.unique(labels))
    if found < 2:
        raise InputError(
            f"A classifier needs at least two classes in its training data; got {found} of {classes}. "
            "Add images of another class."
        )
    return labels


def checked_features(split: str, features: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The features (N, D) as a tensor of ``dtype``: they themselves where they are of this type, in their file if they
    are memory-mapped; else a copy, made in pieces. Raises InputError for values that are not finite."""
    same = features.dtype == np.float32 and dtype == torch.float32 and features.flags.writeable
    copied = torch.from_numpy(np.ascontiguousarray(features)) if same else torch.empty(features.shape, dtype=dtype)
    broken: list[int] = []
    for start in range(0, len(features), COPY_ROWS):
        rows = np.array(features[start : start + COPY_ROWS], dtype=np.float32)
        if not np.isfinite(rows.sum()):
            broken += (start + np.flatnonzero(~np.isfinite(rows).all(axis=1))).tolist()
        if not same:
            copied[start : start + COPY_ROWS] = torch.from_numpy(rows)
    if broken:
        raise InputError(
            f"The {split} features must be finite; {len(broken)} of {len(features)} rows are not, the first is row "
            f"{broken[0]}. Extract them again, or leave out those samples."
        )
    return copied
