"""Where files are on disk, and how they are written so that a crash never leaves half a file."""

import json
import math
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparse_core.errors import InputError

REPOSITORY = Path(__file__).resolve().parent.parent
PUBLISHED = REPOSITORY / "data" / "published"
LEFTOVER_SECONDS = 24 * 3600.0


def default_home() -> Path:
    """The folder of the user's own state: ``SPARSE_TRANSFER_HOME``, else ``data/local`` beside the code.

    It need not exist yet. Raises InputError if it is a file. Only entry points (the command line, the pages) call this;
    all other code takes the home folder as an argument.
    """
    folder = Path(os.environ.get("SPARSE_TRANSFER_HOME") or REPOSITORY / "data" / "local")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"SPARSE_TRANSFER_HOME takes a folder; got the file {folder}. Give a folder, existing or new.")
    return folder


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it takes the target's name, on failure it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
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
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield temporary
        if not target.exists():
            os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(entry: Path) -> None:
    """Delete a file or folder if it exists; readers never see a half-deleted folder, even after a kill."""
    hidden = entry.with_name(f".{entry.name}.{uuid.uuid4().hex[:8]}")
    with suppress(FileNotFoundError):
        os.rename(entry, hidden)
        if hidden.is_dir() and not hidden.is_symlink():
            shutil.rmtree(hidden)
        else:
            hidden.unlink()


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Delete the folders to which nothing was written for ``LEFTOVER_SECONDS``. Several processes may do so at once."""
    for folder in folders:
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def require_space(folder: Path, needed: int) -> None:
    """Raises InputError if the disk of ``folder`` has less than ``needed`` bytes free. Called before anything is written."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"Not enough disk space in {folder}: {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free. "
            "Free some space, or choose another home folder with SPARSE_TRANSFER_HOME."
        )
