"""Leases: one process at a time does a piece of work, on a file system that machines share and that may have no locks.

A lease is a folder with one empty file, named after the holder, who gives signs of life by the folder's modification time. It is
taken, and taken over, by ``rename``, in which one process alone succeeds; NFS promises that too. On one machine ``file_locks``
are better: the system itself releases those.
"""

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparse_core import paths

BEAT_SECONDS = 10.0  # between two signs of life
LOST_SECONDS = 120.0  # after the last one a lease is anybody's: a network file system shows it late


@contextmanager
def hold(place: Path) -> Iterator[bool]:
    """Hold the lease ``place``; yields False where another process holds it.

    A holder that died loses it: at once to processes that see it is dead, elsewhere after ``LOST_SECONDS``.
    """
    mine = f"{paths.machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    if not _take(place, mine):
        yield False
        return
    try:
        with beating(lambda: os.utime(place)):
            yield True
    finally:
        with suppress(OSError):  # who took it over keeps it
            os.unlink(place / mine)
            os.rmdir(place)


@contextmanager
def beating(show: Callable[[], object]) -> Iterator[None]:
    """Call ``show`` now and every ``BEAT_SECONDS`` meanwhile, a sign of life to machines that do not see this one's processes."""
    over = threading.Event()

    def beat() -> None:
        while True:
            with suppress(OSError):  # the file system may be full, or gone, for a while
                show()
            if over.wait(BEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _take(place: Path, mine: str) -> bool:
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".new-{mine}")
    new.mkdir()
    (new / mine).touch()
    try:
        os.rename(new, place)  # fails where the lease has a holder
        return True
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
    lost = _lost_holder(place)
    with suppress(FileNotFoundError):  # another took it over
        if lost:
            os.rename(place / lost, place / mine)
            os.utime(place)
            return True
    return False


def _lost_holder(place: Path) -> str:
    """The holder of a lease that is anybody's now; empty for others."""
    try:
        (holder,) = os.listdir(place)
        age = _now(place.parent) - place.stat().st_mtime
    except (FileNotFoundError, ValueError):  # it is being released
        return ""
    where, process, *_ = (*holder.split("-"), "")
    dead = where == paths.machine() and process.isdigit() and not paths.is_alive(int(process))
    return holder if dead or age > LOST_SECONDS else ""


def _now(folder: Path) -> float:
    """The time by the clock of the file system, which may be another machine's."""
    probe = folder / f".now-{secrets.token_hex(4)}"
    probe.touch()
    moment = probe.stat().st_mtime
    probe.unlink()
    return moment
