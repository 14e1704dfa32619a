"""The worker process: takes queued jobs one after another and keeps torch loaded between them.

Started by ``sparse_core.jobs.queue.ensure_worker`` as ``python -m sparse_core.jobs.worker HOME LANE``. One worker serves
a lane of a home folder; it exits after a while without work.
"""

import dataclasses
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sparse_core.networks.architectures  # noqa: F401  loads torchvision now, not when the first job comes
from sparse_core import file_locks, linux
from sparse_core.errors import Cancelled, as_input_error
from sparse_core.jobs import kinds, queue
from sparse_core.networks import reader_process
from sparse_core.specs.progress import Progress

IDLE_SECONDS = 900.0
POLL_SECONDS = 0.05
RETRY_SECONDS = 5.0
LOCK_TRIES = 10
NICENESS = 10

log = logging.getLogger("sparse_core.jobs.worker")


def main(home: Path, lane: str) -> None:
    """Work through a lane's queue until no job came for ``IDLE_SECONDS`` or the home folder is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _lower_priority()
    reader_process.start()
    for _ in range(LOCK_TRIES):  # a process that checks whether a worker runs holds the lock for an instant
        with file_locks.hold(queue.worker_lock(home, lane)) as held:
            if held:
                queue.mark_started(home, lane)
                return _serve(home, lane)
        time.sleep(0.1)


def _lower_priority() -> None:
    """Leave the cores to the dashboard and the browser first, so that they answer while a job uses all cores."""
    os.nice(NICENESS)
    linux.lower_session_priority(NICENESS)  # this worker has a session of its own


def _serve(home: Path, lane: str) -> None:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS and home.is_dir():
        job_id = _next_job(home, lane)
        if job_id is None:
            time.sleep(POLL_SECONDS)
            continue
        try:
            with queue.claim(home, job_id) as claimed:
                if claimed:
                    work(home, job_id)
        except OSError:  # even the outcome cannot be written, as on a full disk
            log.exception("job %s waits until its folder can be written", job_id)
            time.sleep(RETRY_SECONDS)
        idle_since = time.monotonic()


def work(home: Path, job_id: str) -> None:
    """Do one job and write how it ended; only the death of this process prevents that."""
    status = queue.status(home, job_id)
    if status.ended:
        queue.end(home, job_id, status.state)
        return
    starts = starts_without_progress(queue.events(home, job_id))
    if starts >= queue.ATTEMPTS:
        queue.end(
            home, job_id, "failed", f"The worker died {starts} times on this job. Is there enough memory? See the log."
        )
        return
    queue.append_event(home, job_id, {"started": os.getpid()})
    finished = threading.Event()
    threading.Thread(target=_enforce_cancel, args=(home, job_id, finished), daemon=True).start()
    try:
        result = kinds.run(home, status.job, lambda progress: _report(home, job_id, progress))
        queue.end(home, job_id, "done", result=result)
    except Cancelled:
        queue.end(home, job_id, "cancelled", "Cancelled. Finished runs and cached features were kept.")
    except Exception as error:  # no job may end the worker
        wrong = as_input_error(error)
        if wrong is not error:
            log.exception("job %s failed", job_id)
        fault = f"Internal error ({type(error).__name__}). The log has the details."
        details = {"candidates": list(wrong.candidates) if wrong else [], "keys": getattr(wrong, "keys", {})}
        queue.end(home, job_id, "failed", str(wrong or fault), details)
    finally:
        finished.set()


def starts_without_progress(events: Sequence[dict[str, Any]]) -> int:
    """How often a job was started since it last got further than ever before: a job that advances may resume without limit."""
    furthest: Counter[int] = Counter()  # by total, as stages count different units
    starts = 0
    for event in events:
        starts += "started" in event
        done, total = event.get("done", 0), event.get("total", 0)
        if done > furthest[total]:
            furthest[total] = done
            starts = 0
    return starts


def _next_job(home: Path, lane: str) -> str | None:
    """The oldest job of the lane; estimates come after what users asked for."""
    waiting = queue.queued(home, lane)
    first = [job_id for job_id in waiting if not queue.status(home, job_id).job.kind.startswith("estimate")]
    return next(iter(first or waiting), None)


def _report(home: Path, job_id: str, progress: Progress) -> None:
    if queue.is_cancelled(home, job_id):
        raise Cancelled
    queue.append_event(home, job_id, dataclasses.asdict(progress))


def _enforce_cancel(home: Path, job_id: str, finished: threading.Event) -> None:
    """Exit the process when a cancelled job does not stop by itself, as in a download that hangs."""
    while not finished.wait(0.5):
        if queue.is_cancelled(home, job_id) and not finished.wait(queue.CANCEL_GRACE_SECONDS):
            queue.end(home, job_id, "cancelled", "Cancelled.")
            os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
