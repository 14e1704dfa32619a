"""Full transfer: every unpruned weight, BatchNorm and a new dense classifier train; the mask stays fixed.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, sections 2 and 3. A weight that was pruned
upstream is exactly 0 after every step: momentum and weight decay may move it, and it is reset before the next forward pass.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.classifier import ClassifierNetwork
from sparse_core.networks.masks import Mask
from sparse_core.specs.progress import Report
from sparse_core.specs.transfer import FinetuneSpec
from sparse_core.transfer import network_training
from sparse_core.transfer.network_training import NetworkTraining, Passes
from sparse_core.transfer.training import (
    Diverged,
    Reporter,
    Result,
    TrainingState,
    initial_classifier,
    no_report,
)

TIMED_IMAGES = 8
TIMED_PIXELS = TIMED_IMAGES * 224**2


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
    return training.finish()


def time_epoch(backbone: Backbone, dataset: Dataset, spec: FinetuneSpec) -> float:
    """Estimated seconds per epoch, test included, from a few images of usual size or as many smaller ones as have its pixels."""
    images = max(TIMED_IMAGES, TIMED_PIXELS // backbone.transform.crop**2)
    return network_training.time_epoch(lambda part: _Training(backbone, part, spec, 0), dataset, images, images)


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


class _Training(NetworkTraining):
    """The training of one network under its fixed mask."""

    def __init__(self, backbone: Backbone, dataset: Dataset, spec: FinetuneSpec, seed: int) -> None:
        augmentation = "crops" if spec.augment else ""
        passes = Passes(
            spec.settings.batch_size, spec.precision, spec.label_smoothing, augmentation, stage="Finetuning"
        )
        super().__init__(dataset, backbone.transform, passes, seed)
        self.spec = spec
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

    def learning_rate(self, step: int) -> float:
        settings = self.spec.settings
        return settings.learning_rate * settings.step_factor ** (step // self.steps_per_epoch // settings.step_epochs)

    def update(self) -> None:
        self.optimizer.step()
        self.fixed.hold()

    def set_training_mode(self) -> None:
        """Training mode for all layers but frozen BatchNorm."""
        self.network.train()
        if self.spec.freeze_batch_norm:
            for layer in _batch_norms(self.network):
                layer.eval()

    def measure(self) -> dict[str, float]:
        violations = self.fixed.violations()
        if violations:
            raise RuntimeError(f"{violations} pruned weights of seed {self.seed} are not 0 in epoch {self.epoch + 1}.")
        return {"mask_violations": violations}

    def finish(self) -> Result[ClassifierNetwork]:
        """The result, once all epochs have ended."""
        labels = self.dataset.test.labels
        again = self.predict("fp32", range(len(labels))) if self.spec.precision == "bf16" else None
        details = {
            "sparsity_before": self.sparsity_before,
            "sparsity_after": masks.sparsity(self.network.body).total,
            "top1_final_fp32": None if again is None else float((again == labels).mean()),
            "seconds_training": sum(self.seconds),
        }
        return self.result(self.spec.settings.learning_rate, details)

    def diverged(self, part: str) -> Diverged:
        return Diverged(
            f"Training diverged: {part} of seed {self.seed} is no longer finite in epoch {self.epoch + 1} at learning rate "
            f"{self.spec.settings.learning_rate:g}. Lower the learning rate; if that does not help, the backbone is damaged."
        )


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


def _batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


def _optimizer(network: nn.Module, spec: FinetuneSpec) -> torch.optim.Optimizer:
    settings = spec.settings
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    shared: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **shared)
    return torch.optim.SGD(parameters, momentum=settings.momentum, **shared)
