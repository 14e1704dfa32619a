"""What only Linux offers, in one place. Elsewhere these functions return nothing, None or False, as each says."""

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def usable_cores() -> int | None:
    """The cores that the scheduler lets this process use; None on other systems."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty on other systems."""
    file = PROC / "cpuinfo"
    if not file.is_file():
        return {}
    first = file.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}


def lower_session_priority(niceness: int) -> None:
    """Give this process's session a niceness among all sessions; nothing on other systems.

    Linux often weighs sessions against each other as groups (man 7 sched, autogroup). The niceness of a process then counts
    within its own session only.
    """
    with suppress(OSError):  # another system, or groups are off
        (PROC / "self" / "autogroup").write_text(str(niceness), encoding="ascii")


def release_freed_memory() -> None:
    """Return memory that this process has freed to the system; nothing without GNU's C library."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def limit_memory(more: int) -> None:
    """Let this process allocate at most ``more`` bytes beyond what it has; nothing on other systems, which do not hold it."""
    status = PROC / "self" / "status"
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        allowed = more + 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def reset_peak_memory(process: int | str) -> bool:
    """Restart the peak of a process's resident memory at what it holds now; False on other systems."""
    with suppress(OSError):
        (PROC / str(process) / "clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def peak_memory(process: int | str) -> int:
    """The largest resident memory of a process (bytes) since it began or ``reset_peak_memory`` was called."""
    lines = (PROC / str(process) / "status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
