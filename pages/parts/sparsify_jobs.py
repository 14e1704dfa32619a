"""The jobs that make networks: the estimate before they start, their progress and live curves, and what came of each."""

import dataclasses
from collections.abc import Sequence

import streamlit as st

from pages.parts import frame, made_networks, progress
from pages.parts.frame import home
from pages.parts.sparsify_form import Request
from sparse_core.catalog import asked_dataset, task_label
from sparse_core.datasets import catalogue
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.sparsify import durations
from sparse_core.views import labels, sparsified
from sparse_core.views.charts import sparsify as charts

KIND = "sparsify"


@st.fragment(run_every=1.0)
@frame.errors_as_messages()
def time_estimate(request: Request) -> None:
    """About how long all networks will take. An epoch is measured once on this machine, if nothing similar has run."""
    seeds = range(request.seeds)
    times = [(spec, durations.estimate_sparsify(home(), spec, seeds)) for spec in request.timed]
    unknown = [spec for spec, seconds in times if seconds is None]
    if not unknown:
        whole = sum(seconds or 0.0 for _, seconds in times)
        st.caption(f"About {labels.duration(whole)} on this machine, one network after another.")
        return
    ready = {card.id: card.ready for card in catalogue.available(home())}
    spec = unknown[0]
    if not ready.get(spec.dataset, True) or not (request.parent.ready or spec.has_new_weights):
        st.caption(progress.NOT_READY)
        return
    job = Job("estimate_sparsify", dataclasses.replace(spec, name=""), (0,))
    progress.measure_estimate(durations.key(home(), spec, durations.DENSE), job)


def shown_jobs() -> list[queue.Status]:
    """The jobs that the link names; without one, those that are running or waiting."""
    named = st.query_params.get_all("job")
    if not named:
        return [status for status in queue.waiting(home(), "long") if status.job.kind == KIND]
    found = [status for job_id in named if (status := queue.find(home(), job_id))]
    if len(found) < len(named):
        which = "The job" if len(named) == 1 else f"{len(named) - len(found)} of the jobs"
        st.info(f"{which} that this link names was started on another machine, or its state was deleted.")
    if any(status.job.kind != KIND for status in found):
        st.info("The link names a job of another page.")
    return [status for status in found if status.job.kind == KIND]


def show(jobs: Sequence[queue.Status], button: str) -> str:
    """Progress and live curves of those that have not ended, why others ended without a network, and the networks; returns the
    name of the one that is shown in detail, empty for none."""
    st.subheader(frame.plain(_title(jobs)), divider="gray")
    ids = [status.job_id for status in jobs]
    if not all(status.ended for status in jobs):
        _progress_and_cancel(ids)
        _live(ids)
    _failures(jobs, button)
    names = [made["name"] for status in jobs if status.state == "done" for made in status.result["backbones"]]
    if not names:
        return ""
    found = sum(len(status.result["found"]) for status in jobs if status.state == "done")
    return made_networks.results(names, found, drawn=not all(status.ended for status in jobs))


def _title(jobs: Sequence[queue.Status]) -> str:
    spec = jobs[0].job.spec
    cards = {card.name: labels.backbone_label(card) for card in library.available(home())}
    cards |= {name: labels.backbone_label(library.architecture_card(name)) for name in library.WITHOUT_WEIGHTS}
    parents = {status.job.spec.backbone for status in jobs}
    start = cards.get(spec.backbone, spec.backbone) if len(parents) == 1 else f"{len(parents)} backbones"
    data = task_label(asked_dataset(spec.dataset))
    networks = sum(len(status.job.seeds) for status in jobs)
    what = _name(jobs[0]) if networks == 1 else labels.counted(networks, "network")
    return f"{what} from {start} on {data}"


def _name(status: queue.Status) -> str:
    spec = status.job.spec
    return sparsified.run_label(spec.label, spec.sparsity, status.job.seeds[0])


def _read(ids: Sequence[str]) -> list[queue.Status]:
    return [status for job_id in ids if (status := queue.find(home(), job_id))]


@st.fragment(run_every=0.5)
@frame.errors_as_messages()
def _progress_and_cancel(ids: list[str]) -> None:
    """One bar over all networks and the stage of the one that is being made; the page runs again whenever one has ended."""
    jobs = _read(ids)
    states = [status.ended for status in jobs]
    before = st.session_state.get("sparsify_ended", (ids, states))
    st.session_state["sparsify_ended"] = (ids, states)
    if all(states) or ((ids, states) != before and before[0] == ids):
        st.rerun()
    queue.ensure_worker(home(), "long")
    ended = sum(states)
    running = next((status for status in jobs if status.state == "running"), None)
    share = (ended + (running.progress.share if running else 0.0)) / len(jobs)
    st.progress(min(share, 1.0), frame.plain(_stage(jobs, running, ended)))
    with st.container(horizontal=True):
        _cancel_buttons(jobs, running)


def _stage(jobs: Sequence[queue.Status], running: queue.Status | None, ended: int) -> str:
    count = f"{ended} of {labels.counted(len(jobs), 'network')} ended. " if len(jobs) > 1 else ""
    if running is None:
        first = min(status.job_id for status in jobs if not status.ended)
        ahead = [other for other in queue.waiting(home(), "long") if other.job.label and other.job_id < first]
        return count + (f"Waiting for {labels.counted(len(ahead), 'other job')}" if ahead else "Starting …")
    name = f"{_name(running)}. " if len(jobs) > 1 else ""
    step = running.progress
    return f"{count}{name}{step.description or 'Starting …'}{labels.time_left(step.seconds_left)}"


def _cancel_buttons(jobs: Sequence[queue.Status], running: queue.Status | None) -> None:
    left = [status for status in jobs if not status.ended]
    if running and len(left) > 1 and st.button("Skip this network", icon=":material/skip_next:"):
        queue.cancel(home(), running.job_id)
        st.rerun()
    if st.button("Cancel" if len(left) == 1 else f"Cancel all {len(left)}", icon=":material/close:", key="cancel_all"):
        for status in reversed(left):  # the running one last, or the next would start in between
            queue.cancel(home(), status.job_id)
        st.rerun()


@st.fragment(run_every=3.0)  # drawing takes time from the training that it shows
@frame.errors_as_messages()
def _live(ids: list[str]) -> None:
    """Sparsity, loss and accuracy of the trainings so far."""
    jobs = _read(ids)
    curves = sparsified.live_curves([(_name(status), queue.epochs(home(), status.job_id)) for status in jobs])
    if curves.empty:
        return
    begun = [status.job.spec for status in jobs if _name(status) in set(curves["run"])]
    figure = charts.course(curves, [spec.sparsity for spec in begun], max(spec.total_epochs for spec in begun))
    st.plotly_chart(figure, key="live", config={"displayModeBar": False}, alt="Sparsity, loss and accuracy by epoch")


def _failures(jobs: Sequence[queue.Status], button: str) -> None:
    failed = [status for status in jobs if status.state == "failed"]
    for status in failed:
        name = f"{_name(status)}: " if len(jobs) > 1 else ""
        st.error(frame.plain(f"{name}{status.message}"))
    cancelled = [status for status in jobs if status.state == "cancelled"]
    if cancelled:
        which = cancelled[0].message if len(jobs) == 1 else f"{labels.counted(len(cancelled), 'network')} cancelled."
        st.info(f"{frame.plain(which)} Press “{button}” to start again: what is in the library is not made twice.")
