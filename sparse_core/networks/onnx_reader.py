"""Reads the weights of ONNX files that this product exported from a backbone; the graph itself is not run.

The metadata entry ``tensors`` of such a file (``onnx_export.backbone_network``) is JSON: each tensor's name to that of the
initializer which holds it, to the number itself of a counter, or to ``shape`` and the content as base64 of ``zlib``.
"""

import base64
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from sparse_core.errors import InputError


def read(path: Path) -> dict[str, Any]:
    """The tensors of the backbone by name, and the file's ``__metadata__``. Raises InputError for any other file."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise InputError(
            f"{path.name} is not a weight file that can be read safely: it is neither safetensors nor written by torch.save, and "
            "not a whole ONNX file."
        ) from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "tensors" not in metadata:
        if "form" in metadata:
            return {"__metadata__": metadata}
        raise InputError(
            f"{path.name} is an ONNX file that was not exported from a backbone here: BatchNorm is part of its convolutions, so "
            "the network's own weights cannot be told. Give its safetensors or PyTorch file."
        )
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    try:
        sources = json.loads(metadata["tensors"])
        tensors = {str(name): _tensor(source, initializers) for name, source in sources.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, zlib.error) as error:
        raise InputError(f"{path.name} is damaged: its list of tensors does not fit its weights.") from error
    return {**tensors, "__metadata__": metadata}


def _tensor(source: Any, initializers: dict[str, onnx.TensorProto]) -> Tensor:
    if isinstance(source, int):
        return torch.tensor(source)
    if isinstance(source, dict):
        size = 4 * math.prod(source["shape"])
        content = zlib.decompressobj().decompress(base64.b64decode(source["zlib"], validate=True), size + 1)
        return torch.from_numpy(np.frombuffer(content, "<f4").reshape(source["shape"]).copy())
    stored = initializers[source]
    if stored.data_type != onnx.TensorProto.FLOAT or stored.data_location != onnx.TensorProto.DEFAULT:
        raise ValueError("not stored here as float32")
    return torch.from_numpy(np.frombuffer(stored.raw_data, "<f4").reshape(tuple(stored.dims)).copy())
