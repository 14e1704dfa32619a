"""The job that a link names: its progress, live curves and cancelling, and the messages when it ended without a result."""

from collections.abc import Hashable

import streamlit as st

from pages.parts import choices, frame, links
from pages.parts.frame import home
from sparse_core.catalog import asked_dataset, task_label
from sparse_core.datasets.boxes import METRIC
from sparse_core.errors import as_input_error
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.views import labels, runs
from sparse_core.views.charts import training

NOT_READY = "Something has to be downloaded first, so the time cannot be estimated yet."


def linked_job(*kinds: str, parameter: str = "job", advice: str = "") -> queue.Status | None:
    """The job of these kinds that the link names; None, with a message and ``advice``, if it is unknown or of another kind."""
    job_id = st.query_params.get(parameter)
    if not job_id:
        return None
    status = queue.find(home(), job_id)
    if status is None:
        st.info(f"The job that this link names was started on another machine, or its state was deleted. {advice}")
        return None
    if status.job.kind not in kinds:
        st.info("The link names a job of another page.")
        return None
    return status


def unfinished_job(*kinds: str) -> queue.Status | None:
    """The job of these kinds that runs, or else waits, whoever started it; None if there is none."""
    found = [status for status in queue.waiting(home()) if status.job.kind in kinds]
    return min(found, key=lambda status: status.state != "running", default=None)


def job_heading(status: queue.Status) -> None:
    """Which backbone the job transfers to which dataset, as a heading."""
    backbones = {card.name: labels.backbone_label(card) for card in library.available(home())}
    spec = status.job.spec
    dataset = task_label(asked_dataset(spec.dataset))
    title = f"{backbones.get(spec.backbone, spec.backbone)} on {dataset}"
    st.header(frame.plain(title), divider="gray")


def ended_without_result(status: queue.Status, button: str) -> None:
    """Why a job failed, or that it was cancelled; ``button`` is the label of the one that starts it again."""
    if status.state == "failed":
        st.error(frame.plain(status.message))
    else:
        st.info(f"{frame.plain(status.message)} Press “{button}” to start again.")


def submit_unasked(job: Job, otherwise: str) -> str:
    """Submit a job that no user asked for; "", with the reason on the page after ``otherwise``, where the home folder cannot
    be written."""
    try:
        return queue.submit(home(), job)
    except OSError as error:
        st.caption(f"{otherwise}: {frame.plain(str(as_input_error(error) or error))}")
        return ""


def measure_estimate(key: Hashable, job: Job) -> None:
    """Have a time estimate measured, by ``job``, once in a session for each ``key``, and say how far that is."""
    asked = st.session_state.setdefault("estimate_jobs", {})
    status = queue.find(home(), asked[key]) if key in asked else None
    if status is None:
        job_id = submit_unasked(job, "The time cannot be estimated")
        if not job_id:
            return
        asked[key] = job_id
        status = queue.status(home(), asked[key])
    if status.state == "failed":
        st.caption(f"The time cannot be estimated: {frame.plain(status.message)}", width="content")
    elif status.state == "queued" and queue.before_estimates(home(), status.job.lane):
        st.caption("The time will be estimated when the jobs that were started have ended.", width="content")
    else:
        st.caption("Estimating the time on this machine …", width="content")


def job_button(label: str, key: str, job: Job, help_text: str | None = None) -> None:
    """A button that starts ``job``, which makes a file; below it, while ``key`` of the session names that job, its progress or
    why it failed."""
    if st.button(label, icon=":material/deployed_code:", key=f"make_{key}", help=help_text):
        st.session_state[key] = queue.submit(home(), job)
    job_id = st.session_state.get(key)
    status = queue.find(home(), job_id) if job_id else None
    if status is None:
        return
    if not status.ended:
        wait_for(status.job_id)
    elif status.state == "failed":
        st.error(frame.plain(status.message))


def import_result(status: queue.Status) -> None:
    """The progress of an import into the library; then where the backbone can be used, or why the import failed."""
    if not status.ended:
        wait_for(status.job_id)
    elif status.state == "done":
        st.success(f"“{frame.plain(status.result['name'])}” is in the library.", icon=":material/check:")
        links.backbone_links(status.result["name"])
    else:
        st.error(frame.plain(status.message))


def show_progress(job_id: str, *, curves: bool = False) -> None:
    """The stage, how much is done, the time left, the button that cancels and, with ``curves``, live curves."""
    _progress_and_cancel(job_id)
    if curves:
        live_curves(job_id)


@st.fragment(run_every=0.3)
@frame.errors_as_messages()
def wait_for(job_id: str) -> None:
    """The progress of a short job; the page runs again once it has ended."""
    status = queue.find(home(), job_id)
    if status is None or status.ended:
        st.rerun()
    _bar(status)


@st.fragment(run_every=0.5)
@frame.errors_as_messages()
def _progress_and_cancel(job_id: str) -> None:
    status = queue.find(home(), job_id)
    if status is None or status.ended:
        st.rerun()
    _bar(status)
    if st.button("Cancel", icon=":material/close:"):
        queue.cancel(home(), job_id)
        st.rerun()


@st.fragment(run_every=3.0)  # drawing takes time from the training that it shows
@frame.errors_as_messages()
def live_curves(job_id: str) -> None:
    """The curves of a transfer's trainings so far."""
    curves = runs.epoch_table(queue.epochs(home(), job_id))
    if curves.empty:
        return
    value = choices.curve_choice("live_curve", METRIC if METRIC in curves else "top1")
    st.plotly_chart(training.learning_curves(curves, value), key="live", config={"displayModeBar": False})


def _bar(status: queue.Status) -> None:
    """A bar with the stage and the time left; starts the lane's worker if it has exited."""
    if status.state == "queued":
        lane = status.job.lane
        queue.ensure_worker(home(), lane)
        waiting = [other for other in queue.waiting(home(), lane) if other.job.label and other.job_id < status.job_id]
        st.progress(0.0, f"Waiting for {labels.counted(len(waiting), 'other job')}" if waiting else "Starting …")
        return
    progress = status.progress
    text = f"{progress.description or 'Starting …'}{labels.time_left(progress.seconds_left)}"
    st.progress(progress.share, frame.plain(text))
