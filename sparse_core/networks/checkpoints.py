"""Reads pruned networks as their projects saved them, whatever wraps the weights, into one form: see ``Checkpoint``.

Formats, in any combination: state dicts nested in dictionaries, ``module`` parts left by DataParallel, masks beside weights
(wrapped layers, torch.nn.utils.prune), learnt thresholds (STR; Kusupati et al., ICML 2020, section 3), names from TensorFlow,
three namings of MobileNetV1, CIFAR ResNets; torch files old and new, and safetensors. All of it is told from keys and shapes,
never from a file's name. Every key has to find its place: what is missing, left over or of another shape is an error.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.catalog import architecture_label
from sparse_core.errors import InputError
from sparse_core.networks import architectures, masks, weight_files
from sparse_core.specs.checkpoints import InspectSpec
from sparse_core.specs.progress import Progress, Report

NESTS = ("state_dict", "model_state_dict", "model", "model_state")
MASK_NESTS = ("masks", "mask")
NEST_DEPTH = 4
LISTED = 5
MAX_NAME = 500  # characters of a weight's name, far above any real one
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_NOISE = {"module", "_orig_mod"}  # what DataParallel and torch.compile put around a network
_MASKS = {"_weight_mask": "weight", "_bias_mask": "bias", "weight_mask": "weight", "bias_mask": "bias"}
_ORIGINALS = {"weight_orig": "weight", "bias_orig": "bias"}
_KNOWN_START = re.compile(
    r"(conv1|bn1|layer\d\.\d+|initial_conv|model\.\d+\.\d+|features\.\d+\.\d+|_conv_stem|_blocks\.\d+|fc|linear)\."
)
_PLAIN_WORDS = re.compile(r"\w[\w .,/+&%()→-]{0,59}")  # no markup, no line breaks, nothing long

Renaming = tuple[tuple[str, str], ...]
_TENSORFLOW: Renaming = (
    (r"^initial_conv\.conv\.", "conv1."),
    (r"^initial_conv\.bn\.", "bn1."),
    (r"^(layer\d)\.block\.(\d+)\.conv(\d)\.conv\.", r"\1.\2.conv\3."),
    (r"^(layer\d)\.block\.(\d+)\.conv(\d)\.bn\.", r"\1.\2.bn\3."),
    (r"^(layer\d)\.block\.(\d+)\.shortcut\.conv\.", r"\1.\2.downsample.0."),
    (r"^(layer\d)\.block\.(\d+)\.shortcut\.bn\.", r"\1.\2.downsample.1."),
)
_CIFAR: Renaming = ((r"\.downsample\.", ".shortcut."), (r"^fc\.", "linear."))


class MisfitError(InputError):
    """Weights that do not fit an architecture. ``keys`` are all that are "missing", "unexpected" or "of another shape"; the
    message names the first of each."""

    def __init__(self, message: str, misfit: "_Misfit", advice: str = "") -> None:
        self.keys = misfit.kinds()
        if any(len(keys) > LISTED for keys in self.keys.values()):
            advice += " The dashboard's Library page lists them all."
        super().__init__(f"{message}: {misfit.words()}.{advice}")


@dataclass(frozen=True)
class Checkpoint:
    """A network out of a file, with masks and thresholds applied to its weights.

    ``state`` holds the backbone's tensors under the names of ``models``, float32; ``classifier`` its ``weight`` (C, D) and,
    where the file has one, ``bias`` (C,); ``classifier_shape`` is the weight's shape in the file. ``mask`` is the one that
    the file states, None where only zeros tell. ``method``, ``dataset`` and ``upstream`` are what the file lets on, None
    where nothing. ``notes`` are sentences on what in the file was not used.
    """

    path: Path
    size_bytes: int
    formats: tuple[str, ...]
    architecture: str
    variant: str
    classes: int | None
    state: dict[str, Tensor]
    classifier: dict[str, Tensor] | None
    classifier_shape: tuple[int, ...] | None
    mask: masks.Mask | None
    method: str | None
    dataset: str | None
    upstream: str | None
    notes: tuple[str, ...]

    def network(self) -> nn.Module:
        """The backbone itself, sharing the tensors of ``state``."""
        return architectures.assemble(self.architecture, self.variant, self.state)

    def full_mask(self) -> masks.Mask:
        """The stated mask, else the one that zeros in the weights tell, over all convolutions of the backbone."""
        return self.mask or masks.from_zeros(self.network())


@dataclass(frozen=True)
class _Misfit:
    missing: list[str]
    extra: list[str]
    misshaped: list[str]

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.misshaped)

    def kinds(self) -> dict[str, list[str]]:
        kinds = {"missing": self.missing, "unexpected": self.extra, "of another shape": self.misshaped}
        return {kind: keys for kind, keys in kinds.items() if keys}

    def words(self) -> str:
        return "; ".join(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in self.kinds().items())


@dataclass(frozen=True)
class _Hints:
    """What stands beside the weights: the dataset they were trained on last, what they were trained on before, their method,
    and the variant of the architecture. Only short plain words count: others would be shown as what they are not."""

    dataset: str | None = None
    upstream: str | None = None
    method: str | None = None
    variant: str | None = None


@dataclass(frozen=True)
class _Found:
    """A state dict out of a file, with the masks beside it put into it; ``unused`` names tensors that lie beside it."""

    weights: dict[str, Tensor]
    hints: _Hints
    nested: bool
    unused: tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    """What a naming says: its word, how names become those of ``models``, and which architectures they may be."""

    word: str | None
    candidates: tuple[tuple[str, str], ...]
    renaming: Renaming = ()


def read(path: str | Path, architecture: str | None = None) -> Checkpoint:
    """The network in a file. ``architecture``, such as "resnet50" or "resnet50-tensorflow", is needed only where the keys
    leave it open, and refused where they contradict it.

    Raises InputError on a file that is no such thing, unsafe, damaged, not finite or all zero; MisfitError, with all keys,
    where the weights do not fit or lack their masks.
    """
    path = Path(path)
    asked = architectures.split_name(architecture) if architecture else None
    opened = weight_files.open_file(path)
    found = _find_weights(opened.document, path)
    formats = ["safetensors"] if opened.kind == "safetensors" else []
    named, prefixed, parallel = _plain_names(found.weights, path)
    if found.nested or prefixed:
        formats.append("nested")
    if parallel:
        formats.append("DataParallel")
    weights, kept, wrappers = _unwrap(named, path)
    formats += wrappers
    layout = _layout(weights)
    weights, kept = _rename(weights, layout, path), _rename(kept, layout, path)
    classifier, shape = _split_classifier(weights, path)
    if shape and len(shape) == 4 and "STR" not in formats:
        formats.append("STR")
    if layout.word:
        formats.append(layout.word)
    name, variant = _decide(weights, shape, layout, asked, found.hints.variant, path)
    state = owned(_complete(weights, name, variant))
    last = _classifier_name(name)
    classifier = owned({f"{last}.{key}": tensor for key, tensor in classifier.items()})
    _check_values({**state, **classifier}, path)
    _check_backbone(state, path)
    classifier = {key.removeprefix(f"{last}."): tensor for key, tensor in classifier.items()}
    return Checkpoint(
        path=path,
        size_bytes=path.stat().st_size,
        formats=tuple(formats) if set(formats) - {"safetensors"} else (*formats, "plain"),
        architecture=name,
        variant=variant,
        classes=len(classifier["weight"]) if classifier else None,
        state=state,
        classifier=classifier or None,
        classifier_shape=shape,
        mask=_stated_mask(kept, state, name, variant),
        method="STR" if "STR" in formats else found.hints.method,
        dataset=found.hints.dataset,
        upstream=found.hints.upstream,
        notes=(f"not used: {_some(found.unused)}",) if found.unused else (),
    )


def run_inspect(home: Path, spec: InspectSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """What a checkpoint file is: the document of ``inspect``."""
    report(Progress(f"Reading {Path(spec.path).name}"))
    return inspect(Path(spec.path), spec.architecture or None)


def inspect(path: str | Path, architecture: str | None = None) -> dict[str, Any]:
    """What a file is: its formats, architecture, number of parameters, and each weight's share of zeros.

    ``sparsity`` is zeros over size of all convolution and linear weights, the classifier's included; ``backbone_sparsity``
    leaves it out. Classes, method, dataset and upstream are None where the file does not tell them. A layer's filters
    are its outputs, its channels its inputs; pruned are those whose weights are all 0. The two shares of pruned filters, in
    [0, 1], are over convolutions, the classifier left out: of all filters together, and the mean of the layers' shares.
    """
    checkpoint = read(path, architecture)
    groups = {
        f"{name}.weight": layer.groups
        for name, layer in checkpoint.network().named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    convolutions = [_layer(name, checkpoint.state[name], count) for name, count in groups.items()]
    layers = list(convolutions)
    parameters = sum(tensor.numel() for key, tensor in checkpoint.state.items() if _is_parameter(key))
    if checkpoint.classifier and checkpoint.classifier_shape:
        parameters += sum(tensor.numel() for tensor in checkpoint.classifier.values())
        weight = checkpoint.classifier["weight"].view(checkpoint.classifier_shape)
        layers.append(_layer(f"{_classifier_name(checkpoint.architecture)}.weight", weight, 1))
    backbone = {name: checkpoint.state[name] for name in groups}
    weights = {**backbone, **(checkpoint.classifier or {})}
    weights.pop("bias", None)
    return {
        "formats": list(checkpoint.formats),
        "architecture": checkpoint.architecture,
        "variant": checkpoint.variant,
        "classes": checkpoint.classes,
        "method": checkpoint.method,
        "dataset": checkpoint.dataset,
        "upstream": checkpoint.upstream,
        "notes": list(checkpoint.notes),
        "parameters": parameters,
        "sparsity": masks.network_sparsity(weights).total,
        "backbone_sparsity": masks.network_sparsity(backbone).total,
        "layers": layers,
        "filters_pruned_share": sum(layer["filters_pruned"] for layer in convolutions)
        / sum(layer["filters"] for layer in convolutions),
        "mean_layer_filters_pruned_share": sum(layer["filters_pruned"] / layer["filters"] for layer in convolutions)
        / len(convolutions),
    }


def _layer(name: str, weight: Tensor, groups: int) -> dict[str, Any]:
    """``weight`` is (filters, channels / groups, …)."""
    kept = weight != 0
    filters = kept.flatten(1).any(1)
    channels = kept.view(groups, len(kept) // groups, kept.shape[1], -1).any(3).any(1)
    return {
        "name": name,
        "shape": list(weight.shape),
        "sparsity": 1 - int(kept.sum()) / kept.numel(),
        "filters": filters.numel(),
        "filters_pruned": int((~filters).sum()),
        "channels": channels.numel(),
        "channels_pruned": int((~channels).sum()),
    }


def _find_weights(document: Any, path: Path) -> _Found:
    """The state dict in what was saved, and what stands beside it."""
    hints = _Hints()
    beside: dict[str, Any] = {}
    for depth in range(NEST_DEPTH):
        if not isinstance(document, dict):
            break
        hints = _hints(document, hints)
        if _is_state(document):
            weights, unused = _with_masks(_only_tensors(document, path), beside)
            return _Found(weights, hints, depth > 0, tuple(unused))
        named = [key for key in NESTS if _holds_state(document.get(key))]
        inside = named or _holding_states(document)
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


def _holding_states(document: Mapping[Any, Any]) -> list[Any]:
    """The keys of what holds state dicts; what a file names a thousand times is looked into once."""
    different = {id(value): value for key, value in document.items() if key not in MASK_NESTS}
    holding = {number for number, value in different.items() if _holds_state(value)}
    return [key for key, value in document.items() if key not in MASK_NESTS and id(value) in holding]


def _with_masks(weights: dict[str, Tensor], beside: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict with masks that lie in a dictionary beside it, and the names of tensors there that are not used.

    Such a mask goes by the name of its weight, of that weight's layer, or of the mask it would be in the state dict.
    """
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


def _take_masks(
    weights: dict[str, Tensor], places: Mapping[str, str], nest: str, entries: Mapping[Any, Any]
) -> list[str]:
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
    parts = [part for part in key.split(".") if part not in (*_NOISE, "_layer")]
    stem, _, leaf = ".".join(parts).rpartition(".")
    leaf = _MASKS.get(leaf) or _ORIGINALS.get(leaf, leaf)
    return f"{stem}.{leaf}" if stem else leaf


def _is_mask(mask: Any, weight: Tensor) -> bool:
    return isinstance(mask, Tensor) and mask.shape == weight.shape and bool(((mask == 0) | (mask == 1)).all())


def _hints(document: Mapping[Any, Any], known: _Hints) -> _Hints:
    told: dict[str, str] = {}
    for place in (document, document.get("__metadata__"), document.get("model_config")):
        if isinstance(place, dict):
            told |= {key: value for key, value in place.items() if _is_plain(value)}
    names = (field.name for field in dataclasses.fields(_Hints))
    return dataclasses.replace(known, **{name: told[name] for name in names if name in told})


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and bool(_PLAIN_WORDS.fullmatch(value))


def _is_state(document: Any) -> bool:
    return isinstance(document, dict) and any(
        isinstance(value, Tensor) and isinstance(key, str) and "." in key for key, value in document.items()
    )


def _holds_state(document: Any, depth: int = 1) -> bool:
    if _is_state(document):
        return True
    return (
        depth < NEST_DEPTH
        and isinstance(document, dict)
        and any(_holds_state(document.get(key), depth + 1) for key in NESTS)
    )


def _only_tensors(document: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    entries = {key: value for key, value in document.items() if key != "__metadata__"}
    others = [str(key) for key, value in entries.items() if not isinstance(value, Tensor) or not isinstance(key, str)]
    if others:
        raise InputError(
            f"{path.name} holds {len(others)} entries among its weights that are no named tensors ({_some(others)})."
        )
    long = [key for key in entries if len(key) > MAX_NAME]
    if long:
        raise InputError(
            f"{path.name} holds {len(long)} names of more than {MAX_NAME} characters ({_some(long)}), which no weight has."
        )
    return entries


def _describe(document: Any) -> str:
    if isinstance(document, dict):
        return f"a dictionary of {_some([str(key) for key in document]) or 'nothing'}"
    return f"a {document.kind if isinstance(document, weight_files.Other) else type(document).__name__}"


def _plain_names(found: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], bool, bool]:
    """Names without ``module`` parts and without a first part that all share, and whether there were such."""
    parallel = any(_NOISE & set(key.split(".")) for key in found)
    names = {key: ".".join(part for part in key.split(".") if part not in _NOISE) for key in found}
    prefixed = False
    while not any(_KNOWN_START.match(name) for name in names.values()):
        first = {name.partition(".")[0] for name in names.values()}
        if len(first) != 1 or not all("." in name for name in names.values()):
            break
        names = {key: name.partition(".")[2] for key, name in names.items()}
        prefixed = True
    return _renamed(found, names, path), prefixed, parallel


def _renamed(found: Mapping[str, Tensor], names: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    origins: dict[str, str] = {}
    for key in found:
        first = origins.setdefault(names[key], key)
        if first != key:
            raise _twice(path, names[key], first, key)
    return {names[key]: tensor for key, tensor in found.items()}


def _twice(path: Path, name: str, first: str, second: str) -> InputError:
    return InputError(f"{path.name} holds '{name}' twice, as '{first}' and as '{second}'. Save the one you mean alone.")


def _unwrap(named: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Weights with masks and thresholds applied, masks of weights (True = kept) by weight name, and the formats met."""
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
        if leaf in _MASKS:
            given.setdefault(stem + _MASKS[leaf], []).append(tensor)
        elif leaf == "sparseThreshold":
            formats.add("STR")
            thresholds[f"{stem}weight"] = tensor
        else:
            if leaf in _ORIGINALS:
                formats.add("torch.nn.utils.prune")
                expected[stem + _ORIGINALS[leaf]] = f"{stem}{_ORIGINALS[leaf]}_mask"
            elif leaf == "weight" and "_layer" in parts:
                expected[f"{stem}weight"] = f"{stem}_weight_mask"
            name = stem + _ORIGINALS.get(leaf, leaf)
            if name in weights:
                raise _twice(path, name, origins[name], key)
            weights[name], origins[name] = tensor, key
    alone = [name for name in (*given, *thresholds) if name not in weights]
    if alone:
        raise InputError(f"{path.name} holds masks or thresholds of {len(alone)} weights it lacks ({_some(alone)}).")
    lacking = _Misfit([mask for name, mask in expected.items() if name not in given], [], [])
    if lacking.missing:
        raise MisfitError(f"{path.name} holds weights without the masks that belong to them", lacking)
    kept = {name: _kept(name, tensors, weights[name]) for name, tensors in given.items()}
    for name, mask in kept.items():
        weights[name] = torch.where(mask, weights[name], 0)
    for name, threshold in thresholds.items():
        weights[name] = _soft_threshold(name, weights[name], threshold)
    order = ("wrapped masks", "torch.nn.utils.prune", "STR")
    stated = {name: mask for name, mask in kept.items() if name.endswith("weight")}
    return weights, stated, [word for word in order if word in formats]


def _kept(name: str, tensors: list[Tensor], weight: Tensor) -> Tensor:
    for tensor in tensors:
        if tensor.shape != weight.shape:
            raise InputError(f"The mask of '{name}' is {tuple(tensor.shape)}; the weight is {tuple(weight.shape)}.")
    parts = [masks.from_tensors({name: tensor}).tensors[name] for tensor in tensors]
    return functools.reduce(torch.logical_and, parts)


def _soft_threshold(name: str, weight: Tensor, threshold: Tensor) -> Tensor:
    """sign(w) · relu(|w| − sigmoid(s)) for one threshold s a layer (Kusupati et al., ICML 2020, equation 4)."""
    _require_floats(name, weight)
    if threshold.numel() != 1 or not threshold.is_floating_point():
        raise InputError(
            f"Expected one threshold for '{name}', of shape (1, 1) and a floating point number; got shape "
            f"{tuple(threshold.shape)}, {_kind(threshold)}."
        )
    weight = weight.float()
    return torch.sign(weight) * torch.relu(weight.abs() - torch.sigmoid(threshold.float().reshape(())))


def _layout(weights: Mapping[str, Tensor]) -> _Layout:
    """Which naming the keys follow."""
    names = list(weights)
    everything = tuple((name, next(iter(known.variants))) for name, known in architectures.ARCHITECTURES.items())
    if any(re.match(r"initial_conv\.|layer\d\.block\.", name) for name in names):
        return _Layout("RigL from TensorFlow", (("resnet50", "tensorflow"),), _TENSORFLOW)
    if any(re.match(r"model\.\d+\.\d+\.", name) for name in names):
        return _Layout("MobileNetV1", (("mobilenet_v1", ""),))
    if any(re.match(r"features\.\d+\.\d+\.", name) for name in names):
        return _Layout("MobileNetV1", (("mobilenet_v1", ""),), _amc(weights))
    if any(re.match(r"_conv_stem\.|_blocks\.", name) for name in names):
        return _Layout(None, (("efficientnet_lite0", ""),))
    if not any(re.match(r"layer\d\.\d+\.", name) for name in names):
        return _Layout(None, everything)
    large = tuple((name, "") for name in ("resnet18", "resnet34", "resnet50"))
    small = tuple((f"resnet{depth}", shortcut) for depth in (20, 32, 44, 56) for shortcut in "AB")
    stem = weights.get("conv1.weight")
    if any(name.startswith("layer4.") for name in names) or (stem is not None and stem.shape[:1] == (64,)):
        return _Layout(None, large)
    if any(name.startswith("linear.") for name in names) or (stem is not None and stem.shape[:1] == (16,)):
        return _Layout("CIFAR ResNet", small, _CIFAR)
    return _Layout(None, large + small)


def _amc(weights: Mapping[str, Tensor]) -> Renaming:
    """AMC's names: the stem is ``conv1``, or the first of ``features``."""
    stem = weights.get("features.0.0.weight")
    shift = 0 if stem is not None and stem.dim() == 4 and stem.shape[1] == 3 else 1
    blocks = tuple((rf"^features\.{block}\.(\d+)\.", rf"model.{block + shift}.\1.") for block in range(14))
    return ((r"^conv1\.(\d)\.", r"model.0.\1."), *blocks, (r"^classifier\.(\d+\.)?", "fc."))


def _rename(weights: Mapping[str, Tensor], layout: _Layout, path: Path) -> dict[str, Tensor]:
    def renamed(name: str) -> str:
        for pattern, replacement in layout.renaming:
            name = re.sub(pattern, replacement, name, count=1)
        return name

    return _renamed(weights, {name: renamed(name) for name in weights}, path)


def _classifier_name(architecture: str) -> str:
    if architecture == "efficientnet_lite0":
        return "_fc"
    return "linear" if architecture in ("resnet20", "resnet32", "resnet44", "resnet56") else "fc"


def _split_classifier(weights: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[int, ...] | None]:
    """Takes the classifier out of ``weights``: its weight (C, D) and bias (C,), and the weight's shape in the file."""
    names = [name for name in ("fc", "linear", "_fc") if f"{name}.weight" in weights or f"{name}.bias" in weights]
    if not names:
        return {}, None
    taken = {key: weights.pop(f"{names[0]}.{key}") for key in ("weight", "bias") if f"{names[0]}.{key}" in weights}
    weight, bias = taken.get("weight"), taken.get("bias")
    if weight is None:
        raise InputError(f"{path.name} holds the classifier's bias ('{names[0]}.bias') without its weight.")
    shape = tuple(weight.shape)
    if len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1)) or 0 in shape:
        raise InputError(
            f"Expected a classifier of shape (classes, features) or (classes, features, 1, 1); got {shape}."
        )
    if bias is not None and bias.shape != shape[:1]:
        raise InputError(
            f"The classifier of {path.name} does not agree with itself: its weight has {shape[0]} classes, its bias has "
            f"shape {tuple(bias.shape)}."
        )
    taken["weight"] = weight.flatten(1)
    return taken, shape


def _decide(
    weights: Mapping[str, Tensor],
    classifier_shape: tuple[int, ...] | None,
    layout: _Layout,
    asked: tuple[str, str] | None,
    hinted_variant: str | None,
    path: Path,
) -> tuple[str, str]:
    """The architecture and variant that all keys fit, among equal variants the hinted one. Raises InputError where none or
    several fit."""
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}

    def misfit(candidate: tuple[str, str]) -> _Misfit:
        return _misfit(shapes, classifier_shape, *candidate)

    def hinted(candidate: tuple[str, str]) -> tuple[str, str]:
        other = (candidate[0], hinted_variant or candidate[1])
        known = architectures.ARCHITECTURES[candidate[0]].variants
        return other if other[1] in known and not misfit(other) else candidate

    fitting = [candidate for candidate in layout.candidates if not misfit(candidate)]
    if asked is not None:
        name, variant = asked
        of_name = [candidate for candidate in layout.candidates if candidate[0] == name]
        variants = of_name or [(name, each) for each in architectures.ARCHITECTURES[name].variants]
        wanted = [(name, variant)] if variant else variants
        best = min(wanted, key=lambda candidate: len(misfit(candidate)))
        if misfit(best):
            seen = f" They fit {architecture_label(fitting[0][0])}." if fitting else ""
            raise _misfit_error(path, best[0], misfit(best), seen)
        return best if variant else hinted(best)
    if len(fitting) == 1:
        return hinted(fitting[0])
    best, *others = sorted(layout.candidates, key=lambda candidate: len(misfit(candidate)))
    share = 1 - len(misfit(best)) / max(len(_shapes(*best)), 1)
    if share >= 0.5 and all(len(misfit(other)) > len(misfit(best)) for other in others):
        raise _misfit_error(path, best[0], misfit(best), "")
    names = dict.fromkeys(name for name, _ in layout.candidates)
    raise InputError(
        f"The architecture of {path.name} cannot be told from its keys ({_some(shapes) or 'a classifier alone'}). Name one of "
        f"{', '.join(names)} as the architecture.",
        names,
    )


def _misfit_error(path: Path, architecture: str, misfit: _Misfit, seen: str) -> MisfitError:
    return MisfitError(f"The weights of {path.name} do not fit {architecture_label(architecture)}", misfit, seen)


def _misfit(
    shapes: Mapping[str, tuple[int, ...]], classifier_shape: tuple[int, ...] | None, architecture: str, variant: str
) -> _Misfit:
    wanted = _shapes(architecture, variant)
    differing = [
        f"{key} {shapes[key]} instead of {wanted[key]}"
        for key in wanted
        if key in shapes and shapes[key] != wanted[key] and not (_is_counter(key) and shapes[key] in ((), (1,)))
    ]
    dimensions = architectures.ARCHITECTURES[architecture].dimensions
    if classifier_shape and classifier_shape[1] != dimensions:
        differing.append(f"the classifier takes {classifier_shape[1]} features instead of {dimensions}")
    return _Misfit(
        [key for key in wanted if key not in shapes and not _is_counter(key)],
        [key for key in shapes if key not in wanted],
        differing,
    )


@functools.cache
def _shapes(architecture: str, variant: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        module = architectures.build(architecture, variant)
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def _complete(weights: Mapping[str, Tensor], architecture: str, variant: str) -> dict[str, Tensor]:
    """The tensors in the network's own order; BatchNorm's counters of batches, which old files lack, are 0."""
    return {
        key: weights[key].reshape(shape) if key in weights else torch.zeros(shape, dtype=torch.int64)
        for key, shape in _shapes(architecture, variant).items()
    }


def owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as float32 (counters as int64), contiguous, each with memory of its own and no more than it needs."""
    owned: dict[str, Tensor] = {}
    taken: set[int] = set()
    for key, tensor in tensors.items():
        if not _is_counter(key):
            _require_floats(key, tensor)
        converted = tensor.detach().to(torch.int64 if _is_counter(key) else torch.float32).contiguous()
        storage = converted.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != converted.nbytes:
            converted = converted.clone()
        taken.add(converted.untyped_storage().data_ptr())
        owned[key] = converted
    return owned


def _require_floats(name: str, weight: Tensor) -> None:
    if weight.dtype not in FLOATS:
        raise InputError(f"Expected weights as floating point numbers; '{name}' is {_kind(weight)}.")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_values(tensors: Mapping[str, Tensor], path: Path) -> None:
    ends = {key: torch.stack(tensor.aminmax()) for key, tensor in tensors.items()}  # NaN where there is any NaN
    bad = [key for key, pair in ends.items() if not bool(pair.isfinite().all())]
    if bad:
        raise InputError(
            f"{path.name} holds NaN or infinity in {len(bad)} tensors ({_some(bad)}), so it cannot be used."
        )
    negative = [key for key, (low, _) in ends.items() if key.endswith("running_var") and low < 0]
    if negative:
        raise InputError(
            f"{path.name} holds variances below 0 in {len(negative)} tensors ({_some(negative)}), so it cannot be used."
        )


def _check_backbone(state: Mapping[str, Tensor], path: Path) -> None:
    if not any(bool(tensor.any()) for tensor in state.values() if tensor.dim() == 4):
        raise InputError(f"All weights in the convolutions of {path.name} are 0, so it cannot be used.")


def _stated_mask(
    kept: Mapping[str, Tensor], state: Mapping[str, Tensor], architecture: str, variant: str
) -> masks.Mask | None:
    """The masks in the file, with weights that have none masked where they are 0.

    Masks that prune nothing state nothing: projects wrap a pruned network anew with masks of ones before they save it.
    """
    with torch.device("meta"):
        names = list(masks.prunable(architectures.build(architecture, variant)))
    if all(bool(kept[name].all()) for name in names if name in kept):
        return None
    return masks.Mask({name: kept[name] if name in kept else state[name] != 0 for name in names})


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _is_parameter(key: str) -> bool:
    return not key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _some(keys: Iterable[str]) -> str:
    keys = [str(key)[:80].replace("\n", " ").replace("\0", "␀") for key in keys]
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
