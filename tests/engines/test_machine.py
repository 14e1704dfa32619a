"""The background load on the machine."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from sparse_core.engines import machine


def test_background_load_is_neither_idle_nor_this_process(monkeypatch):
    """Of 8 s, 2 s are idle, 1 s waits for a disk, 1.5 s are this process's and 0.5 s its child's; 1 s of the rest is stolen."""
    cores = {"user": 100.0, "system": 10.0, "idle": 50.0, "iowait": 5.0, "steal": 1.0, "guest": 7.0}
    ours, childs = [1.0, 0.5, 0.25, 0.25], [3.0, 1.0]
    kind = type("Times", (), {"_asdict": lambda _: dict(cores)})
    process = type("Process", (), {})
    child = type("Child", (), {"cpu_times": lambda _: tuple(childs)})
    process.cpu_times, process.children = lambda _: tuple(ours), lambda _, recursive: [child()]
    monkeypatch.setattr(psutil, "cpu_times", lambda: kind())
    monkeypatch.setattr(psutil, "Process", process)
    background = machine.BackgroundLoad()
    assert background.share() is None  # no time has passed
    for name, seconds in {"user": 3.5, "system": 0.5, "idle": 2.0, "iowait": 1.0, "steal": 1.0, "guest": 2.0}.items():
        cores[name] += seconds
    ours[0] += 1.5
    childs[1] += 0.5
    assert background.share() == pytest.approx(3 / 8)


def test_an_orphaned_process_is_background_load():
    """Its parent has ended, and it keeps a core busy for 1.5 s."""
    loop = "import time; end = time.time() + 1.5\nwhile time.time() < end: pass"
    start = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    background = machine.BackgroundLoad()
    subprocess.run([sys.executable, "-c", start, loop], check=True)
    time.sleep(1.5)
    assert background.share() > 0.5 / os.cpu_count()
