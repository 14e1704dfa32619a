"""Masks as files of one bit a weight, and what can be told from the bits alone. NumPy only, so that pages can read them.

A file is a safetensors with, for each weight, its flattened mask packed by ``numpy.packbits`` (1 = kept, the last byte
filled up with zeros). Its metadata names the format, the shapes and the SHA-256 of all packed bytes in the order of names.
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
    """Write boolean arrays by weight name to ``path``, all of it or nothing; their order is kept."""
    packed = {name: np.packbits(kept.reshape(-1)) for name, kept in masks.items()}
    shapes = {name: list(kept.shape) for name, kept in masks.items()}
    metadata = {"format": FORMAT, "shapes": json.dumps(shapes), "sha256": _digest(packed)}
    with atomic_file(path) as temporary:
        save_file(packed, temporary, metadata)


def load(path: Path) -> dict[str, np.ndarray]:
    """The boolean arrays that ``save`` wrote, by weight name. Raises InputError on any other or a damaged file."""
    packed, shapes = load_packed(path)
    return {name: unpack(packed[name], shape) for name, shape in shapes.items()}


def load_packed(path: Path) -> tuple[dict[str, np.ndarray], Shapes]:
    """The packed bytes (uint8) and the shape of each mask in the file, by weight name, in the order they were written.

    Raises InputError on a file that is missing, damaged or none of ``save``'s.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path} is not a mask file: it does not name the format '{FORMAT}'.")
            shapes = _shapes(metadata.get("shapes", ""), path)
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}
            if found != {name: ("U8", [-(-math.prod(shape) // 8)]) for name, shape in shapes.items()}:
                raise InputError(f"The mask file {path} is damaged: its bits do not fit the shapes that it names.")
            packed = {name: file.get_tensor(name) for name in shapes}
    except FileNotFoundError as error:
        raise InputError(f"There is no mask file at {path}. Check the path.") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a mask file, or it is damaged ({error}).") from error
    if metadata.get("sha256") != _digest(packed):
        raise InputError(f"The mask file {path} is damaged: its bits are not those that were written.")
    return packed, shapes


def unpack(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The boolean array of that shape behind its packed bytes."""
    return np.unpackbits(bits, count=math.prod(shape)).view(bool).reshape(shape)


def overlaps(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """For each weight how many are kept in both and in either of two masks, given packed, of the same shapes."""
    return {name: (count(bits & b[name]), count(bits | b[name])) for name, bits in a.items()}


def count(bits: np.ndarray) -> int:
    """How many weights packed bytes keep."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def iou(pairs: Iterable[tuple[int, int]]) -> float:
    """Kept in both over kept in either, in [0, 1], summed over weights; 1 where nothing is kept in either."""
    pairs = list(pairs)
    either = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / either if either else 1.0


def _shapes(text: str, path: Path) -> Shapes:
    try:
        document = json.loads(text)
        shapes = {name: tuple(shape) for name, shape in document.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"The mask file {path} is damaged: it does not say the shapes of its masks.") from error
    if not shapes or not all(type(size) is int and size > 0 for shape in shapes.values() for size in shape):
        raise InputError(f"The mask file {path} is damaged: the shapes of its masks cannot be.")
    return shapes


def _digest(packed: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, bits in packed.items():
        digest.update(name.encode() + b"\0" + bits.tobytes())
    return digest.hexdigest()
