"""The machine that measurements are made on: processor, instruction sets, cores, memory, versions, load. Needs no torch."""

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from sparse_core import linux

PACKAGES = ("torch", "torchvision", "onnxruntime", "numpy")
# The instruction sets that decide the speed of dense and sparse products on x86-64 and Arm.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
MIN_CORE_SECONDS = 0.2  # the system counts in ticks of 10 ms, so a share of less time is too coarse


def machine() -> dict[str, Any]:
    """Processor, cores, instruction sets, memory (bytes), system and versions, as JSON can hold them."""
    cpuinfo = linux.cpuinfo()
    flags = (cpuinfo.get("flags") or cpuinfo.get("Features") or "").split()
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def processor() -> str:
    """The processor's name, with the family and model that distinguish processors of one name; else the architecture."""
    cpuinfo = linux.cpuinfo()
    name = cpuinfo.get("model name") or platform.processor() or platform.machine()
    keys = (("family", "cpu family"), ("model", "model"))
    family = [f"{label} {cpuinfo[key]}" for label, key in keys if key in cpuinfo]
    return f"{name} ({', '.join(family)})" if family else name


def cores() -> int:
    """The number of cores this process may use, a container's quota included."""
    return linux.cores()


def load() -> float:
    """The load average per core over the last minute: above 1 the machine is busy."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def cpu_usage(seconds: float = 1.0) -> float:
    """The share, in [0, 1], of all cores' time in use over the next ``seconds``, in which the caller only waits. Unlike
    ``load`` it does not count what the caller itself did before."""
    return psutil.cpu_percent(seconds) / 100


class BackgroundLoad:
    """The share of all cores' time used from now on by others than this process and its children. In a virtual machine
    this includes the time that its host gives to others."""

    def __init__(self) -> None:
        self._before = _core_seconds()

    def share(self) -> float | None:
        """In [0, 1], up to now; None if too little time has passed."""
        total, others = (now - before for now, before in zip(_core_seconds(), self._before, strict=True))
        return min(1.0, max(0.0, others / total)) if total >= MIN_CORE_SECONDS else None


class PeakMemory:
    """How far the resident memory of a process rises from now on, above what it holds now; known on Linux only.

    ``pid`` 0 is this process, which first returns what it has freed. A process has one peak, for all that runs in it: a second
    PeakMemory of the same process restarts the first one's.
    """

    def __init__(self, pid: int = 0) -> None:
        self._process = pid or "self"
        if not pid:
            linux.release_freed_memory()
        self._before = linux.peak_memory(self._process) if linux.reset_peak_memory(self._process) else None

    def rise(self) -> int | None:
        """Bytes, up to now; None on systems other than Linux."""
        return None if self._before is None else max(0, linux.peak_memory(self._process) - self._before)


def _core_seconds() -> tuple[float, float]:
    """The cores' time since the machine started: the total, and the part used by others than this process and its children."""
    times = psutil.cpu_times()._asdict()
    total = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))  # user includes guest
    own = psutil.Process()
    used = sum(own.cpu_times()[:4])  # includes children that have ended
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            used += sum(child.cpu_times()[:2])
    return total, total - times["idle"] - times.get("iowait", 0.0) - used


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
