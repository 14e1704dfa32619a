"""Opens files of tensors that may come from strangers: safetensors, and what ``torch.save`` wrote now or long ago.

Which of them a file is follows from its first bytes. Nothing in a file is ever run: a pickle may name classes and
functions, but none is imported, and calling one is refused, except for the optimizers and plain values that training
scripts save beside their weights, which come out as ``Inert``. Sizes that a file claims are held against the file before
memory is taken, and a pickle is walked before it is read: it can neither call nor hash anything that takes long. Every
refusal is an InputError of one line.
"""

import io
import os
import pickletools
import re
import stat
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import psutil
import torch
from safetensors import SafetensorError, safe_open
from torch import _weights_only_unpickler as unpickler

from sparse_core.errors import InputError

HEADER_BYTES = 4 << 20  # a safetensors header, or a torch file's pickled part; a ResNet50's takes 200 kB at most
OPERATIONS = 500_000  # of a pickle; a ResNet50's with its optimizer has 30,000
DOCUMENTS = 5  # a legacy file is five pickles before its tensors: magic number, version, system, content, their order
MAX_NAMES = 100

_PICKLE_START = re.compile(rb"\x80[\x02-\x05]")
_PLAIN_VALUES = re.compile(
    r"torch\.optim\.|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray|dtypes\.\w+)$"
    r"|argparse\.Namespace$|pathlib\.(Pure)?(Posix|Windows)?Path$|collections\.Counter$|torch\.(Size|device)$"
    r"|_codecs\.encode$|torch\.serialization\._get_layout$"
)
_CONSTANTS = {
    *("BINUNICODE", "SHORT_BINSTRING", "BININT", "BININT1", "BININT2", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE")
}
_READING = threading.Lock()


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


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> torch.Tensor:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _parameter(data: torch.Tensor, *_: object) -> torch.Tensor:
    return data


def _plain_type(function: Any, new_type: object, arguments: object, state: object) -> Any:
    """A tensor with attributes, without them."""
    if type(arguments) is not tuple:  # a tensor would be taken apart, however large it claims to be
        raise TypeError("a tensor's arguments are no tuple")
    return function(*arguments)


def _ordered_dict(pairs: object = ()) -> OrderedDict[Any, Any]:
    """Python 2 saved the items as a list of lists, Python 3 puts them in afterwards."""
    if not pairs:
        return OrderedDict()
    if type(pairs) is not list or not all(
        type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in (str, bytes) for pair in pairs
    ):
        raise TypeError("a dictionary's items are no pairs of name and value")
    items = OrderedDict(pairs)
    pairs.clear()  # a file can name the same list a thousand times, each time for a copy
    return items


_CALLABLE: dict[str, Any] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _plain_type,
    "builtins.set": Inert,
    "builtins.complex": Inert,
}
_KINDS = {
    name: value
    for name, value in unpickler._get_allowed_globals().items()
    if isinstance(value, torch.dtype | torch.serialization.StorageType)
}


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
            if archive.start_dir != _stated_start(stream):
                raise zipfile.BadZipFile("torch would see other contents than Python")
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{path.name} is cut off or damaged: its list of contents cannot be read. Copy it again."
        ) from error


def _stated_start(stream: BinaryIO) -> int:
    """Where the archive says that its list of contents begins, which is where torch reads it; Python reads the one that
    ends last, wherever it is said to begin. Archives over 4 GB say it in a record of its own, just before the end."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 98))
    tail = stream.read().rjust(98, b"\0")
    record, locator, end = tail[:56], tail[56:76], tail[76:]
    if not end.startswith(b"PK\5\6"):
        raise zipfile.BadZipFile("the archive does not end with the end of its list")
    if not locator.startswith(b"PK\6\7"):
        return int.from_bytes(end[16:20], "little")
    if not record.startswith(b"PK\6\6") or int.from_bytes(locator[8:16], "little") != size - 98:
        raise zipfile.BadZipFile("its list of contents is not where it is said to be")
    return int.from_bytes(record[48:56], "little")


def _mentioned(stream: BinaryIO, kind: str) -> set[str]:
    """The classes and functions that the file's pickles mention, found without running them."""
    stream.seek(0)
    if kind == "legacy":
        return set().union(*(_walk(stream) for _ in range(DOCUMENTS)))
    with zipfile.ZipFile(stream) as archive:
        (index,) = _indices(archive.infolist())
        return _walk(io.BytesIO(archive.read(index)))


def _indices(entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    return [entry for entry in entries if entry.filename.endswith("/data.pkl")]


def _walk(pickled: BinaryIO) -> set[str]:
    """The names that a pickle mentions. Raises RuntimeError where reading it could take long or much memory.

    Follows what would stand on the unpickler's stack, by kind alone: constant, name, flat (a tuple of those), tuple, dict
    or other.
    """
    names: set[str] = set()
    stack: list[str] = []
    marks: list[int] = []
    memo: dict[int, str] = {}
    end = pickled.tell() + HEADER_BYTES
    argument: Any
    for number, (operation, argument, position) in enumerate(pickletools.genops(pickled)):
        if number > OPERATIONS or (position or 0) > end or len(names) > MAX_NAMES:
            raise RuntimeError("its index is far larger than weights need")
        word = operation.name
        if word == "MARK":
            marks.append(len(stack))
            continue
        if word == "GLOBAL":
            names.add(argument.replace(" ", ".", 1))
        if word in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        taken = _take(stack, marks, operation)
        _require_plain(word, taken)
        if word in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            stack += [_kind(word, argument, taken)] * len(operation.stack_after)
    return names


def _take(stack: list[str], marks: list[int], operation: pickletools.OpcodeInfo) -> list[str]:
    """Take from the stack what the operation works on: a number of things, or all down to the last mark."""
    before, mark = operation.stack_before, pickletools.markobject
    start = marks.pop() - before.index(mark) if mark in before else len(stack) - len(before)
    if start < 0:
        raise RuntimeError("its index is damaged")
    taken = stack[start:]
    del stack[start:]
    return taken


def _kind(word: str, argument: Any, taken: list[str]) -> str:
    if word in _CONSTANTS or (word == "LONG1" and abs(argument) < 1 << 63):
        return "constant"
    if word == "GLOBAL":
        return "name"
    if "TUPLE" in word:
        return "flat" if {"constant", "name"}.issuperset(taken) else "tuple"
    return "dict" if word in ("EMPTY_DICT", "SETITEM", "SETITEMS") else "other"


def _require_plain(word: str, taken: list[str]) -> None:
    """Refuse what weights never need and what could take for ever.

    Long integers, and tuples of integers, can be chosen to hash alike; a tuple in a tuple in a tuple, each holding the one
    before twice, takes 2ⁿ steps to hash or to print; a tensor of no bytes can claim any number of elements, and passed in
    place of a tuple it is taken apart.
    """
    keys = taken[1:2] if word == "SETITEM" else taken[1::2] if word == "SETITEMS" else []
    if any(key != "constant" for key in keys):
        raise RuntimeError("it has dictionaries whose keys are neither texts nor plain numbers")
    if word in ("REDUCE", "NEWOBJ") and taken[0] != "name":
        raise _Called("a function of its own making")
    if word in ("REDUCE", "NEWOBJ") and taken[1] not in ("flat", "tuple"):
        raise RuntimeError("it calls a function with no plain arguments")
    if word == "BUILD" and taken[1] not in ("flat", "tuple", "dict"):
        raise RuntimeError("it has an object of no plain state")
    if word == "BINPERSID" and taken[0] != "flat":
        raise RuntimeError("it has tensors of no plain address")


def _read_torch(path: Path, stream: BinaryIO, kind: str) -> Any:
    try:
        known = {**_CALLABLE, **_KINDS}
        known |= {name: _stand_in(name) for name in _mentioned(stream, kind) if name not in known}
        with _knowing(known):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _Called as error:
        raise InputError(_wants_to_run(path, str(error))) from error
    except Exception as error:  # torch raises a dozen kinds on damaged files; whatever it is, the file is at fault
        raise InputError(_explain(path, error)) from error


@contextmanager
def _knowing(names: Mapping[str, Any]) -> Iterator[None]:
    """Let torch's unpickler know these names alone: what it allows by itself makes gigabytes out of a few bytes, such as
    ``bytearray(n)`` and ``encode(encode(…, "hex"), "hex")``."""
    with _READING, mock.patch.object(unpickler, "_get_allowed_globals", lambda: names):
        yield


def _stand_in(name: str) -> Any:
    return Inert if _PLAIN_VALUES.match(name) else _Refused(name)


def _explain(path: Path, error: Exception) -> str:
    text = str(error)
    forbidden = re.search(r"GLOBAL (\S+) whose module|Unsupported global: GLOBAL (\S+)", text)
    if forbidden:
        return _wants_to_run(path, next(filter(None, forbidden.groups())))
    return (
        f"{path.name} is not a weight file that can be read safely: it is cut off, damaged or holds more than tensors "
        f"({_first_line(error)})."
    )


def _wants_to_run(path: Path, name: str) -> str:
    if name.startswith("torch._utils._rebuild"):
        return f"{path.name} holds sparse, quantised or other special tensors. Save its weights as plain ones."
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
    """Refuse tensors that are larger than what the file holds of them."""
    storages: dict[int, int] = {}
    for tensor in tensors(document):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise InputError(
                f"{path.name} is damaged: a tensor of shape {tuple(tensor.shape)} is larger than its content."
            )
    if sum(storages.values()) > size:
        raise InputError(f"{path.name} is damaged: its tensors are larger than the file.")
