"""Recognises the architecture of a state dict from its keys and shapes, never from a file's name. Keys may follow
torchvision, TensorFlow (RigL), three namings of MobileNetV1, EfficientNet-Lite0 or a CIFAR ResNet."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse_core.catalog import architecture_label
from sparse_core.errors import InputError
from sparse_core.networks import architectures
from sparse_core.networks.state_dicts import Misfit, MisfitError, renamed, some

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
_CIFAR: Renaming = ((r"\.downsample\.", ".shortcut."), (r"^fc\.", "linear."))


@dataclass(frozen=True)
class Layout:
    """A naming of keys: the format it shows, how names become those of ``architectures``, and the candidates, as pairs of
    architecture and variant."""

    format: str | None
    candidates: tuple[Variant, ...]
    renaming: Renaming = ()


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
    if not any(re.match(r"layer\d\.\d+\.", name) for name in names):
        return Layout(None, everything)
    large = tuple((name, "") for name in ("resnet18", "resnet34", "resnet50"))
    small = tuple((f"resnet{depth}", shortcut) for depth in (20, 32, 44, 56) for shortcut in "AB")
    stem = weights.get("conv1.weight")
    if any(name.startswith("layer4.") for name in names) or (stem is not None and stem.shape[:1] == (64,)):
        return Layout(None, large)
    if any(name.startswith("linear.") for name in names) or (stem is not None and stem.shape[:1] == (16,)):
        return Layout("CIFAR ResNet", small, _CIFAR)
    return Layout(None, large + small)


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
    if architecture == "efficientnet_lite0":
        return "_fc"
    return "linear" if architecture in ("resnet20", "resnet32", "resnet44", "resnet56") else "fc"


def split_classifier(weights: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], Shape | None]:
    """Take the classifier out of ``weights``: its weight (C, D) and bias (C,), and the weight's shape in the file."""
    names = [name for name in ("fc", "linear", "_fc") if f"{name}.weight" in weights or f"{name}.bias" in weights]
    if not names:
        return {}, None
    taken = {key: weights.pop(f"{names[0]}.{key}") for key in ("weight", "bias") if f"{names[0]}.{key}" in weights}
    weight, bias = taken.get("weight"), taken.get("bias")
    if weight is None:
        raise InputError(f"{path.name} holds the classifier's bias ('{names[0]}.bias') without its weight.")
    shape = tuple(weight.shape)
    if len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1)) or 0 in shape:
        raise InputError(f"Expected a classifier (classes, features) or (classes, features, 1, 1); got {shape}.")
    if bias is not None and bias.shape != shape[:1]:
        raise InputError(
            f"{path.name}'s classifier has {shape[0]} classes by its weight, {tuple(bias.shape)} by its bias."
        )
    taken["weight"] = weight.flatten(1)
    return taken, shape


def decide(
    weights: Mapping[str, Tensor],
    shape: Shape | None,
    layout: Layout,
    asked: Variant | None,
    hint: str | None,
    path: Path,
) -> Variant:
    """The architecture and variant that all keys and the classifier's ``shape`` fit, among equal variants the one that ``hint``
    names. Raises InputError where none or several fit."""
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}

    def misfit(candidate: Variant) -> Misfit:
        return _misfit(shapes, shape, *candidate)

    def hinted(candidate: Variant) -> Variant:
        other = (candidate[0], hint or candidate[1])
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
    share = 1 - len(misfit(best)) / max(len(shapes_of(*best)), 1)
    if share >= 0.5 and all(len(misfit(other)) > len(misfit(best)) for other in others):
        raise _misfit_error(path, best[0], misfit(best), "")
    names = dict.fromkeys(name for name, _ in layout.candidates)
    raise InputError(
        f"The architecture of {path.name} cannot be recognised from its keys ({some(shapes) or 'a classifier alone'}). Name "
        f"one of {', '.join(names)} as the architecture.",
        names,
    )


def _misfit_error(path: Path, architecture: str, misfit: Misfit, seen: str) -> MisfitError:
    return MisfitError(f"The weights of {path.name} do not fit {architecture_label(architecture)}", misfit, seen)


def _misfit(shapes: Mapping[str, Shape], classifier_shape: Shape | None, architecture: str, variant: str) -> Misfit:
    wanted = shapes_of(architecture, variant)
    differing = [
        f"{key} {shapes[key]} instead of {wanted[key]}"
        for key in wanted
        if key in shapes and shapes[key] != wanted[key] and not (is_counter(key) and shapes[key] in ((), (1,)))
    ]
    dimensions = architectures.ARCHITECTURES[architecture].dimensions
    if classifier_shape and classifier_shape[1] != dimensions:
        differing.append(f"the classifier takes {classifier_shape[1]} features instead of {dimensions}")
    return Misfit(
        [key for key in wanted if key not in shapes and not is_counter(key)],
        [key for key in shapes if key not in wanted],
        differing,
    )


@functools.cache
def shapes_of(architecture: str, variant: str) -> dict[str, Shape]:
    """The shape of each tensor of an architecture's state dict."""
    with torch.device("meta"):
        module = architectures.build(architecture, variant)
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def is_counter(key: str) -> bool:
    """Whether a tensor counts the batches that BatchNorm has seen."""
    return key.endswith("num_batches_tracked")
