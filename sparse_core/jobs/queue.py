"""Jobs: a spec goes in, runs come out. Submit, follow and cancel work that a worker process does.

A job is a folder ``jobs/<job_id>/`` holding ``job.json`` (what was asked), ``events.jsonl`` (progress, appended by the
worker), ``cancel`` (present once asked for) and, at the end, ``outcome.json``. ``queue/<lane>/<job_id>`` exists until the
job has ended. A worker holds a file lock on the job while it works, so a job whose worker was killed is seen to be free and
is taken up again. There are two lanes with a worker each, so that what answers a page within seconds never waits for hours
of finetuning. Nothing here imports torch.
"""

import dataclasses
import fcntl
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_core.errors import unknown_name
from sparse_core.jobs.kinds import LANES, Job, job_from_json
from sparse_core.paths import REPOSITORY, atomic_folder, write_text
from sparse_core.specs.identity import to_json
from sparse_core.specs.progress import Progress

ENDED = ("done", "failed", "cancelled")
ATTEMPTS = 3
CANCEL_GRACE_SECONDS = 5.0
START_SECONDS = 20.0  # a worker that does not serve by then is taken for dead


@dataclass(frozen=True)
class Status:
    """Where a job stands. ``state``: queued, running, done, failed or cancelled.

    ``progress`` is the last one reported; ``result`` is what the job gave (for a probe: the names of its runs).
    """

    job_id: str
    job: Job
    state: str
    progress: Progress = field(default_factory=lambda: Progress(""))
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """True once nothing more will happen."""
        return self.state in ENDED


def submit(home: Path, job: Job) -> str:
    """Queue a job, start a worker of its lane where none is at work, and return the job's name."""
    job_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}-{secrets.token_hex(3)}"
    with atomic_folder(_folder(home, job_id)) as temporary:
        (temporary / "job.json").write_text(to_json(job), encoding="utf-8")
        (temporary / "events.jsonl").touch()
        write_text(_queue(home, job.lane) / job_id, "")
    ensure_worker(home, job.lane)
    return job_id


def status(home: Path, job_id: str) -> Status:
    """Where the job stands. Raises InputError for a name that is not there."""
    folder = _folder(home, job_id)
    if not (folder / "job.json").is_file():
        raise unknown_name("job", job_id, (entry.name for entry in _jobs(home).glob("*")))
    job = job_from_json(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    outcome = _outcome(folder)
    if outcome:
        return Status(job_id, job, outcome["state"], message=outcome["message"], result=outcome["result"])
    state = "running" if _is_locked(folder / "lock") else "queued"
    return Status(job_id, job, state, _last_progress(events(home, job_id)))


def events(home: Path, job_id: str) -> list[dict[str, Any]]:
    """Every event of the job so far, oldest first; a line still being written, or cut off by a full disk, is left out."""
    file = _folder(home, job_id) / "events.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []
    found: list[dict[str, Any]] = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def epochs(home: Path, job_id: str) -> list[dict[str, Any]]:
    """The epochs that the job's trainings have ended so far: see ``Progress.epochs``."""
    return [epoch for event in events(home, job_id) for epoch in event.get("epochs", ())]


def cancel(home: Path, job_id: str) -> None:
    """Ask for the job to stop. A queued one ends at once, a running one within ``CANCEL_GRACE_SECONDS``."""
    write_text(_folder(home, job_id) / "cancel", "")
    with claim(home, job_id) as claimed:
        if claimed and not _outcome(_folder(home, job_id)):
            end(home, job_id, "cancelled", "Cancelled before it began.")


def recent(home: Path, limit: int = 50) -> list[Status]:
    """The newest jobs that users started, newest first; what pages ask for by themselves is left out."""
    names = sorted((entry.name for entry in _jobs(home).glob("[0-9]*")), reverse=True)
    found = (status(home, name) for name in names[: 4 * limit])
    return [entry for entry in found if entry.job.label][:limit]


def queued(home: Path, lane: str | None = None) -> list[str]:
    """The jobs of a lane (of all by default) that have not ended, oldest first."""
    lanes = LANES if lane is None else (lane,)
    return sorted(
        entry.name for each in lanes if _queue(home, each).is_dir() for entry in _queue(home, each).glob("[0-9]*")
    )


def ensure_worker(home: Path, lane: str = "interactive") -> None:
    """Start the lane's worker process unless it is at work; it outlives this process and keeps torch loaded.

    One that was started and does not serve yet is waited for: pages ask several times a second.
    """
    workers = home / "workers"
    workers.mkdir(parents=True, exist_ok=True)
    if _is_locked(worker_lock(home, lane)) or _is_starting(home, lane):
        return
    _starting(home, lane).touch()
    with open(workers / "log.txt", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "sparse_core.jobs.worker", str(home), lane],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def worker_lock(home: Path, lane: str) -> Path:
    """The file that the lane's worker holds a lock on while it serves."""
    return home / "workers" / f"{lane}.lock"


def serves(home: Path, lane: str) -> None:
    """Told by the worker once it holds its lock."""
    _starting(home, lane).unlink(missing_ok=True)


@contextmanager
def claim(home: Path, job_id: str) -> Iterator[bool]:
    """Hold the job's lock, so that no other worker takes it; yields False where another holds it."""
    with hold(_folder(home, job_id) / "lock") as held:
        yield held


@contextmanager
def hold(file: Path) -> Iterator[bool]:
    """Hold a file lock, which the system lets go when the process dies; yields False where another holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def append_event(home: Path, job_id: str, event: dict[str, Any]) -> None:
    """Add one line to the job's events: its start, or a ``Progress`` as a dictionary."""
    line = json.dumps({"time": time.time(), **event}) + "\n"
    with open(_folder(home, job_id) / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(line)


def is_cancelled(home: Path, job_id: str) -> bool:
    """True once ``cancel`` was called."""
    return (_folder(home, job_id) / "cancel").exists()


def end(home: Path, job_id: str, state: str, message: str = "", result: dict[str, Any] | None = None) -> None:
    """Write how the job ended and take it off the queue. The first ending stands."""
    folder = _folder(home, job_id)
    if not _outcome(folder):
        document = {"state": state, "message": message, "result": result or {}, "ended_at": time.time()}
        write_text(folder / "outcome.json", json.dumps(document))
    for lane in LANES:
        (_queue(home, lane) / job_id).unlink(missing_ok=True)


def _last_progress(events: list[dict[str, Any]]) -> Progress:
    """The newest progress among a job's events; what another version of the product added to it is left out."""
    newest: dict[str, Any] = next((event for event in reversed(events) if "stage" in event), {"stage": ""})
    names = {field.name for field in dataclasses.fields(Progress)}
    return Progress(**{name: value for name, value in newest.items() if name in names})


def _outcome(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _is_locked(file: Path) -> bool:
    if not file.exists():
        return False
    with hold(file) as held:
        return not held


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _starting(home: Path, lane: str) -> Path:
    return home / "workers" / f"{lane}.starting"


def _is_starting(home: Path, lane: str) -> bool:
    try:
        return time.time() - _starting(home, lane).stat().st_mtime < START_SECONDS
    except FileNotFoundError:
        return False


def _jobs(home: Path) -> Path:
    return home / "jobs"


def _folder(home: Path, job_id: str) -> Path:
    return _jobs(home) / Path(job_id).name


def _queue(home: Path, lane: str) -> Path:
    return home / "queue" / lane
