"""Finds the state dict in what a file holds, however deeply it is nested, with masks and descriptions stored beside it.

Projects put a state dict into dictionaries (``state_dict``, ``model``, …), give all its keys a prefix, or save it from within
DataParallel or torch.compile."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sparse_core.datasets import transforms
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError
from sparse_core.networks import weight_files

NESTS = ("state_dict", "model_state_dict", "model", "model_state")
MASK_NESTS = ("masks", "mask")
NEST_DEPTH = 4
LISTED = 5  # names in a message
MAX_NAME = 500  # characters of a weight's name, far above any real one

NOISE = {"module", "_orig_mod"}  # what DataParallel and torch.compile put around a network
MASKS = {"_weight_mask": "weight", "_bias_mask": "bias", "weight_mask": "weight", "bias_mask": "bias"}
ORIGINALS = {"weight_orig": "weight", "bias_orig": "bias"}
_KNOWN_START = re.compile(
    r"(conv1|bn1|layer\d\.\d+|initial_conv|model\.\d+\.\d+|features\.\d+\.\d+|_conv_stem|_blocks\.\d+|fc|linear)\."
)
_PLAIN_WORDS = re.compile(r"\w[\w .,/+&%()→-]{0,59}")  # no markup, no line breaks, nothing long


@dataclass(frozen=True)
class Misfit:
    """The keys that do not fit."""

    missing: list[str]
    extra: list[str]
    misshaped: list[str]

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.misshaped)

    def kinds(self) -> dict[str, list[str]]:
        kinds = {"missing": self.missing, "unexpected": self.extra, "of another shape": self.misshaped}
        return {kind: keys for kind, keys in kinds.items() if keys}

    def summary(self) -> str:
        return "; ".join(f"{len(keys)} {kind} ({some(keys)})" for kind, keys in self.kinds().items())


class MisfitError(InputError):
    """Weights that do not fit an architecture. ``keys`` are all that are "missing", "unexpected" or "of another shape"; the
    message names the first of each."""

    def __init__(self, message: str, misfit: Misfit, advice: str = "") -> None:
        self.keys = misfit.kinds()
        if any(len(keys) > LISTED for keys in self.keys.values()):
            advice += " The dashboard's Library page lists them all."
        super().__init__(f"{message}: {misfit.summary()}.{advice}")


@dataclass(frozen=True)
class Hints:
    """Descriptions beside the weights: the dataset of the last training, the dataset before it, the method, the variant of the
    architecture, and how images are prepared. Only short texts without markup are used: pages show them."""

    dataset: str | None = None
    upstream: str | None = None
    method: str | None = None
    variant: str | None = None
    transform: Transform | None = None


@dataclass(frozen=True)
class Found:
    """A state dict, with the masks stored beside it; ``unused`` names tensors beside it that are not used."""

    weights: dict[str, Tensor]
    hints: Hints
    nested: bool
    unused: tuple[str, ...]


def some(keys: Iterable[object]) -> str:
    """The first few names, and how many more there are."""
    shown = [str(key)[:80].replace("\n", " ").replace("\0", "␀") for key in keys]
    more = f" and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
    return ", ".join(shown[:LISTED]) + more


def find(document: Any, path: Path) -> Found:
    """The state dict in the document of a file. Raises InputError where there is none, or more than one."""
    hints = Hints()
    beside: dict[str, Any] = {}
    for depth in range(NEST_DEPTH):
        if not isinstance(document, dict):
            break
        hints = _hints(document, hints)
        if _is_state(document):
            weights, unused = _with_masks(_only_tensors(document, path), beside)
            return Found(weights, hints, depth > 0, tuple(unused))
        named = [key for key in NESTS if _holds_state(document.get(key))]
        inside = named or [key for key, value in document.items() if key not in MASK_NESTS and _holds_state(value)]
        if len(inside) > 1:
            raise InputError(
                f"{path.name} holds several networks, under {', '.join(map(repr, inside))}. Save the one you mean alone."
            )
        if not inside:
            break
        beside |= {str(key): value for key, value in document.items() if key != inside[0]}
        document = document[inside[0]]
    raise InputError(
        f"Expected {path.name} to hold a state dict: names to tensors, on its own or under {', '.join(NESTS)}. Got "
        f"{_describe(document)}."
    )


def _with_masks(weights: dict[str, Tensor], beside: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict with the masks from a dictionary beside it, and the names of tensors there that are not used. Such
    a mask is named after its weight, after its layer, or as torch.nn.utils.prune names it."""
    weights = dict(weights)
    places = {_bare(key): key for key, tensor in weights.items() if tensor.dim() > 1}
    unused = []
    for nest, entries in beside.items():
        if not isinstance(entries, dict):
            unused += [nest] * (nest in MASK_NESTS and _holds_tensors(entries))
        elif nest not in MASK_NESTS:
            unused += [nest] * any(isinstance(value, Tensor) for value in entries.values())
        else:
            unused += _take_masks(weights, places, nest, entries)
    return weights, unused


def _take_masks(weights: dict[str, Tensor], places: dict[str, str], nest: str, entries: dict[Any, Any]) -> list[str]:
    """Put the masks that fit beside their ``weights``; returns the names of those that do not."""
    unused = []
    for key, tensor in entries.items():
        bare = _bare(str(key))
        place = places.get(bare) or places.get(f"{bare}.weight")
        mask = f"{place.removesuffix('_orig')}_mask" if place else ""
        if place and mask not in weights and _is_mask(tensor, weights[place]):
            weights[mask] = tensor
        elif _holds_tensors(tensor):
            unused.append(f"{nest}.{key}")
    return unused


def _holds_tensors(value: Any) -> bool:
    return next(weight_files.tensors(value), None) is not None


def _bare(key: str) -> str:
    """The name of a weight, without what wraps it."""
    parts = [part for part in key.split(".") if part not in (*NOISE, "_layer")]
    stem, _, leaf = ".".join(parts).rpartition(".")
    leaf = MASKS.get(leaf) or ORIGINALS.get(leaf, leaf)
    return f"{stem}.{leaf}" if stem else leaf


def _is_mask(mask: Any, weight: Tensor) -> bool:
    return isinstance(mask, Tensor) and mask.shape == weight.shape and bool(((mask == 0) | (mask == 1)).all())


def _hints(document: Mapping[Any, Any], known: Hints) -> Hints:
    texts: dict[str, str] = {}
    for place in (document, document.get("__metadata__"), document.get("model_config")):
        if isinstance(place, dict):
            plain = {key: value for key, value in place.items() if isinstance(value, str)}
            texts |= {key: value for key, value in plain.items() if _PLAIN_WORDS.fullmatch(value)}
    named = {name: texts[name] for name in ("dataset", "upstream", "method", "variant") if name in texts}
    metadata = document.get("__metadata__")
    transform = _transform(metadata.get("transform")) if isinstance(metadata, dict) else None
    return dataclasses.replace(known, **named, transform=transform or known.transform)


def _transform(text: Any) -> Transform | None:
    """The preprocessing that our own files state in their metadata (``networks.classifier``)."""
    if not isinstance(text, str) or len(text) > MAX_NAME:
        return None
    try:
        return transforms.from_document(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _is_state(document: Any) -> bool:
    return isinstance(document, dict) and any(
        isinstance(value, Tensor) and isinstance(key, str) and "." in key for key, value in document.items()
    )


def _holds_state(document: Any, depth: int = 1) -> bool:
    if _is_state(document) or depth == NEST_DEPTH or not isinstance(document, dict):
        return _is_state(document)
    return any(_holds_state(document.get(key), depth + 1) for key in NESTS)


def _only_tensors(document: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    entries = {key: value for key, value in document.items() if key != "__metadata__"}
    others = [str(key) for key, value in entries.items() if not isinstance(value, Tensor) or not isinstance(key, str)]
    if others:
        raise InputError(
            f"{path.name} holds {len(others)} entries among its weights that are not named tensors ({some(others)})."
        )
    long = [key for key in entries if len(key) > MAX_NAME]
    if long:
        raise InputError(
            f"{path.name} holds {len(long)} names of more than {MAX_NAME} characters ({some(long)}), which no weight has."
        )
    return entries


def _describe(document: Any) -> str:
    if isinstance(document, dict):
        return f"a dictionary of {some([str(key) for key in document]) or 'nothing'}"
    return f"a {document.kind if isinstance(document, weight_files.Other) else type(document).__name__}"


def plain_names(found: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], bool, bool]:
    """The tensors under names without ``module`` parts and without a prefix that all share; whether they had a prefix; and
    whether they had ``module`` parts."""
    parallel = any(NOISE & set(key.split(".")) for key in found)
    names = {key: ".".join(part for part in key.split(".") if part not in NOISE) for key in found}
    prefixed = False
    while not any(_KNOWN_START.match(name) for name in names.values()):
        first = {name.partition(".")[0] for name in names.values()}
        if len(first) != 1 or not all("." in name for name in names.values()):
            break
        names = {key: name.partition(".")[2] for key, name in names.items()}
        prefixed = True
    return renamed(found, names, path), prefixed, parallel


def renamed(found: Mapping[str, Tensor], names: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    """The tensors under new names. Raises InputError where two get the same name."""
    origins: dict[str, str] = {}
    for key in found:
        first = origins.setdefault(names[key], key)
        if first != key:
            raise duplicate_name(path, names[key], first, key)
    return {names[key]: tensor for key, tensor in found.items()}


def duplicate_name(path: Path, name: str, first: str, second: str) -> InputError:
    """The error that two keys stand for one weight."""
    return InputError(f"{path.name} holds '{name}' twice, as '{first}' and as '{second}'. Save the one you mean alone.")
