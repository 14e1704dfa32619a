"""What a measurement was made on: processor, instruction sets, memory, versions, load. No torch needed."""

import contextlib
import ctypes
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("torch", "torchvision", "onnxruntime", "numpy")
# What decides the speed of dense and sparse products on x86-64 and Arm.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
LEAST_SECONDS = 0.2  # of all cores' time, below which ticks of 10 ms tell too little


def machine() -> dict[str, Any]:
    """Processor, cores, instruction sets, memory (bytes), system and versions, as JSON can hold them."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in _flags()],
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def processor() -> str:
    """The processor's own name, with what tells models of one name apart; the architecture where it has none."""
    lines = _cpuinfo()
    name = lines.get("model name") or platform.processor() or platform.machine()
    family = [f"{word} {lines[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in lines]
    return f"{name} ({', '.join(family)})" if family else name


def load() -> float:
    """Processes that ran or waited in the last minute, for each core: above 1 the machine is busy."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def busy(seconds: float = 1.0) -> float:
    """The share, in [0, 1], of all cores' time that is taken over the next ``seconds``, in which the caller only waits.

    Unlike the load of the last minute it does not count what the caller itself did before.
    """
    return psutil.cpu_percent(seconds) / 100


class OtherWork:
    """The share of all cores' time that others take from now on: neither this process nor its children.

    What the host of a virtual machine gives to others is theirs, too.
    """

    def __init__(self) -> None:
        self._before = _core_seconds()

    def share(self) -> float | None:
        """In [0, 1], up to now; None where too little time went by to tell."""
        all_, others = (now - before for now, before in zip(_core_seconds(), self._before, strict=True))
        return min(1.0, max(0.0, others / all_)) if all_ >= LEAST_SECONDS else None


class PeakMemory:
    """How far the resident memory of a process rises from now on, above what it holds now; only Linux tells.

    ``pid`` 0 is this process, which first gives back what it has freed. A process has one peak: a second one of these starts
    that of the first anew, and all that runs in the process counts.
    """

    def __init__(self, pid: int = 0) -> None:
        self._folder = Path(f"/proc/{pid or 'self'}")
        if not pid:
            with contextlib.suppress(OSError, AttributeError, TypeError):  # only the C library of GNU has it
                ctypes.CDLL(None).malloc_trim(0)
        self._before = self._restart()

    def rise(self) -> int | None:
        """Bytes, up to now; None where the system cannot tell."""
        return None if self._before is None else max(0, self._peak() - self._before)

    def _restart(self) -> int | None:
        """Let the peak begin at what is resident now, and return that."""
        try:
            (self._folder / "clear_refs").write_text("5")
            return self._peak()
        except OSError:
            return None

    def _peak(self) -> int:
        lines = (self._folder / "status").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _core_seconds() -> tuple[float, float]:
    """The cores' time since the machine began: all of it, and what neither was idle nor went to this process and its children."""
    cores = psutil.cpu_times()._asdict()
    all_ = sum(seconds for name, seconds in cores.items() if not name.startswith("guest"))  # guests are in user, too
    own = psutil.Process()
    used = sum(own.cpu_times()[:4])  # children that ended are in it
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            used += sum(child.cpu_times()[:2])
    return all_, all_ - cores["idle"] - cores.get("iowait", 0.0) - used


def _flags() -> set[str]:
    lines = _cpuinfo()
    return set((lines.get("flags") or lines.get("Features") or "").split())


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is none."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return {}
    first = file.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
