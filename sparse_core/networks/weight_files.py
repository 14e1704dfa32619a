"""Opens weight files that may come from strangers: safetensors, what ``torch.save`` writes now or wrote long ago, ONNX files
that this product exported, and Darknet's .weights.

The format follows from the first bytes. Nothing in a file is run. Sizes that a file claims are compared with the file before
memory is taken, and pickles are read by a process of its own with limits: see ``torch_reader``. Every refusal is an InputError
of one line.
"""

import importlib
import json
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparse_core.errors import InputError
from sparse_core.networks import reader_process
from sparse_core.paths import temporary_prefix

HEADER_BYTES = 4 << 20  # a safetensors header, or a torch file's pickled part; a ResNet50's takes 200 kB at most

_ONNX_START = b"\x08"  # the first field of the protocol buffer: the version of its format
_UNPACK = "Unpack it first."
_EXPORT = "Save its weights as safetensors, or their state dict with torch.save."
_OTHER_KINDS = (  # by their first bytes, with a next step
    (rb"\x1f\x8b", "compressed with gzip", _UNPACK),
    (rb"BZh|\xfd7zXZ\0|7z\xbc\xaf", "a compressed archive", _UNPACK),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes them", _EXPORT),
    (rb"\x93NUMPY", "an array of NumPy", _EXPORT),
    (rb"version https://git-lfs", "a pointer of Git LFS", "Fetch the file that it stands for with git lfs pull."),
    (rb"\s*<(!DOCTYPE|html|\?xml)", "a web page", "Download the file again: the link may lead to a page."),
)

_DARKNET_START = re.compile(rb"[\0\1]\0\0\0[\0-\x0a]\0\0\0", re.DOTALL)  # major and minor version, each of 32 bits
_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")


@dataclass(frozen=True)
class Opened:
    """What a file holds, as nested dictionaries and lists of tensors and texts, and its ``kind``: safetensors, zip, legacy,
    onnx or darknet. ``objects`` are the classes and functions that it names, which were passed over."""

    document: Any
    kind: str
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Other:
    """Stands for a value that is neither tensor, text, dictionary nor list; ``kind`` names its type."""

    kind: str

    def __str__(self) -> str:
        return self.kind


def open_file(path: Path, *, trusted: bool = False) -> Opened:
    """Read the file's tensors into memory, on the CPU. Raises InputError on anything that is not a whole, safe weight file.

    ``trusted`` is for a file of ``torch.save`` in an installed package, as trusted as its code: no other process reads it.
    """
    size = _size(path)
    available = psutil.virtual_memory().available
    if 2 * size > available:
        needed = f"{2 * size / 1e9:.1f} GB needed, {available / 1e9:.1f} GB free"
        raise InputError(f"Not enough memory for {path.name}: {needed}.")
    try:
        with open(path, "rb") as stream:
            start = stream.read(512)
            if _is_safetensors(start):
                return Opened(_read_safetensors(path, stream, size), "safetensors")
            kind = _kind(path, start)
            if kind == "onnx":
                # Imported now, because few files are ONNX and its library takes time to load.
                return Opened(importlib.import_module("sparse_core.networks.onnx_reader").read(path), kind)
            if kind == "darknet":
                return Opened(_read_darknet(path, start, size), kind)
            if kind == "zip":
                _check_zip(path, stream, size)
        if trusted:
            return Opened(torch.load(path, map_location="cpu", weights_only=True), kind)
        return _read_torch(path, kind)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror or error}).") from error


def _kind(path: Path, start: bytes) -> str:
    if start.startswith(b"PK"):
        return "zip"
    if _PICKLE_START.match(start):
        return "legacy"
    if start[:1] == _ONNX_START:
        return "onnx"
    if _DARKNET_START.match(start):
        return "darknet"
    for beginning, what, advice in _OTHER_KINDS:
        if re.match(beginning, start, re.IGNORECASE):
            raise InputError(f"{path.name} is {what}, not a weight file of PyTorch. {advice}")
    if start[257:262] == b"ustar":
        raise InputError(
            f"{path.name} is a tar archive, as torch wrote before 2018, which cannot be opened safely. Open it where it was "
            "made and save its state dict with today's torch.save, or as safetensors."
        )
    raise InputError(
        f"{path.name} is not a weight file that can be read safely: it is neither safetensors nor written by torch.save. "
        "Give a .pth, .pt, .safetensors or Darknet .weights file."
    )


def tensors(document: Any) -> Iterator[Tensor]:
    """All tensors in nested dictionaries and lists."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _size(path: Path) -> int:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        shown = str(path).replace("\0", "␀")
        raise InputError(f"There is no weight file at {shown}. Check the path.") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is not a file. Give the path of a weight file.")
    if found.st_size == 0:
        raise InputError(f"{path.name} is empty: it has 0 bytes. Copy it again.")
    return found.st_size


def _is_safetensors(start: bytes) -> bool:
    """A length of 8 bytes, then JSON; a pickle whose ninth byte happens to be a brace has no zeros in its length."""
    return start[8:9] == b"{" and not start.startswith(b"PK\3\4") and (start[4:8] == bytes(4) or start[:1] != b"\x80")


def _read_safetensors(path: Path, stream: BinaryIO, size: int) -> dict[str, Any]:
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if length > size - 8:
        raise InputError(
            f"{path.name} is not a whole safetensors file: it claims a header of {length:,} bytes and has {size:,} in all."
        )
    if length > HEADER_BYTES:
        raise InputError(f"{path.name} has a header of {length / 1e6:,.0f} MB; at most {HEADER_BYTES >> 20} are read.")
    try:
        with safe_open(path, "pt", backend="pread") as file:
            return {**file.get_tensors(), "__metadata__": file.metadata() or {}}
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(f"{path.name} is not a whole safetensors file ({_first_line(error)}).") from error


def _read_darknet(path: Path, start: bytes, size: int) -> Tensor:
    """The numbers (n,) float32 of a Darknet file after its header: three version numbers of 32 bits and the images seen, of 64
    bits from version 0.2 on, of 32 before."""
    major, minor = (int.from_bytes(start[place : place + 4], "little") for place in (0, 4))
    header = 20 if major * 10 + minor >= 2 else 16
    if size <= header or (size - header) % 4:
        raise InputError(
            f"{path.name} begins like a Darknet file of version {major}.{minor}, but {size:,} bytes are no header "
            f"of {header} and whole numbers of 4 bytes. It is cut off or damaged: copy it again."
        )
    return torch.from_numpy(np.fromfile(path, "<f4", offset=header))


def _check_zip(path: Path, stream: BinaryIO, size: int) -> None:
    """Refuse archives that would unpack to more than the file itself: torch.save never compresses."""
    entries = _entries(path, stream)
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise InputError(
            f"{path.name} is a TorchScript archive, which holds a program. Save its state_dict() with torch.save instead."
        )
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(
            f"{path.name} is a compressed or overlapping archive that claims {claimed / 1e6:,.1f} MB in a file of "
            f"{size / 1e6:,.1f} MB, so it was not unpacked. Save the weights again with torch.save."
        )
    pickles = [entry.file_size for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InputError(
            f"{path.name} is a zip archive, but not one that torch.save wrote: it holds no data.pkl. Unpack "
            "it, and give the weight file inside."
        )
    if pickles[0] > HEADER_BYTES:
        raise InputError(f"The index of {path.name} is {pickles[0] / 1e6:,.0f} MB, far more than weights need.")


def _entries(path: Path, stream: BinaryIO) -> list[zipfile.ZipInfo]:
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, KeyError, RuntimeError) as error:
        raise InputError(f"{path.name} is cut off or damaged: its contents cannot be read. Copy it again.") from error


def _read_torch(path: Path, kind: str) -> Opened:
    with tempfile.TemporaryDirectory(prefix=temporary_prefix("weights")) as folder:
        reader_process.read(path, kind, Path(folder))
        answer = json.loads((Path(folder) / "document.json").read_text(encoding="utf-8"))
        if "error" in answer:
            raise InputError(answer["error"])
        with open(Path(folder) / "storages", "rb") as stream:
            storages = [torch.from_numpy(np.fromfile(stream, np.uint8, size)) for size in answer["sizes"]]
        return Opened(_restored(answer["document"], storages), kind, tuple(answer["objects"]))


def _restored(value: Any, storages: Sequence[Tensor]) -> Any:
    """What ``torch_reader.read`` wrote as JSON, with its tensors as views of their ``storages``, (n,) uint8."""
    if isinstance(value, list):
        return [_restored(entry, storages) for entry in value]
    if not isinstance(value, dict):
        return value
    if "items" in value:
        return {_restored(key, storages): _restored(entry, storages) for key, entry in value["items"]}
    if "other" in value:
        return Other(value["other"])
    number, kind, offset, shape, strides = value["tensor"]
    dtype = getattr(torch, kind)
    content = storages[number]
    whole = content[: len(content) // dtype.itemsize * dtype.itemsize]
    return whole.view(dtype).as_strided(shape, strides, offset)


def _first_line(error: Exception) -> str:
    shown = re.sub(r"[^\x20-\x7e]", "?", str(error).partition("\n")[0])[:120]
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
