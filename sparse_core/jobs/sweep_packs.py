"""Sweeps on a SLURM cluster: a sweep's tasks as job arrays, one array for each kind of work and each step of what needs what.

Nodes and the machine that submits share the home folder. Nothing coordinates them but SLURM and whole files: the ids of all jobs
are in the sweep's state before anything is submitted, each task writes its own folder of ``jobs/``, and what it makes is found
there by those that need it. So neither a server nor a file lock is needed, which a network file system may not have.
"""

import dataclasses
import heapq
import importlib
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sparse_core import stored
from sparse_core.errors import Cancelled, InputError
from sparse_core.jobs import queue, slurm, sweep_files, sweeps
from sparse_core.jobs.kinds import Job
from sparse_core.jobs.sweep_checks import Finished, require_possible
from sparse_core.jobs.sweep_files import State, TaskState
from sparse_core.jobs.sweep_seconds import Seconds, features_of
from sparse_core.paths import write_text
from sparse_core.specs.progress import Progress
from sparse_core.specs.slurm import SlurmSpec
from sparse_core.specs.sweep import Plan, Task

SHARD_SECONDS = 600.0  # of an extraction of features; longer ones are cut into shards
PACK_SECONDS = 600.0  # of short tasks that share a SLURM task, whose start takes some seconds
USUAL_PROBE_SECONDS = 60.0  # where nothing was measured yet
LOOK_SECONDS = 5.0  # between looks at whether the sweep was stopped
CHECK_SECONDS = 120.0  # for the check of the home folder to start: a busy cluster is not waited for
PARALLEL = 1000  # tasks at once where the user names no number: SLURM decides


@dataclass(frozen=True)
class Pack(slurm.Requeued):
    """Tasks of a sweep that one SLURM task does one after another."""

    home: Path
    sweep_id: str
    keys: tuple[str, ...]

    def __call__(self) -> None:
        _worker()  # loads torch once, before the first task is said to run
        for key in self.keys:
            _do(self.home, self.sweep_id, key)


@dataclass(frozen=True)
class Shard(slurm.Requeued):
    """Part ``number`` of ``count`` of the features that a probe needs. Ends with its sweep; what it leaves, the probe makes."""

    home: Path
    sweep_id: str
    key: str
    number: int
    count: int

    def __call__(self) -> None:
        plan, state = sweep_files.read(self.home, self.sweep_id)
        task = next(each for each in plan.tasks if each.key == self.key)
        before = {name: sweeps.outcome(self.home, state.tasks[name]) for name in task.after}
        if any(each.state != "done" for each in before.values()):
            return
        looked_at = 0.0

        def report(_: Progress) -> None:
            nonlocal looked_at
            if time.monotonic() - looked_at > LOOK_SECONDS:
                looked_at = time.monotonic()
                if sweep_files.read(self.home, self.sweep_id)[1].state != "running":
                    raise Cancelled

        # By name: the worker alone imports torch.
        runs = importlib.import_module("sparse_core.transfer.runs")
        with suppress(Cancelled):
            runs.extract_shard(self.home, sweeps.named(task, before), self.number, self.count, report)


@dataclass(frozen=True)
class HomeCheck(slurm.Requeued):
    """Whether a node sees what the submitting machine wrote."""

    file: Path

    def __call__(self) -> None:
        write_text(self.file.with_name("answer"), self.file.read_text(encoding="utf-8"))


def submit(home: Path, plan: Plan, spec: SlurmSpec, parallel: int | None = None, *, retry: bool = False) -> str:
    """Submit what is missing of a sweep to SLURM and return the sweep's id. What failed is submitted again if ``retry``.

    Raises InputError where SLURM is missing or refuses, where nodes do not see the home folder, for a time limit that is shorter
    than a run, and for a sweep that runs already.
    """
    slurm.require_available(spec)
    require_possible(home, plan)
    sweep_files.create(home, plan, State("paused", parallel or PARALLEL, executor="slurm"))
    before = sweeps.status(home, plan.id)
    if before.state == "running" and before.count("running", "waiting"):
        where = "on SLURM" if sweep_files.read(home, plan.id)[1].executor == "slurm" else "on this machine"
        done = f"{before.count('done')} of {before.total} runs are done"
        raise InputError(f"The sweep '{plan.name}' runs {where} already; {done}. --cancel stops it.")
    tasks = _new_states(home, plan, retry)
    new = [task for task in plan.tasks if task.key in tasks and not tasks[task.key].state]
    estimates = Seconds(home, plan)
    state = State("running", parallel or PARALLEL, tasks, "slurm", dataclasses.asdict(spec))
    _require_time(new, estimates, spec, state.parallel)
    if not new:
        sweep_files.write_state(home, plan.id, dataclasses.replace(state, state="ended"))
        return plan.id
    folder = sweep_files.folder(home, plan.id) / "slurm"
    checked = _check_home(folder, plan, spec)
    sweep_files.write_state(home, plan.id, state)
    try:
        for keys, job_id in _submit_arrays(home, plan, new, estimates, spec, state.parallel, checked).items():
            tasks |= {key: dataclasses.replace(tasks[key], slurm=job_id) for key in keys}
    except InputError:
        sweep_files.write_state(home, plan.id, dataclasses.replace(state, state="cancelled", tasks=_over(tasks)))
        raise
    sweep_files.write_state(home, plan.id, dataclasses.replace(state, tasks=tasks))
    return plan.id


def resume(home: Path, sweep_id: str) -> None:
    """Submit what is missing of a sweep to SLURM again, what failed too, with the options of its last submission.

    Raises InputError as ``submit`` does.
    """
    plan, state = sweep_files.read(home, sweep_id)
    submit(home, plan, stored.made(SlurmSpec, state.slurm), state.parallel, retry=True)


def _new_states(home: Path, plan: Plan, retry: bool) -> dict[str, TaskState]:
    """A state for each task: as it was, found, or with the id of a new job."""
    _, state = sweep_files.read(home, plan.id)
    known = {key: sweeps.outcome(home, each) for key, each in state.tasks.items()}
    finished, tasks = Finished(home), dict[str, TaskState]()
    for task in plan.tasks:
        before = known.get(task.key)
        if before and (before.state == "failed" and not retry):
            tasks[task.key] = before
            continue
        there = all(tasks[name].state == "done" for name in task.after)
        made = finished.find(task, sweeps.named(task, tasks)) if there else None
        tasks[task.key] = (
            TaskState(job=queue.new_id(), lane=queue.SLURM)
            if made is None
            else TaskState(job=before.job if before else "", state="done", found=True, made=made)
        )
    return tasks


def _require_time(tasks: Sequence[Task], estimates: Seconds, spec: SlurmSpec, parallel: int) -> None:
    """A finetuning longer than the limit goes on in the next SLURM task, but an epoch has to fit, and a probe as a whole without
    the features that others extract. What is not known yet is not refused."""
    for task in tasks:
        what, seconds = "probe", estimates.of(task)
        if task.kind in ("finetune", "finetune_detector"):
            what, seconds = "epoch", estimates.of_epoch(task)
        elif seconds is not None and _shard_count(task, estimates, spec, parallel) > 1:
            seconds -= estimates.of_features(task) or 0.0
        if seconds is not None and task.kind != "sparsify" and seconds > spec.time * 3600:
            raise InputError(
                f"--time {spec.time:g} hours are too short for the {what} of {task.spec.backbone} on {task.spec.dataset}, which "
                f"takes about {seconds / 3600:.2g} hours on a machine like this one."
            )


def _check_home(folder: Path, plan: Plan, spec: SlurmSpec) -> list[str]:
    """Let a node read what was just written; returns the jobs that the others wait for, where the cluster is too busy to wait."""
    token = secrets.token_hex(8)
    write_text(folder / "token", token)
    answer = folder / "answer"
    answer.unlink(missing_ok=True)
    small = dataclasses.replace(spec, time=0.1, gpus=0, cpus=1, memory=1)
    ids = slurm.submit(folder, f"{plan.name}-check", [HomeCheck(folder / "token")], small, 1)
    deadline = time.monotonic() + CHECK_SECONDS
    while time.monotonic() < deadline:
        if answer.exists() and answer.read_text(encoding="utf-8") == token:
            return []
        if slurm.present(ids) == set():
            time.sleep(2 * slurm.LOOK_SECONDS)  # a network file system may show a file some seconds later
            if not answer.exists():
                raise InputError(
                    f"A node of the cluster could not read and write the home folder at {folder.parents[2]}. Keep it on a file "
                    f"system that all nodes see: set SPARSE_TRANSFER_HOME. The log is in {folder}."
                )
        time.sleep(0.5)
    return ids


def _submit_arrays(
    home: Path, plan: Plan, new: Sequence[Task], estimates: Seconds, spec: SlurmSpec, parallel: int, after: list[str]
) -> dict[tuple[str, ...], str]:
    """The SLURM job of each pack, by its tasks' keys."""
    folder, home = sweep_files.folder(home, plan.id) / "slurm", home.absolute()
    jobs: dict[tuple[str, ...], str] = {}
    arrays: dict[str, str] = {}  # a task's array

    def submitted(name: str, work: Sequence[slurm.Requeued], needed: set[str]) -> list[str]:
        return slurm.submit(folder, f"{plan.name}-{name}", work, spec, parallel, sorted(needed))

    try:
        for name, tasks, shards in _arrays(new, estimates, spec, parallel):
            needed = {arrays[key] for task in tasks for key in task.after if key in arrays} or set(after)
            if shards:
                work = [Shard(home, plan.id, *shard) for shard in shards]
                needed = {_array(submitted(f"{name}-features", work, needed))}
            packs = packed(tasks, estimates.of, parallel)
            ids = submitted(name, [Pack(home, plan.id, keys) for keys in packs], needed)
            jobs |= dict(zip(packs, ids, strict=True))
            arrays |= dict.fromkeys((task.key for task in tasks), _array(ids))
    except InputError:
        slurm.cancel(jobs.values())
        raise
    return jobs


def _array(ids: Sequence[str]) -> str:
    return ids[0].partition("_")[0]


def _arrays(
    new: Sequence[Task], estimates: Seconds, spec: SlurmSpec, parallel: int
) -> Iterator[tuple[str, list[Task], list[tuple[str, int, int]]]]:
    """The tasks of each array with its name and the shards that come before it: a task that needs these features, the shard's
    number, and their count. Probes that wait for no shards have an array of their own."""
    for step, tasks in enumerate(_steps(new)):
        for kind in dict.fromkeys(task.kind for task in tasks):
            counts = {task: _shard_count(task, estimates, spec, parallel) for task in tasks if task.kind == kind}
            whole = [task for task, count in counts.items() if count == 1]
            large = {features_of(task): task for task, count in counts.items() if count > 1}
            if whole:
                yield f"{step + 1}-{kind}", whole, []
            if large:
                shards = [(task.key, number, counts[task]) for task in large.values() for number in range(counts[task])]
                yield f"{step + 1}-{kind}-large", [task for task in counts if task not in whole], shards


def _shard_count(task: Task, estimates: Seconds, spec: SlurmSpec, parallel: int) -> int:
    """How many SLURM tasks extract the features of a probe."""
    if task.kind != "probe":
        return 1
    return spec.shards or min(parallel, max(1, math.ceil((estimates.of_features(task) or 0.0) / SHARD_SECONDS)))


def _steps(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks by how many others have to come before them, one after another."""
    depths: dict[str, int] = {}
    for task in tasks:
        depths[task.key] = 1 + max((depths[name] for name in task.after if name in depths), default=-1)
    return [[task for task in tasks if depths[task.key] == depth] for depth in range(max(depths.values()) + 1)]


def packed(tasks: Sequence[Task], seconds: Callable[[Task], float | None], parallel: int) -> list[tuple[str, ...]]:
    """The keys of tasks that share a SLURM task: probes of one backbone and dataset, which share features; and short ones, evenly
    and about ``PACK_SECONDS`` together, but never so many that fewer than ``parallel`` run at once. A probe of unknown length
    counts as ``USUAL_PROBE_SECONDS``; another such task stands alone."""
    groups: dict[tuple[str, ...], list[Task]] = {}
    for task in tasks:
        shared = (task.spec.backbone, task.spec.dataset) if task.kind == "probe" else (task.key,)
        groups.setdefault(shared, []).append(task)

    def length(group: list[Task]) -> float:
        unknown = USUAL_PROBE_SECONDS if group[0].kind == "probe" else math.inf
        known = [seconds(task) for task in group]
        return sum(unknown if each is None else each for each in known)

    by_length = sorted(((length(group), [task.key for task in group]) for group in groups.values()), reverse=True)
    packs = [keys for filled, keys in by_length if filled > PACK_SECONDS]
    short = by_length[len(packs) :]
    count = min(len(short), max(parallel, math.ceil(sum(filled for filled, _ in short) / PACK_SECONDS)))
    shared_packs: list[tuple[float, int, list[str]]] = [(0.0, number, []) for number in range(count)]
    for each, keys in short:
        filled, number, before = heapq.heappop(shared_packs)
        heapq.heappush(shared_packs, (filled + each, number, before + keys))
    return [tuple(keys) for keys in [*packs, *(keys for _, _, keys in sorted(shared_packs, key=lambda each: each[1]))]]


def _do(home: Path, sweep_id: str, key: str) -> None:
    """Do a task of the sweep, unless it was stopped or what the task needs is missing."""
    plan, state = sweep_files.read(home, sweep_id)
    task = next(each for each in plan.tasks if each.key == key)
    known = state.tasks.get(key)
    before = {name: sweeps.outcome(home, state.tasks[name]) for name in task.after}
    if state.state != "running" or known is None or any(each.state != "done" for each in before.values()):
        return
    queue.place(home, Job(task.kind, sweeps.named(task, before), task.seeds), queue.SLURM, known.job)
    with queue.alive(home, known.job):
        _worker().work(home, known.job)


def _worker() -> ModuleType:
    """By name: nothing else here imports torch."""
    return importlib.import_module("sparse_core.jobs.worker")


def _over(tasks: dict[str, TaskState]) -> dict[str, TaskState]:
    return {key: each for key, each in tasks.items() if each.state}
