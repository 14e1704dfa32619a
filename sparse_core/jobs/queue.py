"""Jobs: a spec goes in, runs come out. Submit, follow and cancel work that a worker process does.

A job is a folder ``jobs/<job_id>/`` with ``job.json`` (the spec), what it reports (``reports``), ``cancel`` (present once
requested), ``pause`` (while it is paused) and, at the end, ``outcome.json``. ``queue/<lane>/<job_id>`` exists until the job has
ended. A worker holds a file lock on the job while it works, so the job of a killed worker becomes free and is started again.
There are two lanes with a worker each, so that a request that takes seconds never waits for hours of finetuning; a sweep whose
runs go side by side has lanes of its own (``part_lane``).

Jobs that this version cannot read are left out of every list and named: see ``stored``.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_core import linux, stored
from sparse_core.errors import InputError, unknown_name
from sparse_core.file_locks import hold, is_held
from sparse_core.jobs import reports
from sparse_core.jobs.kinds import KINDS, LANES, Job, job_from_json
from sparse_core.leases import beating
from sparse_core.paths import REPOSITORY, atomic_folder, remove, write_text
from sparse_core.specs.identity import to_json
from sparse_core.specs.progress import Progress
from sparse_core.stored import type_problem

ENDED = ("done", "failed", "cancelled")
ATTEMPTS = 3
CANCEL_GRACE_SECONDS = 6.0
SUBMIT_SECONDS = 60.0  # a queue entry older than this whose job is missing belongs to none
KEPT_JOBS = 200  # ended ones that users started
KEPT_SECONDS = 24 * 3600.0  # the ended ones that pages submitted by themselves
LOG_BYTES = 1 << 20  # of the workers' log
SLURM = "slurm"  # the lane of jobs that other machines do
ALIVE_SECONDS = 120.0  # from the last one on; a network file system shows it late
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


def submit(home: Path, job: Job, *, lane: str = "", job_id: str = "") -> str:
    """Queue a job, in its kind's lane by default, start the lane's worker unless one is running, and return the job's id: a new
    one, or one that ``new_id`` gave before. A job that is there under this id stays as it is."""
    job_id, lane = job_id or new_id(), lane or job.lane
    place(home, job, lane, job_id)
    ensure_worker(home, lane)
    return job_id


def place(home: Path, job: Job, lane: str, job_id: str) -> None:
    """``submit`` without a worker: for a lane that something else serves."""
    with atomic_folder(_folder(home, job_id)) as temporary:
        (temporary / "job.json").write_text(to_json(job), encoding="utf-8")
        (temporary / "events.jsonl").touch()
        write_text(_queue(home, lane) / job_id, "")


def new_id() -> str:
    """An id for a job that is submitted later; ids sort by time."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)  # one reading, so that ids sort by time across a second's end
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(seconds))}-{nanoseconds:09d}-{secrets.token_hex(3)}"


def part_lane(number: int, parts: int) -> str:
    """The lane of worker ``number`` (from 0) of ``parts`` that run side by side; each gets its share of the cores."""
    return f"part-{number + 1}-of-{parts}"


def status(home: Path, job_id: str) -> Status:
    """The state of the job. Raises InputError for an unknown id, and for a job that this version cannot read."""
    folder = _folder(home, job_id)
    job = _read_job(home, folder)
    outcome = _outcome(folder)
    if outcome is None and (is_held(folder / "lock") or not _is_older(folder / "alive", ALIVE_SECONDS)):
        return Status(job_id, job, "running", reports.last_progress(folder))
    if outcome is None and _is_queued(home, job_id):
        return Status(job_id, job, "queued", reports.last_progress(folder))
    outcome = _checked(folder, job, outcome or _outcome(folder) or _LOST)  # it may have ended in between
    return Status(job_id, job, outcome["state"], message=outcome["message"], result=outcome["result"])


def find(home: Path, job_id: str) -> Status | None:
    """``status``, or None where the job is gone or cannot be read."""
    try:
        return status(home, job_id)
    except InputError:
        return None


def seconds_since_submitted(home: Path, job_id: str) -> float:
    """How long ago a job was submitted. Raises InputError for an unknown id."""
    try:
        return time.time() - (_folder(home, job_id) / "job.json").stat().st_mtime
    except FileNotFoundError as error:
        raise _unknown(home, job_id) from error


def exists(home: Path, job_id: str) -> bool:
    """Whether there is a job of this id, readable or not."""
    return _folder(home, job_id).is_dir()


def epochs(home: Path, job_id: str) -> list[dict[str, Any]]:
    """The epochs that have ended in the job's trainings: see ``Progress.epochs``."""
    return reports.epochs(_folder(home, job_id))


def cancel(home: Path, job_id: str) -> None:
    """Request that the job stops. A queued one ends at once, a running one within ``CANCEL_GRACE_SECONDS``."""
    folder = _folder(home, job_id)
    if not folder.is_dir():
        raise _unknown(home, job_id)
    write_text(folder / "cancel", "")
    with claim(home, job_id) as claimed:
        if claimed and not _outcome(folder):
            end(home, job_id, "cancelled", "Cancelled before it started.")


def pause(home: Path, job_id: str) -> None:
    """Request that the job rests until ``unpause``. It keeps its place in the queue; a running one stops at its next report and
    goes on from its saved state. A job that is gone stays so."""
    if _folder(home, job_id).is_dir():
        write_text(_folder(home, job_id) / "pause", "")


def unpause(home: Path, job_id: str) -> None:
    """Let a paused job go on."""
    (_folder(home, job_id) / "pause").unlink(missing_ok=True)


def is_paused(home: Path, job_id: str) -> bool:
    """True between ``pause`` and ``unpause``."""
    return (_folder(home, job_id) / "pause").exists()


def recent(home: Path, limit: int = 50) -> list[Status]:
    """The newest jobs that users started, newest first; jobs that pages submit by themselves are left out."""
    found: list[Status] = []
    for name in _names(home)[: -4 * limit - 1 : -1]:
        if len(found) == limit:
            break
        found += [entry for entry in _readable(home, [name]) if entry.job.label]
    return found


def waiting(home: Path, lane: str | None = None) -> list[Status]:
    """The jobs of a lane (of all by default) that have not ended, oldest first."""
    return _readable(home, queued(home, lane))


def before_estimates(home: Path, lane: str) -> list[Status]:
    """The jobs of a lane for which its estimates wait: all others that have not ended and are not paused."""
    return [each for each in waiting(home, lane) if not (each.job.is_estimate or is_paused(home, each.job_id))]


def queued(home: Path, lane: str | None = None) -> list[str]:
    """The names in the queue of a lane (of all by default), oldest first; a job may be missing or unreadable."""
    lanes = _lanes(home) if lane is None else (lane,)
    return sorted(
        entry.name for each in lanes if _queue(home, each).is_dir() for entry in _queue(home, each).glob("[0-9]*")
    )


def set_aside(home: Path, job_id: str, reason: str) -> None:
    """Take a job that cannot be read off the queue, so that the others go on. Its folder keeps the reason.

    An entry without a folder is kept for ``SUBMIT_SECONDS``: the job may be being submitted.
    """
    if _folder(home, job_id).is_dir():
        end(home, job_id, "failed", reason)
        stored.leave_out(_folder(home, job_id), reason)
        return
    for lane in _lanes(home):
        entry = _queue(home, lane) / job_id
        if entry.exists() and _is_older(entry, SUBMIT_SECONDS):
            stored.leave_out(entry, "its job is missing")
            entry.unlink(missing_ok=True)


def sweep(home: Path) -> None:
    """Delete old jobs that have ended: those that pages submitted by themselves after ``KEPT_SECONDS``, and of the others all
    but the newest ``KEPT_JOBS``."""
    kept = 0
    for job_id in reversed(_names(home)):
        folder = _folder(home, job_id)
        if _is_queued(home, job_id) or is_held(folder / "lock"):
            continue
        found = find(home, job_id)
        if found is None or found.job.label:
            kept += 1
            old = kept > KEPT_JOBS
        else:
            old = _is_older(folder / "outcome.json", KEPT_SECONDS)
        if old:
            remove(folder)


def ensure_worker(home: Path, lane: str = "interactive") -> None:
    """Start the lane's worker process unless it is running; it outlives this process and keeps torch loaded.

    No second one is started while the first is still loading, as pages call this several times per second.
    """
    workers = home / "workers"
    try:
        workers.mkdir(parents=True, exist_ok=True)
        if not is_held(worker_lock(home, lane)) and not _is_starting(home, lane):
            _start_marker(home, lane).touch()
            _start_worker(home, lane)
    except OSError as error:  # pages start workers before there is work; submitting some says why it cannot be done
        stored.note(workers, f"cannot be written ({error.strerror}), so no work can be started here")


def limit_log(home: Path) -> None:
    """Keep the end of the workers' log in ``log.old.txt`` and empty it, where it has grown over ``LOG_BYTES``. Workers append to
    it, so they go on at its new beginning."""
    log = home / "workers" / "log.txt"
    with suppress(OSError):
        size = log.stat().st_size
        if size > LOG_BYTES:
            with open(log, "rb") as stream:
                stream.seek(size - LOG_BYTES // 2)
                write_text(log.with_name("log.old.txt"), stream.read().decode("utf-8", errors="replace"))
            os.truncate(log, 0)


def log_of(home: Path, job_id: str) -> str:
    """What the workers' log says of a job: each entry that names it, tracebacks included."""
    text = ""
    for name in ("log.old.txt", "log.txt"):
        with suppress(OSError):
            text += (home / "workers" / name).read_text(encoding="utf-8", errors="replace")
    entries = re.split(r"^(?=\d{4}-\d\d-\d\d )", text, flags=re.MULTILINE)
    return "".join(entry for entry in entries if job_id in entry)


def _start_worker(home: Path, lane: str) -> None:
    limit_log(home)
    with open(home / "workers" / "log.txt", "ab") as output:
        quiet = subprocess.DEVNULL
        linux.limit_threads()
        subprocess.Popen(
            worker_command(home, lane),
            cwd=REPOSITORY,
            env={**os.environ, **_threads(lane)},
            stdin=quiet,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _threads(lane: str) -> dict[str, str]:
    """The share of the cores for each of several workers, as the environment tells libraries."""
    parts = lane.rpartition("-of-")[2]
    if not parts.isdigit():
        return {}
    return {"OMP_NUM_THREADS": str(max(1, linux.cores() // int(parts)))}


def worker_command(home: Path, lane: str) -> list[str]:
    """The command that runs a worker."""
    return [sys.executable, "-m", "sparse_core.jobs.worker", str(home.absolute()), lane]


def worker_lock(home: Path, lane: str) -> Path:
    """The file that the lane's worker holds a lock on while it runs."""
    return home / "workers" / f"{lane}.lock"


def mark_started(home: Path, lane: str) -> None:
    """Called by the worker once it holds its lock."""
    _start_marker(home, lane).unlink(missing_ok=True)


def claim(home: Path, job_id: str) -> AbstractContextManager[bool]:
    """Hold the job's lock, so that no other worker takes the job; yields False where another holds it."""
    return hold(_folder(home, job_id) / "lock")


@contextmanager
def alive(home: Path, job_id: str) -> Iterator[None]:
    """Show meanwhile, to machines that do not see this one's locks, that the job runs."""
    file = _folder(home, job_id) / "alive"
    try:
        with beating(file.touch):
            yield
    finally:
        file.unlink(missing_ok=True)


def open_reports(home: Path, job_id: str) -> reports.Reports:
    """Where the worker reports the progress of a job that it starts."""
    return reports.Reports(_folder(home, job_id))


def events(home: Path, job_id: str) -> list[dict[str, Any]]:
    """The job's starts, saved states and epochs, oldest first: see ``reports``."""
    return reports.events(_folder(home, job_id))


def is_cancelled(home: Path, job_id: str) -> bool:
    """True once ``cancel`` was called."""
    return (_folder(home, job_id) / "cancel").exists()


def end(home: Path, job_id: str, state: str, message: str = "", result: dict[str, Any] | None = None) -> None:
    """Write how the job ended and take it off the queue. If it has ended before, that outcome is kept."""
    folder = _folder(home, job_id)
    if not _outcome(folder):
        document = {"state": state, "message": message, "result": result or {}, "ended_at": time.time()}
        write_text(folder / "outcome.json", json.dumps(document))
    for lane in _lanes(home):
        (_queue(home, lane) / job_id).unlink(missing_ok=True)


_DETAILS: stored.Kinds = {"candidates": list, "keys": dict, "weight_sets": list}  # of a failure
_LOST: dict[str, Any] = {
    "state": "failed",
    "message": "This job was lost: it is no longer queued, and how it ended is not known. Start it again.",
    "result": {},
}


def _read_job(home: Path, folder: Path) -> Job:
    """The job in a folder. Raises InputError if it is missing, damaged or of a version with other kinds or fields."""
    try:
        return job_from_json(json.loads((folder / "job.json").read_bytes()))
    except FileNotFoundError:
        raise _unknown(home, folder.name) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"Job '{folder.name}' cannot be read; it is damaged or of another version ({error}). Start it again."
        ) from error


def _readable(home: Path, names: list[str]) -> list[Status]:
    """The states of these jobs; those that cannot be read are left out and named once."""
    found = []
    for name in names:
        try:
            found.append(status(home, name))
        except InputError as error:
            if _folder(home, name).is_dir():
                stored.leave_out(_folder(home, name), str(error))
    return found


def _outcome(folder: Path) -> dict[str, Any] | None:
    """How the job ended; None if it has not."""
    file = folder / "outcome.json"
    if not file.exists():
        return None
    found = stored.read_json(file, {"state": str}, {"message": str, "result": dict}) or {}
    return {"message": "", "result": {}, **found} if found.get("state") in ENDED else _LOST


def _checked(folder: Path, job: Job, outcome: dict[str, Any]) -> dict[str, Any]:
    """The outcome, if pages can show its result; else it is left out."""
    done = outcome["state"] == "done"
    problem = KINDS[job.kind].problem(outcome["result"]) if done else type_problem(outcome["result"], {}, _DETAILS)
    if not problem and isinstance(outcome["message"], str):
        return outcome
    stored.leave_out(folder / "outcome.json", problem or "'message' is of the wrong type")
    return _LOST


def _names(home: Path) -> list[str]:
    """All jobs, oldest first."""
    return sorted(entry.name for entry in (home / "jobs").glob("[0-9]*"))


def _is_queued(home: Path, job_id: str) -> bool:
    return any((_queue(home, lane) / job_id).exists() for lane in _lanes(home))


def _lanes(home: Path) -> list[str]:
    return [*LANES, SLURM, *sorted(entry.name for entry in (home / "queue").glob("part-*"))]


def _unknown(home: Path, job_id: str) -> InputError:
    return unknown_name("job", job_id, _names(home))


def _start_marker(home: Path, lane: str) -> Path:
    return home / "workers" / f"{lane}.starting"


def _is_starting(home: Path, lane: str) -> bool:
    return not _is_older(_start_marker(home, lane), START_SECONDS)


def _is_older(file: Path, seconds: float) -> bool:
    """Whether a file was written that long ago, or is missing."""
    try:
        return time.time() - file.stat().st_mtime >= seconds
    except OSError:
        return True


def _folder(home: Path, job_id: str) -> Path:
    return home / "jobs" / Path(job_id).name


def _queue(home: Path, lane: str) -> Path:
    return home / "queue" / lane
