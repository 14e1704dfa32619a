"""Write networks as ONNX: a backbone for an inference engine, or a self-contained classifier."""

import base64
import contextlib
import hashlib
import json
import math
import os
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from sparse_core import __version__
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError
from sparse_core.networks import classifier, finetuned
from sparse_core.paths import atomic_file, temporary_prefix

OPSET = 13  # the version that DeepSparse 1.8 reads
_JOINING = ("ConvBNFusion", "ConvMulFusion", "ConvAddFusion", "MatMulBNFusion")  # of layers, which changes weights
PROVENANCE = ("architecture", "method", "dataset", "upstream")


def finetuned_network(home: Path, run_id: str) -> Path:
    """Write a run's network as ONNX beside it, with preprocessing, class names and provenance; returns the path."""
    network, metadata = classifier.load(finetuned.require(home, run_id))
    target = finetuned.file(home, run_id, "onnx")
    provenance = {name: metadata[name] for name in PROVENANCE if name in metadata}
    classifier_network(network, metadata["class_names"], metadata["transform"], target, provenance)
    return target


def backbone(module: nn.Module, input_size: int, path: Path, batch_size: int | None = None) -> None:
    """Write a backbone, or another network with one output, as ONNX: prepared ``images`` (N, 3, S, S) float32 to ``features``
    (N, D); S is ``input_size``.

    N is ``batch_size``, or variable if None. The file is written atomically. Raises InputError if the network
    cannot be exported.
    """
    images = torch.zeros(batch_size or 2, 3, input_size, input_size)
    _export(module, images, path, ["features"], any_batch=batch_size is None, metadata={})


def classifier_network(
    module: nn.Module,
    class_names: Sequence[str],
    transform: Transform,
    path: Path,
    provenance: dict[str, str] | None = None,
) -> None:
    """Write a network that gives logits (N, C) as ONNX: ``images`` (N, crop, crop, 3) uint8 RGB, already resized and
    cropped, with variable N, to ``logits`` and ``probabilities`` (N, C).

    Scaling and normalisation are part of the graph. The metadata holds ``class_names`` and ``preprocessing`` (how to
    resize and crop) as JSON, and the entries of ``provenance``. Raises InputError if the number of class names is not C
    or the network cannot be exported.
    """
    images = torch.zeros(2, transform.crop, transform.crop, 3, dtype=torch.uint8)
    network = _Prepared(module, transform).eval()
    with torch.inference_mode():
        classes = network(images)[0].shape[1]
    if classes != len(class_names):
        raise InputError(f"The network has {classes} classes; got {len(class_names)} class names.")
    metadata = {
        "class_names": json.dumps(list(class_names), ensure_ascii=False),
        **_preparation(transform),
        **(provenance or {}),
    }
    _export(network, images, path, ["logits", "probabilities"], any_batch=True, metadata=metadata)


def backbone_network(
    module: nn.Module,
    classifier: tuple[Tensor, Tensor] | None,
    transform: Transform,
    path: Path,
    metadata: Mapping[str, str],
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a backbone with its preparation as ONNX: ``images`` as in ``classifier_network`` to ``features`` (N, D) and, where it
    has a ``classifier`` (weight (C, D), bias (C,)), ``logits`` and ``probabilities`` (N, C).

    With ``state``, the whole state dict, the file can be imported again: BatchNorm stays apart from the convolutions, which
    engines join when they load the file, and the metadata entry ``tensors`` says where each tensor is: see ``onnx_reader``.
    Raises InputError if the network cannot be exported.
    """
    images = torch.zeros(2, transform.crop, transform.crop, 3, dtype=torch.uint8)
    outputs = ["features", "logits", "probabilities"] if classifier else ["features"]
    network = _WithFeatures(module, transform, classifier).eval()
    stated = {**metadata, **_preparation(transform)}
    _export(network, images, path, outputs, any_batch=True, metadata=stated, state=state)


def _preparation(transform: Transform) -> dict[str, str]:
    """The metadata on the images that a network takes which scales them itself."""
    preprocessing = {
        "colours": "RGB",
        "resize_shorter_side": transform.resize,
        "interpolation": transform.interpolation,
        "centre_crop": transform.crop,
        "values": "uint8, 0 to 255; the network scales and normalises them itself",
    }
    return {"preprocessing": json.dumps(preprocessing), "producer": f"Sparse Transfer Lab {__version__}"}


class _Prepared(nn.Module):
    """``module`` preceded by scaling and normalisation of uint8 images (N, H, W, 3); gives logits and probabilities."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(transform.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(transform.std).view(1, 3, 1, 1))

    def prepared(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float() / 255
        return (x - self.mean) / self.std

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.module(self.prepared(images))
        return logits, logits.softmax(dim=1)


class _WithFeatures(_Prepared):
    """The same for a backbone: gives its features and, with a classifier, logits and probabilities."""

    def __init__(self, module: nn.Module, transform: Transform, classifier: tuple[Tensor, Tensor] | None) -> None:
        super().__init__(module, transform)
        self.last: nn.Linear | None = None
        if classifier is not None:
            classes, dimensions = classifier[0].shape
            self.last = nn.Linear(dimensions, classes, device="meta")
            self.last.weight, self.last.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in classifier)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.module(self.prepared(images))
        if self.last is None:
            return (features,)
        logits = self.last(features)
        return features, logits, logits.softmax(dim=1)


def _export(
    module: nn.Module,
    images: Tensor,
    path: Path,
    outputs: list[str],
    *,
    any_batch: bool,
    metadata: dict[str, str],
    state: Mapping[str, Tensor] | None = None,
) -> None:
    axes = {name: {0: "batch"} for name in ("images", *outputs)} if any_batch else None
    with atomic_file(path) as temporary, tempfile.TemporaryDirectory(prefix=temporary_prefix("onnx")) as folder:
        traced, folded = Path(folder) / "traced.onnx", Path(folder) / "folded.onnx"
        # With BatchNorm kept, torch folds shapes only where all sizes are known.
        _to_onnx(module, images, traced, outputs, axes if state is None else None, keep_norms=state is not None)
        _fold_constants(traced, folded, _JOINING if state is not None else [])
        model = onnx.load(folded)
        _simplify(model)
        if state is not None:
            _free_batch(model)
            metadata = metadata | {"tensors": json.dumps(_tensors(model, state))}
        onnx.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        onnx.save(model, temporary)


def _free_batch(model: onnx.ModelProto) -> None:
    """Let the first dimension of inputs and outputs vary: no operator of a backbone depends on it."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _tensors(model: onnx.ModelProto, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Where each tensor of a state dict is. torch's exporter keeps one of several equal tensors only, for which 0 and -0 are
    the same; what it left out is listed itself."""
    known = {}
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        known[array.shape, hashlib.sha256(array.tobytes()).digest()] = tensor.name
    found: dict[str, Any] = {}
    for name, tensor in state.items():
        array = tensor.detach().cpu().contiguous().numpy()
        if tensor.dtype == torch.int64:
            found[name] = int(tensor)
            continue
        source = known.get((array.shape, hashlib.sha256(array.tobytes()).digest()))
        content = base64.b64encode(zlib.compress(array.tobytes())).decode() if source is None else ""
        found[name] = source or {"shape": list(array.shape), "zlib": content}
    return found


def _to_onnx(
    module: nn.Module, images: Tensor, path: Path, outputs: list[str], axes: dict[str, Any] | None, *, keep_norms: bool
) -> None:
    """Run torch's TorchScript exporter without its output: deprecation warnings, and the whole graph on failure."""
    names: dict[str, Any] = {"input_names": ["images"], "output_names": outputs, "dynamic_axes": axes}
    mode = torch.onnx.TrainingMode.PRESERVE if keep_norms else torch.onnx.TrainingMode.EVAL
    try:
        with warnings.catch_warnings(), _no_output(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (images,), str(path), **names, opset_version=OPSET, dynamo=False, training=mode)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
        raise InputError(f"This network cannot be exported to ONNX: {reason.rstrip('.')}.") from error


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    """Discard what C++ code writes to standard output, which carries the command line's JSON."""
    sys.stdout.flush()
    stdout = os.dup(1)
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 1)
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(devnull)
        os.close(stdout)


def _fold_constants(traced: Path, folded: Path, without: Sequence[str]) -> None:
    """Fold expressions that do not depend on the input, such as padding sizes; DeepSparse does not fold them itself.
    ``without`` names what else ONNX Runtime would do and is not to."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(traced), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
    )


def _simplify(model: onnx.ModelProto) -> None:
    """Rewrite padding and pooling as DeepSparse supports them: a single Pad node makes it fall back to slow execution."""
    graph = model.graph
    del model.opset_import[:]  # ONNX Runtime lists all its operator sets, and DeepSparse refuses some
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    for node in list(graph.node):
        producer = producers.get(node.input[0])
        if node.op_type == "ReduceMean" and _attributes(node) == {"axes": [2, 3], "keepdims": 0}:
            _pool_globally(graph, node)
        elif producer is not None and producer.op_type == "Pad":
            beyond = 0.0 if _pads_with_zeros(node, producers.get(producer.input[0])) else _beyond(node)
            if beyond is not None:
                _merge_padding(node, producer, constants, beyond)
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if node.op_type == "Pad" and node.output[0] not in used]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for number in reversed(range(len(graph.initializer))):
        if graph.initializer[number].name not in used:
            del graph.initializer[number]  # ONNX Runtime would warn of it


def _beyond(node: onnx.NodeProto) -> float | None:
    """What max pooling pads with; None for another operator."""
    return -math.inf if node.op_type == "MaxPool" else None


def _pads_with_zeros(node: onnx.NodeProto, source: onnx.NodeProto | None) -> bool:
    """Convolutions pad with zeros; max pooling pads with −∞, which is equivalent where no input is negative."""
    return node.op_type == "Conv" or (node.op_type == "MaxPool" and source is not None and source.op_type == "Relu")


def _merge_padding(node: onnx.NodeProto, pad: onnx.NodeProto, constants: dict[str, np.ndarray], beyond: float) -> None:
    """Move padding of height and width with the value ``beyond`` into the convolution or pooling that follows."""
    widths = constants.get(pad.input[1])
    value = constants.get(pad.input[2], np.zeros(())) if len(pad.input) > 2 else np.zeros(())
    if (
        _attributes(pad).get("mode", b"constant") != b"constant"
        or widths is None
        or len(widths) != 8
        or value != beyond
    ):
        return
    before, after = widths[:4], widths[4:]
    if before[:2].any() or after[:2].any():
        return
    own = _attributes(node).get("pads", [0, 0, 0, 0])
    total = [int(left + right) for left, right in zip(own, (*before[2:], *after[2:]), strict=True)]
    for attribute in [attribute for attribute in node.attribute if attribute.name == "pads"]:
        node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute("pads", total))
    node.input[0] = pad.input[0]


def _pool_globally(graph: onnx.GraphProto, mean: onnx.NodeProto) -> None:
    """Replace a mean over height and width by GlobalAveragePool and Flatten."""
    pooled, make = f"{mean.output[0]}_pooled", onnx.helper.make_node
    place = list(graph.node).index(mean)
    graph.node.remove(mean)
    graph.node.insert(place, make("Flatten", [pooled], list(mean.output), name=f"{mean.name}/flatten"))
    graph.node.insert(place, make("GlobalAveragePool", list(mean.input), [pooled], name=f"{mean.name}/pool"))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
