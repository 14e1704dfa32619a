"""Axes of sparsity and of network size: limits, ticks and positions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.views.labels import SIZES

SPARSITY_TITLE = "Sparsity of the backbone (%)"
FEWEST_TICKS = 3


def percents(fractions: pd.Series) -> list[float]:
    """Fractions of 1 in percent."""
    return (100 * fractions).tolist()


def sparsity_axis(axis: dict[str, Any], sparsities: pd.Series, free: float) -> tuple[float, tuple[float, float]]:
    """Fit an axis to these sparsities, with the share ``free`` of it empty at the right; returns the largest and the limits."""
    levels = sorted({round(100 * sparsity, 4) for sparsity in sparsities})
    low, high = _with_room(levels[0], levels[-1], 10.0, free)
    axis.update(range=[low, high], tickvals=_ticks(levels, 0.05 * (high - low)))
    return levels[-1], (low, high)


def reductions(percents: Sequence[float]) -> list[float]:
    """Sparsities (percent) as orders of magnitude by which the weights were reduced: 90 gives 1, 99 gives 2."""
    return [-math.log10(max(1 - percent / 100, 1e-4)) for percent in percents]


def reduction_axis(axis: dict[str, Any], sparsities: pd.Series) -> None:
    """Ticks at these sparsities on an axis of ``reductions``."""
    levels = sorted({100 * sparsity for sparsity in sparsities})
    axis.update(tickvals=reductions(levels), ticktext=[f"{level:.3g}" for level in levels])


def magnitudes(sizes: pd.Series, size: str) -> list[float]:
    """The logarithms (base 10) of sizes in the unit of ``SIZES[size]``."""
    return np.log10(sizes / SIZES[size].scale).tolist()


def size_axis(axis: dict[str, Any], places: pd.Series, free: float) -> tuple[float, tuple[float, float]]:
    """As ``sparsity_axis``, for ``magnitudes``."""
    first, last = float(places.min()), float(places.max())
    low, high = _with_room(first, last, 0.3, free)
    axis.update(range=[low, high], **size_ticks(low, last))
    return last, (low, high)


def size_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks at round sizes between two magnitudes: 1, 2 and 5 times powers of ten, or closer ones where few of these fit."""
    powers = [10.0**power for power in range(math.floor(low), math.ceil(high) + 1)]
    rounds = [digit * power for power in powers for digit in (1, 2, 5)]
    inside = [size for size in rounds if low <= math.log10(size) <= high]
    if len(inside) < FEWEST_TICKS and high > low:
        step = max(size for size in (*rounds, *(size / 100 for size in rounds)) if size <= (10**high - 10**low) / 3)
        inside = [step * count for count in range(math.ceil(10**low / step), math.floor(10**high / step) + 1)]
    inside = inside or [10**low]
    return {"tickvals": [math.log10(size) for size in inside], "ticktext": [f"{size:.3g}" for size in inside]}


def doubling_axis(axis: dict[str, Any], sizes: pd.Series, free: float) -> tuple[float, float]:
    """Fit an axis to batch sizes, spaced by their logarithm to base 2; returns the limits."""
    levels = sorted(sizes.unique())
    low, high = math.log2(levels[0]) - 0.5, math.log2(levels[-1]) + 0.5
    high += (high - low) * free / (1 - free)
    ticks = {"tickvals": [math.log2(size) for size in levels], "ticktext": [f"{size:g}" for size in levels]}
    axis.update(range=[low, high], **ticks)
    return low, high


def layer_axis(axis: dict[str, Any], layers: int) -> None:
    """Fit an axis to layers 1, 2, …"""
    axis.update(range=[0.3, layers + 0.7], showgrid=False)


def _with_room(first: float, last: float, span: float, free: float) -> tuple[float, float]:
    """The limits of an axis from ``first`` to ``last``, or ``span`` wide where they are equal, with a share free at the right."""
    margin = 0.08 * ((last - first) or span)
    low, high = first - margin, last + margin
    return low, high + (high - low) * free / (1 - free)


def _ticks(levels: Sequence[float], distance: float) -> list[float]:
    """As many levels as fit side by side, round ones first."""
    kept: list[float] = []
    for level in sorted(levels, key=lambda level: (level % 10 != 0, level % 5 != 0, level)):
        if all(abs(level - other) >= distance for other in kept):
            kept.append(level)
    return sorted(kept)
