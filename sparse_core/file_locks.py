"""File locks that the system releases when the process that holds them dies. Linux and macOS have them (flock)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparse_core.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def hold(file: Path) -> Iterator[bool]:
    """Hold the lock on ``file``; yields False where another process holds it. Raises InputError on a system without flock."""
    if fcntl is None:
        raise InputError("This needs the file locks of Linux or macOS, which this system lacks. On Windows, use WSL.")
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def is_held(file: Path) -> bool:
    """Whether a process holds the lock, as far as this one may look."""
    if not file.exists():
        return False
    with suppress(PermissionError, FileNotFoundError), hold(file) as held:
        return not held
    return False


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
