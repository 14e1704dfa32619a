"""What all methods share: the training, in the course of which a ``Pruner`` changes the mask, and its result."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sparse_core.datasets.dataset import Dataset
from sparse_core.datasets.loading import SMALL_SIDE
from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.classifier import ClassifierNetwork
from sparse_core.networks.masks import Mask
from sparse_core.sparsify import schedules, targets
from sparse_core.sparsify.start import Start, start
from sparse_core.specs.progress import Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.finetune import FixedMask
from sparse_core.transfer.network_training import TEST_BATCH, EpochTraining, NetworkTraining, Passes
from sparse_core.transfer.training import Reporter, Result, TrainingState, no_report

SMALL_TEST_BATCH = 256


@dataclass(frozen=True)
class Sparsified(Result[ClassifierNetwork]):
    """A sparse network with its classifier, and its history. The pruned weights of ``network.body`` are exactly 0; ``mask`` also
    keeps weights that are 0 by chance. ``curves`` also hold ``sparsity``, that of the convolution weights after each epoch.
    ``details`` hold ``backbone_sparsity``, ``epochs``, ``upstream_accuracy`` (top-1 of the last epoch, in fp32), ``seconds``,
    ``notes`` for the user, and what the method records."""

    mask: Mask


class Pruner:
    """What a method does in the course of a training. This one prunes nothing: dense training."""

    def __init__(self, training: "PrunedTraining") -> None:
        self.training = training

    def before_step(self, step: int) -> None:
        """Called before the forward pass of a step, counted from 0 over the whole training."""

    def update(self, step: int) -> None:
        """Change the weights after the backward pass."""
        self.training.optimizer.step()
        self.training.hold()

    def sparsity(self) -> float:
        """The sparsity of the network as it is now."""
        return masks.sparsity(self.training.mask).total

    def details(self) -> dict[str, Any]:
        """What the result records of the method."""
        return {}

    def state(self) -> dict[str, Any]:
        """What ``resume`` needs beside weights, optimiser and mask."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Called before the saved weights are loaded."""


MakePruner = Callable[["SparseTraining"], Pruner]


class PrunedTraining(EpochTraining):
    """A training whose pruner sets ``mask``, which is held after every step; to be combined with a class that trains. ``body`` is
    what is pruned."""

    spec: SparsifySpec
    notes: tuple[str, ...]
    pruner: Pruner  # set by the subclass after ``begin_dense``

    def begin_dense(self) -> None:
        """Begin with nothing pruned, once the network is there."""
        self.steps = self.spec.total_epochs * self.steps_per_epoch
        self.now = 0
        self.mask = targets.dense_mask(self.body)
        self.fixed: FixedMask | None = None

    @property
    def body(self) -> nn.Module:
        raise NotImplementedError

    def set_mask(self, mask: Mask) -> None:
        """Prune the weights that ``mask`` does not keep, and hold it from now on."""
        self.mask = mask
        masks.apply(self.body, mask)
        self._hold_mask()

    def hold(self) -> None:
        """Reset the pruned weights to exactly 0."""
        if self.fixed is not None:
            self.fixed.hold()

    def prune_to(self, sparsity: float, scores: dict[str, torch.Tensor]) -> None:
        """Keep the weights with the highest scores, as the spec distributes the sparsity over the layers."""
        self.set_mask(targets.highest(scores, sparsity, self.spec.layers, self.spec.prune_first))

    def before_step(self, step: int) -> None:
        self.now = step
        self.pruner.before_step(step)

    def measure(self) -> dict[str, float]:
        violations = self.fixed.violations() if self.fixed else 0
        if violations:
            raise RuntimeError(f"{violations} pruned weights are not 0 in epoch {self.epoch + 1}.")
        return {"sparsity": self.pruner.sparsity()}

    def diverged(self, part: str) -> InputError:
        """Not a ``Diverged``: the state after the last good epoch is kept."""
        kept = f" The state after epoch {self.epoch} is kept." if self.epoch else ""
        return InputError(
            f"Training diverged: {part} is no longer finite in epoch {self.epoch + 1}. Lower the learning rate, now "
            f"{self.spec.peak_rate:g}, or the sparsity.{kept}"
        )

    def state(self) -> dict[str, Any]:
        return {**super().state(), "mask": dict(self.mask.tensors), "pruner": self.pruner.state()}

    def resume(self, state: dict[str, Any]) -> None:
        if state:
            self.pruner.resume(state["pruner"])
            super().resume(state)
            self.mask = Mask({name: kept.to(self.device) for name, kept in state["mask"].items()})
            self._hold_mask()

    def sparse_details(self, accuracy: float, seconds: float) -> dict[str, Any]:
        """What the result of every method records, and what this one does besides."""
        return {
            "backbone_sparsity": masks.sparsity(self.mask).total,
            "upstream_accuracy": accuracy,
            "epochs": self.epoch,
            "seconds": seconds,
            "notes": list(self.notes),
            **self.pruner.details(),
        }

    def _hold_mask(self) -> None:
        whole = all(bool(kept.all()) for kept in self.mask.tensors.values())
        self.fixed = None if whole else FixedMask(self.body, self.mask)


class SparseTraining(PrunedTraining, NetworkTraining):
    """The training of one network that classifies images."""

    def __init__(
        self,
        begin: Start,
        backbone: Backbone,
        dataset: Dataset,
        spec: SparsifySpec,
        seed: int,
        make: MakePruner,
    ) -> None:
        small = backbone.transform.crop <= SMALL_SIDE  # small images are shifted, larger ones cropped at random
        augmentation = ("shifts" if small else "crops") if spec.augment else ""
        test_batch = SMALL_TEST_BATCH if small else TEST_BATCH
        passes = Passes(spec.batch_size, spec.precision, spec.label_smoothing, augmentation, spec.method, test_batch)
        super().__init__(dataset, backbone.transform, passes, seed)
        self.spec, self.network, self.notes = spec, begin.network, begin.notes
        network = self.network
        self.made_at = time.perf_counter()
        network.requires_grad_(True).to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=spec.peak_rate,
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            nesterov=spec.nesterov,
            fused=True,
        )
        self.begin_dense()
        self.pruner = make(self)

    @property
    def body(self) -> nn.Module:
        return self.network.body

    def learning_rate(self, step: int) -> float:
        return schedules.learning_rate(self.spec.rate_schedule, self.spec.peak_rate, step, self.steps)

    def update(self) -> None:
        self.pruner.update(self.now)

    def finish(self, seconds_before: float = 0.0) -> Sparsified:
        """The result once all epochs have ended; ``seconds_before`` the training count as its own."""
        labels = self.dataset.test.labels
        accuracy = self.curves["top1"][-1]
        if self.passes.precision == "bf16":
            accuracy = float((self.predict("fp32", range(len(labels))) == labels).mean())
        mask = Mask({name: kept.cpu() for name, kept in self.mask.tensors.items()})
        details = self.sparse_details(accuracy, seconds_before + sum(self.seconds))
        self.network.eval().requires_grad_(False)
        return sparsified(self.result(self.spec.peak_rate, details), mask)

    def finish_untrained(self, details: dict[str, Any]) -> Sparsified:
        """The result without training: its curves have one value, the loss being that of the test images."""
        self.finish_epoch(self._test_loss())
        self.epoch, self.seconds = 0, [time.perf_counter() - self.made_at]
        result = self.finish()
        return dataclasses.replace(result, details={**result.details, **details})

    def _test_loss(self) -> float:
        labels = torch.from_numpy(self.dataset.test.labels).to(self.device)
        self.network.eval()
        with torch.inference_mode():
            parts = self.test_images.centre_cropped_batches(range(len(labels)), self.passes.test_batch)
            logits = torch.cat([self.network(self.input(images)) for images in parts])
        return float(F.cross_entropy(logits, labels))


def sparsified(result: Result[ClassifierNetwork], mask: Mask) -> Sparsified:
    """The result of a method: a training's result with its mask."""
    return Sparsified(**{field.name: getattr(result, field.name) for field in fields(Result)}, mask=mask)


def saved_state(
    backbone: Backbone, dataset: Dataset, spec: SparsifySpec, seed: int, file: Path | None
) -> TrainingState:
    """Where a training is saved; another one's state in the file is not loaded."""
    return TrainingState(file, f"{spec} {seed} {backbone.hash} {dataset.hash}")


def run(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    make: MakePruner,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Train one network from the method's start to its end.

    The state is saved in ``checkpoint`` after every epoch but the last, and the training resumed from it to the same weights:
    seed, step and epoch decide everything, in fp32 on a CPU bit by bit for the same number of threads. The caller discards the
    file once the result is on disk.
    """
    training = SparseTraining(start(backbone, dataset, spec, seed), backbone, dataset, spec, seed, make)
    state = saved_state(backbone, dataset, spec, seed, checkpoint)
    with state:
        train_to_end(training, state, state.load(), on_progress)
    return training.finish()


def train_to_end(training: PrunedTraining, state: TrainingState, saved: dict[str, Any], on_progress: Report) -> None:
    """Go on from a saved state, or start, and train all epochs."""
    training.resume(saved)
    epochs = training.spec.total_epochs
    reporter = Reporter(on_progress, epochs, training.epoch)
    while training.epoch < epochs:
        training.run_epoch(reporter)
        if training.epoch < epochs:
            state.save(training.state())
            reporter.saved()
