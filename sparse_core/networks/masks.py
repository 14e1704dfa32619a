"""Prunable weights and pruning masks. A mask is True for kept weights; sparsity is the share of pruned ones, in [0, 1]."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_core.catalog import DISTRIBUTIONS
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import packed_masks

Shapes = Mapping[str, Sequence[int]]  # of weights, by name


@dataclass(frozen=True, eq=False)
class Mask:
    """Which weights are kept: weight name (as in ``state_dict``) to a boolean tensor of the weight's shape. Raises
    InputError on anything else. Masks are equal if they have the same names and tensors."""

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if not self.tensors:
            raise InputError("A mask needs at least one weight; got none.")
        for name, kept in self.tensors.items():
            if not isinstance(name, str) or not name:
                raise InputError(f"Expected non-empty text as a weight's name in a mask; got {name!r}.")
            if not isinstance(kept, Tensor) or kept.dtype != torch.bool:
                kind = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
                raise InputError(f"A mask holds boolean tensors; '{name}' is {kind}.")
            if kept.numel() == 0:
                raise InputError(f"A mask holds tensors with elements; '{name}' has shape {tuple(kept.shape)}.")
        object.__setattr__(self, "tensors", dict(self.tensors))  # later changes to the caller's mapping have no effect

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        names = self.tensors.keys() == other.tensors.keys()
        return names and all(torch.equal(kept, other.tensors[name]) for name, kept in self.tensors.items())


@dataclass(frozen=True)
class Sparsity:
    """Share of zeros, in [0, 1]: over all weights together, and for each weight by name."""

    total: float
    layers: dict[str, float]


def prunable(module: nn.Module) -> dict[str, Tensor]:
    """The weights that pruning may touch, by name, in the order of ``state_dict``: every 2-d convolution's.

    Biases, BatchNorm and linear layers are never pruned. The tensors, of shape (filters, channels / groups, height,
    width), share memory with the module.
    """
    return _weights(module, (nn.Conv2d,))


def from_zeros(network: nn.Module | Mapping[str, Tensor]) -> Mask:
    """The mask that keeps exactly the nonzero weights of a network, which may be given as its weights by name."""
    weights = prunable(network) if isinstance(network, nn.Module) else network
    return Mask({name: weight != 0 for name, weight in weights.items()})


def from_tensors(tensors: Mapping[str, Tensor]) -> Mask:
    """The mask from tensors of 0 (pruned) and 1 (kept), of any dtype, by weight name. Raises InputError on other values."""
    for name, tensor in tensors.items():
        if not bool(((tensor == 0) | (tensor == 1)).all()):
            raise InputError(f"A mask tensor holds only 0 and 1; '{name}' holds other values.")
    return Mask({name: tensor != 0 for name, tensor in tensors.items()})


def top_k(
    network: nn.Module | Mapping[str, Tensor],
    sparsity: float,
    distribution: str = "global",
    scores: Mapping[str, Tensor] | None = None,
    dense_first: bool = False,
) -> Mask:
    """Keep the weights with the highest scores: absolute values, or ``scores`` of the same names and shapes.

    ``network`` may be given as its weights by name; ``sparsity`` is in [0, 1). Of n weights, round(``sparsity`` · n) are pruned:

    - ``global``: the lowest scores of the whole network;
    - ``erk``: by layer, to the densities of ``densities``; counts are rounded by largest remainder, ties to earlier layers;
    - ``uniform``: round(``sparsity`` · n) of each layer's n weights.

    Among equal scores, earlier layers and lower flat indices are pruned first. ``dense_first`` keeps the first layer dense;
    except under ``uniform``, the others are pruned more to reach the same total. Raises InputError on an unknown
    distribution, a sparsity that is out of range or cannot be reached, and scores that do not fit or are not finite.
    """
    weights = prunable(network) if isinstance(network, nn.Module) else dict(network)
    if not weights:
        raise InputError("The network has no convolution to prune.")
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    _check_distribution(shapes, sparsity, distribution, dense_first)
    if scores is None:
        scores = {name: weight.abs() for name, weight in weights.items()}
    flat = torch.cat([_scores(scores, name, shape) for name, shape in shapes.items()])
    sizes = [math.prod(shape) for shape in shapes.values()]
    skipped = sizes[0] if dense_first else 0
    if distribution == "global":
        pruned = round(sparsity * len(flat))
        kept = torch.cat([flat.new_ones(skipped, dtype=torch.bool), keep_highest(flat[skipped:], pruned)])
    else:
        counts = _kept_counts(shapes, sparsity, distribution, dense_first)
        parts = zip(flat.split(sizes), counts, strict=True)
        kept = torch.cat([keep_highest(part, len(part) - count) for part, count in parts])
    return Mask({name: part.view(shapes[name]) for name, part in zip(weights, kept.split(sizes), strict=True)})


def with_densities(module: nn.Module, shares: Mapping[str, float]) -> Mask:
    """Keep in each layer its share, in [0, 1], of weights: those largest in absolute value. Raises InputError if the
    names in ``shares`` are not those of the network's prunable weights."""
    weights = prunable(module)
    if weights.keys() != shares.keys():
        other = next(iter(weights.keys() ^ shares.keys()))
        raise InputError(f"Expected a density for exactly the network's layers; {other} is only in one of the two.")
    pruned = {name: round((1 - shares[name]) * weight.numel()) for name, weight in weights.items()}
    return Mask({name: keep_highest(w.abs().flatten(), pruned[name]).view_as(w) for name, w in weights.items()})


def densities(shapes: Shapes, sparsity: float, distribution: str, dense_first: bool = False) -> dict[str, float]:
    """The share of kept weights, in [0, 1], of each layer under ``uniform`` or ``erk``, from the shapes of its weight.

    Erdős–Rényi-Kernel (Evci et al., Rigging the Lottery, ICML 2020, section 3): densities are proportional to the sum of
    a weight's dimensions over their product, scaled to meet the total; layers that would exceed 1 stay dense and the
    factor is recomputed for the others. ``dense_first`` as in ``top_k``. Raises InputError as ``top_k`` does, and for
    ``global``, which depends on the weights' values.
    """
    if distribution == "global":
        raise InputError("Under 'global' the densities depend on the weights, not on shapes. Use 'uniform' or 'erk'.")
    _check_distribution(shapes, sparsity, distribution, dense_first)
    first = {next(iter(shapes))} if dense_first else set()
    if distribution == "uniform":
        return {name: 1.0 if name in first else 1 - sparsity for name in shapes}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    whole = set(first)
    while True:
        rest = [name for name in shapes if name not in whole]
        wanted = (1 - sparsity) * sum(sizes.values()) - sum(sizes[name] for name in whole)
        factor = max(wanted, 0.0) / sum(raw[name] * sizes[name] for name in rest) if rest else 0.0
        exceeding = {name for name in rest if factor * raw[name] > 1}
        if not exceeding:
            return {name: 1.0 if name in whole else factor * raw[name] for name in shapes}
        whole |= exceeding


def apply(module: nn.Module, mask: Mask) -> None:
    """Set the pruned weights of ``module`` to exactly 0, in place. Raises InputError, and leaves the module unchanged,
    if the mask has other names or shapes."""
    for weight, kept in _pairs(module, mask):
        weight.masked_fill_(~kept, 0.0)


def violations(module: nn.Module, mask: Mask) -> int:
    """The number of pruned weights of ``module`` that are not exactly 0. Raises InputError if the mask does not fit."""
    return sum(int(torch.count_nonzero(weight.masked_fill(kept, 0.0))) for weight, kept in _pairs(module, mask))


def sparsity(network: nn.Module | Mask) -> Sparsity:
    """The sparsity of a network's prunable weights, or of a mask."""
    return _sparsity(network.tensors if isinstance(network, Mask) else prunable(network))


def network_sparsity(network: nn.Module | Mapping[str, Tensor]) -> Sparsity:
    """Zeros over size of all convolution and linear weights, a classifier's included; biases and BatchNorm don't count.
    ``network`` may be given as its convolution and linear weights by name."""
    return _sparsity(_weights(network, (nn.Conv2d, nn.Linear)) if isinstance(network, nn.Module) else network)


def save(mask: Mask, path: Path) -> None:
    """Write the mask with one bit per weight: see ``packed_masks``."""
    packed_masks.save({name: kept.cpu().numpy() for name, kept in mask.tensors.items()}, path)


def load(path: Path) -> Mask:
    """The mask that ``save`` wrote. Raises InputError on a file that is missing, damaged or not a mask."""
    return Mask({name: torch.from_numpy(kept) for name, kept in packed_masks.load(path).items()})


def _weights(module: nn.Module, kinds: tuple[type[nn.Conv2d] | type[nn.Linear], ...]) -> dict[str, Tensor]:
    return {
        f"{name}.weight" if name else "weight": layer.weight.detach()
        for name, layer in module.named_modules()
        if isinstance(layer, kinds)
    }


def _pairs(module: nn.Module, mask: Mask) -> list[tuple[Tensor, Tensor]]:
    """Each masked weight of the module with its mask on the same device. Raises InputError if any does not fit."""
    weights = prunable(module)
    unknown = [name for name in mask.tensors if name not in weights]
    if unknown:
        raise InputError(f"The mask names {len(unknown)} weights that no convolution here has, such as '{unknown[0]}'.")
    for name, kept in mask.tensors.items():
        shape = weights[name].shape
        if kept.shape != shape:
            raise InputError(f"The mask of '{name}' is {tuple(kept.shape)}; the weight is {tuple(shape)}.")
    return [(weights[name], kept.to(weights[name].device)) for name, kept in mask.tensors.items()]


def _sparsity(tensors: Mapping[str, Tensor]) -> Sparsity:
    counts = {name: (tensor.numel() - int(tensor.count_nonzero()), tensor.numel()) for name, tensor in tensors.items()}
    if not counts:
        raise InputError("The network has no convolution, so it has no sparsity.")
    total = sum(zeros for zeros, _ in counts.values()) / sum(size for _, size in counts.values())
    return Sparsity(total, {name: zeros / size for name, (zeros, size) in counts.items()})


def _check_distribution(shapes: Shapes, sparsity: float, distribution: str, dense_first: bool) -> None:
    if distribution not in DISTRIBUTIONS:
        raise unknown_name("distribution", distribution, DISTRIBUTIONS)
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must be in [0, 1); got {sparsity}.")
    sizes = [math.prod(shape) for shape in shapes.values()]
    if dense_first and distribution != "uniform" and round(sparsity * sum(sizes)) > sum(sizes[1:]):
        highest = sum(sizes[1:]) / sum(sizes)
        raise InputError(f"With the first layer kept dense the sparsity can be at most {highest:.4g}; got {sparsity}.")


def _scores(scores: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name not in scores or tuple(scores[name].shape) != shape:
        given = tuple(scores[name].shape) if name in scores else "missing"
        raise InputError(f"Expected scores of shape {shape} for '{name}'; got {given}.")
    flat = scores[name].detach().flatten()
    if not bool(torch.isfinite(flat).all()):
        raise InputError(f"'{name}' has weights or scores that are NaN or infinite, so they cannot be compared.")
    return flat


def _kept_counts(shapes: Shapes, sparsity: float, distribution: str, dense_first: bool) -> list[int]:
    """The number of weights each layer keeps; under ``erk`` they sum to exactly the requested total."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    if distribution == "uniform":
        counts = [size - round(sparsity * size) for size in sizes]
        return sizes[:1] + counts[1:] if dense_first else counts
    shares = densities(shapes, sparsity, distribution, dense_first).values()
    return rounded_counts([share * size for share, size in zip(shares, sizes, strict=True)], sizes, sparsity)


def rounded_counts(exact: Sequence[float], sizes: Sequence[int], sparsity: float) -> list[int]:
    """How many of a layer's weights are kept: ``exact``, rounded by largest remainder (ties to earlier layers), so that
    round(``sparsity`` · n) of all n weights are pruned."""
    counts = [min(math.floor(value), size) for value, size in zip(exact, sizes, strict=True)]
    left_over = sum(sizes) - round(sparsity * sum(sizes)) - sum(counts)
    order = sorted(range(len(sizes)), key=lambda number: counts[number] - exact[number])
    for number in [number for number in order if counts[number] < sizes[number]][:left_over]:
        counts[number] += 1
    return counts


def keep_highest(scores: Tensor, pruned: int) -> Tensor:
    """True for all but the ``pruned`` lowest of ``scores`` (n,); ties go by lowest index."""
    if pruned == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(pruned).values
    kept = scores >= threshold
    ties = (scores == threshold).nonzero().flatten()
    kept[ties[: pruned - int((~kept).sum())]] = False
    return kept
