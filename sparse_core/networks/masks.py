"""Which weights of a backbone may be pruned, and masks over them.

A mask holds True where a weight is kept and False where it is pruned. Sparsity is the share of pruned weights, in [0, 1].
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_core.catalog import DISTRIBUTIONS
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import packed_masks


@dataclass(frozen=True, eq=False)
class Mask:
    """Which weights are kept: weight name (as in ``state_dict``) to a boolean tensor of the weight's own shape.

    Two masks are equal where they name the same weights and keep the same of them.
    """

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if not self.tensors:
            raise InputError("A mask needs at least one weight; got none.")
        for name, kept in self.tensors.items():
            if not isinstance(name, str) or not name:
                raise InputError(f"A mask names each weight by a text that is not empty; got {name!r}.")
            if not isinstance(kept, Tensor) or kept.dtype != torch.bool:
                kind = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
                raise InputError(f"A mask holds boolean tensors; '{name}' is {kind}.")
            if kept.numel() == 0:
                raise InputError(f"A mask holds tensors with elements; '{name}' has shape {tuple(kept.shape)}.")
        object.__setattr__(self, "tensors", dict(self.tensors))  # later changes to the caller's mapping stay outside

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

    The one place that decides. Biases, BatchNorm and linear layers are left alone. Tensors are the module's own,
    of shape (filters, channels / groups, height, width).
    """
    return _weights(module, (nn.Conv2d,))


def from_zeros(of: nn.Module | Mapping[str, Tensor]) -> Mask:
    """The mask that keeps exactly the weights that are not 0: a network's prunable ones, or those given by name."""
    weights = prunable(of) if isinstance(of, nn.Module) else of
    return Mask({name: weight != 0 for name, weight in weights.items()})


def from_tensors(tensors: Mapping[str, Tensor]) -> Mask:
    """The mask behind tensors of 0 (pruned) and 1 (kept), of any type, by weight name. Raises InputError on other values."""
    for name, tensor in tensors.items():
        if not bool(((tensor == 0) | (tensor == 1)).all()):
            raise InputError(f"A mask tensor holds only 0 and 1; '{name}' holds other values.")
    return Mask({name: tensor != 0 for name, tensor in tensors.items()})


def top_k(
    of: nn.Module | Mapping[str, Tensor],
    sparsity: float,
    distribution: str = "global",
    scores: Mapping[str, Tensor] | None = None,
    dense_first: bool = False,
) -> Mask:
    """Keep the weights of the highest score, which is their absolute value unless ``scores`` gives others of their shapes.

    ``of`` is a network, of which the prunable weights count, or weights by name. With n weights in all, exactly
    round(``sparsity`` · n) are pruned, ``sparsity`` in [0, 1), so that

    - ``global``: the lowest scores of the whole network go;
    - ``erk``: layers have the densities of ``densities``, their kept weights rounded down and the few that are
      left over given to the largest remainders, the first layer at a tie;
    - ``uniform``: in each layer alone round(``sparsity`` · its n) go, whatever that sums up to.

    Among equal scores the lowest flat index goes first, earlier layers before later ones. ``dense_first`` keeps the first
    layer whole: under ``uniform`` the rest stays as it is, else the rest is pruned more to reach the same total.
    Raises InputError on a sparsity out of range or out of reach, an unknown distribution, and scores that do not fit or
    are not finite.
    """
    weights = prunable(of) if isinstance(of, nn.Module) else dict(of)
    if not weights:
        raise InputError("The network has no convolution to prune.")
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    _check_distribution(shapes, sparsity, distribution, dense_first)
    if scores is None:
        scores = {name: weight.abs() for name, weight in weights.items()}
    flat = torch.cat([_scores(scores, name, shape) for name, shape in shapes.items()])
    sizes = [math.prod(shape) for shape in shapes.values()]
    untouched = sizes[0] if dense_first else 0
    if distribution == "global":
        pruned = round(sparsity * len(flat))
        kept = torch.cat([flat.new_ones(untouched, dtype=torch.bool), _keep_highest(flat[untouched:], pruned)])
    else:
        counts = _kept_counts(shapes, sparsity, distribution, dense_first)
        parts = zip(flat.split(sizes), counts, strict=True)
        kept = torch.cat([_keep_highest(part, len(part) - count) for part, count in parts])
    return Mask({name: part.view(shapes[name]) for name, part in zip(weights, kept.split(sizes), strict=True)})


def with_densities(module: nn.Module, shares: Mapping[str, float]) -> Mask:
    """Keep in each prunable layer the share of its weights, in [0, 1], that are largest in absolute value.

    Raises InputError where ``shares`` names other layers than the network has.
    """
    weights = prunable(module)
    if weights.keys() != shares.keys():
        other = next(iter(weights.keys() ^ shares.keys()))
        raise InputError(f"Expected a density for each layer of the network and for no other; {other} is only in one.")
    return Mask(
        {
            name: _keep_highest(weight.detach().abs().flatten(), round((1 - shares[name]) * weight.numel())).view_as(
                weight
            )
            for name, weight in weights.items()
        }
    )


def magnitude(module: nn.Module, sparsity: float) -> Mask:
    """Prune the weights that are smallest in absolute value over the whole network, in one shot: see ``top_k``."""
    return top_k(module, sparsity)


def densities(
    shapes: Mapping[str, Sequence[int]], sparsity: float, distribution: str, dense_first: bool = False
) -> dict[str, float]:
    """The share of kept weights, in [0, 1], of each layer under ``uniform`` or ``erk``; ``shapes`` are weights' by name.

    Erdős–Rényi-Kernel (Evci et al., Rigging the Lottery, ICML 2020, section 3): a density is proportional to the sum of
    the weight's sizes over their product, so that small layers stay denser, with one factor for which the total is met;
    layers that would exceed 1 are kept whole and the factor is found anew for the others. ``dense_first`` as in ``top_k``.
    Raises InputError where the layers kept whole alone exceed the total, and for ``global``, which depends on weights.
    """
    if distribution == "global":
        raise InputError(
            "Under 'global' the densities follow from the weights, not from shapes. Take 'uniform' or 'erk'."
        )
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
    """Set the pruned weights of ``module`` to exactly 0, in place.

    Raises InputError, with the module untouched, where the mask names a weight the module lacks or differs in shape.
    """
    for weight, kept in _pairs(module, mask):
        weight.masked_fill_(~kept, 0.0)


def violations(module: nn.Module, mask: Mask) -> int:
    """How many pruned weights of ``module`` are not exactly 0. Raises InputError where the mask does not fit it."""
    return sum(int(torch.count_nonzero(weight.masked_fill(kept, 0.0))) for weight, kept in _pairs(module, mask))


def sparsity(of: nn.Module | Mask) -> Sparsity:
    """The sparsity of a network's prunable weights as they stand, or the one a mask prescribes."""
    return _sparsity(of.tensors if isinstance(of, Mask) else prunable(of))


def network_sparsity(of: nn.Module | Mapping[str, Tensor]) -> Sparsity:
    """Zeros over size of all convolution and linear weights, a classifier's included; biases and BatchNorm don't count.

    ``of`` is a network, or its convolution and linear weights by name.
    """
    return _sparsity(_weights(of, (nn.Conv2d, nn.Linear)) if isinstance(of, nn.Module) else of)


def save(mask: Mask, path: Path) -> None:
    """Write the mask with one bit a weight: see ``sparse_core.networks.packed_masks``."""
    packed_masks.save({name: kept.cpu().numpy() for name, kept in mask.tensors.items()}, path)


def load(path: Path) -> Mask:
    """The mask that ``save`` wrote. Raises InputError on a file that is missing, damaged or something else."""
    return Mask({name: torch.from_numpy(kept) for name, kept in packed_masks.load(path).items()})


def _weights(module: nn.Module, kinds: tuple[type[nn.Conv2d] | type[nn.Linear], ...]) -> dict[str, Tensor]:
    return {
        f"{name}.weight" if name else "weight": layer.weight.detach()
        for name, layer in module.named_modules()
        if isinstance(layer, kinds)
    }


def _pairs(module: nn.Module, mask: Mask) -> list[tuple[Tensor, Tensor]]:
    """Each masked weight of the module with its mask, on the weight's device, once all of them are seen to fit."""
    weights = prunable(module)
    unknown = [name for name in mask.tensors if name not in weights]
    if unknown:
        raise InputError(
            f"The mask names {len(unknown)} weights that are no convolution of this network, such as '{unknown[0]}'."
        )
    for name, kept in mask.tensors.items():
        if kept.shape != weights[name].shape:
            raise InputError(
                f"The mask of '{name}' is {tuple(kept.shape)}; the weight is {tuple(weights[name].shape)}."
            )
    return [(weights[name], kept.to(weights[name].device)) for name, kept in mask.tensors.items()]


def _sparsity(tensors: Mapping[str, Tensor]) -> Sparsity:
    counts = {name: (zeros, size) for name, zeros, size in _zeros(tensors)}
    if not counts:
        raise InputError("The network has no convolution, so it has no sparsity.")
    total = sum(zeros for zeros, _ in counts.values()) / sum(size for _, size in counts.values())
    return Sparsity(total, {name: zeros / size for name, (zeros, size) in counts.items()})


def _zeros(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, int, int]]:
    for name, tensor in tensors.items():
        yield name, tensor.numel() - int(torch.count_nonzero(tensor)), tensor.numel()


def _check_distribution(
    shapes: Mapping[str, Sequence[int]], sparsity: float, distribution: str, dense_first: bool
) -> None:
    if distribution not in DISTRIBUTIONS:
        raise unknown_name("distribution", distribution, DISTRIBUTIONS)
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must be in [0, 1); got {sparsity}.")
    sizes = [math.prod(shape) for shape in shapes.values()]
    if dense_first and distribution != "uniform" and round(sparsity * sum(sizes)) > sum(sizes[1:]):
        reach = sum(sizes[1:]) / sum(sizes)
        raise InputError(f"With the first layer kept dense the sparsity can be {reach:.4g} at most; got {sparsity}.")


def _scores(scores: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name not in scores or tuple(scores[name].shape) != shape:
        given = tuple(scores[name].shape) if name in scores else "missing"
        raise InputError(f"Expected scores of shape {shape} for '{name}'; got {given}.")
    flat = scores[name].detach().flatten()
    if not bool(torch.isfinite(flat).all()):
        raise InputError(f"'{name}' has weights or scores that are NaN or infinite, so they cannot be compared.")
    return flat


def _kept_counts(
    shapes: Mapping[str, Sequence[int]], sparsity: float, distribution: str, dense_first: bool
) -> list[int]:
    """How many weights each layer keeps; under ``erk`` they add up to the total that the sparsity asks for."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    if distribution == "uniform":
        return [
            size if dense_first and number == 0 else size - round(sparsity * size) for number, size in enumerate(sizes)
        ]
    shares = densities(shapes, sparsity, distribution, dense_first).values()
    exact = [share * size for share, size in zip(shares, sizes, strict=True)]
    counts = [min(math.floor(value), size) for value, size in zip(exact, sizes, strict=True)]
    left_over = sum(sizes) - round(sparsity * sum(sizes)) - sum(counts)
    order = sorted(range(len(sizes)), key=lambda number: counts[number] - exact[number])
    for number in [number for number in order if counts[number] < sizes[number]][:left_over]:
        counts[number] += 1
    return counts


def _keep_highest(scores: Tensor, pruned: int) -> Tensor:
    """True for all but the ``pruned`` lowest of ``scores`` (n,); ties go by lowest index."""
    if pruned == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(pruned).values
    kept = scores >= threshold
    ties = (scores == threshold).nonzero().flatten()
    kept[ties[: pruned - int((~kept).sum())]] = False
    return kept
