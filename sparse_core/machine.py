"""What a measurement was made on: processor, instruction sets, memory, versions, load. No torch needed."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("torch", "torchvision", "onnxruntime", "numpy")
# What decides the speed of dense and sparse products on x86-64 and Arm.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")


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
