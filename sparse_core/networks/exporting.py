"""Export a backbone: as safetensors that torch loads into the public network, packed to keep it small, compact, or as ONNX."""

import dataclasses
import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparse_core.errors import InputError
from sparse_core.networks import (
    architectures,
    backbone_files,
    backbones,
    channel_groups,
    exports,
    onnx_export,
    public_networks,
    yolo_files,
)
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.library import BackboneCard
from sparse_core.networks.recognition import classifier_name
from sparse_core.paths import atomic_folder, remove, require_space, temporary_prefix, write_json
from sparse_core.specs.checkpoints import ExportSpec
from sparse_core.specs.progress import Progress, Report


def run_export(home: Path, spec: ExportSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Write what the spec asks for; returns its ``path``, a file or the folder of ``exports``, and of a backbone the bytes of its
    files (``dense``, ``packed``, ``zipped``, where there is one ``compact``)."""
    if spec.run_id:
        report(Progress("Writing ONNX"))
        return {"path": str(onnx_export.finetuned_network(home, spec.run_id))}
    report(Progress(f"Opening {spec.backbone}"))
    backbone = backbones.load_cached(home, spec.backbone)
    report(Progress(f"Exporting {spec.backbone}"))
    if not spec.path:
        return {"path": str(exports.folder(home, backbone.hash)), "bytes": _bytes(keep(home, backbone))}
    write(backbone, Path(spec.path), spec.form)
    with tempfile.TemporaryDirectory(prefix=temporary_prefix("export")) as folder:
        sizes = _bytes(write_forms(backbone, Path(folder)))
    named = {"backbone": spec.backbone, "hash": backbone.hash, "form": spec.form, "path": spec.path}
    return {**named, "bytes": sizes, "zip": exports.ZIP_TOOL}


def write(backbone: Backbone, path: Path, form: str = "plain") -> None:
    """Write a backbone to a .safetensors or .onnx file in one of ``EXPORT_FORMS``, all of it or nothing. Raises InputError where
    it has no compact form."""
    if form == "compact":
        module = channel_groups.compact_form(backbone.module)
        if module is None:
            raise InputError(
                f"{backbone.card.name} has no compact form: no whole filters were removed from it, as Structured does."
            )
        _write_compact(backbone, module, path)
    elif path.suffix == ".onnx":
        if backbone.card.is_detector:
            raise InputError(f"{backbone.card.name} is a detector, which is exported as .safetensors only.")
        metadata = backbone_files.describe(exported_card(backbone), public_state(backbone), backbone.mask)
        onnx_export.backbone_network(
            backbone.module, backbone.classifier, backbone.transform, path, metadata, public_state(backbone)
        )
    else:
        card, packed = exported_card(backbone), form == "packed"
        backbone_files.save(path, card, public_state(backbone), backbone.mask, packed)


def write_forms(backbone: Backbone, folder: Path) -> dict[str, int]:
    """Write the safetensors files of all forms that a backbone has to ``folder``; returns the bytes as ``exports.sizes`` does."""
    write(backbone, folder / exports.PLAIN)
    write(backbone, folder / exports.PACKED, "packed")
    names = [exports.PLAIN, exports.PACKED]
    module = channel_groups.compact_form(backbone.module)
    if module is not None:
        _write_compact(backbone, module, folder / exports.COMPACT)
        names.append(exports.COMPACT)
    sizes = {name: (folder / name).stat().st_size for name in names}
    return {**sizes, exports.ZIPPED: _zipped(folder / exports.PLAIN)}


def keep(home: Path, backbone: Backbone) -> dict[str, int]:
    """Write all files of a backbone to ``exports``, unless they are there; returns their sizes."""
    known = exports.sizes(home, backbone.hash)
    if known:
        return known
    target = exports.folder(home, backbone.hash)
    parameters = sum(tensor.nbytes for tensor in public_state(backbone).values())
    require_space(target.parent, 4 * parameters)
    remove(target)
    with atomic_folder(target) as temporary:
        sizes = write_forms(backbone, temporary)
        names: list[str] = []
        if not backbone.card.is_detector:
            write(backbone, temporary / exports.ONNX)
            names.append(exports.ONNX)
        if exports.COMPACT in sizes:
            write(backbone, temporary / exports.COMPACT_ONNX, "compact")
            names.append(exports.COMPACT_ONNX)
        sizes |= {name: (temporary / name).stat().st_size for name in names}
        write_json(temporary / exports.SIZES_FILE, sizes)
    return sizes


def public_state(backbone: Backbone, module: nn.Module | None = None) -> dict[str, Tensor]:
    """The whole state dict, classifier included where there is one, under the names of the public network: torchvision's (and
    timm's) for ResNet18, 34 and 50, those of either library for its other networks, of pytorch_resnet_cifar10 for the CIFAR
    ResNets, of efficientnet-lite-pytorch for EfficientNet-Lite0, of Ultralytics' YOLOv5 and YOLOv3 for detectors. ``module``
    stands for the backbone's own."""
    state, architecture = dict((module or backbone.module).state_dict()), backbone.card.architecture
    if backbone.card.is_detector:
        return yolo_files.public_names(architecture, state, backbone.predictions)
    if backbone.classifier is None:
        return state
    last = classifier_name(architecture)
    head = dict(zip((f"{last}.weight", f"{last}.bias"), backbone.classifier, strict=True))
    if architecture not in architectures.ARCHITECTURES:
        wanted = public_networks.classifier_shapes(architecture, len(backbone.classifier[0]))
        head = {key: head[key].reshape(shape) for key, shape in wanted.items() if key in head}
    return state | head


def exported_card(backbone: Backbone) -> BackboneCard:
    """The card that an exported file carries."""
    return dataclasses.replace(
        backbone.card,
        kind="library",
        ready=True,
        variant=backbone.variant,
        hash=backbone.hash,
        measured_sparsity=backbone.sparsity,
        classes=_classes(backbone),
    )


def _classes(backbone: Backbone) -> int | None:
    """The number of classes that the network tells apart; None without a classifier."""
    if backbone.predictions:
        return yolo_files.classes_of(len(backbone.predictions[0][1]))
    return None if backbone.classifier is None else len(backbone.classifier[0])


def _write_compact(backbone: Backbone, module: nn.Module, path: Path) -> None:
    """The compact form, whose metadata say how each layer differs from that of the named architecture (``layers``), and
    which filters of the masked form it holds (``kept``)."""
    kept = channel_groups.used_filters(backbone.module)
    metadata = backbone_files.describe(exported_card(backbone), public_state(backbone), backbone.mask)
    metadata = {name: metadata[name] for name in backbone_files.FACTS} | {
        "form": backbone_files.COMPACT,
        "layers": json.dumps(layer_sizes(module)),
        "kept": json.dumps({name: used.nonzero()[0].tolist() for name, used in kept.items()}),
    }
    if path.suffix == ".onnx":
        onnx_export.backbone_network(module, backbone.classifier, backbone.transform, path, metadata)
    else:
        backbone_files.write(path, public_state(backbone, module), metadata)


def layer_sizes(module: nn.Module) -> dict[str, dict[str, int]]:
    """The sizes of each convolution (in_channels, out_channels, groups) and BatchNorm (num_features), by its name: with them in
    the layers of the named architecture, its state dict loads strictly."""
    sizes: dict[str, dict[str, int]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            sizes[name] = {key: getattr(layer, key) for key in ("in_channels", "out_channels", "groups")}
        elif isinstance(layer, nn.BatchNorm2d):
            sizes[name] = {"num_features": layer.num_features}
    return sizes


def _bytes(sizes: dict[str, int]) -> dict[str, int]:
    """The bytes of the safetensors files as the command line names them."""
    names = {"dense": exports.PLAIN, "packed": exports.PACKED, "zipped": exports.ZIPPED, "compact": exports.COMPACT}
    return {label: sizes[name] for label, name in names.items() if name in sizes}


def _zipped(file: Path) -> int:
    """The bytes of a file as ``exports.ZIP_TOOL`` compresses it."""
    compressor, total = zlib.compressobj(6), 0
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            total += len(compressor.compress(chunk))
    return total + len(compressor.flush())
