"""Which weights of a backbone may be pruned, and masks over them.

A mask holds True where a weight is kept and False where it is pruned. Sparsity is the share of pruned weights, in [0, 1].
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_core.errors import InputError, unknown_name

SCOPES = ("global", "layer")


@dataclass(frozen=True)
class Mask:
    """Which weights are kept: weight name (as in ``state_dict``) to a boolean tensor of the weight's own shape."""

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if not self.tensors:
            raise InputError("A mask needs at least one weight; got none.")
        for name, kept in self.tensors.items():
            if not isinstance(kept, Tensor) or kept.dtype != torch.bool:
                kind = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
                raise InputError(f"A mask holds boolean tensors; '{name}' is {kind}.")
            if kept.numel() == 0:
                raise InputError(f"A mask holds tensors with elements; '{name}' has shape {tuple(kept.shape)}.")


@dataclass(frozen=True)
class Sparsity:
    """Share of zeros, in [0, 1]: over all prunable weights together, and for each weight by name."""

    total: float
    layers: dict[str, float]


def prunable(module: nn.Module) -> dict[str, Tensor]:
    """The weights that pruning may touch, by name, in the order of ``state_dict``: every 2-d convolution's.

    The one place that decides. Biases, BatchNorm and linear layers are left alone. Tensors are the module's own,
    of shape (filters, channels / groups, height, width).
    """
    return {
        f"{name}.weight" if name else "weight": layer.weight.detach()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


def magnitude(module: nn.Module, sparsity: float, scope: str = "global") -> Mask:
    """Prune the weights that are smallest in absolute value, in one shot.

    ``sparsity`` in [0, 1): exactly round(sparsity · n) weights go, n counted over all prunable weights
    (``scope="global"``) or over each alone (``"layer"``). Among equal magnitudes the lowest flat index goes first, in the
    order of ``prunable``. Raises InputError on a sparsity out of range, an unknown scope or weights that are not finite.
    """
    if scope not in SCOPES:
        raise unknown_name("scope", scope, SCOPES)
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must be in [0, 1); got {sparsity}.")
    weights = prunable(module)
    if not weights:
        raise InputError("The network has no convolution to prune.")
    sizes = [weight.numel() for weight in weights.values()]
    magnitudes = torch.cat([weight.flatten().abs() for weight in weights.values()])
    if not bool(torch.isfinite(magnitudes).all()):
        raise InputError("The network has weights that are NaN or infinite, so their magnitudes cannot be compared.")
    groups = [magnitudes] if scope == "global" else list(magnitudes.split(sizes))
    kept = torch.cat([_keep_largest(group, round(sparsity * group.numel())) for group in groups])
    return Mask(
        {name: part.view(weight.shape) for (name, weight), part in zip(weights.items(), kept.split(sizes), strict=True)}
    )


def apply(module: nn.Module, mask: Mask) -> None:
    """Set the pruned weights of ``module`` to exactly 0, in place.

    Raises InputError, with the module untouched, where the mask names a weight the module lacks or differs in shape.
    """
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
    for name, kept in mask.tensors.items():
        weights[name].masked_fill_(~kept, 0.0)


def sparsity(of: nn.Module | Mask) -> Sparsity:
    """The sparsity of a network's prunable weights as they stand, or the one a mask prescribes."""
    counts = {name: (zeros, size) for name, zeros, size in _zeros(of)}
    if not counts:
        raise InputError("The network has no convolution, so it has no sparsity.")
    total = sum(zeros for zeros, _ in counts.values()) / sum(size for _, size in counts.values())
    return Sparsity(total, {name: zeros / size for name, (zeros, size) in counts.items()})


def _zeros(of: nn.Module | Mask) -> Iterator[tuple[str, int, int]]:
    tensors = of.tensors if isinstance(of, Mask) else prunable(of)
    for name, tensor in tensors.items():
        yield name, tensor.numel() - int(torch.count_nonzero(tensor)), tensor.numel()


def _keep_largest(magnitudes: Tensor, pruned: int) -> Tensor:
    """True for all but the ``pruned`` smallest of ``magnitudes`` (n,); ties go by lowest index."""
    if pruned == 0:
        return torch.ones_like(magnitudes, dtype=torch.bool)
    threshold = magnitudes.kthvalue(pruned).values
    kept = magnitudes >= threshold
    ties = (magnitudes == threshold).nonzero().flatten()
    kept[ties[: pruned - int((~kept).sum())]] = False
    return kept
