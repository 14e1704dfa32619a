"""What only Linux offers, in one place. Elsewhere these functions return nothing, None or False, as each says."""

import ctypes
import math
import os
import resource
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int | None:
    """The cores that this process may use at once: those the scheduler lets it use, or fewer where a container's quota of CPU
    time is smaller (1.5 cores' time keeps two busy most of the time); None on other systems."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota() -> float | None:
    """The CPU time per time that this process's control groups allow, in cores: 1.5 is one and a half. None without a limit.

    Read anew at each call, for a container may get another quota while it runs. The smallest of the process's own group and all
    above it holds: ``cpu.max`` of version 2 (kernel's cgroup-v2.rst), ``cpu.cfs_quota_us`` of version 1 (sched-bwc.rst).
    """
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folders, read = [CGROUPS, CGROUPS / "unified"], _limit_of_version_2
        elif "cpu" in controllers.split(","):
            folders, read = [CGROUPS / controllers, CGROUPS / "cpu"], _limit_of_version_1
        else:
            continue
        # In a container the path may be the host's: then its own group is mounted at the top.
        groups = [Path(path.lstrip("/")), *Path(path.lstrip("/")).parents]
        limits += [read(folder / group) for folder in folders for group in dict.fromkeys(groups)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit_of_version_2(group: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)  # "max" is no number
    return None


def _limit_of_version_1(group: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota = int((group / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return quota / period if quota > 0 else None  # −1: no limit
    return None


def limit_threads() -> None:
    """Let libraries that are loaded from now on, here and in processes that this one starts, use as many threads as a container's
    quota allows, unless the user says how many. More would be stopped again and again."""
    if cpu_quota() is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def cores() -> int:
    """``usable_cores``, or on other systems the machine's; at least 1."""
    return usable_cores() or os.cpu_count() or 1


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
