"""Reads files of ``torch.save`` that may come from strangers: each in a fork of this process, limited in memory and time.

``reader_process`` starts it and sends a line of JSON for each file. Nothing that a pickle names is imported or run: torch's
``weights_only`` unpickler knows tensors and plain containers, and every other name becomes a stand-in that does nothing but
keep what is put into it. So histories, dates and callbacks beside the weights are passed over, and a network that was saved
whole gives its tensors. A file that asks for what reaches beyond the file, such as ``os.system``, is refused. The bytes of
tensors go back as a file, everything else as JSON, so no pickle reaches the process that asked.
"""

import io
import json
import os
import pickle
import pickletools
import re
import resource
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
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

SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
SPARSE_GROWTH = 20  # times the file that its sparse tensors may take as plain ones; 99 % zeros need 11

_PLAIN_VALUES = re.compile(  # which training scripts save beside their weights
    r"torch\.optim\.|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray|dtypes\.\w+)$"
    r"|argparse\.Namespace$|pathlib\.(Pure)?(Posix|Windows)?Path$"
)
_BLOCKED_MODULES = ("os", "posix", "nt", "sys")  # torch refuses their names even where a stand-in is given
_FAR_REACHING = re.compile(  # what only a program needs, not data
    r"(_?io|subprocess|shutil|socket|ctypes|importlib|runpy|pty|code|operator|webbrowser|pickle|marshal|multiprocessing)\."
    r"|builtins\.(exec|eval|compile|open|getattr|setattr|delattr|__import__|input|globals|vars|map|filter|apply)$"
)


class _Inert(list[Any]):  # torch fills only lists that are named, and this is named for each file
    """Stands for an object that is no tensor, number or text: takes anything, does nothing, keeps its state."""

    state: Any = None
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment]  # unlike a list, it may be a key

    def __new__(cls, *arguments: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state


class _RefusedError(Exception):
    """A pickle asks for what no stand-in is given for."""


def _stand_in(name: str, filled_by_key: bool) -> type:
    """A class in place of the class or function of that name; one that yields a dictionary if it is ``filled_by_key``."""
    if name.startswith("torch._utils._rebuild"):

        def refuse(*arguments: object) -> NoReturn:
            raise _RefusedError(name)

        return type(name, (), {"__new__": refuse})
    return type(name, (), {"__new__": lambda *_: OrderedDict()}) if filled_by_key else type(name, (_Inert,), {})


def read(path: Path, kind: str, folder: Path) -> None:
    """Read a file into ``folder``: ``document.json``, and ``storages`` with the bytes of all tensors, one after another.

    ``kind`` is "zip" or "legacy". In the JSON a list or tuple is a list, a text a text, a dictionary {"items": [[key, value],
    …]}, a tensor {"tensor": [number of its storage, type, offset, shape, strides]} and all else {"other": its type}. The names
    of objects for which there were stand-ins, optimizers and plain values left out, are "objects". Raises InputError on a file
    that is damaged, wants to run something or holds more than the limits above.
    """
    try:
        names = _names(path, kind)
        if len(names) > MAX_NAMES:
            raise InputError(f"{path.name} names {len(names)} classes and functions, far more than weights need.")
        blocked = [name for name in names if name.partition(".")[0] in _BLOCKED_MODULES]
        if blocked:
            raise InputError(_wants_to_run(path, blocked[0]))
        far = next((name for name in names if _FAR_REACHING.match(name)), None)
        if far:
            raise InputError(_wants_to_run(path, far))
        document = _loaded(path, kind, names)
        storages = _Storages(path)
        text = json.dumps(
            {
                "document": storages.plain(document),
                "sizes": [kept.nbytes() for kept in storages.found],
                "objects": sorted(name for name in names if not _PLAIN_VALUES.match(name)),
            }
        )
    except _RefusedError as error:
        raise InputError(_wants_to_run(path, str(error))) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # torch raises a dozen kinds on damaged files; whatever it is, the file is at fault
        raise InputError(_not_read(path, kind, error)) from error
    if len(text) > TEXT_BYTES:
        raise InputError(f"{path.name} holds far more text beside its tensors than weights need.")
    try:
        with open(folder / "storages", "wb") as stream:
            for storage in storages.found:
                stream.write(torch.empty(0, dtype=torch.uint8).set_(storage).numpy().data)
        (folder / "document.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"There is no room for {path.name}'s tensors in {folder.parent}. Free some space.") from error


def _loaded(path: Path, kind: str, names: Iterable[str]) -> Any:
    """What the file holds, with stand-ins for ``names``."""
    by_key: set[str] = set()
    while True:
        stand_ins = [(_stand_in(name, name in by_key), name) for name in names]
        try:
            with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
                return torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
        except pickle.UnpicklingError as error:
            # Torch fills dictionaries and ordered ones alone: it names the class of another that a file fills by key.
            filled = {name for name in names if name not in by_key and f"'{__name__}.{name}'" in str(error)}
            if "SETITEM" not in str(error) or not filled:
                raise
            by_key |= filled


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
    return f"{path.name} holds quantised or other special tensors. Save its weights as plain ones."


def _not_read(path: Path, kind: str, error: Exception) -> str:
    """Why a file was not read: it is damaged, or whole and of another kind."""
    if _is_whole(path, kind, error):
        reason = re.sub(r"[^\x20-\x7e]", "?", str(error).replace("\n", " ").partition("Please file an issue")[0])[
            -160:
        ].strip()
        return (
            f"{path.name} is not damaged, but it holds more than tensors and plain values, in a way that cannot be read safely "
            f"({type(error).__name__}: {reason}). Open it where it was made and save its state dict alone, with torch.save."
        )
    return f"{path.name} is cut off or damaged: its contents cannot be read ({type(error).__name__}). Copy it again."


def _is_whole(path: Path, kind: str, error: Exception) -> bool:
    """Whether all of a file is there, as its checksums say, and its first pickle ends."""
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
                return archive.testzip() is None and any(True for _ in pickletools.genops(archive.read(index)))
        if not isinstance(error, pickle.UnpicklingError):
            return False  # what follows the pickles has no checksum
        with open(path, "rb") as stream:
            return all(any(True for _ in pickletools.genops(stream)) for _ in range(LEGACY_PICKLES))
    except Exception:  # whatever the reason, the file cannot be shown to be whole
        return False


class _Storages:
    """The memory behind a file's tensors, each storage once in ``found``; ``plain`` turns what was loaded into JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = path.stat().st_size
        self._left_sparse = SPARSE_GROWTH * self._left
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
        if isinstance(value, _Inert):
            return {"items": self._module("", value, depth)} if _is_module(value) else {"other": type(value).__name__}
        if isinstance(value, dict) and depth < DEPTH:
            return {"items": [[_key(key), self.plain(entry, depth + 1)] for key, entry in value.items()]}
        if isinstance(value, list | tuple) and depth < DEPTH:
            return [self.plain(entry, depth + 1) for entry in value]
        return {"other": type(value).__name__}

    def _module(self, prefix: str, module: _Inert, depth: int) -> list[list[Any]]:
        """The state dict of a network that was saved whole, from the stand-in's state."""
        state = module.state
        tensors = {**state["_parameters"], **state.get("_buffers", {})}
        items = [[prefix + key, self.plain(value)] for key, value in tensors.items() if isinstance(value, Tensor)]
        for name, child in state["_modules"].items():
            self._entries += 1
            if depth < DEPTH and _is_module(child) and isinstance(name, str):
                items += self._module(f"{prefix}{name}.", child, depth + 1)
        return items

    def _tensor(self, tensor: Tensor) -> list[Any]:
        was_sparse = tensor.layout in SPARSE
        tensor = self._dense(tensor) if was_sparse else tensor
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_nested:
            raise InputError(_special(self._path))
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise InputError(f"{self._path.name} is damaged: a tensor {list(tensor.shape)} is larger than its content.")
        number = self._numbers.setdefault((storage.data_ptr(), storage.nbytes()), len(self.found))
        if number == len(self.found):
            self.found.append(storage)
            self._left -= storage.nbytes() * (not was_sparse)
            if self._left < 0:
                raise InputError(f"{self._path.name} is damaged: its tensors are larger than the file.")
        kind = str(tensor.dtype).removeprefix("torch.")
        return [number, kind, tensor.storage_offset(), list(tensor.shape), list(tensor.stride())]

    def _dense(self, tensor: Tensor) -> Tensor:
        self._left_sparse -= tensor.numel() * tensor.element_size()
        if self._left_sparse < 0:
            raise InputError(
                f"{self._path.name}'s sparse tensors would take more than {SPARSE_GROWTH} times the file as plain ones. Save "
                "them as plain ones, with to_dense()."
            )
        return tensor.to_dense()


def _is_module(value: Any) -> bool:
    """Whether a stand-in has the state of a torch.nn.Module."""
    state = value.state if isinstance(value, _Inert) else None
    parts = (
        (state.get("_parameters"), state.get("_modules"), state.get("_buffers", {})) if isinstance(state, dict) else ()
    )
    return bool(parts) and all(isinstance(part, dict) for part in parts)


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
