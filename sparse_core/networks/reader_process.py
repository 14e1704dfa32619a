"""The process that reads files of ``torch.save`` for this one: ``torch_reader``, started once and kept, with torch loaded.

A pickle from a stranger may try to take all memory or hours. Each is read by a fork of that process which Linux limits, so
this process waits, and at worst ends the other one. Memory is limited on Linux alone, time on other systems with fork too.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from sparse_core.errors import InputError
from sparse_core.paths import REPOSITORY

CPU_SECONDS = 10.0  # a ResNet50's file takes 0.2
BYTES_PER_CPU_SECOND = 20e6
WAIT_SECONDS = 60.0  # for the process to start and for the disk, beyond the seconds of CPU
MEMORY_BYTES = 256 << 20  # beyond three times the file

_lock = threading.Lock()
_process: subprocess.Popen[str] | None = None


def start() -> None:
    """Start the process unless it runs, and return at once: it loads torch while this one does something else."""
    if hasattr(os, "fork"):
        with _lock:
            _running()


def read(path: Path, kind: str, folder: Path) -> None:
    """Have a file of ``torch.save`` read, ``kind`` "zip" or "legacy"; ``folder`` then holds what ``torch_reader.read``
    writes. Raises InputError where reading takes more time or memory than a file of its size may."""
    if not hasattr(os, "fork"):
        raise InputError(
            f"{path.name} was written by torch.save. Such files are read on Linux and macOS only; save it as safetensors."
        )
    size = path.stat().st_size
    memory = 3 * size + MEMORY_BYTES
    seconds = CPU_SECONDS + size / BYTES_PER_CPU_SECOND
    request = {"path": str(path.absolute()), "kind": kind, "folder": str(folder), "memory": memory, "seconds": seconds}
    with _lock:
        status = _ask(json.dumps(request), seconds + WAIT_SECONDS)
    if status != "0":
        raise InputError(
            f"{path.name} was not read: it takes more than {seconds:.0f} s or {memory / 1e6:,.0f} MB, far more "
            "than weights of its size need. Save its state dict alone."
        )


def _ask(request: str, seconds: float) -> str:
    """The exit status of the fork that did what is requested; "" where it did not end in time."""
    process = _running()
    assert process.stdin and process.stdout
    try:
        process.stdin.write(f"{request}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], seconds)[0]:
            stop()
            return ""
        status = process.stdout.readline().strip()
    except BaseException:  # an answer that nobody waited for would be taken for the next one's
        stop()
        raise
    if not status:
        raise RuntimeError("The process that reads torch files ended.")
    return status


def _running() -> subprocess.Popen[str]:
    global _process
    if _process is None or _process.poll() is not None:
        _process = subprocess.Popen(
            [sys.executable, "-m", "sparse_core.networks.torch_reader"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # of its own, to be ended with its forks and to leave Ctrl-C to this process
        )
    return _process


@atexit.register
def stop() -> None:
    """End the process and its forks."""
    global _process
    if _process is not None:
        with suppress(ProcessLookupError):
            os.killpg(_process.pid, signal.SIGKILL)
        _process.communicate()
        _process = None
