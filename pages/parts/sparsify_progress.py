"""What Sparsify shows of the networks that are being made: which, their progress and live curves, and what came of each."""

from collections.abc import Sequence

import streamlit as st

from pages.parts import frame, made_networks, sweep_progress, sweep_results
from pages.parts.frame import home
from sparse_core.catalog import asked_dataset, task_label
from sparse_core.datasets.boxes import METRIC
from sparse_core.jobs import queue
from sparse_core.jobs.sweeps import SweepStatus, TaskStatus
from sparse_core.networks import library
from sparse_core.results.store import Store
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.sweep import Task
from sparse_core.views import labels, sparsified
from sparse_core.views import sweeps as views
from sparse_core.views.charts import sparsify as charts

KIND = "sparsify"


def shown() -> SweepStatus | None:
    """The sweep that the link names, or the jobs, as links of earlier versions do; else what goes on."""
    job_ids = st.query_params.get_all("job")
    if not job_ids or "sweep_id" in st.query_params:
        return sweep_progress.shown_sweep(KIND)
    found = sweep_progress.of_jobs(job_ids)
    if len(found.tasks) < len(job_ids):
        which = "The job" if len(job_ids) == 1 else f"{len(job_ids) - len(found.tasks)} of the jobs"
        st.info(f"{which} that this link names {sweep_progress.GONE}")
    if any(each.task.kind != KIND for each in found.tasks):
        st.info("The link names a job of another page.")
        return None
    return found if found.tasks else None


def show(store: Store, status: SweepStatus) -> str:
    """Progress and live curves, what failed, the networks and the results of their transfers; returns the name of the network
    that is shown in detail, empty for none."""
    making = [each for each in status.tasks if each.task.kind == KIND]
    st.header(frame.plain(_title([each.task for each in making or status.tasks])), divider="gray")
    sweep_progress.show(status)
    running = [each for each in making if each.job_id and each.state in ("running", "waiting")]
    if running:
        _live(running)
    names = [each.made for each in making if each.state == "done" and each.made]
    found = sum(len(each.task.seeds) for each in making if each.state == "done" and each.found)
    above = made_networks.results(names, found, drawn=bool(running)) if names else ""
    sweep_results.show(store, status)
    return above


def _title(tasks: Sequence[Task]) -> str:
    spec = tasks[0].spec
    cards = {card.name: labels.backbone_label(card) for card in library.available(home())}
    cards |= {name: labels.backbone_label(library.architecture_card(name)) for name in library.WITHOUT_WEIGHTS}
    own = {task.key for task in tasks}
    parents = {task.spec.backbone for task in tasks} - own
    start = cards.get(spec.backbone, spec.backbone) if len(parents) == 1 else f"{len(parents)} backbones"
    data = task_label(asked_dataset(spec.dataset))
    what = views.network_label(tasks[0]) if len(tasks) == 1 and tasks[0].kind == KIND else views.number(tasks)
    return f"{what} from {start}{f' on {data}' if data else ''}"


@st.fragment(run_every=3.0)  # drawing takes time from the training that it shows
@frame.errors_as_messages()
def _live(running: Sequence[TaskStatus]) -> None:
    """Sparsity, loss and accuracy of the trainings so far."""
    tasks = {views.network_label(each.task): each for each in running}
    curves = sparsified.live_curves([(name, queue.epochs(home(), each.job_id)) for name, each in tasks.items()])
    if curves.empty:
        return
    specs = [each.task.spec for name, each in tasks.items() if name in set(curves["run"])]
    begun = [spec for spec in specs if isinstance(spec, SparsifySpec)]
    metric = METRIC if library.is_detector(home(), begun[0].backbone) else ""
    figure = charts.course(curves, [spec.sparsity for spec in begun], max(spec.total_epochs for spec in begun), metric)
    st.plotly_chart(figure, key="live", config={"displayModeBar": False}, alt="Sparsity, loss and accuracy by epoch")
