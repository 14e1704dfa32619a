"""Recognises the architecture of a state dict from its keys and shapes, never from a file's name. Keys may follow
torchvision, TensorFlow (RigL), SparseML, Hugging Face, three namings of MobileNetV1, EfficientNet-Lite0 or a CIFAR ResNet.

Transfer needs no classifier: one of another kind, and entries that belong to no layer, such as a loss's or a metric's, are left
out (``unused``). A tensor that may belong within the backbone never is.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from sparse_core.catalog import architecture_label
from sparse_core.errors import InputError
from sparse_core.networks import architectures, known_networks
from sparse_core.networks.architectures import shapes_of
from sparse_core.networks.known_networks import Match
from sparse_core.networks.state_dicts import HEAD, Misfit, MisfitError, is_counter, renamed, some

NEAREST = 3
LIKE = 0.5  # similarity from which on weights are said to be like those of a network

Shape = tuple[int, ...]
Variant = tuple[str, str]  # of an architecture: the names of both
Renaming = tuple[tuple[str, str], ...]
_TENSORFLOW: Renaming = (
    (r"^initial_conv\.conv\.", "conv1."),
    (r"^initial_conv\.bn\.", "bn1."),
    (r"^(layer\d)\.block\.(\d+)\.conv(\d)\.conv\.", r"\1.\2.conv\3."),
    (r"^(layer\d)\.block\.(\d+)\.conv(\d)\.bn\.", r"\1.\2.bn\3."),
    (r"^(layer\d)\.block\.(\d+)\.shortcut\.conv\.", r"\1.\2.downsample.0."),
    (r"^(layer\d)\.block\.(\d+)\.shortcut\.bn\.", r"\1.\2.downsample.1."),
)
_CIFAR: Renaming = ((r"\.downsample\.", ".shortcut."), (r"^fc\.(?=\w+$)", "linear."))
_KUANGLIU: Renaming = ((r"\.shortcut\.", ".downsample."), (r"^linear\.(?=\w+$)", "fc."))
_SPARSEML: Renaming = (
    (r"^input\.(conv|bn)\.", r"\g<1>1."),
    (r"^sections\.0\.", "layer1."),
    (r"^sections\.1\.", "layer2."),
    (r"^sections\.2\.", "layer3."),
    (r"^sections\.3\.", "layer4."),
    (r"\.identity\.conv\.", ".downsample.0."),
    (r"\.identity\.bn\.", ".downsample.1."),
    (r"^classifier\.fc\.", "fc."),
)
_HUGGING_FACE: Renaming = (
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    *((rf"^encoder\.stages\.{stage}\.layers\.(\d+)\.", rf"layer{stage + 1}.\1.") for stage in range(4)),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    *((rf"\.layer\.{number}\.convolution\.", f".conv{number + 1}.") for number in range(3)),
    *((rf"\.layer\.{number}\.normalization\.", f".bn{number + 1}.") for number in range(3)),
)
CLASSIFIERS = ("fc", "linear", "_fc")  # the names of the last layer where the known architectures are defined
# What else follows a backbone, beside ``state_dicts.HEAD``, under names that other code gives it.
_AFTER = re.compile(
    r"(\w*head\w*|\w*classifier\w*|decoder|aux\w*|aspp|fpn|neck|rpn|roi_\w+|proj\w*|pred\w*|proto\w*|criterion|loss\w*|"
    r"queue\w*|metric\w*|(train|val|valid|test)_\w+)\."
)
_NO_LAYER = ("total_ops", "total_params")  # counters that profilers such as thop add to every layer


@dataclass(frozen=True)
class Layout:
    """A naming of keys: the format it shows, how names become those of ``architectures``, the candidates, as pairs of
    architecture and variant, and the name of the classifier where it is known. ``public`` if the candidates are networks of
    torchvision or timm: those that fit compute different things from the same tensors."""

    format: str | None
    candidates: tuple[Variant, ...]
    renaming: Renaming = ()
    classifier: str = ""
    public: bool = False


@dataclass(frozen=True)
class Head:
    """The classifier of a file, as ``name`` in it: weight (C, D), bias (C,) where it has one; ``shape`` is the weight's in the
    file, () without a classifier; ``known`` if the architecture has it under this name. ``renamed`` if its name is not that of
    the architectures here."""

    name: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    shape: Shape = ()
    known: bool = False

    @property
    def renamed(self) -> bool:
        return self.name not in ("", *CLASSIFIERS) and not self.known


def public_layout(
    weights: Mapping[str, Tensor], asked: Variant | None, stated: Collection[str], path: Path
) -> Layout | None:
    """The networks of torchvision and timm that have all these tensors, the one that is asked for, or the one of them that the
    file has ``stated``; None where ``layout_of`` knows the naming. Raises InputError if the network is no CNN."""
    if asked is not None:
        return None if asked[0] in architectures.ARCHITECTURES else _public((asked[0],))
    best, *others = _matches(weights)
    if best.missing or _is_own(best.name):
        return None
    if not best.convolutional:
        raise _no_cnn(best, path)
    equal = [other.name for other in others if (other.missing, other.extra) == (0, best.extra) and other.convolutional]
    names = (best.name, *equal)
    return _public(tuple(name for name in names if name in stated)[:1] or names)


def _public(names: tuple[str, ...]) -> Layout:
    return Layout(None, tuple((name, "") for name in names), (), architectures.find(names[0]).classifier, True)


def _matches(weights: Mapping[str, Tensor]) -> list[Match]:
    return known_networks.match({key: tuple(tensor.shape) for key, tensor in weights.items()})


def _is_own(name: str) -> bool:
    return name.partition("-")[0] in architectures.ARCHITECTURES


def _no_cnn(match: Match, path: Path) -> InputError:
    return InputError(
        f"{path.name} holds a network that is no CNN: its weights are those of {match.name}, or nearly so, which has hardly any "
        "convolutions. This product prunes and transfers convolutional networks."
    )


def with_nearest(error: InputError, weights: Mapping[str, Tensor], path: Path) -> InputError:
    """The error with the networks most like these weights, and what differs; one that says only this where they are most like a
    network of torchvision or timm, or like one that is no CNN."""
    found = [match for match in _matches(weights)[:NEAREST] if match.similarity > 0]
    if not found:
        return error
    best, shapes = found[0], {key: tuple(tensor.shape) for key, tensor in weights.items()}
    described = "; ".join(f"{match.name} ({_difference(shapes, match.name)})" for match in found)
    if best.similarity >= LIKE and not best.convolutional:
        return _no_cnn(best, path)
    names = [match.name for match in found if match.convolutional]
    if best.similarity >= LIKE and not _is_own(best.name):
        return InputError(f"The weights of {path.name} fit no known network. Most like it: {described}.", names)
    if isinstance(error, MisfitError):
        error.args = (f"{error} Most like it: {described}.",)
        return error
    return InputError(f"{error} Most like it: {described}.", dict.fromkeys([*names, *error.candidates]))


def _difference(shapes: Mapping[str, Shape], name: str) -> str:
    wanted = known_networks.shapes_of(name)
    misshaped = [f"{key} {shapes[key]}" for key in wanted if key in shapes and shapes[key] != wanted[key]]
    kinds = {
        "missing": [key for key in wanted if key not in shapes],
        "unexpected": [key for key in shapes if key not in wanted and not is_counter(key) and not HEAD.match(key)],
        "of another shape": misshaped,
    }
    return ", ".join(f"{len(keys)} {kind} such as {keys[0]}" for kind, keys in kinds.items() if keys) or "another head"


def layout_of(weights: Mapping[str, Tensor]) -> Layout:
    """The naming that the keys follow."""
    names = list(weights)
    everything = tuple((name, next(iter(known.variants))) for name, known in architectures.ARCHITECTURES.items())
    if any(re.match(r"initial_conv\.|layer\d\.block\.", name) for name in names):
        return Layout("RigL from TensorFlow", (("resnet50", "tensorflow"),), _TENSORFLOW)
    if any(re.match(r"model\.\d+\.\d+\.", name) for name in names):
        return Layout("MobileNetV1", (("mobilenet_v1", ""),))
    if any(re.match(r"features\.\d+\.\d+\.", name) for name in names):
        return Layout("MobileNetV1", (("mobilenet_v1", ""),), _amc(weights))
    if any(re.match(r"_conv_stem\.|_blocks\.", name) for name in names):
        return Layout(None, (("efficientnet_lite0", ""),))
    large = tuple((name, "") for name in ("resnet18", "resnet34", "resnet50"))
    if any(re.match(r"sections\.\d+\.\d+\.", name) for name in names):
        return Layout("SparseML", large, _SPARSEML)
    if any(re.match(r"(embedder\.embedder|encoder\.stages\.\d+\.layers)\.", name) for name in names):
        return Layout("Hugging Face", large, _HUGGING_FACE)
    if not any(re.match(r"layer\d\.\d+\.", name) for name in names):
        return Layout(None, everything)
    small = tuple((f"resnet{depth}", shortcut) for depth in (20, 32, 44, 56) for shortcut in "AB")
    stem = weights.get("conv1.weight")
    if any(name.startswith("layer4.") for name in names) or (stem is not None and stem.shape[:1] == (64,)):
        return _large_resnets(names, stem, large)
    if any(name.startswith("linear.") for name in names) or (stem is not None and stem.shape[:1] == (16,)):
        return Layout("CIFAR ResNet", small, _CIFAR)
    return Layout(None, large + small)


def _large_resnets(names: list[str], stem: Tensor | None, large: tuple[Variant, ...]) -> Layout:
    """ResNets of 64 channels and more. With a stem for CIFAR's small images, the code that names the shortcuts ``shortcut``
    has no max pooling; under torchvision's names there are both."""
    if stem is None or stem.shape[-1] != 3:
        return Layout(None, large)
    unlike_torchvision = any(".shortcut." in name for name in names)
    variants = ("cifar",) if unlike_torchvision else ("cifar", "cifar_maxpool")
    candidates = tuple((name, variant) for name, _ in large for variant in variants)
    return Layout("CIFAR ResNet", candidates, _KUANGLIU)


def _amc(weights: Mapping[str, Tensor]) -> Renaming:
    """AMC's names: the stem is ``conv1``, or the first of ``features``."""
    stem = weights.get("features.0.0.weight")
    shift = 0 if stem is not None and stem.dim() == 4 and stem.shape[1] == 3 else 1
    blocks = tuple((rf"^features\.{block}\.(\d+)\.", rf"model.{block + shift}.\1.") for block in range(14))
    return ((r"^conv1\.(\d)\.", r"model.0.\1."), *blocks, (r"^classifier\.(\d+\.)?", "fc."))


def rename(weights: Mapping[str, Tensor], layout: Layout, path: Path) -> dict[str, Tensor]:
    """The weights under the names of ``architectures``."""

    def new_name(name: str) -> str:
        for pattern, replacement in layout.renaming:
            name = re.sub(pattern, replacement, name, count=1)
        return name

    return renamed(weights, {name: new_name(name) for name in weights}, path)


def classifier_name(architecture: str) -> str:
    """The name of the classifier layer where the architecture is defined."""
    return architectures.find(architecture).classifier


def split_classifier(weights: dict[str, Tensor], path: Path, known: str = "") -> Head:
    """Take the classifier out of ``weights``: the layer that is ``known`` by name, the last layer by the architectures' own
    names, else a linear layer that is alone in what follows the backbone, such as one behind dropout. A larger head stays, and is
    not used."""
    names = [
        name
        for name in ((known,) if known else CLASSIFIERS)
        if f"{name}.weight" in weights or f"{name}.bias" in weights
    ]
    if not names and not known:  # the layers of what follows the backbone
        heads = [key for key in weights if HEAD.match(key) and not is_counter(key)]
        stems = {key.rpartition(".")[0] for key in heads}
        single = len(stems) == 1 and all(weights[key].dim() == 2 for key in heads if key.endswith(".weight"))
        names = sorted(stems) if single and f"{min(stems)}.weight" in weights else []
    if not names:
        return Head()
    name = names[0]
    taken = {key: weights.pop(f"{name}.{key}") for key in ("weight", "bias") if f"{name}.{key}" in weights}
    weight, bias = taken.get("weight"), taken.get("bias")
    if weight is None:
        raise InputError(f"{path.name} holds the classifier's bias ('{name}.bias') without its weight.")
    shape = tuple(weight.shape)
    if len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1)) or 0 in shape:
        raise InputError(f"Expected a classifier (classes, features) or (classes, features, 1, 1); got {shape}.")
    if bias is not None and bias.shape != shape[:1]:
        raise InputError(
            f"{path.name}'s classifier has {shape[0]} classes by its weight, {tuple(bias.shape)} by its bias."
        )
    taken["weight"] = weight.flatten(1)
    return Head(name, taken, shape, bool(known))


def fitting_head(head: Head, architecture: str) -> tuple[Head, list[str]]:
    """The head if it takes the architecture's features, else none; and the names that were left out with it."""
    if not head.renamed or head.shape[1] == architectures.find(architecture).dimensions:
        return head, []
    return Head(), [f"{head.name}.{key}" for key in head.tensors]


def unused(weights: Mapping[str, Tensor], architecture: str, variant: str) -> list[str]:
    """The names in ``weights`` that belong to no layer of the backbone and were left out."""
    wanted = shapes_of(architecture, variant)
    return [name for name in weights if name not in wanted]


def decide(
    weights: Mapping[str, Tensor],
    head: Head,
    layout: Layout,
    asked: Variant | None,
    hint: str | None,
    path: Path,
) -> tuple[Variant, list[Variant]]:
    """The architecture and variant that all keys and the classifier fit, among equal variants the one that ``hint`` names; and
    the variants that fit as well where nothing tells which it is. Raises InputError where no or several architectures fit."""
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}

    def misfit(candidate: Variant) -> Misfit:
        return _misfit(shapes, head, *candidate)

    def hinted(fitting: list[Variant]) -> tuple[Variant, list[Variant]]:
        name = fitting[0][0]
        known = architectures.find(name).variants
        if hint in known and not misfit((name, hint)):
            return (name, hint), []
        return fitting[0], fitting[1:]

    fitting = [candidate for candidate in layout.candidates if not misfit(candidate)]
    if asked is not None:
        name, variant = asked
        of_name = [candidate for candidate in layout.candidates if candidate[0] == name]
        variants = of_name or [(name, each) for each in architectures.find(name).variants]
        wanted = [(name, variant)] if variant else variants
        best = min(wanted, key=lambda candidate: len(misfit(candidate)))
        if misfit(best):
            seen = f" They fit {architecture_label(fitting[0][0])}." if fitting else ""
            raise _misfit_error(path, best[0], misfit(best), seen)
        return (best, []) if variant else hinted([each for each in wanted if each in fitting] or [best])
    if layout.public and fitting:
        return fitting[0], fitting[1:]
    if len({name for name, _ in fitting}) == 1:
        return hinted(fitting)
    best, *others = sorted(layout.candidates, key=lambda candidate: len(misfit(candidate)))
    share = 1 - len(misfit(best)) / max(len(shapes_of(*best)), 1)
    if share >= 0.5 and all(len(misfit(other)) > len(misfit(best)) for other in others if other[0] != best[0]):
        raise _misfit_error(path, best[0], misfit(best), "")
    names = dict.fromkeys(name for name, _ in layout.candidates)
    raise InputError(
        f"The architecture of {path.name} cannot be recognised from its keys ({some(shapes) or 'a classifier alone'}). Name "
        f"one of {', '.join(names)} as the architecture.",
        names,
    )


def _misfit_error(path: Path, architecture: str, misfit: Misfit, seen: str) -> MisfitError:
    return MisfitError(f"The weights of {path.name} do not fit {architecture_label(architecture)}", misfit, seen)


def _misfit(shapes: Mapping[str, Shape], head: Head, architecture: str, variant: str) -> Misfit:
    wanted = shapes_of(architecture, variant)
    differing = [
        f"{key} {shapes[key]} instead of {wanted[key]}"
        for key in wanted
        if key in shapes and shapes[key] != wanted[key] and not (is_counter(key) and shapes[key] in ((), (1,)))
    ]
    dimensions = architectures.find(architecture).dimensions
    if head.shape and not head.renamed and head.shape[1] != dimensions:
        differing.append(f"the classifier takes {head.shape[1]} features instead of {dimensions}")
    families = {_family(key) for key in wanted}
    return Misfit(
        [key for key in wanted if key not in shapes and not is_counter(key)],
        [key for key in shapes if key not in wanted and not _is_outside(key, shapes[key], families)],
        differing,
    )


def _is_outside(name: str, shape: Shape, families: set[str]) -> bool:
    """Whether a tensor belongs to no layer of a backbone whose layers have names of these ``families``: ResNet34 holds all that
    ResNet18 does, and a deeper stem is ``conv2`` beside ``conv1``, so names of the same family are within, and so may be any
    convolution that is not named as what follows a backbone."""
    if name.rpartition(".")[2] in _NO_LAYER or HEAD.match(name) or _AFTER.match(name):
        return True
    return _family(name) not in families and len(shape) < 4


def _family(name: str) -> str:
    """The first part of a name, without its number: conv1 and conv2 are of one family."""
    return name.partition(".")[0].rstrip("0123456789")
