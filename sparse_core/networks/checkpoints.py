"""Reads pruned networks as their projects saved them into one form: see ``Checkpoint``.

Three steps, in any combination of formats: ``weight_sets`` finds the weights in the file, ``checkpoint_formats`` applies masks
and thresholds, ``recognition`` maps the names to an architecture. Every key within the backbone must be used: one that is
missing, left over or of another shape is an error. What belongs to no layer of it is named in the notes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError
from sparse_core.networks import (
    architectures,
    backbone_files,
    checkpoint_formats,
    masks,
    public_networks,
    recognition,
    weight_files,
    weight_sets,
    yolo_files,
)
from sparse_core.networks.library import BackboneCard
from sparse_core.networks.recognition import Head
from sparse_core.networks.state_dicts import is_counter, some
from sparse_core.networks.weight_files import Opened
from sparse_core.networks.weight_sets import Found, WeightSet
from sparse_core.networks.yolo_files import Detector

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A network read from a file, with masks and thresholds applied to its weights.

    ``state`` holds the backbone's tensors under the names of ``architectures``, float32; ``classifier`` its ``weight`` (C, D)
    and, where the file has one, ``bias`` (C,), of a detector the prediction layers by level, as ``0.weight``;
    ``classifier_shape`` is the weight's shape in the file, None for a detector. ``mask`` is the one in
    the file, None where it has none. ``method``, ``dataset`` and ``upstream`` are those that the file names, else None.
    ``preprocessing`` is how the file says that images are prepared, None where it does not. ``card`` is the one in a file that
    this product exported from its library. ``notes`` say what in the file was not used. ``weights`` is the name of the set that
    was read, of the ``weight_sets`` in a file that has several. ``alternatives`` are names of architectures, such as
    "resnet18-cifar", of which nothing in the file tells which one it is; the first of them was taken.
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
    preprocessing: Transform | None
    card: BackboneCard | None
    notes: tuple[str, ...]
    weights: str = ""
    weight_sets: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()

    def network(self) -> nn.Module:
        """The backbone itself, sharing the tensors of ``state``."""
        return architectures.assemble(self.architecture, self.variant, self.state)

    def full_mask(self) -> masks.Mask:
        """The stored mask, else the weights that are not 0, over all convolutions of the backbone."""
        return self.mask or masks.from_zeros(self.network())


def read(path: str | Path, architecture: str | None = None, weights: str = "", *, trusted: bool = False) -> Checkpoint:
    """The network in a file. ``architecture``, such as "resnet50" or "resnet50-tensorflow", is needed only where the keys
    leave it open, and refused where they contradict it. ``weights`` names one of several sets of weights in the file. For
    ``trusted`` see ``weight_files.open_file``.

    Raises InputError on a file that is not a checkpoint, unsafe, damaged, not finite or all zero; MisfitError, with all keys,
    where the weights do not fit or lack their masks; SeveralSetsError where a set has to be chosen.
    """
    path = Path(path)
    asked = architectures.split_name(architecture) if architecture else None
    opened = weight_files.open_file(path, trusted=trusted)
    document = _document(opened, asked, path)
    found = weight_sets.find(document, path, weights)
    chosen = found.chosen
    formats = _containers(opened, document, chosen)
    named, unused = checkpoint_formats.with_masks(chosen.tensors, found.beside, chosen.prefix)
    plain, kept, wrappers = checkpoint_formats.unwrap(named, path)
    formats += wrappers
    if yolo_files.is_detector(plain):
        hint = "darknet" if opened.kind == "darknet" else found.hints.variant
        detector = yolo_files.read(plain, kept, asked, hint, opened.objects, path)
        return _detector(detector, document, found, formats, tuple(_notes(found, Head(), unused, opened.objects)), path)
    layout = recognition.public_layout(plain, asked, _stated(document), path) or recognition.layout_of(plain)
    plain, kept, head, (name, variant), others = _recognised(plain, kept, layout, asked, found, path)
    formats += _told_by_layout(head, layout, formats)
    unused += recognition.unused(plain, name, variant)
    head, left_out = recognition.fitting_head(head, name)
    state, classifier = _owned(plain, head, name, variant, path)
    card = backbone_files.card_of(document, name, variant)
    return Checkpoint(
        path=path,
        size_bytes=path.stat().st_size,
        formats=tuple(formats) if set(formats) - {"safetensors", "onnx"} else (*formats, "plain"),
        architecture=name,
        variant=variant,
        classes=head.shape[0] if head.shape else None,
        state=state,
        classifier=classifier or None,
        classifier_shape=head.shape or None,
        mask=backbone_files.mask_of(document, state, path) if card else _stored_mask(kept, state),
        method=card.method if card else "STR" if "STR" in formats else found.hints.method,
        dataset=found.hints.dataset,
        upstream=card.upstream if card else found.hints.upstream,
        preprocessing=card.preprocessing if card else found.hints.transform,
        card=card,
        notes=tuple(_notes(found, head, [*unused, *left_out], opened.objects)),
        weights=found.name if found.names else "",
        weight_sets=found.names,
        alternatives=tuple("-".join(filter(None, each)) for each in ((name, variant), *others)) if others else (),
    )


def _document(opened: Opened, asked: tuple[str, str] | None, path: Path) -> Any:
    """What the file holds, with the tensors of Darknet's under their names."""
    if opened.kind == "darknet":
        return yolo_files.darknet_tensors(opened.document, asked, path)
    return backbone_files.unpacked(opened.document, path)


def _told_by_layout(head: Head, layout: recognition.Layout, formats: Sequence[str]) -> list[str]:
    """The formats that the network's layout tells, beside the known ones."""
    is_str = len(head.shape) == 4 and "STR" not in formats and not layout.public
    return [*(["STR"] if is_str else []), *([layout.format] if layout.format else [])]


def _detector(
    detector: Detector, document: Any, found: Found, formats: list[str], notes: tuple[str, ...], path: Path
) -> Checkpoint:
    """The network in a file of a detector. Its preprocessing is as the file says, else that of its variant."""
    name, variant = detector.architecture, detector.variant
    state, predictions = own(_complete(detector.state, name, variant)), own(detector.predictions)
    _check_values({**state, **predictions}, path)
    card = backbone_files.card_of(document, name, variant)
    return Checkpoint(
        path=path,
        size_bytes=path.stat().st_size,
        formats=tuple(formats) if set(formats) - {"safetensors"} else (*formats, "plain"),
        architecture=name,
        variant=variant,
        classes=detector.classes,
        state=state,
        classifier=predictions or None,
        classifier_shape=None,
        mask=backbone_files.mask_of(document, state, path) if card else _stored_mask(detector.kept, state),
        method=card.method if card else found.hints.method,
        dataset=found.hints.dataset,
        upstream=card.upstream if card else found.hints.upstream,
        preprocessing=card.preprocessing if card else found.hints.transform,
        card=card,
        notes=(*notes, *detector.notes),
        weights=found.name if found.names else "",
        weight_sets=found.names,
    )


def _containers(opened: Opened, document: Any, chosen: WeightSet) -> list[str]:
    """The formats that the weights are wrapped in: the file's, the packed form, dictionaries around them, DataParallel."""
    formats = {
        opened.kind: opened.kind in ("safetensors", "onnx"),
        "Darknet": opened.kind == "darknet",
        "packed": document is not opened.document and opened.kind != "darknet",
        "nested": bool(chosen.trail or chosen.prefix),
        "DataParallel": chosen.parallel,
    }
    return [name for name, holds in formats.items() if holds]


def _recognised(
    plain: Tensors, kept: Tensors, layout: recognition.Layout, asked: tuple[str, str] | None, found: Found, path: Path
) -> tuple[Tensors, Tensors, Head, tuple[str, str], Sequence[tuple[str, str]]]:
    """The weights and masks under the network's own names, its classifier, architecture and variant, and others that fit as
    well. Where none fits, the error names the nearest networks."""
    try:
        weights, kept = (recognition.rename(each, layout, path) for each in (plain, kept))
        head = recognition.split_classifier(weights, path, layout.classifier)
        name, others = recognition.decide(weights, head, layout, asked, found.hints.variant, path)
    except InputError as error:
        raise error if asked else recognition.with_nearest(error, plain, path) from error
    return weights, kept, head, name, others


def _owned(plain: Tensors, head: Head, name: str, variant: str, path: Path) -> tuple[Tensors, Tensors]:
    """Checked tensors of the backbone and of its classifier, these without the layer's name."""
    state = own(_complete(plain, name, variant))
    last = recognition.classifier_name(name)
    classifier = own({f"{last}.{key}": tensor for key, tensor in head.tensors.items()})
    _check_values({**state, **classifier}, path)
    return state, {key.removeprefix(f"{last}."): tensor for key, tensor in classifier.items()}


def _stated(document: Any) -> set[str]:
    """The architecture that a file names: in the metadata of our own files, as "arch" in checkpoints of timm and of PyTorch's
    examples, which leave the library open."""
    if not isinstance(document, dict):
        return set()
    metadata, trained = document.get("__metadata__"), document.get("arch")
    names = {str(metadata.get("architecture", ""))} if isinstance(metadata, dict) else set()
    return names | ({trained, f"{public_networks.TIMM}{trained}"} if isinstance(trained, str) else set())


def _notes(found: Found, head: Head, unused: list[str], objects: Sequence[str]) -> Iterator[str]:
    """What the user should know about the file."""
    if found.names:
        others = [name for name in found.names if name != found.name]
        yield f"weights of {found.name}; the file also holds {some(others)}"
    if head.renamed:
        yield f"its classifier is {head.name}"
    masks_first = sorted([*unused, *found.chosen.others], key=lambda name: "mask" not in name.lower())
    if masks_first:
        yield f"not used: {some(masks_first)}"
    if objects:
        yield f"objects passed over, not run: {some(objects)}"


def _complete(weights: Mapping[str, Tensor], architecture: str, variant: str) -> dict[str, Tensor]:
    """The tensors in the network's own order; BatchNorm's counters of batches, which old files lack, are 0."""
    return {
        key: weights[key].reshape(shape) if key in weights else torch.zeros(shape, dtype=torch.int64)
        for key, shape in architectures.shapes_of(architecture, variant).items()
    }


def own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as float32 (counters as int64), contiguous, each with memory of its own and no more than it needs."""
    owned: dict[str, Tensor] = {}
    taken: set[int] = set()
    for key, tensor in tensors.items():
        if not is_counter(key):
            checkpoint_formats.require_floats(key, tensor)
        converted = tensor.detach().to(torch.int64 if is_counter(key) else torch.float32).contiguous()
        storage = converted.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != converted.nbytes:
            converted = converted.clone()
        taken.add(converted.untyped_storage().data_ptr())
        owned[key] = converted
    return owned


def _check_values(tensors: Mapping[str, Tensor], path: Path) -> None:
    ends = {key: torch.stack(tensor.aminmax()) for key, tensor in tensors.items()}  # NaN where there is any NaN
    bad = {
        "NaN or infinity": [key for key, pair in ends.items() if not bool(pair.isfinite().all())],
        "variances below 0": [key for key, (low, _) in ends.items() if key.endswith("running_var") and low < 0],
    }
    for what, keys in bad.items():
        if keys:
            raise InputError(f"{path.name} holds {what} in {len(keys)} tensors ({some(keys)}), so it cannot be used.")
    if not any(bool(tensor.any()) for tensor in tensors.values() if tensor.dim() == 4):
        raise InputError(f"All weights in the convolutions of {path.name} are 0, so it cannot be used.")


def _stored_mask(kept: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> masks.Mask | None:
    """The masks in the file; weights without one are masked where they are 0. None where no mask prunes anything. Masks
    of ones are ignored: projects wrap a pruned network in them before they save it."""
    weights = {name: tensor for name, tensor in state.items() if tensor.dim() == 4}  # of convolutions
    if all(bool(kept[name].all()) for name in weights if name in kept):
        return None
    return masks.Mask({name: kept.get(name, weight != 0) for name, weight in weights.items()})
