"""Reads files of ``torch.save`` that may come from strangers: each in a fork of this process, limited in memory and time.

``reader_process`` starts it and sends a line of JSON for each file. Nothing that a pickle names is imported or run: torch's
``weights_only`` unpickler knows tensors and plain containers, and every other name becomes a stand-in. Those of optimizers and
of plain values, which training scripts save beside their weights, may be called and yield nothing; calling another one is
refused. The bytes of tensors go back as a file, everything else as JSON, so no pickle reaches the process that asked.
"""

import io
import json
import os
import pickletools
import re
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from sparse_core import linux
from sparse_core.errors import InputError

ENTRIES = 500_000  # of all dictionaries and lists; a ResNet50's with its optimizer has 2,000
TEXT_BYTES = 16 << 20  # of the JSON
DEPTH = 20  # a pickle may hold itself
MAX_NAMES = 100
LEGACY_PICKLES = 5  # before the tensors of a legacy file: magic number, version, system, content, their order

_PLAIN_VALUES = re.compile(
    r"torch\.optim\.|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray|dtypes\.\w+)$"
    r"|argparse\.Namespace$|pathlib\.(Pure)?(Posix|Windows)?Path$"
)
_BLOCKED_MODULES = ("os", "posix", "nt", "sys")  # torch refuses their names even where a stand-in is given


class _Inert:
    """Stands for an object that is no tensor, number or text: takes anything, does nothing."""

    def __new__(cls, *arguments: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _CalledError(Exception):
    """A pickle called what it names."""


def _stand_in(name: str) -> Callable[..., Any]:
    """A class in place of the class or function of that name; calling one that yields no plain value is refused."""

    def refuse(*arguments: object) -> NoReturn:
        raise _CalledError(name)

    return _Inert if _PLAIN_VALUES.match(name) else type("Refused", (), {"__new__": refuse})


def read(path: Path, kind: str, folder: Path) -> None:
    """Read a file into ``folder``: ``document.json``, and ``storages`` with the bytes of all tensors, one after another.

    ``kind`` is "zip" or "legacy". In the JSON a list or tuple is a list, a text a text, a dictionary {"items": [[key, value],
    …]}, a tensor {"tensor": [number of its storage, type, offset, shape, strides]} and all else {"other": its type}. Raises
    InputError on a file that is damaged, wants to run something or holds more than the limits above.
    """
    try:
        names = _names(path, kind)
        if len(names) > MAX_NAMES:
            raise InputError(f"{path.name} names {len(names)} classes and functions, far more than weights need.")
        blocked = [name for name in names if name.partition(".")[0] in _BLOCKED_MODULES]
        if blocked:
            raise _CalledError(blocked[0])
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in names]):
            document = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
        storages = _Storages(path)
        text = json.dumps({"document": storages.plain(document), "sizes": [kept.nbytes() for kept in storages.found]})
    except _CalledError as error:
        raise InputError(_wants_to_run(path, str(error))) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # torch raises a dozen kinds on damaged files; whatever it is, the file is at fault
        raise InputError(
            f"{path.name} is not a weight file that can be read safely: it is cut off, damaged or holds more than tensors "
            f"({type(error).__name__})."
        ) from error
    if len(text) > TEXT_BYTES:
        raise InputError(f"{path.name} holds far more text beside its tensors than weights need.")
    try:
        with open(folder / "storages", "wb") as stream:
            for storage in storages.found:
                stream.write(torch.empty(0, dtype=torch.uint8).set_(storage).numpy().data)
        (folder / "document.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"There is no room for {path.name}'s tensors in {folder.parent}. Free some space.") from error


def _names(path: Path, kind: str) -> set[str]:
    """The classes and functions that the file's pickles name, beyond those that torch knows, found without running them."""
    if kind == "zip":
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    with open(path, "rb") as stream:
        operations = [each for _ in range(LEGACY_PICKLES) for each in pickletools.genops(stream)]
    return {
        str(argument).replace("__builtin__", "builtins").replace(" ", ".", 1)
        for operation, argument, _ in operations
        if operation.name == "GLOBAL"
    }


def _wants_to_run(path: Path, name: str) -> str:
    if name.startswith("torch._utils._rebuild"):
        return _special(path)
    return (
        f"{path.name} wants to run {name} when it is opened, so it was refused; nothing was run. Open it where it was made and "
        "save its state dict alone."
    )


def _special(path: Path) -> str:
    return f"{path.name} holds sparse, quantised or other special tensors. Save its weights as plain ones."


class _Storages:
    """The memory behind a file's tensors, each storage once in ``found``; ``plain`` turns what was loaded into JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = path.stat().st_size
        self._entries = 0
        self._numbers: dict[tuple[int, int], int] = {}
        self.found: list[torch.UntypedStorage] = []

    def plain(self, value: Any, depth: int = 0) -> Any:
        self._entries += 1
        if self._entries > ENTRIES:
            raise InputError(f"The index of {self._path.name} is far larger than weights need.")
        if isinstance(value, Tensor):
            return {"tensor": self._tensor(value)}
        if type(value) is str:
            return value
        if isinstance(value, dict) and depth < DEPTH:
            return {"items": [[_key(key), self.plain(entry, depth + 1)] for key, entry in value.items()]}
        if isinstance(value, list | tuple) and depth < DEPTH:
            return [self.plain(entry, depth + 1) for entry in value]
        return {"other": type(value).__name__}

    def _tensor(self, tensor: Tensor) -> list[Any]:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
            raise InputError(_special(self._path))
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise InputError(f"{self._path.name} is damaged: a tensor {list(tensor.shape)} is larger than its content.")
        number = self._numbers.setdefault((storage.data_ptr(), storage.nbytes()), len(self.found))
        if number == len(self.found):
            self.found.append(storage)
            self._left -= storage.nbytes()
            if self._left < 0:
                raise InputError(f"{self._path.name} is damaged: its tensors are larger than the file.")
        kind = str(tensor.dtype).removeprefix("torch.")
        return [number, kind, tensor.storage_offset(), list(tensor.shape), list(tensor.stride())]


def _key(key: Any) -> Any:
    return key if type(key) in (str, int) else {"other": type(key).__name__}


def _read_in_fork(path: str, kind: str, folder: str, memory: int, seconds: float) -> NoReturn:
    """Read the file within the limits, or write why it was refused, and end this process: 0 if it came that far, else 1."""
    status = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())
        os.dup2(silence, sys.stderr.fileno())
        linux.limit_memory(memory)
        resource.setrlimit(resource.RLIMIT_CPU, (round(seconds), round(seconds) + 1))
        try:
            read(Path(path), kind, Path(folder))
        except InputError as error:
            (Path(folder) / "document.json").write_text(json.dumps({"error": str(error)}), encoding="utf-8")
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Serve requests, arguments of ``_read_in_fork`` as JSON, until stdin ends; each is answered with its exit status."""
    warnings.simplefilter("ignore")
    tiny = io.BytesIO()
    torch.save({"weight": torch.zeros(1)}, tiny)
    tiny.seek(0)
    torch.load(tiny, weights_only=True)  # what torch prepares at its first file is then prepared for all forks
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _read_in_fork(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
