"""Jobs: a spec goes in, runs come out. Submit, follow and cancel work that a worker process does.

A job is a folder ``jobs/<job_id>/`` with ``job.json`` (the spec), ``events.jsonl`` (progress, appended by the worker),
``cancel`` (present once requested) and, at the end, ``outcome.json``. ``queue/<lane>/<job_id>`` exists until the job has
ended. A worker holds a file lock on the job while it works, so the job of a killed worker becomes free and is started
again. There are two lanes with a worker each, so that a request that takes seconds never waits for hours of finetuning.
"""

import dataclasses
import json
import secrets
import subprocess
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_core.errors import unknown_name
from sparse_core.file_locks import hold, is_held
from sparse_core.jobs.kinds import LANES, Job, job_from_json
from sparse_core.paths import REPOSITORY, atomic_folder, write_text
from sparse_core.specs.identity import to_json
from sparse_core.specs.progress import Progress

ENDED = ("done", "failed", "cancelled")
ATTEMPTS = 3
CANCEL_GRACE_SECONDS = 5.0
START_SECONDS = 20.0  # a worker that has not taken its lane's lock by then is considered dead


@dataclass(frozen=True)
class Status:
    """A job's ``state`` (queued, running, done, failed, cancelled), last ``progress``, and ``result`` once done."""

    job_id: str
    job: Job
    state: str
    progress: Progress = field(default_factory=lambda: Progress(""))
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the job is over, in whatever way."""
        return self.state in ENDED


def submit(home: Path, job: Job) -> str:
    """Queue a job, start its lane's worker unless one is running, and return the job's id."""
    job_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}-{secrets.token_hex(3)}"
    with atomic_folder(_folder(home, job_id)) as temporary:
        (temporary / "job.json").write_text(to_json(job), encoding="utf-8")
        (temporary / "events.jsonl").touch()
        write_text(_queue(home, job.lane) / job_id, "")
    ensure_worker(home, job.lane)
    return job_id


def status(home: Path, job_id: str) -> Status:
    """The state of the job. Raises InputError for an unknown id."""
    folder = _folder(home, job_id)
    if not (folder / "job.json").is_file():
        raise unknown_name("job", job_id, (entry.name for entry in (home / "jobs").glob("*")))
    job = job_from_json(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    outcome = _outcome(folder)
    if outcome:
        return Status(job_id, job, outcome["state"], message=outcome["message"], result=outcome["result"])
    state = "running" if is_held(folder / "lock") else "queued"
    return Status(job_id, job, state, _last_progress(events(home, job_id)))


def events(home: Path, job_id: str) -> list[dict[str, Any]]:
    """The job's events so far, oldest first; a line still being written, or cut off by a full disk, is left out."""
    file = _folder(home, job_id) / "events.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []
    found: list[dict[str, Any]] = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def epochs(home: Path, job_id: str) -> list[dict[str, Any]]:
    """The epochs that have ended in the job's trainings: see ``Progress.epochs``."""
    return [epoch for event in events(home, job_id) for epoch in event.get("epochs", ())]


def cancel(home: Path, job_id: str) -> None:
    """Request that the job stops. A queued one ends at once, a running one within ``CANCEL_GRACE_SECONDS``."""
    write_text(_folder(home, job_id) / "cancel", "")
    with claim(home, job_id) as claimed:
        if claimed and not _outcome(_folder(home, job_id)):
            end(home, job_id, "cancelled", "Cancelled before it started.")


def recent(home: Path, limit: int = 50) -> list[Status]:
    """The newest jobs that users started, newest first; jobs that pages submit by themselves are left out."""
    names = sorted((entry.name for entry in (home / "jobs").glob("[0-9]*")), reverse=True)
    found = (status(home, name) for name in names[: 4 * limit])
    return [entry for entry in found if entry.job.label][:limit]


def queued(home: Path, lane: str | None = None) -> list[str]:
    """The jobs of a lane (of all by default) that have not ended, oldest first."""
    lanes = LANES if lane is None else (lane,)
    return sorted(
        entry.name for each in lanes if _queue(home, each).is_dir() for entry in _queue(home, each).glob("[0-9]*")
    )


def ensure_worker(home: Path, lane: str = "interactive") -> None:
    """Start the lane's worker process unless it is running; it outlives this process and keeps torch loaded.

    No second one is started while the first is still loading, as pages call this several times per second.
    """
    workers = home / "workers"
    workers.mkdir(parents=True, exist_ok=True)
    if is_held(worker_lock(home, lane)) or _is_starting(home, lane):
        return
    _start_marker(home, lane).touch()
    with open(workers / "log.txt", "ab") as log:
        command = [sys.executable, "-m", "sparse_core.jobs.worker", str(home), lane]
        subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def worker_lock(home: Path, lane: str) -> Path:
    """The file that the lane's worker holds a lock on while it runs."""
    return home / "workers" / f"{lane}.lock"


def mark_started(home: Path, lane: str) -> None:
    """Called by the worker once it holds its lock."""
    _start_marker(home, lane).unlink(missing_ok=True)


def claim(home: Path, job_id: str) -> AbstractContextManager[bool]:
    """Hold the job's lock, so that no other worker takes the job; yields False where another holds it."""
    return hold(_folder(home, job_id) / "lock")


def append_event(home: Path, job_id: str, event: dict[str, Any]) -> None:
    """Add one line to the job's events: its start, or a ``Progress`` as a dictionary."""
    line = json.dumps({"time": time.time(), **event}) + "\n"
    with open(_folder(home, job_id) / "events.jsonl", "a", encoding="utf-8") as file:
        file.write(line)


def is_cancelled(home: Path, job_id: str) -> bool:
    """True once ``cancel`` was called."""
    return (_folder(home, job_id) / "cancel").exists()


def end(home: Path, job_id: str, state: str, message: str = "", result: dict[str, Any] | None = None) -> None:
    """Write how the job ended and take it off the queue. If it has ended before, that outcome is kept."""
    folder = _folder(home, job_id)
    if not _outcome(folder):
        document = {"state": state, "message": message, "result": result or {}, "ended_at": time.time()}
        write_text(folder / "outcome.json", json.dumps(document))
    for lane in LANES:
        (_queue(home, lane) / job_id).unlink(missing_ok=True)


def _last_progress(events: list[dict[str, Any]]) -> Progress:
    """The newest progress among a job's events, without fields that another version of the product wrote."""
    newest: dict[str, Any] = next((event for event in reversed(events) if "stage" in event), {"stage": ""})
    names = {field.name for field in dataclasses.fields(Progress)}
    return Progress(**{name: value for name, value in newest.items() if name in names})


def _outcome(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _start_marker(home: Path, lane: str) -> Path:
    return home / "workers" / f"{lane}.starting"


def _is_starting(home: Path, lane: str) -> bool:
    try:
        return time.time() - _start_marker(home, lane).stat().st_mtime < START_SECONDS
    except FileNotFoundError:
        return False


def _folder(home: Path, job_id: str) -> Path:
    return home / "jobs" / Path(job_id).name


def _queue(home: Path, lane: str) -> Path:
    return home / "queue" / lane
