"""Checkpoint files uploaded in the browser: kept until they are imported or refused, a day at most. Needs no torch."""

import re
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from sparse_core.paths import atomic_folder, remove_leftovers, require_space


def folder(home: Path) -> Path:
    """The folder of uploads. Each file has its own subfolder."""
    return home / "uploads"


def keep(home: Path, source: BinaryIO, name: str, size_bytes: int) -> Path:
    """Write an uploaded file under a safe name, atomically; returns its path. Removes old uploads first. Raises
    InputError if the disk has too little space."""
    sweep(home)
    require_space(folder(home), size_bytes)
    target = folder(home) / secrets.token_hex(8)
    with atomic_folder(target) as temporary, open(temporary / safe_name(name), "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return target / safe_name(name)


def safe_name(name: str) -> str:
    """The last part of a name sent by a browser, reduced to letters, digits, dots, dashes and underscores."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip(".-")[-100:] or "checkpoint"


def discard(home: Path, path: Path) -> None:
    """Delete an uploaded file. A file elsewhere belongs to the user and is kept."""
    if path.parent.parent == folder(home):
        shutil.rmtree(path.parent, ignore_errors=True)


def sweep(home: Path) -> None:
    """Delete uploads older than a day, for example those of closed pages, and leftovers of interrupted ones."""
    remove_leftovers(folder(home).glob("*"))
