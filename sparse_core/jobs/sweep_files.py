"""Sweeps on disk. ``sweeps/<id>/`` holds ``plan.json``, which never changes, and ``state.json``; both are written whole.

``queue/sweeps/<id>`` exists while the sweep goes on, so that workers look at no others. Sweeps that cannot be read are left out
and named: see ``stored``.
"""

import dataclasses
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_core import stored
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import atomic_folder, write_text
from sparse_core.specs.checks import require_known
from sparse_core.specs.identity import parse
from sparse_core.specs.sweep import KINDS, Plan, Task, in_order

STATES = ("running", "paused", "cancelled", "ended")


@dataclass(frozen=True)
class TaskState:
    """What is known of a task: its ``job`` and that job's ``lane``; once over, its ``state`` (done or failed), whether all its
    runs were ``found`` finished, the ``message`` of a failure, and the name under which a network was ``made``. ``slurm`` is the
    SLURM job that does it."""

    job: str = ""
    lane: str = ""
    state: str = ""
    message: str = ""
    found: bool = False
    made: str = ""
    slurm: str = ""


@dataclass(frozen=True)
class State:
    """The ``state`` of a sweep, how many tasks run side by side, what is known of the tasks that were begun, and the
    ``executor``: local or slurm, then with the options of its tasks (the fields of ``SlurmSpec``)."""

    state: str
    parallel: int
    tasks: dict[str, TaskState] = field(default_factory=dict)
    executor: str = "local"
    slurm: dict[str, Any] = field(default_factory=dict)


def create(home: Path, plan: Plan, state: State) -> None:
    """Write a new sweep; one that is there stays as it is."""
    document = {"name": plan.name, "created_at": time.time(), "parallel": plan.parallel}
    document["tasks"] = [dataclasses.asdict(task) for task in plan.tasks]
    with atomic_folder(folder(home, plan.id)) as temporary:
        (temporary / "plan.json").write_text(json.dumps(document), encoding="utf-8")
        (temporary / "state.json").write_text(json.dumps(dataclasses.asdict(state)), encoding="utf-8")


def write_state(home: Path, sweep_id: str, state: State) -> None:
    """Keep the state, and mark the sweep as one that goes on by this machine's workers, or take the mark away."""
    goes_on = state.state == "running" and state.executor == "local"
    if goes_on:
        write_text(_mark(home, sweep_id), "")
    write_text(folder(home, sweep_id) / "state.json", json.dumps(dataclasses.asdict(state)))
    if not goes_on:
        drop_mark(home, sweep_id)


def drop_mark(home: Path, sweep_id: str) -> None:
    """Let workers look at the sweep no more."""
    _mark(home, sweep_id).unlink(missing_ok=True)


def read(home: Path, sweep_id: str) -> tuple[Plan, State]:
    """A sweep's plan and state. Raises InputError for an unknown id, and for one that this version cannot read."""
    found = find(home, sweep_id)
    if found is None:
        if folder(home, sweep_id).is_dir():
            raise InputError(
                f"The sweep '{sweep_id}' cannot be read; it is damaged or of another version. Start it again."
            )
        raise unknown_name("sweep", sweep_id, names(home))
    return found


def find(home: Path, sweep_id: str) -> tuple[Plan, State] | None:
    """``read``, or None where the sweep is gone or left out."""
    place = folder(home, sweep_id)
    with stored.reading(place):
        return _plan(json.loads((place / "plan.json").read_bytes())), _state(
            json.loads((place / "state.json").read_bytes())
        )
    return None


def names(home: Path) -> list[str]:
    """All sweeps, the newest first."""
    with suppress(OSError), os.scandir(home / "sweeps") as entries:
        found = [(entry.stat().st_ctime_ns, entry.name) for entry in entries if not entry.name.startswith(".")]
        return [name for _, name in sorted(found, reverse=True)]
    return []


def active(home: Path) -> list[str]:
    """The sweeps that go on."""
    with suppress(OSError), os.scandir(home / "queue" / "sweeps") as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return []


def folder(home: Path, sweep_id: str) -> Path:
    """The folder of a sweep."""
    return home / "sweeps" / Path(sweep_id).name


def _mark(home: Path, sweep_id: str) -> Path:
    return home / "queue" / "sweeps" / sweep_id


def _plan(document: Any) -> Plan:
    stored.require(document, {"name": str, "parallel": int, "tasks": list})
    return Plan(document["name"], in_order(map(_task, document["tasks"])), document["parallel"])


def _task(document: Any) -> Task:
    stored.require(document, {"key": str, "kind": str, "spec": dict, "seeds": list, "after": list}, where=" of a task")
    require_known("kind", document["kind"], KINDS)
    seeds, after = tuple(document["seeds"]), tuple(document["after"])
    if not seeds or not all(type(seed) is int for seed in seeds) or not all(isinstance(name, str) for name in after):
        raise InputError(f"'seeds' or 'after' of the task '{document['key']}' are of the wrong type")
    return Task(document["key"], document["kind"], parse(KINDS[document["kind"]], document["spec"]), seeds, after)


def _state(document: Any) -> State:
    state = stored.made(State, document)
    require_known("state", state.state, STATES)
    tasks = {key: stored.made(TaskState, value) for key, value in state.tasks.items()}
    return dataclasses.replace(state, parallel=max(1, state.parallel), tasks=tasks)
