"""Mask files with one bit per weight, and overlaps computed on packed bits. Needs no torch, so that pages can import it.

A file is a safetensors file with the flattened mask of each weight, packed by ``numpy.packbits`` (1 = kept, padded with
zeros). Its metadata holds the format, the shapes and the SHA-256 of all packed bytes in the order of names.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sparse_core.errors import InputError
from sparse_core.paths import atomic_file

FORMAT = "sparse-transfer-lab mask 1"

Shapes = dict[str, tuple[int, ...]]


def save(masks: Mapping[str, np.ndarray], path: Path) -> None:
    """Write boolean arrays by weight name to ``path``, atomically and in their order."""
    packed = {name: np.packbits(kept.reshape(-1)) for name, kept in masks.items()}
    shapes = {name: list(kept.shape) for name, kept in masks.items()}
    metadata = {"format": FORMAT, "shapes": json.dumps(shapes), "sha256": _digest(packed)}
    with atomic_file(path) as temporary:
        save_file(packed, temporary, metadata)


def load(path: Path) -> dict[str, np.ndarray]:
    """The boolean arrays that ``save`` wrote, by weight name. Raises InputError as ``load_packed`` does."""
    packed, shapes = load_packed(path)
    return {name: unpack(packed[name], shape) for name, shape in shapes.items()}


def load_packed(path: Path) -> tuple[dict[str, np.ndarray], Shapes]:
    """The packed bytes (uint8) and the shape of each mask in the file, by weight name, in the order they were written.
    Raises InputError if the file is missing, damaged or not a mask file."""
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path} is not a mask file: it does not name the format '{FORMAT}'.")
            shapes = parse_shapes(metadata.get("shapes", ""), path)
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
            if found != {name: ("U8", [-(-math.prod(shape) // 8)]) for name, shape in shapes.items()}:
                raise InputError(f"The mask file {path} is damaged: its bits do not match its shapes.")
            packed = {name: file.get_tensor(name) for name in shapes}
    except FileNotFoundError as error:
        raise InputError(f"Expected a mask file at {path}, but it does not exist. Check the path.") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a mask file, or it is damaged ({error}).") from error
    if metadata.get("sha256") != _digest(packed):
        raise InputError(f"The mask file {path} is damaged: its checksum does not match.")
    return packed, shapes


def unpack(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The boolean array of the given shape from its packed bytes."""
    return np.unpackbits(bits, count=math.prod(shape)).view(bool).reshape(shape)


def overlaps(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """By weight name: the numbers kept in both and in either of two packed masks of the same shapes."""
    return {name: (count(bits & b[name]), count(bits | b[name])) for name, bits in a.items()}


def count(bits: np.ndarray) -> int:
    """The number of kept weights in packed bytes."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def iou(pairs: Iterable[tuple[int, int]]) -> float:
    """Intersection over union of kept weights, in [0, 1], from the results of ``overlaps``; 1 if both masks keep nothing."""
    pairs = list(pairs)
    either = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / either if either else 1.0


def parse_shapes(text: str, path: Path) -> Shapes:
    """Shapes by weight name from JSON in the metadata of the file ``path``. Raises InputError if they are missing or invalid."""
    try:
        document = json.loads(text)
        shapes = {name: tuple(shape) for name, shape in document.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: its shapes are missing or unreadable.") from error
    if not shapes or not all(type(size) is int and size > 0 for shape in shapes.values() for size in shape):
        raise InputError(f"{path} is damaged: its shapes are invalid.")
    return shapes


def _digest(packed: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, bits in packed.items():
        digest.update(name.encode() + b"\0" + bits.tobytes())
    return digest.hexdigest()
