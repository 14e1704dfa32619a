"""Checkpoint files that came in through the browser: kept until they are imported or refused. Needs no torch.

Others, such as those whose page was closed, go when the next file comes in or ``sweep`` is called, once they are a day old.
"""

import re
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sparse_core.paths import atomic_folder, require_space

KEPT_SECONDS = 24 * 3600.0


def folder(home: Path) -> Path:
    """Where uploaded files lie, each in a folder of its own."""
    return home / "uploads"


def keep(home: Path, source: BinaryIO, name: str, size_bytes: int) -> Path:
    """Write an uploaded file under a name that is safe, all of it or nothing; returns where it lies.

    Files that are older than a day are removed first. Raises InputError where the disk has no room.
    """
    sweep(home)
    require_space(folder(home), size_bytes)
    target = folder(home) / secrets.token_hex(8)
    with atomic_folder(target) as temporary, open(temporary / safe_name(name), "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return target / safe_name(name)


def safe_name(name: str) -> str:
    """The last part of a name that a browser sent, of letters, digits, dots, dashes and underscores only."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip(".-")[-100:] or "checkpoint"


def discard(home: Path, path: Path) -> None:
    """Remove an uploaded file; a file that lies elsewhere is the user's and stays."""
    if path.parent.parent == folder(home):
        shutil.rmtree(path.parent, ignore_errors=True)


def sweep(home: Path) -> None:
    """Remove the uploads that are older than a day, and what an interrupted one left."""
    remove_old(folder(home).glob("*"))


def remove_old(entries: Iterable[Path]) -> None:
    """Remove those of the folders that nothing was written to for a day; another process may be at it too."""
    for entry in entries:
        with suppress(FileNotFoundError):
            if time.time() - entry.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)
