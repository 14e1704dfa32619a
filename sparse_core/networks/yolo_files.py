"""Reads the weights of detectors: YOLOv5's and YOLOv3's public files, by the names of their tensors, and Darknet's, which have
none.

The names are those of ``yolo``: ``model.N.…``, with the prediction layers and the anchors, in cells, as the last layer. A
Darknet file is a header and the numbers of all convolutions in the order of the layers: BatchNorm's bias, weight, mean and
variance, then the weights; of a prediction layer, bias and weights.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse_core.catalog import COARSEST, architecture_label
from sparse_core.errors import InputError
from sparse_core.networks import architectures, yolo
from sparse_core.networks.architectures import shapes_of
from sparse_core.networks.state_dicts import Misfit, MisfitError, duplicate_name, is_counter, some

ANCHORS = "anchors"
BOX_VALUES = 5  # of each box, before those of the classes: x, y, width, height, objectness
DARKNET = ("yolov3", "yolov3_spp", "yolov3_tiny")
_LAYER = re.compile(r"model\.\d+\.(conv\.(conv\.)?weight|cv\d\.conv\.weight|m\.\d+\.(weight|cv\d\.conv\.weight))$")
_PREDICTION = re.compile(r"model\.(\d+)\.m\.(\d+)\.(weight|bias)$")
_COMPUTED = ("anchor_grid", "stride", "grid", "strides")  # beside the anchors, following from them
_ACTIVATION_CLASSES = {"SiLU": "", "LeakyReLU": "leaky", "Hardswish": "hardswish"}


@dataclass(frozen=True)
class Detector:
    """A detector's tensors: ``state`` of its body, masks of it (``kept``), ``predictions`` as "LEVEL.weight" and "LEVEL.bias",
    empty where the file has none; its architecture and variant; the number of classes; and notes for the user."""

    architecture: str
    variant: str
    state: dict[str, Tensor]
    kept: dict[str, Tensor]
    predictions: dict[str, Tensor]
    classes: int | None
    notes: tuple[str, ...]


def is_detector(weights: Mapping[str, Tensor]) -> bool:
    """Whether these tensors are named as those of a YOLO."""
    return any(_LAYER.match(name) for name in weights)


def read(
    weights: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    asked: tuple[str, str] | None,
    hint: str | None,
    objects: Collection[str],
    path: Path,
) -> Detector:
    """The detector of these tensors. ``asked`` are the architecture and variant that the user named, ``hint`` is the variant
    that the file names, ``objects`` are the classes in a network that was saved whole. Raises MisfitError where the weights fit
    none."""
    _refuse_others(weights, path)
    body = {name: tensor for name, tensor in weights.items() if not _is_of_predictions(name)}
    name, misfit = _architecture(body, asked, path)
    if misfit:
        raise MisfitError(f"The weights of {path.name} do not fit {architecture_label(name)}", misfit)
    variant, notes = _variant(name, body, asked, hint, objects)
    predictions, classes = _predictions(weights, name, path)
    state = {key: body[key] for key in shapes_of(name, variant) if key in body}
    state[ANCHORS] = _anchors(weights, name, variant, path)
    return Detector(name, variant, state, dict(kept), predictions, classes, notes)


def public_names(
    architecture: str, state: Mapping[str, Tensor], predictions: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """The tensors of a body and of its prediction layers as the public files name them, anchors in cells."""
    last = architectures.find(architecture).classifier
    named = {name: tensor for name, tensor in state.items() if name != ANCHORS}
    named[f"{last}.{ANCHORS}"] = state[ANCHORS] / _strides(architecture)
    for level, (weight, bias) in enumerate(predictions):
        named |= {f"{last}.m.{level}.weight": weight, f"{last}.m.{level}.bias": bias}
    return named


def classes_of(outputs: int) -> int:
    """The number of classes of prediction layers with that many outputs."""
    return outputs // yolo.ANCHORS_PER_CELL - BOX_VALUES


def darknet_tensors(numbers: Tensor, asked: tuple[str, str] | None, path: Path) -> dict[str, Tensor]:
    """The named tensors of a Darknet file, from its ``numbers`` (n,) float32 after the header. Raises InputError where their
    count is that of no network here."""
    if asked and (asked[0] not in DARKNET or asked[1] not in ("", "darknet")):
        raise InputError(
            f"{path.name} is a Darknet file, which holds YOLOv3, YOLOv3-SPP or YOLOv3-tiny, not {asked[0]}."
        )
    sizes = {name: _darknet_sizes(name) for name in ([asked[0]] if asked else DARKNET)}
    found = {name: _classes_for(len(numbers), *size) for name, size in sizes.items()}
    fitting = [name for name, classes in found.items() if classes]
    if len(fitting) != 1:
        counts = ", ".join(
            f"{architecture_label(name)} {body + per_box * yolo.ANCHORS_PER_CELL * (BOX_VALUES + 80):,}"
            for name, (body, per_box) in sizes.items()
        )
        raise InputError(
            f"{path.name} holds {len(numbers):,} numbers after its header, which fit no YOLOv3 with any number of classes; with "
            f"80 classes there are: {counts}. It may be cut off, or of another network."
            if not fitting
            else f"{path.name} fits {' and '.join(fitting)}. Name one of them as the architecture.",
            fitting,
        )
    classes = found[fitting[0]]
    assert classes is not None
    return _split_numbers(numbers, fitting[0], classes) | _anchors_beside(path, fitting[0])


def _anchors_beside(path: Path, name: str) -> dict[str, Tensor]:
    """The anchors, in cells, that the .cfg file beside a Darknet file states: each [yolo] section, from the coarsest level to the
    finest, chooses some of the ``anchors`` with its ``mask``. Empty where there is none."""
    beside = path.with_suffix(".cfg")
    if not beside.is_file() or beside == path:
        return {}
    text = beside.read_text(encoding="utf-8", errors="replace")
    chosen, given = (
        [_numbers(found) for found in re.findall(rf"^\s*{key}\s*=(.*)$", text, re.MULTILINE)]
        for key in ("mask", "anchors")
    )
    strides = _strides(name)
    try:
        levels = [torch.tensor(sizes).view(-1, 2)[numbers] for numbers, sizes in zip(chosen, given, strict=True)]
        anchors = torch.stack(levels[::-1]) / strides
    except (ValueError, RuntimeError, IndexError) as error:
        raise InputError(
            f"The anchors in {beside.name} cannot be read. Repair the file, or remove it to use the usual ones."
        ) from error
    return {f"{architectures.find(name).classifier}.{ANCHORS}": anchors}


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def _split_numbers(numbers: Tensor, name: str, classes: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    start = 0
    for key, shape in _darknet_order(name, classes):
        size = math.prod(shape)
        tensors[key] = numbers[start : start + size].view(shape)
        start += size
    return tensors


def _darknet_order(name: str, classes: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors in the order of a Darknet file."""
    shapes, last = shapes_of(name, "darknet"), architectures.find(name).classifier
    outputs = yolo.OUTPUTS[name]
    values = yolo.ANCHORS_PER_CELL * (BOX_VALUES + classes)
    found: list[tuple[str, tuple[int, ...]]] = []
    for number in range(yolo.LAYERS[name]):
        convolutions = [key for key in shapes if key.startswith(f"model.{number}.") and key.endswith("conv.weight")]
        for key in convolutions:
            norm = key.removesuffix("conv.weight") + "bn"
            parts = ("bias", "weight", "running_mean", "running_var")
            found += [(f"{norm}.{part}", shapes[f"{norm}.{part}"]) for part in parts]
            found.append((key, shapes[key]))
        if number in outputs:
            level = outputs.index(number)
            found.append((f"{last}.m.{level}.bias", (values,)))
            found.append((f"{last}.m.{level}.weight", (values, yolo.WIDTHS[name][level], 1, 1)))
    return found


def _darknet_sizes(name: str) -> tuple[int, int]:
    """The numbers in a body, and those that each output of a prediction layer takes, over all levels."""
    shapes = shapes_of(name, "darknet")
    body = sum(math.prod(shape) for key, shape in shapes.items() if key != ANCHORS and not is_counter(key))
    return body, sum(width + 1 for width in yolo.WIDTHS[name])


def _classes_for(count: int, body: int, per_output: int) -> int | None:
    """The number of classes with which a network has this many numbers; None where there is none."""
    outputs, rest = divmod(count - body, per_output)
    values, over = divmod(outputs, yolo.ANCHORS_PER_CELL)
    return values - BOX_VALUES if not rest and not over and values > BOX_VALUES else None


def _refuse_others(weights: Mapping[str, Tensor], path: Path) -> None:
    if any(re.match(r"model\.\d+\.cv4\.conv\.weight$", name) for name in weights):
        raise InputError(
            f"{path.name} is a YOLOv5 of releases 1 to 3, with BottleneckCSP blocks. Only releases from 4 on are read: convert "
            "it, or download the weights of a later release."
        )
    if any(re.match(r"model\.\d+\.(cv[23]\.\d|dfl)\.", name) for name in weights):
        raise InputError(
            f"{path.name} is a YOLO with a decoupled head, such as YOLOv8. YOLOv3, YOLOv3-SPP, YOLOv3-tiny and YOLOv5 are read."
        )


def _is_of_predictions(name: str) -> bool:
    """Whether a tensor belongs to the last layer: predictions, anchors, what follows from them."""
    return bool(_PREDICTION.match(name)) or name.rpartition(".")[2] in (ANCHORS, *_COMPUTED)


def _architecture(body: Mapping[str, Tensor], asked: tuple[str, str] | None, path: Path) -> tuple[str, Misfit]:
    """The architecture that fits best, and what does not fit it."""
    if asked and asked[0] not in yolo.BODIES:
        raise InputError(f"{path.name} holds a YOLO, whose weights do not fit {architecture_label(asked[0])}.")
    shapes = {key: tuple(tensor.shape) for key, tensor in body.items()}
    misfits = {
        name: _misfit(shapes, name, _release(shapes, name)) for name in ([asked[0]] if asked else _candidates(shapes))
    }
    if not misfits:
        names = ", ".join(map(architecture_label, yolo.BODIES))
        raise InputError(f"{path.name} holds a YOLO that is none of {names}: its stem is another one.")
    name = min(misfits, key=lambda each: len(misfits[each]))
    return name, misfits[name]


def _candidates(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The architectures with this stem: YOLOv5's sizes differ in its width."""
    stem = shapes.get("model.0.conv.conv.weight") or shapes.get("model.0.conv.weight") or (0, 0, 0, 0)
    if stem[1:] in ((3, 6, 6), (12, 3, 3)):
        return [name for name in yolo.WIDTHS if name.startswith("yolov5") and yolo.WIDTHS[name][0] == 4 * stem[0]]
    return {16: ["yolov3_tiny"], 32: ["yolov3", "yolov3_spp"]}.get(stem[0], [])


def _release(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    if name.startswith("yolov3"):
        return "ultralytics"
    return "v5" if "model.0.conv.conv.weight" in shapes else "v6"


def _misfit(shapes: Mapping[str, tuple[int, ...]], name: str, variant: str) -> Misfit:
    wanted = {key: shape for key, shape in shapes_of(name, variant).items() if key != ANCHORS}
    return Misfit(
        [key for key in wanted if key not in shapes and not is_counter(key)],
        [key for key in shapes if key not in wanted],
        [
            f"{key} {shapes[key]} instead of {wanted[key]}"
            for key in wanted
            if key in shapes and shapes[key] != wanted[key] and not is_counter(key)
        ],
    )


def _variant(
    name: str,
    body: Mapping[str, Tensor],
    asked: tuple[str, str] | None,
    hint: str | None,
    objects: Collection[str],
) -> tuple[str, tuple[str, ...]]:
    """The variant, and a note where the activation had to be assumed."""
    variants = architectures.find(name).variants
    release = _release({key: tuple(tensor.shape) for key, tensor in body.items()}, name)
    given = asked[1] if asked and asked[1] else hint
    if given in variants and (given.startswith(release) or name.startswith("yolov3")):
        return given, ()
    classes = {each.rpartition(".")[2] for each in objects}
    found = [short for activation, short in _ACTIVATION_CLASSES.items() if activation in classes]
    if len(found) == 1:
        return "_".join(filter(None, (release, found[0]))), ()
    others = some([f"{name}-{each}" for each in variants if each != release])
    return release, (f"its activation is not stated: SiLU was assumed; others: {others}",)


def _predictions(weights: Mapping[str, Tensor], name: str, path: Path) -> tuple[dict[str, Tensor], int | None]:
    """The prediction layers and their number of classes; none where the file has none."""
    found = {key: match for key in weights if (match := _PREDICTION.match(key))}
    if not found:
        return {}, None
    predictions: dict[str, Tensor] = {}
    for key, match in found.items():
        short = f"{match[2]}.{match[3]}"
        if short in predictions:
            raise duplicate_name(path, short, short, key)
        predictions[short] = weights[key]
    widths = yolo.WIDTHS[name]
    outputs = len(predictions.get("0.weight", ()))
    wanted: dict[str, tuple[int, ...]] = {
        f"{level}.weight": (outputs, width, 1, 1) for level, width in enumerate(widths)
    }
    wanted |= {f"{level}.bias": (outputs,) for level in range(len(widths))}
    values, rest = divmod(outputs, yolo.ANCHORS_PER_CELL)
    if {key: tuple(tensor.shape) for key, tensor in predictions.items()} != wanted or rest or values <= BOX_VALUES:
        raise InputError(
            f"The prediction layers of {path.name} do not fit {architecture_label(name)}: expected {len(widths)} of 1 × 1, with "
            f"three times 5 + classes outputs; got {some([f'{key} {tuple(each.shape)}' for key, each in predictions.items()])}."
        )
    return predictions, values - BOX_VALUES


def _anchors(weights: Mapping[str, Tensor], name: str, variant: str, path: Path) -> Tensor:
    """The anchors in pixels: those of the file, which are in cells, else the usual ones."""
    found = [tensor for key, tensor in weights.items() if key.rpartition(".")[2] == ANCHORS]
    if not found:
        return yolo.BODIES[name](variant).anchors
    anchors = found[0].float()
    shape = (len(yolo.WIDTHS[name]), yolo.ANCHORS_PER_CELL, 2)
    if tuple(anchors.shape) != shape or not bool((anchors > 0).all() and anchors.isfinite().all()):
        raise InputError(f"The anchors of {path.name} are {tuple(anchors.shape)}; expected {shape}, all above 0.")
    return anchors * _strides(name)


def _strides(name: str) -> Tensor:
    levels = len(yolo.WIDTHS[name])
    return torch.tensor([COARSEST >> (levels - 1 - level) for level in range(levels)]).view(-1, 1, 1)
