"""Finetuned networks as files: safetensors that any tool reads, with what is needed to use them, and ONNX on request.

``networks/<run_id>/network.safetensors`` holds the backbone's weights under their own names and the classifier as
``fc.weight`` and ``fc.bias``; its metadata names architecture, classes, how images are prepared, and what it was trained
on: ``dataset`` last, ``upstream`` from first to last, such as "ImageNet → CIFAR-10".
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_core.catalog import task_label
from sparse_core.errors import InputError
from sparse_core.paths import atomic_file
from sparse_core.specs.checkpoints import ExportSpec
from sparse_core.specs.progress import Progress, Report

if TYPE_CHECKING:
    from sparse_core.networks.backbones import Backbone
    from sparse_core.networks.classifier import ClassifierNetwork
    from sparse_core.networks.masks import Mask

CLASSIFIER = "fc"
PROVENANCE = ("architecture", "method", "dataset", "upstream")


def file(home: Path, run_id: str, ending: str = "safetensors") -> Path:
    """Where the finetuned network of a run lies, whether it is there or not; ``ending`` is safetensors or onnx."""
    return home / "networks" / Path(run_id).name / f"network.{ending}"


def require(home: Path, run_id: str) -> Path:
    """The file of the run's finetuned network. Raises InputError where it is not there."""
    found = file(home, run_id)
    if not found.is_file():
        raise InputError(f"There is no finetuned network of run '{run_id}' here. Rerun it to make it again.")
    return found


def save(
    network: "ClassifierNetwork", backbone: "Backbone", class_names: list[str], target: Path, dataset: str
) -> None:
    """Write the network, all of it or nothing. ``dataset`` is the id of what it was finetuned on."""
    from safetensors.torch import save_file

    body = {name: tensor.contiguous() for name, tensor in network.body.state_dict().items()}
    classifier = {f"{CLASSIFIER}.{name}": tensor for name, tensor in network.classifier.state_dict().items()}
    label = task_label(dataset)
    metadata = {
        "format": "pt",
        "architecture": backbone.card.architecture,
        "variant": backbone.variant,
        "method": backbone.card.method,
        "class_names": json.dumps(class_names),
        "transform": json.dumps(dataclasses.asdict(backbone.transform)),
        "dataset": label,
        "upstream": f"{backbone.card.upstream} → {label}",
    }
    with atomic_file(target) as temporary:
        save_file({**body, **classifier}, temporary, metadata)


def violations(source: Path, mask: "Mask") -> int:
    """How many pruned weights are not exactly 0 in a file that ``save`` wrote."""
    from safetensors import safe_open

    with safe_open(source, "pt") as tensors:
        return sum(int(tensors.get_tensor(name)[~kept].count_nonzero()) for name, kept in mask.tensors.items())


def load(source: Path) -> tuple["ClassifierNetwork", dict[str, Any]]:
    """The network that ``save`` wrote, in evaluation mode, and its metadata with ``class_names`` and ``transform`` parsed."""
    from safetensors import safe_open

    from sparse_core.networks import architectures
    from sparse_core.networks.classifier import ClassifierNetwork

    with safe_open(source, "pt") as tensors:
        metadata: dict[str, Any] = dict(tensors.metadata())
        state = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    metadata["class_names"] = json.loads(metadata["class_names"])
    metadata["transform"] = json.loads(metadata["transform"])
    body = architectures.build(metadata["architecture"], metadata["variant"])
    network = ClassifierNetwork(body, state.pop(f"{CLASSIFIER}.weight"), state.pop(f"{CLASSIFIER}.bias"))
    body.load_state_dict(state)
    return network.eval(), metadata


def run_export(home: Path, spec: ExportSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Write the finetuned network of a run as ONNX; returns where it lies."""
    report(Progress("Writing ONNX"))
    return {"path": str(export_onnx(home, spec.run_id))}


def export_onnx(home: Path, run_id: str) -> Path:
    """Write the run's network as ONNX beside it, with preprocessing, class names and provenance in it; returns the file."""
    from sparse_core.datasets.transforms import Transform
    from sparse_core.networks import onnx_export

    network, metadata = load(require(home, run_id))
    transform = Transform(**{**metadata["transform"], "mean": tuple(metadata["transform"]["mean"])})
    target = file(home, run_id, "onnx")
    with atomic_file(target) as temporary:
        onnx_export.classifier_network(network, metadata["class_names"], transform, temporary)
        _add_metadata(temporary, {name: metadata[name] for name in PROVENANCE if name in metadata})
    return target


def _add_metadata(source: Path, entries: dict[str, str]) -> None:
    import onnx

    model = onnx.load(source)
    model.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in entries.items())
    onnx.save(model, source)
