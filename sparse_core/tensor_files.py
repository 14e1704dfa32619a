"""Opens files of tensors that may come from strangers: safetensors, and what ``torch.save`` wrote now or long ago.

Which of them a file is follows from its first bytes. Nothing in a file is ever run: a pickle may name classes and
functions, but none is imported, and calling one is refused, except for the optimizers and plain values that training
scripts save beside their weights, which come out as ``Inert``. Sizes that a file claims are held against the file before
memory is taken. Every refusal is an InputError of one line.
"""

import io
import os
import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import torch
from safetensors import SafetensorError, safe_open

from sparse_core.errors import InputError

HEADER_BYTES = 32 << 20  # a safetensors header, or a torch file's pickled part; usual ones take a thousandth of it
DOCUMENTS = 4  # a legacy file is four pickles before its tensors: magic number, version, system, content
MAX_NAMES = 100

_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")
_PLAIN_VALUES = re.compile(
    r"torch\.optim\.|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray|dtypes\.\w+)$"
    r"|argparse\.Namespace$|pathlib\.(Pure)?(Posix|Windows)?Path$"
)


@dataclass(frozen=True)
class Opened:
    """What a file holds: a mapping or whatever else was saved, and the file's kind: safetensors, zip or legacy."""

    document: Any
    kind: str


class Inert:
    """Stands where a file holds an object that is no tensor, number or text: takes anything, does nothing."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Called(Exception):
    """A pickle called what it names."""


class _Refused:
    """Stands for a name that a pickle mentions: mentioning it is harmless, calling it or making one of it is refused."""

    def __new__(cls, name: str = "", *arguments: object) -> "_Refused":
        if isinstance(cls, _Refused):  # torch calls cls.__new__(cls, …) with the stand-in as cls
            raise _Called(cls.name)
        return super().__new__(cls)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: object) -> None:
        raise _Called(self.name)


def open_file(path: Path) -> Opened:
    """Read the file's tensors into memory, on the CPU. Raises InputError on all that is not such a file, or not whole."""
    size = _size(path)
    _require_memory(size, path)
    try:
        with open(path, "rb") as stream:
            start = stream.read(512)
            if _is_safetensors(start):
                return Opened(_read_safetensors(path, stream, size), "safetensors")
            if start.startswith(b"PK"):
                _check_zip(path, stream, size)
                kind = "zip"
            elif _PICKLE_START.match(start):
                kind = "legacy"
            elif start[257:262] == b"ustar":
                raise InputError(
                    f"{path.name} is a tar archive, as torch wrote before 2018, which cannot be opened safely. Open it where "
                    "it was made and save its state dict with today's torch.save, or as safetensors."
                )
            else:
                raise InputError(
                    f"{path.name} is not a weight file that can be read safely: it is neither safetensors nor written by "
                    "torch.save."
                )
            document = _read_torch(path, stream, kind)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror or error}).") from error
    _check_storages(document, size, path)
    return Opened(document, kind)


def tensors(document: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested dictionaries, lists and tuples."""
    waiting, seen = [document], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:  # a pickle may hold itself
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _size(path: Path) -> int:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        shown = str(path).replace("\0", "␀")
        raise InputError(f"There is no weight file at {shown}. Check the path.") from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no file. Give the path of a weight file.")
    if found.st_size == 0:
        raise InputError(f"{path.name} is empty: it has 0 bytes. Copy it again.")
    return found.st_size


def _require_memory(size: int, path: Path) -> None:
    available = psutil.virtual_memory().available
    if 2 * size > available:
        raise InputError(
            f"Not enough memory for {path.name}: about {2 * size / 1e9:.1f} GB are needed, {available / 1e9:.1f} GB are free."
        )


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
        raise InputError(
            f"The header of {path.name} is {length / 1e6:,.0f} MB; at most {HEADER_BYTES / 1e6:,.0f} MB are read."
        )
    try:
        with safe_open(path, "pt", backend="pread") as file:
            return {**file.get_tensors(), "__metadata__": file.metadata() or {}}
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(f"{path.name} is not a whole safetensors file ({_first_line(error)}).") from error


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
    pickles = _indices(entries)
    if len(pickles) != 1:
        raise InputError(f"{path.name} is a zip archive, but not one that torch.save wrote: it holds no data.pkl.")
    if pickles[0].file_size > HEADER_BYTES:
        raise InputError(
            f"The index of {path.name} is {pickles[0].file_size / 1e6:,.0f} MB, far more than weights need."
        )


def _entries(path: Path, stream: BinaryIO) -> list[zipfile.ZipInfo]:
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{path.name} is cut off or damaged: its list of contents cannot be read. Copy it again."
        ) from error


def _mentioned(stream: BinaryIO, kind: str) -> set[str]:
    """The classes and functions that the file's pickles mention, found without running them."""
    stream.seek(0)
    if kind == "legacy":
        return set().union(*(_names(stream) for _ in range(DOCUMENTS)))
    with zipfile.ZipFile(stream) as archive:
        (index,) = _indices(archive.infolist())
        return _names(io.BytesIO(archive.read(index)))


def _indices(entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    return [entry for entry in entries if entry.filename.endswith("/data.pkl")]


def _names(pickled: BinaryIO) -> set[str]:
    found: set[str] = set()
    try:
        for operation, argument, position in pickletools.genops(pickled):
            if operation.name in ("GLOBAL", "INST"):
                found.add(str(argument).replace(" ", ".", 1))
            if (position or 0) > HEADER_BYTES or len(found) > MAX_NAMES:
                raise RuntimeError("its index is far larger than weights need")
    except ValueError:
        pass
    return found  # where the pickle is damaged, torch says so when it reads it


def _read_torch(path: Path, stream: BinaryIO, kind: str) -> Any:
    try:
        known: list[Any] = [(_stand_in(name), name) for name in _mentioned(stream, kind)]
        with torch.serialization.safe_globals(known):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _Called as error:
        raise InputError(_wants_to_run(path, str(error))) from error
    except Exception as error:  # torch raises a dozen kinds on damaged files; whatever it is, the file is at fault
        raise InputError(_explain(path, error)) from error


def _stand_in(name: str) -> Any:
    return Inert if _PLAIN_VALUES.match(name) else _Refused(name)


def _explain(path: Path, error: Exception) -> str:
    text = str(error)
    forbidden = re.search(
        r"GLOBAL (\S+) whose module|Unsupported global: GLOBAL (\S+)|unrecognized function (\S+)", text
    )
    if forbidden:
        return _wants_to_run(path, next(filter(None, forbidden.groups())))
    return (
        f"{path.name} is not a weight file that can be read safely: it is cut off, damaged or holds more than tensors "
        f"({_first_line(error)})."
    )


def _wants_to_run(path: Path, name: str) -> str:
    return (
        f"{path.name} wants to run {name} when it is opened, so it was refused; nothing was run. Open it where it was made and "
        "save its state dict alone."
    )


def _first_line(error: Exception) -> str:
    text = str(error).rpartition("WeightsUnpickler error:")[2]  # torch puts advice before its own finding
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = re.sub(r"[^\x20-\x7e]", "?", lines[0])[:120] if lines else ""
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _check_storages(document: Any, size: int, path: Path) -> None:
    """Refuse tensors that are larger than what the file holds of them, and kinds of tensors that are no weights."""
    storages: dict[int, int] = {}
    for tensor in tensors(document):
        if (
            type(tensor) not in (torch.Tensor, torch.nn.Parameter)
            or tensor.layout != torch.strided
            or tensor.is_quantized
        ):
            raise InputError(
                f"{path.name} holds sparse, quantised or other special tensors. Save its weights as plain ones."
            )
        if tensor.device.type != "cpu" or tensor.is_nested:
            raise InputError(f"{path.name} holds tensors without content. Save its weights as plain ones.")
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise InputError(
                f"{path.name} is damaged: a tensor of shape {tuple(tensor.shape)} is larger than its content."
            )
    if sum(storages.values()) > size:
        raise InputError(f"{path.name} is damaged: its tensors are larger than the file.")
