"""Applies what projects store beside pruned weights: masks of wrapped layers, of torch.nn.utils.prune and of torch.ao.pruning,
masks in a dictionary of their own, thresholds of STR."""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_core.errors import InputError
from sparse_core.networks import masks, weight_files
from sparse_core.networks.state_dicts import MASKS, NOISE, ORIGINALS, Misfit, MisfitError, duplicate_name, some

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PARAMETRISED = re.compile(r"\.parametrizations\.(weight|bias)\.(?:(original)|\d+\.(mask))$")  # of torch.ao.pruning


def with_masks(
    weights: Mapping[str, Tensor], beside: Mapping[str, Any], prefix: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict with the masks from dictionaries beside it, and the names of tensors there that are not used. Such a mask is
    named after its weight, with or without ``prefix``, after its layer, or as torch.nn.utils.prune names it."""
    weights = dict(weights)
    places = {_bare(key): key for key, tensor in weights.items() if tensor.dim() > 1}
    unused = []
    for trail, entry in _entries_beside(beside):
        bare = _bare(trail[-1]).removeprefix(prefix)
        place = places.get(bare) or places.get(f"{bare}.weight")
        mask = f"{place.removesuffix('_orig')}_mask" if place else ""
        if place and mask not in weights and _is_mask(entry, weights[place]):
            weights[mask] = entry
        elif next(weight_files.tensors(entry), None) is not None:
            unused.append(trail)
    return weights, _shortened(unused)


def _entries_beside(beside: Mapping[str, Any], trail: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What lies in dictionaries beside the weights, each with the keys that lead to it. Optimizers number their tensors, and are
    no concern of anybody here."""
    for key, entry in beside.items():
        if not isinstance(key, str):
            continue
        if isinstance(entry, dict):
            yield from _entries_beside(entry, (*trail, key))
        else:
            yield (*trail, key), entry


def _shortened(trails: list[tuple[str, ...]]) -> list[str]:
    """Names of tensors beside the weights: of masks one by one, of all others by their dictionary."""
    return list(dict.fromkeys(".".join(trail) if "mask" in ".".join(trail) else trail[0] for trail in trails))


def _bare(key: str) -> str:
    """The name of a weight, without what wraps it."""
    parts = [part for part in PARAMETRISED.sub(r".\1", key).split(".") if part not in (*NOISE, "_layer")]
    stem, _, leaf = ".".join(parts).rpartition(".")
    leaf = MASKS.get(leaf) or ORIGINALS.get(leaf, leaf)
    return f"{stem}.{leaf}" if stem else leaf


def _is_mask(mask: Any, weight: Tensor) -> bool:
    return isinstance(mask, Tensor) and mask.shape == weight.shape and bool(((mask == 0) | (mask == 1)).all())


def unwrap(named: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Weights with masks and thresholds applied, masks of weights (True = kept) by weight name, and the formats found."""
    weights: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    expected: dict[str, str] = {}
    given: dict[str, list[Tensor]] = {}
    thresholds: dict[str, Tensor] = {}
    formats = set()
    for key, tensor in named.items():
        role, name, format_ = _role(key, named)
        formats |= {format_} - {""}
        if role == "mask":
            given.setdefault(name, []).append(tensor)
        elif role == "threshold":
            thresholds[name] = tensor
        else:
            if role == "masked":
                expected[name] = _mask_of(key)
            if name in weights:
                raise duplicate_name(path, name, origins[name], key)
            weights[name], origins[name] = tensor, key
    alone = [name for name in (*given, *thresholds) if name not in weights]
    if alone:
        raise InputError(f"{path.name} holds masks or thresholds of {len(alone)} weights it lacks ({some(alone)}).")
    lacking = Misfit([mask for name, mask in expected.items() if name not in given], [], [])
    if lacking.missing:
        made = "the sparsifier's squash_mask()" if "torch.ao.pruning" in formats else "prune.remove() or by multiplying"
        advice = f" Save it with its masks, or apply them for good before saving, with {made}."
        raise MisfitError(f"{path.name} holds weights without the masks that belong to them", lacking, advice)
    kept = {name: _kept(name, tensors, weights[name]) for name, tensors in given.items()}
    for name, mask in kept.items():
        weights[name] = torch.where(mask, weights[name], 0)
    for name, threshold in thresholds.items():
        weights[name] = _soft_threshold(name, weights[name], threshold)
    order = ("wrapped masks", "torch.nn.utils.prune", "torch.ao.pruning", "masks of layers", "STR")
    stated = {name: mask for name, mask in kept.items() if name.endswith("weight")}
    return weights, stated, [each for each in order if each in formats]


def _role(key: str, named: Mapping[str, Tensor]) -> tuple[str, str, str]:
    """What an entry is (weight, masked weight, mask, threshold), of which weight, and the format that shows in its name."""
    parametrised = PARAMETRISED.search(key)
    if parametrised:
        name = f"{key[: parametrised.start()]}.{parametrised[1]}"
        return "masked" if parametrised[2] else "mask", name, "torch.ao.pruning"
    parts = key.split(".")
    leaf = parts.pop()
    wrapped = "_layer" in parts
    format_ = "wrapped masks" if wrapped or leaf in ("_weight_mask", "_bias_mask") else ""
    stem = ".".join([*(part for part in parts if part != "_layer"), ""])
    if leaf in MASKS:
        return "mask", stem + MASKS[leaf], format_
    if leaf == "mask" and _is_mask(named[key], named.get(f"{stem}weight", torch.empty(0))):
        return "mask", f"{stem}weight", "masks of layers"
    if leaf == "sparseThreshold":
        return "threshold", f"{stem}weight", "STR"
    if leaf in ORIGINALS:
        return "masked", stem + ORIGINALS[leaf], "torch.nn.utils.prune"
    return "masked" if leaf == "weight" and wrapped else "weight", stem + leaf, format_


def _mask_of(key: str) -> str:
    """The name of the mask that belongs to an entry."""
    parametrised = PARAMETRISED.search(key)
    if parametrised:
        return f"{key.removesuffix('original')}0.mask"
    stem, _, leaf = key.replace("._layer.", ".").rpartition(".")
    return f"{stem}.{ORIGINALS[leaf]}_mask" if leaf in ORIGINALS else f"{stem}._weight_mask"


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
