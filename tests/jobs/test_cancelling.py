"""Cancelled jobs stop wherever they are, and neither they nor killed processes leave half-made files behind."""

import json
import os
import socket
import sys
import time
import urllib.request

import pytest

from sparse_core import paths
from sparse_core.errors import Cancelled
from sparse_core.jobs import kinds, queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.paths import (
    atomic_file,
    atomic_folder,
    remove_leftovers_of_dead_processes,
    temporary_prefix,
    unfinished,
)
from sparse_core.specs.checkpoints import InspectSpec


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    monkeypatch.setattr(worker, "INTERRUPT_SECONDS", 0.2)
    monkeypatch.setattr(queue, "CANCEL_GRACE_SECONDS", 1.2)
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.0)


def in_fork(work) -> int:
    """The process id of a fork of this process that does ``work``."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return process


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def wait_for(what, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "Waited too long."
        time.sleep(0.02)


def hidden(home) -> list[str]:
    return [entry.name for entry in home.rglob(".*")]


def hanging_download(home) -> None:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server, atomic_file(home / "backbones" / "weights.pth"):
        urllib.request.urlopen(f"http://127.0.0.1:{server.getsockname()[1]}/")


def stubborn(home) -> None:
    """Work that nothing interrupts, as in a compiler."""
    state = home / "checkpoints" / "run.pt"
    with atomic_folder(home / "features" / "key") as temporary, unfinished(state):
        (temporary / "train.npy").touch()
        state.parent.mkdir()
        state.touch()
        while True:
            try:
                time.sleep(9.0)
            except Cancelled:
                continue


@pytest.mark.parametrize("hangs", [hanging_download, stubborn])
def test_work_that_hangs_is_cancelled_and_leaves_nothing(home, hangs, monkeypatch):
    job_id, later = (queue.submit(home, Job("inspect", InspectSpec(name))) for name in ("first", "second"))
    monkeypatch.setattr(kinds, "run", lambda home, *_: hangs(home))
    monkeypatch.setattr(os, "execv", lambda program, command: os._exit(7 if command[1:3] == ["-m", MODULE] else 8))
    monkeypatch.setattr(sys, "argv", [MODULE, str(home), "interactive"])
    process = in_fork(lambda: worker.Worker(home, "interactive").serve())
    wait_for(lambda: hidden(home))
    queue.cancel(home, job_id)
    assert ended(process) == 7  # the worker starts anew, with the next job
    assert queue.status(home, job_id).state == "cancelled"
    assert queue.queued(home) == [later]
    assert hidden(home) == []
    assert not (home / "checkpoints" / "run.pt").exists()


MODULE = "sparse_core.jobs.worker"


def test_a_worker_that_starts_anew_is_the_same_process(home, tmp_path, monkeypatch):
    said = tmp_path / "said"
    script = f"import os, pathlib, sys; pathlib.Path({str(said)!r}).write_text(f'{{os.getpid()}} {{sys.argv[1:]}}')"
    monkeypatch.setattr(queue, "worker_command", lambda *given: [sys.executable, "-c", script, *map(str, given)])
    monkeypatch.setattr(sys, "argv", [MODULE, str(home), "long"])
    process = in_fork(worker.start_anew)
    assert ended(process) == 0
    assert said.read_text() == f"{process} {[str(home), 'long']}"


def test_what_a_killed_process_left_is_removed_at_once(home, tmp_path, monkeypatch):
    monkeypatch.setattr(paths.tempfile, "tempdir", str(tmp_path / "system"))
    (tmp_path / "system").mkdir()

    def die() -> None:
        for folder in (home, home / "runs", home / "queue" / "long", tmp_path / "system"):
            folder.mkdir(parents=True, exist_ok=True)
            paths.tempfile.mkstemp(prefix=temporary_prefix(), dir=folder)
            paths.tempfile.mkdtemp(prefix=temporary_prefix("removed"), dir=folder)
        os._exit(0)

    assert ended(in_fork(die)) == 0
    (home / ".key.parts").mkdir()
    (home / "runs" / ".gitignore").touch()
    with atomic_file(home / "runs" / "x") as own:
        other = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        other.touch()
        remote = other.with_name(".partial.000000-1-abcdefgh")
        remote.touch()
        assert len(hidden(home)) == 11
        remove_leftovers_of_dead_processes(home)
        assert sorted(hidden(home)) == sorted([".key.parts", ".gitignore", own.name, other.name, remote.name])
    assert not list((tmp_path / "system").iterdir())
    os.utime(remote, (0, 0))
    remove_leftovers_of_dead_processes(home)
    assert sorted(hidden(home)) == sorted([".key.parts", ".gitignore", other.name])


def test_a_worker_removes_what_is_left_when_it_starts(home, monkeypatch):
    for name, content in (("outcome", json.dumps({})), ("state", "")):
        (home / "runs").mkdir(parents=True, exist_ok=True)
        (home / "runs" / f"{temporary_prefix(name)}abcdefgh").write_text(content)
    monkeypatch.setattr(worker.reader_process, "start", lambda: None)
    monkeypatch.setattr(worker, "_lower_priority", lambda: None)
    old = home / "checkpoints" / "linear-0-0123456789ab.pt"
    old.parent.mkdir()
    old.touch()
    new = old.with_name("linear-1-0123456789ab.pt")
    new.touch()
    os.utime(old, (time.time() - worker.STATE_SECONDS - 9,) * 2)
    worker.main(home, "long")
    assert hidden(home) == []
    assert list(old.parent.iterdir()) == [new]
