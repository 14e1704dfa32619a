"""Where files are on disk, and how they are written so that a crash never leaves half a file."""

import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparse_core.errors import InputError

_CODE = Path(__file__).resolve().parent
INSTALLED = (_CODE / "installed").is_dir()  # by pip, which puts there what a clone has beside the code
REPOSITORY = _CODE / "installed" if INSTALLED else _CODE.parent
PUBLISHED = REPOSITORY / "data" / "published"
ZOO = REPOSITORY / "data" / "zoo"
SHIPPED = REPOSITORY / "data" / "measured"
LEFTOVER_SECONDS = 24 * 3600.0
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{6})-([0-9]+)-[a-z0-9_]{8}(\..*)?")  # its machine and process
_unfinished: set[Path] = set()


def default_home() -> Path:
    """The folder of the user's own state: ``SPARSE_TRANSFER_HOME``, else ``data/local`` of the clone; for an installed package
    ``~/.local/share/sparse-transfer-lab``, or where ``XDG_DATA_HOME`` puts it.

    It need not exist yet. Raises InputError if it is a file. Only entry points (the command line, the pages) call this;
    all other code takes the home folder as an argument.
    """
    folder = Path(os.environ.get("SPARSE_TRANSFER_HOME") or _usual_home())
    if folder.exists() and not folder.is_dir():
        raise InputError(f"SPARSE_TRANSFER_HOME takes a folder; got the file {folder}. Give a folder, existing or new.")
    return folder


def _usual_home() -> Path:
    if not INSTALLED:
        return REPOSITORY / "data" / "local"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "sparse-transfer-lab"


def printable(name: str) -> str:
    """The name of a file as text for records and pages: bytes that are no UTF-8 are replaced."""
    return name.encode("utf-8", errors="surrogatepass").decode("utf-8", errors="replace")


def printable_values(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a table with its texts ``printable``: no table holds such bytes."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it takes the target's name, on failure it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.touch(exist_ok=False)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    with unfinished(temporary):
        try:
            yield temporary
            temporary.chmod(mode)  # safetensors writes files for their owner alone
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` to ``target``, all of it or nothing."""
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, document: Any) -> None:
    """Write a document as JSON, all of it or nothing; NaN and infinity become null."""
    write_text(target, json.dumps(finite(document), indent=1, allow_nan=False))


def finite(document: Any) -> Any:
    """The document with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(document, dict):
        return {name: finite(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``target`` on success; an existing one is kept: the first writer wins."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    temporary.mkdir()
    with unfinished(temporary):
        try:
            yield temporary
            if not target.exists():
                os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _temporary(target: Path) -> Path:
    """A new path beside ``target``. What ``tempfile`` makes is for its owner alone; who may read a home folder is the user's
    choice (umask)."""
    return target.with_name(f"{temporary_prefix()}{secrets.token_hex(4)}")


def flush(entry: Path) -> None:
    """Return once a file, or a folder with its files, is on the disk itself, so that not even a power cut loses it."""
    for part in (*entry.glob("*"), entry, entry.parent):
        with suppress(OSError):  # it was moved in between, or the file system cannot flush folders
            descriptor = os.open(part, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def remove(entry: Path) -> None:
    """Delete a file or folder if it exists; readers never see a half-deleted folder, even after a kill."""
    hidden = entry.with_name(f"{temporary_prefix('removed')}{os.urandom(4).hex()}")
    with suppress(FileNotFoundError):
        os.rename(entry, hidden)
        _delete(hidden)


def temporary_prefix(name: str = "partial") -> str:
    """How the name of a temporary file or folder begins; eight letters or digits follow. It names this machine and process, so
    that what a killed process leaves is known to be nobody's: see ``remove_leftovers_of_dead_processes``."""
    return f".{name}.{machine()}-{os.getpid()}-"


@contextmanager
def unfinished(entry: Path) -> Iterator[None]:
    """While this is open, ``remove_unfinished`` deletes ``entry``."""
    _unfinished.add(entry)
    try:
        yield
    finally:
        _unfinished.discard(entry)


def remove_unfinished() -> None:
    """Delete what this process has not finished. Called just before it ends without unwinding its stack."""
    for entry in list(_unfinished):
        _delete(entry)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Delete the folders to which nothing was written for ``LEFTOVER_SECONDS``. Several processes may do so at once."""
    for folder in folders:
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers_of_dead_processes(home: Path) -> None:
    """Delete the temporary files of processes of this machine that have died, in ``home``, its folders and theirs, and in the
    system's temporary folder. Those of other machines go a day after the last write.

    A process calls this when it starts: a name with its own number is of an earlier process of that number.
    """
    folders = [home, *_subfolders(home)]
    folders += [inner for folder in folders[1:] for inner in _subfolders(folder)]
    for folder in (*folders, Path(tempfile.gettempdir())):
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and _is_leftover(Path(entry.path)):
                    _delete(Path(entry.path))


def _is_leftover(entry: Path) -> bool:
    found = _TEMPORARY.fullmatch(entry.name)
    if not found or entry in _unfinished:
        return False
    if found[1] == machine():
        return int(found[2]) == os.getpid() or not is_alive(int(found[2]))
    with suppress(OSError):
        return time.time() - entry.stat().st_mtime > LEFTOVER_SECONDS
    return False


def is_alive(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


def machine() -> str:
    """A short mark of this machine, or of the container whose process numbers this process sees."""
    seen = platform.node()
    with suppress(OSError):
        seen += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(seen.encode()).hexdigest()[:6]


def _subfolders(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _delete(entry: Path) -> None:
    """Delete a file or folder that no reader looks at, as far as it can be deleted."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):
            entry.unlink()


def require_space(folder: Path, needed: int) -> None:
    """Raises InputError if the disk of ``folder`` has less than ``needed`` bytes free. Called before anything is written."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"Not enough disk space in {folder}: {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free. "
            "Free some space, or choose another home folder with SPARSE_TRANSFER_HOME."
        )
