"""STR: weights pass through a soft threshold that each layer learns; weight decay on the thresholds drives the sparsity.

Source: Kusupati et al., "Soft Threshold Weight Reparameterization for Learnable Sparsity", ICML 2020, section 3, equations 2
and 3: S(w, s) = sign(w) · relu(abs(w) − g(s)) with the sigmoid g.
"""

import dataclasses
import math
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sparse_core.datasets.dataset import Dataset
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone
from sparse_core.sparsify import schedules, targets
from sparse_core.sparsify.start import start
from sparse_core.sparsify.training import Pruner, SparseTraining, Sparsified, saved_state, train_to_end
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.transfer.training import Reporter, no_report

INITIAL = -10.0  # of s: a threshold of 4.5e-5. The paper's −3200 (ResNet50) leaves it at 0 for most of a long training
LEARNT_FOR = 0.9  # of the training; then the thresholds are folded away, and the rest trains under the mask
PILOTS = 3
PILOT_SHARE = 0.1  # of the training's steps
PILOT_STEPS = 20  # at least
PILOT_TEST = 64  # images
CLOSE = 0.01  # a pilot this close to the target is the last
FURTHER = 1.5  # factor from the first pilot's strength to the second's


class SoftThreshold(nn.Module):
    """A weight W to sign(W) · relu(abs(W) − sigmoid(s)), which is W − clamp(W, −g, g). The gradient is 1 for W where abs(W) >
    g and 0 elsewhere; for s it is −g(1 − g) · Σ sign(W) · (gradient of the output), over the same weights."""

    def __init__(self, initial: float = INITIAL) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor([[initial]]))  # 1 × 1, as in the authors' files

    def forward(self, weight: Tensor) -> Tensor:
        threshold = torch.sigmoid(self.s)[..., None, None]
        return weight - torch.clamp(weight, -threshold, threshold)


@dataclass
class Search:
    """The strength of a training, 0 while it is not found, and the pilots behind it: their [strength, sparsity] and seconds."""

    strength: float
    pilots: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0


class ThresholdPruner(Pruner):
    """Puts a threshold on each convolution but the first, and folds them all away after 90 % of the training."""

    training: SparseTraining

    def __init__(self, training: SparseTraining, *, search: Search) -> None:
        super().__init__(training)
        self.search = search
        self.fold_at = math.floor(LEARNT_FOR * training.steps)
        self.folded: dict[str, Any] = {}
        body, spec = training.network.body, training.spec
        targets.highest(
            targets.magnitudes(body), spec.sparsity, "global", spec.prune_first
        )  # the target can be reached
        thresholds = []
        for layer in _convolutions(body, spec.prune_first):
            threshold = SoftThreshold().to(training.device)
            parametrize.register_parametrization(layer, "weight", threshold)
            thresholds.append(threshold.s)
        training.optimizer.add_param_group({"params": thresholds, "weight_decay": search.strength})

    def before_step(self, step: int) -> None:
        if step == self.fold_at:
            self._fold()

    def sparsity(self) -> float:
        """That of the weights as they are used; of the mask once they are folded."""
        return super().sparsity() if self.folded else masks.sparsity(self.training.network.body).total

    def details(self) -> dict[str, Any]:
        return {"strength": self.search.strength, "pilots": self.search.pilots, **self.folded}

    def state(self) -> dict[str, Any]:
        return {"folded": self.folded, "search": dataclasses.asdict(self.search)}

    def resume(self, state: dict[str, Any]) -> None:
        self.folded = state["folded"]
        if self.folded:
            for layer in _convolutions(self.training.network.body, self.training.spec.prune_first):
                parametrize.remove_parametrizations(layer, "weight")

    def _fold(self) -> None:
        """Write the weights as they are used in place of those that were trained, trimmed to the target."""
        body, spec = self.training.network.body, self.training.spec
        learnt = masks.sparsity(body).total
        margins = {name: weight.abs() for name, weight in masks.prunable(body).items()}
        for name, layer in _named_convolutions(body, spec.prune_first):
            original = layer.parametrizations.weight.original.detach()
            threshold = torch.sigmoid(layer.parametrizations.weight[0].s.detach())
            margins[f"{name}.weight"] = original.abs() - threshold[..., None, None]
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        mask = targets.highest(margins, spec.sparsity, "global", spec.prune_first)
        lowered, trimmed, revived = self._write_trimmed(margins, mask)
        self.folded = {"learnt_sparsity": learnt, "trimmed": trimmed, "revived": revived, "threshold_lowered": lowered}
        self.training.set_mask(mask)

    def _write_trimmed(self, margins: dict[str, Tensor], mask: masks.Mask) -> tuple[float, int, int]:
        """Give the kept weights their values: their ``margins`` above the thresholds, which are lowered together, as far as
        needed, where fewer weights than the target's exceed them. Returns by how much, and the number of weights that the
        target takes although they exceed their thresholds (trimmed) and leaves although they do not (revived)."""
        named = _named_convolutions(self.training.network.body, self.training.spec.prune_first)
        layers = {f"{name}.weight": layer for name, layer in named}
        trimmed = sum(int((~mask.tensors[name] & (margins[name] > 0)).sum()) for name in layers)
        short = [margins[name][mask.tensors[name] & (margins[name] <= 0)] for name in layers]
        revived = sum(len(part) for part in short)
        lowered = -min(float(part.min()) for part in short if len(part)) * 1.001 + 1e-6 if revived else 0.0
        for name, layer in layers.items():
            weight = layer.weight.data
            weight.copy_(torch.sign(weight) * (margins[name] + lowered).clamp_min(0))
        return lowered, trimmed, revived


def _convolutions(body: nn.Module, prune_first: bool) -> list[nn.Conv2d]:
    return [layer for _, layer in _named_convolutions(body, prune_first)]


def _named_convolutions(body: nn.Module, prune_first: bool) -> list[tuple[str, Any]]:
    found = [(name, layer) for name, layer in body.named_modules() if isinstance(layer, nn.Conv2d)]
    return found if prune_first else found[1:]


def sparsify(
    backbone: Backbone,
    dataset: Dataset,
    spec: SparsifySpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Sparsified:
    """Train new weights under learnt thresholds for 90 % of the training, fold them away, and train the rest under the mask.

    The strength, the weight decay of the thresholds, decides the sparsity. Where ``spec.strength`` does not give it, up to
    three pilots of a tenth of the training look for it, their decay scaled so that thresholds come as far; their seconds
    count. What is still missing to the target is trimmed, by the margins above the thresholds, when they are folded.
    ``details`` hold ``strength``, ``pilots`` (strength and sparsity), ``learnt_sparsity`` before trimming, and the weights
    ``trimmed`` and ``revived``. In the paper the first convolution and the classifier have thresholds too; for the former see
    ``spec.prune_first``.
    """
    state = saved_state(backbone, dataset, spec, seed, checkpoint)
    with state:
        saved = state.load()
        found = saved.get("pruner", saved).get("search", {"strength": spec.strength or 0.0})
        search = Search(**found)
        while not search.strength:
            on_progress(Progress(f"STR: pilot {len(search.pilots) + 1} of up to {PILOTS}"))
            _add_pilot(search, backbone, dataset, spec, seed)
            state.save({"search": dataclasses.asdict(search)})
        make = partial(ThresholdPruner, search=search)
        training = SparseTraining(start(backbone, dataset, spec, seed), backbone, dataset, spec, seed, make)
        train_to_end(training, state, saved if "network" in saved else {}, on_progress)
    return training.finish(search.seconds)


def _add_pilot(search: Search, backbone: Backbone, dataset: Dataset, spec: SparsifySpec, seed: int) -> None:
    """Train a pilot with the next strength, and decide the strength of the whole training where it was the last one."""
    started = time.perf_counter()
    steps = spec.total_epochs * math.ceil(len(dataset.train.labels) / spec.batch_size)
    body = start(backbone, dataset, spec, seed).network.body
    first = first_strength(body, spec, steps)
    strength = next_strength(search.pilots, spec.sparsity, first)
    pilot_steps = min(steps, max(PILOT_STEPS, round(PILOT_SHARE * steps)))
    part = _part(dataset, pilot_steps * spec.batch_size, seed)
    epochs = math.ceil(pilot_steps * spec.batch_size / len(part.train.labels))
    short = dataclasses.replace(spec, epochs=epochs, length_factor=1.0)
    made = epochs * math.ceil(len(part.train.labels) / spec.batch_size)
    scaled = strength * _decay(spec, steps) / _decay(spec, made)
    make = partial(ThresholdPruner, search=Search(strength=scaled))
    training = SparseTraining(start(backbone, part, short, seed), backbone, part, short, seed, make)
    for _ in range(epochs):
        training.run_epoch(Reporter(no_report, epochs))
    sparsity = training.pruner.details()["learnt_sparsity"]
    search.pilots.append([strength, sparsity])
    search.seconds += time.perf_counter() - started
    if abs(sparsity - spec.sparsity) <= CLOSE:
        search.strength = strength
    elif len(search.pilots) == PILOTS:
        search.strength = next_strength(search.pilots, spec.sparsity, first)


def first_strength(body: nn.Module, spec: SparsifySpec, steps: int) -> float:
    """The strength under which decay alone, s ← s · (1 − rate · strength / (1 − momentum)) a step, takes s to where its sigmoid
    exceeds the target's share of the initial weights."""
    magnitudes = list(targets.magnitudes(body).values())
    total = sum(magnitude.numel() for magnitude in magnitudes)
    flat = torch.cat([magnitude.flatten() for magnitude in magnitudes[0 if spec.prune_first else 1 :]])
    rank = min(max(round(spec.sparsity * total), 1), len(flat))
    threshold = min(max(float(flat.kthvalue(rank).values), 1e-4), 0.4)
    wanted = math.log(threshold / (1 - threshold))
    return math.log(INITIAL / wanted) / _decay(spec, steps)


def next_strength(pilots: list[list[float]], target: float, first: float) -> float:
    """The next strength to try, from the pilots' [strength, sparsity]: ``first``; then somewhat more or less; then by linear
    interpolation of its logarithm in the logit of the sparsity, between the two pilots nearest the target."""
    if not pilots:
        return first
    nearest = sorted(pilots, key=lambda pilot: abs(pilot[1] - target))[:2]
    if len(nearest) == 1:
        return nearest[0][0] * (FURTHER if nearest[0][1] < target else 1 / FURTHER)
    (one, low), (other, high) = sorted(nearest, key=lambda pilot: pilot[1])
    lowest, highest = min(one, other) / FURTHER**2, max(one, other) * FURTHER**2
    if high - low < 1e-6:
        return highest if high < target else lowest
    share = (_logit(target) - _logit(low)) / (_logit(high) - _logit(low))
    found = math.exp(math.log(one) + share * (math.log(other) - math.log(one)))
    return min(max(found, lowest), highest)


def _decay(spec: SparsifySpec, steps: int) -> float:
    """Learning rates up to the folding, summed, over 1 − momentum: what a strength of 1 takes off the logarithm of s."""
    rates = (
        schedules.learning_rate(spec.rate_schedule, spec.peak_rate, step, steps)
        for step in range(math.floor(LEARNT_FOR * steps))
    )
    return sum(rates) / (1 - spec.momentum)


def _logit(share: float) -> float:
    inside = min(max(share, 1e-4), 1 - 1e-4)
    return math.log(inside / (1 - inside))


def _part(dataset: Dataset, rows: int, seed: int) -> Dataset:
    """The dataset with up to so many training images, and few for the test, which says nothing here."""
    chosen = np.random.default_rng(seed).permutation(len(dataset.train.labels))[:rows]
    tested = np.arange(min(PILOT_TEST, len(dataset.test.labels)))
    return dataclasses.replace(dataset, train=dataset.train.only(chosen), test=dataset.test.only(tested))
