"""Applies what projects store beside pruned weights: masks of wrapped layers and of torch.nn.utils.prune, thresholds of STR."""

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.networks.state_dicts import MASKS, ORIGINALS, Misfit, MisfitError, duplicate_name, some

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def unwrap(named: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Weights with masks and thresholds applied, masks of weights (True = kept) by weight name, and the formats found."""
    weights: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    expected: dict[str, str] = {}
    given: dict[str, list[Tensor]] = {}
    thresholds: dict[str, Tensor] = {}
    formats = set()
    for key, tensor in named.items():
        parts = key.split(".")
        leaf = parts.pop()
        if "_layer" in parts or leaf in ("_weight_mask", "_bias_mask"):
            formats.add("wrapped masks")
        stem = ".".join([*(part for part in parts if part != "_layer"), ""])
        if leaf in MASKS:
            given.setdefault(stem + MASKS[leaf], []).append(tensor)
        elif leaf == "sparseThreshold":
            formats.add("STR")
            thresholds[f"{stem}weight"] = tensor
        else:
            if leaf in ORIGINALS:
                formats.add("torch.nn.utils.prune")
                expected[stem + ORIGINALS[leaf]] = f"{stem}{ORIGINALS[leaf]}_mask"
            elif leaf == "weight" and "_layer" in parts:
                expected[f"{stem}weight"] = f"{stem}_weight_mask"
            name = stem + ORIGINALS.get(leaf, leaf)
            if name in weights:
                raise duplicate_name(path, name, origins[name], key)
            weights[name], origins[name] = tensor, key
    alone = [name for name in (*given, *thresholds) if name not in weights]
    if alone:
        raise InputError(f"{path.name} holds masks or thresholds of {len(alone)} weights it lacks ({some(alone)}).")
    lacking = Misfit([mask for name, mask in expected.items() if name not in given], [], [])
    if lacking.missing:
        raise MisfitError(f"{path.name} holds weights without the masks that belong to them", lacking)
    kept = {name: _kept(name, tensors, weights[name]) for name, tensors in given.items()}
    for name, mask in kept.items():
        weights[name] = torch.where(mask, weights[name], 0)
    for name, threshold in thresholds.items():
        weights[name] = _soft_threshold(name, weights[name], threshold)
    order = ("wrapped masks", "torch.nn.utils.prune", "STR")
    stated = {name: mask for name, mask in kept.items() if name.endswith("weight")}
    return weights, stated, [each for each in order if each in formats]


def _kept(name: str, tensors: list[Tensor], weight: Tensor) -> Tensor:
    for tensor in tensors:
        if tensor.shape != weight.shape:
            raise InputError(f"The mask of '{name}' is {tuple(tensor.shape)}; the weight is {tuple(weight.shape)}.")
    parts = [masks.from_tensors({name: tensor}).tensors[name] for tensor in tensors]
    return functools.reduce(torch.logical_and, parts)


def _soft_threshold(name: str, weight: Tensor, threshold: Tensor) -> Tensor:
    """sign(w) · relu(|w| − sigmoid(s)) for one threshold s a layer (Kusupati et al., ICML 2020, equation 4)."""
    require_floats(name, weight)
    if threshold.numel() != 1 or not threshold.is_floating_point():
        raise InputError(
            f"Expected one threshold for '{name}', of shape (1, 1) and a floating point number; got shape "
            f"{tuple(threshold.shape)}, {_kind(threshold)}."
        )
    weight = weight.float()
    return torch.sign(weight) * torch.relu(weight.abs() - torch.sigmoid(threshold.float().reshape(())))


def require_floats(name: str, weight: Tensor) -> None:
    """Raise InputError unless the weight is a floating point tensor."""
    if weight.dtype not in FLOATS:
        raise InputError(f"Expected weights as floating point numbers; '{name}' is {_kind(weight)}.")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
