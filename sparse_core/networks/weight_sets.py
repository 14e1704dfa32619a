"""Finds the sets of weights in what a file holds, and chooses one.

Projects put a state dict into dictionaries (``state_dict``, ``model``, …), beside an average of it or a second network, give its
keys a prefix, save it from within DataParallel or torch.compile, and keep metrics, queues and losses among its entries. A set
is what lies in one dictionary under one prefix and holds the layers of a network.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sparse_core.errors import InputError
from sparse_core.networks import state_dicts, weight_files
from sparse_core.networks.state_dicts import HEAD, MASK_NESTS, MAX_NAME, NESTS, NOISE, Hints, SeveralSetsError, some

NEST_DEPTH = 4
MIN_LAYERS = 3  # convolutions that make a network

# Where the names of a network's layers begin, in the namings that ``recognition`` knows.
_LAYER = re.compile(
    r"(?:^|\.)((conv1|bn1|layer\d\.\d+|initial_conv|model\.\d+\.\d+|features\.\d+\.\d+|_conv_stem|_blocks\.\d+|fc|linear"
    r"|model\.\d+\.(?:conv|cv\d|m\.\d+)|input\.(conv|bn)|sections\.\d+\.\d+|embedder\.embedder|encoder\.stages\.\d+\.layers)\.)"
)
_COPY = re.compile(r"(^|[._])(ema|averaged?|swa|shadow|momentum|encoder_k|key_encoder|target)([._]|$)", re.IGNORECASE)
_TIED = re.compile(r"(^|[._])(teacher|student)([._]|$)", re.IGNORECASE)  # neither is the usual choice

Trail = tuple[str, ...]  # the keys that lead to a dictionary


@dataclass(frozen=True)
class WeightSet:
    """The tensors of one network in a file, under names without ``prefix`` and without what wraps a network; ``others`` are the
    names of what lies in the same dictionary and is not part of it."""

    trail: Trail
    prefix: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...]
    parallel: bool

    @property
    def path(self) -> Trail:
        """The keys and the parts of the prefix that lead to its names."""
        return (*self.trail, *self.prefix.split(".")[:-1])


@dataclass(frozen=True)
class Found:
    """The chosen set. ``name`` is its name among ``names``, which are empty where a file holds one set; ``beside`` are the
    entries of the dictionaries around it, other sets left out."""

    chosen: WeightSet
    hints: Hints
    name: str
    names: tuple[str, ...]
    beside: dict[str, Any]


def find(document: Any, path: Path, asked: str = "") -> Found:
    """The set of weights that is ``asked`` for by name, else the one that is usually meant. Raises InputError where there is
    none of that name, SeveralSetsError where it has to be chosen."""
    sets = [found for trail, state in _states(document) for found in _split(trail, state, path)]
    networks = [each for each in sets if _is_network(each.tensors)]
    sets = networks or sets[:1]
    if not sets:
        raise InputError(
            f"Expected {path.name} to hold a state dict: names to tensors, on its own or under {', '.join(NESTS)}. Got "
            f"{_describe(document)}. Save the network's state_dict() with torch.save, or as safetensors."
        )
    names = _names(sets)
    chosen = _choose(names, asked, path)
    hints = Hints()
    beside: dict[str, Any] = {}
    elsewhere = {each.trail[: len(inside) + 1] for each in sets for inside in _beginnings(each.trail)}
    for inside in (*_beginnings(chosen.trail), chosen.trail):
        inner = functools.reduce(lambda within, key: within[key], inside, document)
        hints = state_dicts.hints_in(inner, hints)
        if inside != chosen.trail:
            beside |= {str(key): value for key, value in inner.items() if (*inside, key) not in elsewhere}
    name = next(name for name, each in names.items() if each is chosen)
    return Found(chosen, hints, name, tuple(names) if len(names) > 1 else (), beside)


def _beginnings(trail: Trail) -> list[Trail]:
    return [trail[:number] for number in range(len(trail))]


def _choose(names: Mapping[str, WeightSet], asked: str, path: Path) -> WeightSet:
    if asked:
        ending = [name for name in names if name == asked or name.endswith(f".{asked}")]
        if asked not in names and len(ending) != 1:
            listed = ", ".join(names) if len(names) > 1 else "a single one, which needs no name"
            raise InputError(f"{path.name} holds no set of weights called '{asked}'. It holds {listed}.")
        return names[asked if asked in names else ending[0]]
    usual = [name for name in names if not _COPY.search(name)] or list(names)
    first = [name for nest in NESTS for name in usual if name.partition(".")[0] == nest]
    if len(usual) > 1 and first and not any(_TIED.search(name) for name in usual):
        usual = [name for name in usual if name.partition(".")[0] == first[0].partition(".")[0]]
    if len(usual) > 1:
        raise SeveralSetsError(path, list(names))
    return names[usual[0]]


def _names(sets: list[WeightSet]) -> dict[str, WeightSet]:
    """A name for each set: the keys and prefixes that lead to it, without those that all have in common."""
    paths = [each.path for each in sets]
    shared = 0
    while len(sets) > 1 and all(len(one) > shared + 1 and one[: shared + 1] == paths[0][: shared + 1] for one in paths):
        shared += 1
    short = [one[shared:] for one in paths]
    while len(sets) > 1 and all(len(one) > 1 and one[-1] == short[0][-1] for one in short):
        short = [one[:-1] for one in short]
    named: dict[str, WeightSet] = {}
    for each, one in zip(sets, short, strict=True):
        name = ".".join(one) or "weights"
        named[name if name not in named else f"{name} ({len(named) + 1})"] = each
    return named


def _states(document: Any, trail: Trail = ()) -> Iterator[tuple[Trail, dict[Any, Any]]]:
    """All dictionaries of names to tensors, with the keys that lead to them: those under usual keys first."""
    if not isinstance(document, dict) or len(trail) > NEST_DEPTH:
        return
    if is_state(document):
        if not (trail and _holds_masks(document)):
            yield trail, document
        return
    for key in sorted(document, key=lambda key: NESTS.index(key) if key in NESTS else len(NESTS)):
        if isinstance(key, str) and key not in MASK_NESTS:
            yield from _states(document[key], (*trail, key))


def is_state(document: Any) -> bool:
    """Whether this is a dictionary of weights by name: a name has a dot between layer and weight."""
    return isinstance(document, dict) and any(
        isinstance(value, Tensor) and isinstance(key, str) and "." in key for key, value in document.items()
    )


def _holds_masks(state: dict[Any, Any]) -> bool:
    """Whether a dictionary's first large tensor holds but 0 and 1: masks of the weights beside it."""
    large = next((value for value in state.values() if isinstance(value, Tensor) and value.dim() > 1), None)
    return large is not None and bool(((large == 0) | (large == 1)).all()) and bool(large.any())


def _split(trail: Trail, state: dict[Any, Any], path: Path) -> list[WeightSet]:
    """The sets of one dictionary: by prefix where several begin the names of layers, else all of it."""
    entries = {key: value for key, value in state.items() if key != "__metadata__"}
    tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor) and isinstance(key, str)}
    long = [key for key in tensors if len(key) > MAX_NAME]
    if long:
        raise InputError(
            f"{path.name} holds {len(long)} names of more than {MAX_NAME} characters ({some(long)}), which no weight has."
        )
    strangers = [str(key) for key in entries if key not in tensors]
    plain = {key: ".".join(part for part in key.split(".") if part not in NOISE) for key in tensors}
    prefixes = {key: _prefix(name) for key, name in plain.items()}
    counts: dict[str, int] = {}
    for key, prefix in prefixes.items():
        if prefix is not None and tensors[key].dim() == 4:
            counts[prefix] = counts.get(prefix, 0) + 1
    networks = [prefix for prefix, count in counts.items() if count >= MIN_LAYERS] or [_common_prefix(plain)]
    owners = {key: _owner(name, networks) for key, name in plain.items()}
    if len(networks) == 1:
        owners |= {
            key: networks[0] for key, name in plain.items() if owners[key] is None and _is_head(name, networks[0])
        }
    others = (*strangers, *(key for key in tensors if owners[key] is None))
    sets = []
    for prefix in networks:
        own = {key: tensors[key] for key, owner in owners.items() if owner == prefix}
        named = state_dicts.renamed(own, {key: _without(prefix, plain[key]) for key in own}, path)
        sets.append(WeightSet(trail, prefix, named, others, any(NOISE & set(key.split(".")) for key in own)))
    return sets


def _owner(name: str, prefixes: list[str]) -> str | None:
    """The longest of the prefixes that the name has."""
    return max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default=None)


def _is_head(name: str, prefix: str) -> bool:
    """Whether a name outside a prefix is that of a classifier: ``classifier.1.weight`` beside ``resnet.``"""
    return bool(HEAD.match(_without(prefix, name)))


def _without(prefix: str, name: str) -> str:
    """The name without the parts that it shares with a prefix."""
    for part in prefix.split(".")[:-1]:
        if not name.startswith(f"{part}."):
            break
        name = name.removeprefix(f"{part}.")
    return name


def _prefix(name: str) -> str | None:
    """What stands before the name of a layer; None where there is none."""
    found = _LAYER.search(name)
    return name[: found.start(1)] if found else None


def _common_prefix(names: Mapping[str, str]) -> str:
    """The leading parts that all names share, where none of them begins a layer's name."""
    prefix = ""
    while names and not any(_LAYER.match(name[len(prefix) :]) for name in names.values()):
        first = {name[len(prefix) :].partition(".")[0] for name in names.values()}
        if len(first) != 1 or not all("." in name[len(prefix) :] for name in names.values()):
            break
        prefix += f"{first.pop()}."
    return prefix


def _is_network(tensors: Mapping[str, Tensor]) -> bool:
    return sum(tensor.dim() == 4 for tensor in tensors.values()) >= MIN_LAYERS


def _describe(document: Any) -> str:
    if isinstance(document, dict):
        return f"a dictionary of {some([str(key) for key in document]) or 'nothing'}"
    return f"a {document.kind if isinstance(document, weight_files.Other) else type(document).__name__}"
