"""Which weights a target sparsity leaves: layer densities, and masks that meet the target to one weight."""

import math
from collections.abc import Mapping

from torch import Tensor, nn

from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.networks.masks import Mask, Shapes

PRUNED = -1.0  # the score of a weight that is pruned already: below every magnitude and saliency


def dense_mask(module: nn.Module) -> Mask:
    """The mask that keeps everything."""
    return Mask({name: weight.new_ones(weight.shape).bool() for name, weight in masks.prunable(module).items()})


def magnitudes(module: nn.Module, mask: Mask | None = None) -> dict[str, Tensor]:
    """The absolute value of each convolution weight by name; ``PRUNED`` where ``mask`` prunes it."""
    scores = {name: weight.abs() for name, weight in masks.prunable(module).items()}
    return scores if mask is None else marked(scores, mask)


def marked(scores: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """The scores, with ``PRUNED`` where the mask prunes."""
    return {name: score.masked_fill(~mask.tensors[name], PRUNED) for name, score in scores.items()}


def highest(
    scores: Mapping[str, Tensor], sparsity: float, distribution: str = "global", prune_first: bool = False
) -> Mask:
    """Keep the weights with the highest scores so that round(``sparsity`` · n) of all n weights are pruned, the first layer
    included in n but dense unless ``prune_first``.

    ``distribution`` is global (the lowest scores of the whole network), or uniform or erk (of each layer, to ``kept_counts``).
    Among equal scores, earlier layers and lower flat indices are pruned first. Raises InputError if the target cannot be
    reached.
    """
    if distribution == "global":
        _require_reachable({name: tuple(score.shape) for name, score in scores.items()}, sparsity, prune_first)
        return masks.top_k(scores, sparsity, "global", scores, dense_first=not prune_first)
    counts = kept_counts(
        {name: tuple(score.shape) for name, score in scores.items()}, sparsity, distribution, prune_first
    )
    return Mask(
        {
            name: masks.keep_highest(score.flatten(), score.numel() - counts[name]).view(score.shape)
            for name, score in scores.items()
        }
    )


def kept_counts(shapes: Shapes, sparsity: float, distribution: str, prune_first: bool = False) -> dict[str, int]:
    """The number of weights that each layer keeps; together n − round(``sparsity`` · n) of n.

    ``uniform``: the same density in all layers but the first, which stays dense unless ``prune_first``. ``erk``: the densities of
    ``masks.densities``. Counts are rounded by largest remainder, ties to earlier layers.
    """
    _require_reachable(shapes, sparsity, prune_first)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    if distribution == "erk":
        shares = masks.densities(shapes, sparsity, "erk", dense_first=not prune_first)
    else:
        first = "" if prune_first else next(iter(shapes))
        density = 1 - sparsity * total / (total - sizes.get(first, 0))
        shares = {name: 1.0 if name == first else density for name in shapes}
    exact = [shares[name] * size for name, size in sizes.items()]
    return dict(zip(sizes, masks.rounded_counts(exact, list(sizes.values()), sparsity), strict=True))


def _require_reachable(shapes: Shapes, sparsity: float, prune_first: bool) -> None:
    sizes = [math.prod(shape) for shape in shapes.values()]
    prunable = sum(sizes) - (0 if prune_first else sizes[0])
    if not 0 <= sparsity < 1 or round(sparsity * sum(sizes)) >= prunable:
        highest = (prunable - 1) / sum(sizes)
        raise InputError(
            f"A sparsity of {sparsity:g} cannot be reached: with the first convolution dense it is at most {highest:.4g} here."
            if not prune_first
            else f"A sparsity of {sparsity:g} cannot be reached: it is at most {highest:.4g} here."
        )
