"""A sweep on a page: one progress over all its runs, pause and resume, what failed, and retrying it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import streamlit as st

from pages.parts import frame
from pages.parts.frame import home
from sparse_core.jobs import queue, slurm, sweep_files, sweep_packs, sweeps
from sparse_core.jobs.sweeps import SweepStatus, TaskStatus
from sparse_core.networks import library
from sparse_core.specs.sweep import Task
from sparse_core.views import labels
from sparse_core.views import sweeps as views

LOOKED_AT = 5  # of the newest sweeps, for one that goes on
SHOWN_FAILURES = 5
GONE = "was started on another machine, or its state was deleted."
_OF_JOBS = {"queued": "waiting", "running": "running", "done": "done", "failed": "failed", "cancelled": "failed"}


def shown_sweep(*kinds: str) -> SweepStatus | None:
    """The sweep that the link names; where it names nothing, the newest with such work that goes on or is paused."""
    sweep_id = st.query_params.get("sweep_id")
    if sweep_id:
        found = _read(sweep_id)
        if found is None:
            st.info(f"The sweep that this link names {GONE}")
        return found
    for name in [] if "job" in st.query_params else sweep_files.names(home())[:LOOKED_AT]:
        known = sweep_files.find(home(), name)
        if known and known[1].state in ("running", "paused") and any(task.kind in kinds for task in known[0].tasks):
            return _read(name)
    return None


def of_jobs(job_ids: Sequence[str]) -> SweepStatus:
    """Jobs as a sweep shows its own: links of earlier versions name each. Those that are gone are left out."""
    tasks = []
    for job_id in job_ids:
        found = queue.find(home(), job_id)
        if found is None:
            continue
        job, backbones = found.job, found.result.get("backbones", [])
        task = Task(job_id, job.kind, job.spec, job.seeds)
        status = TaskStatus(task, _OF_JOBS[found.state], found.message, job_id=job_id, progress=found.progress)
        made = str(backbones[0].get("name", "")) if backbones else ""
        tasks.append(dataclasses.replace(status, made=made, found=bool(found.result.get("found"))))
    left = [each for each in tasks if each.state in ("running", "waiting")]
    return SweepStatus("", "", "running" if left else "ended", 1, tuple(tasks), None)


def show(status: SweepStatus) -> None:
    """The progress with its buttons, and what failed."""
    ids = [each.job_id for each in status.tasks] if not status.sweep_id else []
    over = status.state in ("ended", "cancelled")
    st.fragment(_progress, run_every=None if over else 1.0)(status.sweep_id, ids)
    _failures(status)


def names(status: SweepStatus) -> dict[str, str]:
    """Names for the backbones of a sweep."""
    cards = {card.name: labels.backbone_label(card) for card in library.available(home())}
    return views.names((each.task for each in status.tasks), cards)


@frame.errors_as_messages()
def _progress(sweep_id: str, job_ids: list[str]) -> None:
    """One bar over all runs, and the stage of the one that goes on; the page runs again whenever one has ended."""
    status = _read(sweep_id) if sweep_id else of_jobs(job_ids)
    if status is None:
        st.rerun()
    states = (status.state, [each.state for each in status.tasks])
    key = f"states_{sweep_id or job_ids[:1]}"
    before = st.session_state.get(key, states)
    st.session_state[key] = states
    if states != before:
        st.rerun()
    if status.state == "ended":
        st.caption(_ended(status))
    else:
        if not sweep_id or sweep_id in sweep_files.active(home()):  # SLURM does the others, or nobody
            queue.ensure_worker(home(), sweeps.LANE)
        st.progress(_share(status), frame.plain(_stage(status, names(status))))
    with st.container(horizontal=True):
        _buttons(status)


def _read(sweep_id: str) -> SweepStatus | None:
    if sweep_files.find(home(), sweep_id) is None:
        return None
    return sweeps.status(home(), sweep_id)


def _share(status: SweepStatus) -> float:
    begun = sum(each.progress.share * len(each.task.seeds) for each in status.tasks if each.state == "running")
    return min((status.count("done", "failed") + begun) / max(status.total, 1), 1.0)


def _ended(status: SweepStatus) -> str:
    done = [each for each in status.tasks if each.state == "done"]
    found = [each.task for each in done if each.found]
    there = f", {views.number(found)} there already" if found else ""
    whole = views.number(each.task for each in status.tasks)
    return f"Ended: {status.count('done')} of {whole} done{there}."


def _stage(status: SweepStatus, named: Mapping[str, str]) -> str:
    whole = views.number(each.task for each in status.tasks)
    done = f"{status.count('done')} of {whole} done" if status.total > 1 else ""
    failed = f"{status.count('failed')} failed" if status.count("failed") else ""
    counts = ", ".join(filter(None, [done, failed]))
    counts = f"{counts}. " if counts else ""
    left = labels.time_left(status.seconds_left)
    if status.state != "running":
        return f"{counts}{status.state.capitalize()}{left}"
    running = next((each for each in status.tasks if each.state == "running"), None)
    if running is None:
        return f"{counts}{_waiting(status)}"
    name = f"{views.describe(running.task, named)}: " if len(status.tasks) > 1 else ""
    return f"{counts}{name}{running.progress.description or 'starting …'}{left}"


def _waiting(status: SweepStatus) -> str:
    """Why none of its runs goes on: other jobs come first, or the worker is starting."""
    own = {each.job_id for each in status.tasks}
    ahead = [other for other in queue.waiting(home(), sweeps.LANE) if other.job.label and other.job_id not in own]
    return f"Waiting for {labels.counted(len(ahead), 'other job')}" if ahead else "Starting …"


def _buttons(status: SweepStatus) -> None:
    """Pause or resume, skip, cancel, retry: those that the state allows."""
    left = [each for each in status.tasks if each.state in ("running", "waiting")]
    running = [each for each in left if each.state == "running"]
    failed = status.count("failed")
    if status.sweep_id and status.state == "running" and st.button("Pause", icon=":material/pause:"):
        _act(sweeps.pause, status)
    resume, where = _going_on(status.sweep_id)
    if status.state in ("paused", "cancelled") and st.button(
        f"Resume{where}", icon=":material/play_arrow:", type="primary"
    ):
        _act(resume, status)
    if status.state == "running" and running and len(left) > 1 and st.button("Skip this", icon=":material/skip_next:"):
        queue.cancel(home(), running[0].job_id)
        st.rerun()
    cancel = "Cancel" if len(left) == 1 else f"Cancel all {len(left)}"
    if status.state in ("running", "paused") and st.button(cancel, icon=":material/close:", key="cancel_all"):
        _cancel(status, left)
    if status.sweep_id and failed and st.button(f"Retry {failed} failed", icon=":material/replay:"):
        _act(sweeps.retry if resume is sweeps.resume else resume, status)


def _going_on(sweep_id: str) -> tuple[Callable[[Path, str], None], str]:
    """How a sweep goes on, and where: on SLURM, if it was there and SLURM can be asked from here, else on this machine."""
    known = sweep_files.find(home(), sweep_id) if sweep_id else None
    if known is None or known[1].executor != "slurm":
        return sweeps.resume, ""
    return (sweeps.resume, " on this machine") if slurm.missing() else (sweep_packs.resume, " on SLURM")


def _act(action: Callable[[Path, str], None], status: SweepStatus) -> None:
    action(home(), status.sweep_id)
    st.rerun()


def _cancel(status: SweepStatus, left: Sequence[TaskStatus]) -> None:
    if status.sweep_id:
        sweeps.cancel(home(), status.sweep_id)
    else:
        for each in reversed(left):  # the running one last, or the next would start in between
            queue.cancel(home(), each.job_id)
    st.rerun()


def _failures(status: SweepStatus) -> None:
    named = names(status)
    for each in status.failures[:SHOWN_FAILURES]:
        name = f"{views.describe(each.task, named)}: " if len(status.tasks) > 1 else ""
        st.error(frame.plain(f"{name}{each.message}"))
    more = len(status.failures) - SHOWN_FAILURES
    if more > 0:
        with st.expander(f"{more} more failed"):
            for each in status.failures[SHOWN_FAILURES:]:
                st.markdown(frame.plain(f"{views.describe(each.task, named)}: {each.message}"))
    blocked = [each.task for each in status.tasks if each.state == "blocked"]
    if blocked:
        st.info(
            f"Not started: {views.number(blocked)} that {'depend' if len(blocked) > 1 else 'depends'} on what failed."
        )
