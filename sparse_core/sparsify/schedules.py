"""Schedules as shares of a training, so that they fit short trainings too. Steps are counted from 0. Needs no torch."""

import math
from dataclasses import dataclass

from sparse_core.errors import InputError
from sparse_core.specs.sparsify import PROGRESSIVE, RIGL, SparsifySpec

WARM_UP = 0.05  # of a training: 5 of 100 epochs, as STR and AC/DC train ResNet50
RISE = 0.3  # of a one-cycle schedule
STEPS = (0.5, 0.75)  # of a training, after which the rate falls to a tenth (He et al., CVPR 2016, section 4.2)

# AC/DC on ImageNet, of 100 epochs (Peste et al., NeurIPS 2021, section 4.1): dense for 10, then by turns compressed and dense for
# 5 each up to 75, dense up to 85, compressed to the end.
COMPRESSED = (*((start / 100, (start + 5) / 100) for start in range(10, 75, 10)), (0.85, 1.0))
SHORTEST_PHASE = 0.05

# GMP: the first step takes 5 % of the weights, the last one comes after 40 % of the training, as in the GMP baseline that the
# authors of AC/DC publish (their configuration of ResNet50 at 90 %).
FIRST_SPARSITY = 0.05
PRUNED_BY = 0.4

# RigL (Evci et al., ICML 2020, section 4): updates up to three quarters of the training, every 100 steps, of up to 30 %.
UPDATED_BY = 0.75
UPDATE_EVERY = 100
LEAST_UPDATES = 10
DROPPED = 0.3


def learning_rate(kind: str, peak: float, step: int, steps: int) -> float:
    """The rate of a step of a training with so many steps.

    ``cosine`` falls along half a cosine after a linear warm-up, ``one-cycle`` rises linearly over 30 % first, ``step`` is divided
    by 10 after half and after three quarters.
    """
    share = step / steps
    if kind == "step":
        return peak * 0.1 ** sum(share >= end for end in STEPS)
    rise = math.ceil((WARM_UP if kind == "cosine" else RISE) * steps)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1))) / 2


def cubic(share: float, target: float, first: float = FIRST_SPARSITY) -> float:
    """The sparsity after ``share`` (0..1) of the pruning: target + (first − target) · (1 − share)³ (Zhu & Gupta, "To prune, or
    not to prune", 2017, equation 1)."""
    first = min(first, target)
    return target + (first - target) * (1 - share) ** 3


def require_fits(spec: SparsifySpec, images: int) -> None:
    """Raise InputError if the method's schedule does not fit a training on so many images."""
    steps = spec.total_epochs * math.ceil(images / spec.batch_size)
    if spec.method in PROGRESSIVE:
        pruning_steps(steps, spec.pruning_steps, spec.sparsity)
    elif spec.method == "AC/DC":
        compressed_phases(steps)
    elif spec.method in RIGL:
        rigl_updates(steps, spec.updates)


def pruning_steps(steps: int, count: int, target: float) -> dict[int, float]:
    """The ``count`` pruning steps of a training with so many steps, and the sparsity to prune to before each. Raises InputError
    if they do not fit."""
    last = math.floor(PRUNED_BY * steps)
    if count > last + 1:
        raise InputError(
            f"{count} pruning steps do not fit into the first {100 * PRUNED_BY:.0f} % of {steps} training steps. Train for more "
            f"epochs, use smaller batches, or at most {last + 1} pruning steps."
        )
    shares = [number / (count - 1) for number in range(count)] if count > 1 else [1.0]
    places = [round(share * last) for share in shares] if count > 1 else [0]
    return {place: cubic(share, target) for place, share in zip(places, shares, strict=True)}


def compressed_phases(steps: int) -> list[tuple[int, int]]:
    """First step and end of each of AC/DC's compressed phases. Raises InputError if a phase would have no step."""
    least = math.ceil(1 / SHORTEST_PHASE)
    if steps < least:
        raise InputError(
            f"AC/DC's phases take at least {least} training steps; this training has {steps}. Train for more epochs, or use "
            "smaller batches."
        )
    return [(round(start * steps), round(end * steps)) for start, end in COMPRESSED]


@dataclass(frozen=True)
class Updates:
    """RigL's updates: every ``interval`` steps, before step ``end``."""

    interval: int
    end: int

    def are_due(self, step: int) -> bool:
        """Whether the mask is updated in this step, in place of the weights."""
        return 0 < step < self.end and step % self.interval == 0

    def dropped(self, step: int) -> float:
        """The share of a layer's weights that are replaced in this step: α/2 · (1 + cos(π step / end)), α = 0.3 (RigL,
        section 3)."""
        return DROPPED / 2 * (1 + math.cos(math.pi * step / self.end))


def rigl_updates(steps: int, count: int = 0) -> Updates:
    """RigL's updates in a training with so many steps: ``count`` of them, or every 100 steps for 0, but at least 10. Raises
    InputError if they do not fit."""
    end = math.floor(UPDATED_BY * steps)
    interval = end // (count + 1) if count else min(UPDATE_EVERY, end // (LEAST_UPDATES + 1))
    if interval < 1:
        raise InputError(
            f"{count or LEAST_UPDATES} updates of RigL's mask do not fit into the first {100 * UPDATED_BY:.0f} % of {steps} "
            "training steps. Train for more epochs, or use smaller batches."
        )
    return Updates(interval, end)
