"""Sweeps on this machine: many runs with what they need before them, done as jobs of the queue.

A sweep is started by ``submit``; from then on the workers take it further (``advance``), whether a page or a terminal looks on
or not. Only as many of its jobs are queued as run side by side, so that other work comes in between. A kill loses nothing: a
job's id is written before it is submitted, a job that was killed goes on from its saved state, and what is finished is found.

That is the local executor. On a cluster SLURM starts the tasks instead (``sweep_packs``); the rest is the same here.
"""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sparse_core.errors import InputError
from sparse_core.file_locks import hold
from sparse_core.jobs import queue, slurm, sweep_files
from sparse_core.jobs.kinds import Job
from sparse_core.jobs.schedule import makespan
from sparse_core.jobs.sweep_checks import Finished, require_possible
from sparse_core.jobs.sweep_files import State, TaskState
from sparse_core.jobs.sweep_seconds import Seconds
from sparse_core.specs.progress import Progress
from sparse_core.specs.sweep import Plan, Spec, Task

LANE = "long"  # of a sweep whose tasks run one after another
LOCK_SECONDS = 10.0
LOG_CHARACTERS = 20_000  # of a log, its end


@dataclass(frozen=True)
class TaskStatus:
    """A task and its ``state``: done, running, waiting, failed, or blocked (it needs one that failed). ``found`` means that its
    runs were finished before the sweep, and ``made`` is the name of the network that it made or found."""

    task: Task
    state: str
    message: str = ""
    found: bool = False
    job_id: str = ""
    progress: Progress = dataclasses.field(default_factory=lambda: Progress(""))
    made: str = ""


@dataclass(frozen=True)
class SweepStatus:
    """How far a sweep is. ``state`` is running, paused, cancelled or ended. The counts are of runs, one for each seed;
    ``waiting`` includes ``blocked``, those that need one that failed. ``seconds_left`` is None where nothing was measured yet."""

    sweep_id: str
    name: str
    state: str
    parallel: int
    tasks: tuple[TaskStatus, ...]
    seconds_left: float | None

    def count(self, *states: str) -> int:
        """The runs of the tasks in one of these states."""
        return sum(len(each.task.seeds) for each in self.tasks if each.state in states)

    @property
    def total(self) -> int:
        """All runs."""
        return sum(len(each.task.seeds) for each in self.tasks)

    @property
    def failures(self) -> list[TaskStatus]:
        """The tasks that failed, each with its message."""
        return [each for each in self.tasks if each.state == "failed"]

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state."""
        return {
            "done": self.count("done"),
            "running": self.count("running"),
            "waiting": self.count("waiting", "blocked"),
            "failed": self.count("failed"),
            "blocked": self.count("blocked"),
            "total": self.total,
        }


def submit(home: Path, plan: Plan, parallel: int | None = None) -> str:
    """Start a sweep, or go on with it, and return its id, which the same plan always has. What failed stays so: see ``retry``.

    Raises InputError where a backbone or dataset does not exist, or the name of a new network belongs to another one.
    """
    require_possible(home, plan)
    sweep_files.create(home, plan, State("paused", parallel or plan.parallel))
    if sweep_files.read(home, plan.id)[1].executor != "local" and status(home, plan.id).state == "running":
        raise InputError(f"The sweep '{plan.name}' runs on SLURM. Cancel it first, or follow it with --executor slurm.")
    resume(home, plan.id, parallel)
    return plan.id


def resume(home: Path, sweep_id: str, parallel: int | None = None) -> None:
    """Go on with a paused or cancelled sweep. One that has ended is looked through again for what is missing."""
    with _alone(home, sweep_id):
        _, state = sweep_files.read(home, sweep_id)
        kept = {key: each for key, each in state.tasks.items() if each.state != "done" or state.state != "ended"}
        if state.executor != "local":
            kept = {key: each for key, each in kept.items() if each.state}
        _let_go_on(home, sweep_id, State("running", parallel or state.parallel, kept))


def pause(home: Path, sweep_id: str) -> None:
    """Stop at the next report of what runs; ``resume`` goes on from the saved states."""
    with _alone(home, sweep_id):
        _, state = sweep_files.read(home, sweep_id)
        if state.state == "running":
            sweep_files.write_state(home, sweep_id, dataclasses.replace(state, state="paused"))
            for each in _begun(state):
                queue.pause(home, each.job)
            slurm.cancel(each.slurm for each in _begun(state) if each.slurm)


def cancel(home: Path, sweep_id: str) -> None:
    """Stop, and give up what runs. Finished runs stay; ``resume`` begins the others anew."""
    with _alone(home, sweep_id):
        _, state = sweep_files.read(home, sweep_id)
        kept = {key: each for key, each in state.tasks.items() if each.state}
        sweep_files.write_state(home, sweep_id, dataclasses.replace(state, state="cancelled", tasks=kept))
        slurm.cancel(each.slurm for each in _begun(state) if each.slurm)
        for each in _begun(state):
            if queue.find(home, each.job):
                queue.cancel(home, each.job)


def retry(home: Path, sweep_id: str, parallel: int | None = None) -> None:
    """Try the failed tasks again, and go on."""
    with _alone(home, sweep_id):
        _, state = sweep_files.read(home, sweep_id)
        kept = {key: each for key, each in state.tasks.items() if each.state != "failed"}
        _let_go_on(home, sweep_id, State("running", parallel or state.parallel, kept))


def status(home: Path, sweep_id: str) -> SweepStatus:
    """How far the sweep is. Raises InputError for an unknown one, and for one that cannot be read."""
    return _status(home, sweep_id, *sweep_files.read(home, sweep_id))


def log(home: Path, sweep_id: str, key: str) -> str:
    """The end of what a task logged: on SLURM its own log, else what the workers' log says from the task's start on."""
    known = sweep_files.read(home, sweep_id)[1].tasks.get(key)
    if known is None:
        return ""
    folder = sweep_files.folder(home, sweep_id) / "slurm"
    files = sorted(folder.glob(f"{known.slurm}_*_log.*")) if known.slurm else []
    parts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return ("\n".join(parts) if known.slurm else queue.log_of(home, known.job))[-LOG_CHARACTERS:]


def recent(home: Path, limit: int = 20) -> list[SweepStatus]:
    """The newest sweeps; those that cannot be read are left out."""
    found = ((name, sweep_files.find(home, name)) for name in sweep_files.names(home)[:limit])
    return [_status(home, name, *known) for name, known in found if known]


def advance(home: Path, sweep_id: str) -> None:
    """Note what has ended, and submit what can start now. Called by workers; nothing where another one does so."""
    found = sweep_files.find(home, sweep_id)
    if found is None:  # it is gone or cannot be read, so nothing can be started for it
        sweep_files.drop_mark(home, sweep_id)
        return
    plan, state = found
    there = _look(home, plan, state)  # not under the lock: a dataset that is opened for the first time may take minutes
    with hold(_lock(home, sweep_id)) as held:
        found = sweep_files.find(home, sweep_id) if held else None
        if found and found[1].state == "running":
            _advance(home, sweep_id, plan, found[1], there)


def _look(home: Path, plan: Plan, state: State) -> dict[str, str | None]:
    """Of the tasks that may start next, up to as many new ones as run side by side: None, or what ``Finished.find`` found."""
    tasks = {key: outcome(home, each) for key, each in state.tasks.items()}
    free = state.parallel - sum(not each.state for each in tasks.values())
    finished = None
    found: dict[str, str | None] = {}
    for task in plan.tasks:
        if sum(each is None for each in found.values()) >= free:
            break
        if task.key not in tasks and all(_is_done(tasks, name) for name in task.after):
            finished = finished or Finished(home)
            found[task.key] = made = finished.find(task, named(task, tasks))
            if made is not None:
                tasks[task.key] = TaskState(state="done", found=True, made=made)
    return found


def _advance(home: Path, sweep_id: str, plan: Plan, state: State, there: dict[str, str | None]) -> None:
    tasks = {key: outcome(home, each) for key, each in state.tasks.items()}
    left = False
    for task in plan.tasks:
        if task.key in tasks or not all(_is_done(tasks, name) for name in task.after):
            continue
        made = there.get(task.key)
        if made is not None:
            tasks[task.key] = TaskState(state="done", found=True, made=made)
        elif task.key in there and (lane := _free_lane(tasks, state.parallel)):
            tasks[task.key] = TaskState(job=queue.new_id(), lane=lane)
        else:
            left = True
    goes_on = left or any(not each.state for each in tasks.values())
    after = State("running" if goes_on else "ended", state.parallel, tasks)
    if after != state:
        sweep_files.write_state(home, sweep_id, after)
    for task in plan.tasks:
        each = tasks.get(task.key)
        if each and not each.state:
            _ensure_submitted(home, task, each, tasks)


def _ensure_submitted(home: Path, task: Task, each: TaskState, tasks: dict[str, TaskState]) -> None:
    """Submit the job of a task unless that was done, and start its worker unless it runs."""
    if queue.exists(home, each.job):
        queue.ensure_worker(home, each.lane)
    else:
        queue.submit(home, Job(task.kind, named(task, tasks), task.seeds), lane=each.lane, job_id=each.job)


def _free_lane(tasks: dict[str, TaskState], parallel: int) -> str:
    """A lane for one more task; empty where as many run as may."""
    busy = [each.lane for each in tasks.values() if not each.state]
    lanes = [LANE] if parallel == 1 else [queue.part_lane(number, parallel) for number in range(parallel)]
    return next((lane for lane in lanes if lane not in busy), "") if len(busy) < parallel else ""


def outcome(home: Path, known: TaskState) -> TaskState:
    """What is known of a task, with how its job has ended."""
    if known.state or not queue.exists(home, known.job):
        return known
    found = queue.find(home, known.job)
    if found is None:
        return dataclasses.replace(known, state="failed", message="Its job cannot be read; it is damaged.")
    if not found.ended:
        return known
    if found.state != "done":
        return dataclasses.replace(known, state="failed", message=found.message or found.state)
    result = found.result
    runs, backbones = result.get("runs", []), result.get("backbones", [])
    name = backbones[0].get("name") if backbones and isinstance(backbones[0], dict) else ""
    all_found = len(result["found"]) == len(runs or backbones)
    return dataclasses.replace(known, state="done", found=all_found, made=str(name or ""))


def named(task: Task, tasks: dict[str, TaskState]) -> Spec:
    """The task's spec; a network that was there before, under another name, is called by that one."""
    names = {key: tasks[key].made for key in task.after if tasks[key].made}
    return dataclasses.replace(task.spec, backbone=names.get(task.spec.backbone, task.spec.backbone))


def _is_done(tasks: dict[str, TaskState], key: str) -> bool:
    return key in tasks and tasks[key].state == "done"


def _begun(state: State) -> list[TaskState]:
    return [each for each in state.tasks.values() if not each.state]


def _let_go_on(home: Path, sweep_id: str, state: State) -> None:
    for each in _begun(state):
        queue.unpause(home, each.job)
    sweep_files.write_state(home, sweep_id, dataclasses.replace(state, state="running"))
    queue.ensure_worker(home, LANE)


def _status(home: Path, sweep_id: str, plan: Plan, state: State) -> SweepStatus:
    tasks: dict[str, TaskStatus] = {}
    on_slurm = (
        slurm.present(each.slurm for each in _begun(state)) if any(each.slurm for each in _begun(state)) else None
    )
    for task in plan.tasks:
        tasks[task.key] = _task_status(home, task, state.tasks.get(task.key), tasks, on_slurm)
    left = {each.task.key: each for each in tasks.values() if each.state in ("running", "waiting")}
    running_first = sorted((each.task for each in left.values()), key=lambda task: left[task.key].state != "running")
    estimates = Seconds(home, plan)

    def seconds(task: Task) -> float | None:
        reported = left[task.key].progress.seconds_left if left[task.key].state == "running" else None
        return estimates.of(task) if reported is None else reported

    whole = makespan(running_first, seconds, state.parallel)
    ended = state.executor != "local" and state.state == "running" and not left
    return SweepStatus(
        sweep_id, plan.name, "ended" if ended else state.state, state.parallel, tuple(tasks.values()), whole
    )


def _task_status(
    home: Path, task: Task, known: TaskState | None, before: dict[str, TaskStatus], on_slurm: set[str] | None
) -> TaskStatus:
    blocked = any(before[name].state in ("failed", "blocked") for name in task.after)
    if known is None:
        return TaskStatus(task, "blocked" if blocked else "waiting")
    known = outcome(home, known)
    if known.state:
        return TaskStatus(task, known.state, known.message, known.found, known.job, made=known.made)
    if known.slurm and on_slurm is not None and known.slurm not in on_slurm:
        message = f"SLURM's job {known.slurm} ended without a result. Its log is in the sweep's folder 'slurm'."
        return TaskStatus(task, "blocked") if blocked else TaskStatus(task, "failed", message, job_id=known.job)
    found = queue.find(home, known.job)
    running = found is not None and found.state == "running"
    progress = found.progress if found else Progress("")
    return TaskStatus(task, "running" if running else "waiting", job_id=known.job, progress=progress)


@contextmanager
def _alone(home: Path, sweep_id: str) -> Iterator[None]:
    """Hold the sweep's lock. Raises InputError for an unknown sweep, and where another process keeps the lock."""
    sweep_files.read(home, sweep_id)
    deadline = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < deadline:
        with hold(_lock(home, sweep_id)) as held:
            if held:
                yield
                return
        time.sleep(0.02)
    raise InputError(f"The sweep '{sweep_id}' is in use by another process. Try again.")


def _lock(home: Path, sweep_id: str) -> Path:
    return sweep_files.folder(home, sweep_id) / "lock"
