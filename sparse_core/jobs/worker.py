"""The worker process: takes queued jobs one after another and keeps torch loaded between them.

Started by ``sparse_core.jobs.queue.ensure_worker`` as ``python -m sparse_core.jobs.worker HOME LANE``. One worker serves
a lane of a home folder; it exits after a while without work. When it starts, it removes what killed processes have left.

A cancelled job stops at its next report. One that does not report, as in a download that hangs, is interrupted wherever it
is; one that cannot be interrupted, as in a long compilation, ends with the process, which starts anew in its place.
"""

import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from sparse_core import file_locks, linux, paths
from sparse_core.errors import Cancelled, InputError, Paused, as_input_error
from sparse_core.jobs import kinds, queue, sweep_files, sweeps
from sparse_core.jobs.reports import Reports, starts_without_progress
from sparse_core.networks import public_networks, reader_process
from sparse_core.specs.progress import Progress

IDLE_SECONDS = 900.0
WARM_UP_SECONDS = 5.0  # without a job, before what only some jobs need is loaded
POLL_SECONDS = 0.05
ESTIMATE_AFTER_SECONDS = 2.0  # so that who starts a job as soon as the page is there does not wait for its estimate
RETRY_SECONDS = 5.0
ADVANCE_SECONDS = 1.0  # between looks at the sweeps that go on
LOCK_TRIES = 10
NICENESS = 10
INTERRUPT_SECONDS = 3.0  # for a cancelled job to stop at a report, before it is interrupted
SWEEP_SECONDS = 3600.0
STATE_SECONDS = 30 * 24 * 3600.0  # for a training that was given up to be resumed
INTERRUPT = getattr(signal, "SIGUSR1", None)

log = logging.getLogger("sparse_core.jobs.worker")


def main(home: Path, lane: str) -> None:
    """Work through a lane's queue until no job came for ``IDLE_SECONDS`` or the home folder is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _lower_priority()
    for _ in range(LOCK_TRIES):  # a process that checks whether a worker runs holds the lock for an instant
        with file_locks.hold(queue.worker_lock(home, lane)) as held:
            if held:
                queue.mark_started(home, lane)
                paths.remove_leftovers_of_dead_processes(home)
                Worker(home, lane).serve()
                return
        time.sleep(0.1)


def _lower_priority() -> None:
    """Leave the cores to the dashboard and the browser first, so that they answer while a job uses all cores."""
    os.nice(max(0, NICENESS - os.nice(0)))  # a worker that starts anew has its niceness already
    linux.lower_session_priority(NICENESS)  # this worker has a session of its own


class Interrupted(Cancelled):
    """The work was cancelled at an arbitrary place."""


class Worker:
    """Serves one lane of a home folder."""

    def __init__(self, home: Path, lane: str) -> None:
        self.home, self.lane = home, lane
        self._postponed: dict[str, float] = {}  # jobs whose folder could not be written, and when to try again
        self._advanced_at = -ADVANCE_SECONDS

    def serve(self) -> None:
        """Do job after job until none came for ``IDLE_SECONDS`` or the home folder is gone."""
        idle_since, swept_at = time.monotonic(), -SWEEP_SECONDS
        while self.home.is_dir():
            if time.monotonic() - swept_at >= SWEEP_SECONDS:
                swept_at = time.monotonic()
                self._sweep()
            goes_on = self._advance_sweeps()  # first, so that their runs come before estimates
            job_id = self._next_job()
            if job_id is None:
                idle_since = time.monotonic() if goes_on else idle_since
                if time.monotonic() - idle_since >= IDLE_SECONDS:
                    return
                if time.monotonic() - idle_since >= WARM_UP_SECONDS:
                    _warm_up()
                time.sleep(POLL_SECONDS)
                continue
            try:
                with queue.claim(self.home, job_id) as claimed:
                    if claimed:
                        work(self.home, job_id)
                self._advanced_at = -ADVANCE_SECONDS
            except OSError:  # even the outcome cannot be written, as on a full disk
                log.exception("job %s waits until its folder can be written", job_id)
                self._postponed[job_id] = time.monotonic() + RETRY_SECONDS
            idle_since = time.monotonic()

    def _next_job(self) -> str | None:
        """The oldest job of the lane; estimates come after what users asked for, and not at once."""
        found = None
        for job_id in queue.queued(self.home, self.lane):
            if self._postponed.get(job_id, 0.0) > time.monotonic() or queue.is_paused(self.home, job_id):
                continue
            try:
                if not queue.status(self.home, job_id).job.is_estimate:
                    return job_id
                if queue.seconds_since_submitted(self.home, job_id) >= ESTIMATE_AFTER_SECONDS:
                    found = found or job_id
            except InputError as error:
                self._set_aside(job_id, str(error))
        return found

    def _advance_sweeps(self) -> bool:
        """Submit the next runs of sweeps, at once after a job and every ``ADVANCE_SECONDS``; returns whether a sweep goes on."""
        active = [] if self.lane == "interactive" else sweep_files.active(self.home)
        if active and time.monotonic() - self._advanced_at >= ADVANCE_SECONDS:
            self._advanced_at = time.monotonic()
            for sweep_id in active:
                try:
                    sweeps.advance(self.home, sweep_id)
                except OSError:  # as on a full disk
                    log.exception("sweep %s waits until its folder can be written", sweep_id)
                    self._advanced_at += RETRY_SECONDS
        return bool(active)

    def _set_aside(self, job_id: str, reason: str) -> None:
        try:
            queue.set_aside(self.home, job_id, reason)
        except OSError:
            log.exception("job %s cannot be taken off the queue", job_id)
            self._postponed[job_id] = time.monotonic() + RETRY_SECONDS

    def _sweep(self) -> None:
        """Delete old jobs, the states of trainings and the parts of extractions that were given up, and the log's beginning."""
        queue.limit_log(self.home)
        with suppress(OSError):
            queue.sweep(self.home)
        for parts in (self.home / "features").glob(".*.parts"):
            with suppress(OSError):
                written = [file.stat().st_mtime for file in (parts, *parts.iterdir())]
                if time.time() - max(written) > STATE_SECONDS:
                    paths.remove(parts)
        for state in (self.home / "checkpoints").glob("*.pt"):
            with suppress(OSError):
                if time.time() - state.stat().st_mtime > STATE_SECONDS:
                    state.unlink()


@functools.cache
def _warm_up() -> None:
    """Load what takes seconds and only some jobs need, while there is none: torch itself was loaded at the start. A job that
    comes meanwhile does not wait for it."""
    reader_process.start()
    threading.Thread(target=public_networks.torchvision_models, daemon=True).start()


def work(home: Path, job_id: str) -> None:
    """Do one job and write how it ended; only the death of this process prevents that."""
    status = queue.status(home, job_id)
    if status.ended:
        queue.end(home, job_id, status.state, status.message)
        return
    starts = starts_without_progress(queue.events(home, job_id))
    if starts >= queue.ATTEMPTS:
        queue.end(
            home, job_id, "failed", f"The worker died {starts} times on this job. Is there enough memory? See the log."
        )
        return
    reports = queue.open_reports(home, job_id)
    reports.start()
    try:
        with _cancellable(home, job_id):
            result = kinds.run(home, status.job, lambda progress: _report(home, job_id, progress, reports))
        queue.end(home, job_id, "done", result=result)
    except Paused:
        reports.paused()
    except Cancelled as stop:
        queue.end(home, job_id, "cancelled", "Cancelled. Finished runs and cached features were kept.")
        if isinstance(stop, Interrupted):
            start_anew()  # what was interrupted may have left this process's memory inconsistent
    except Exception as error:  # no job may end the worker
        wrong = as_input_error(error)
        if wrong is not error:
            log.exception("job %s failed", job_id)
        fault = f"Internal error ({type(error).__name__}). The log has the details."
        details = {
            "candidates": list(wrong.candidates) if wrong else [],
            "keys": getattr(wrong, "keys", {}),
            "weight_sets": getattr(wrong, "weight_sets", []),
        }
        queue.end(home, job_id, "failed", str(wrong or fault), details)


def _report(home: Path, job_id: str, progress: Progress, reports: Reports) -> None:
    if queue.is_cancelled(home, job_id):
        raise Cancelled
    if queue.is_paused(home, job_id):
        raise Paused
    reports.report(progress)


@contextmanager
def _cancellable(home: Path, job_id: str) -> Iterator[None]:
    """While this is open, a request to cancel the job ends it one way or another: see the top of this module."""
    finished = threading.Event()
    watcher = threading.Thread(target=_enforce_cancel, args=(home, job_id, finished), daemon=True)
    watcher.start()
    with _interruptible():
        try:
            yield
        finally:
            finished.set()


def _enforce_cancel(home: Path, job_id: str, finished: threading.Event) -> None:
    while not finished.wait(0.5):
        if not queue.is_cancelled(home, job_id) or finished.wait(INTERRUPT_SECONDS):
            continue
        if INTERRUPT is not None:
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)
        if not finished.wait(queue.CANCEL_GRACE_SECONDS - INTERRUPT_SECONDS):
            queue.end(home, job_id, "cancelled", "Cancelled.")
            start_anew()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let ``INTERRUPT`` raise Cancelled in the main thread, even where it waits for a network or a lock."""

    def cancel(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    if INTERRUPT is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(INTERRUPT, cancel)
    try:
        yield
    finally:
        signal.signal(INTERRUPT, before if before is not signal.SIG_DFL else signal.SIG_IGN)


def start_anew() -> None:
    """Replace this process by a new worker, whatever its threads are doing."""
    paths.remove_unfinished()
    os.execv(sys.executable, queue.worker_command(Path(sys.argv[1]), sys.argv[2]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
