"""What Probe and Finetune share: backbone, dataset, seeds and training settings, the time estimate, progress and result."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

from pages.parts import (
    box_data,
    choices,
    detection_details,
    form_settings,
    frame,
    images,
    links,
    progress,
    run_details,
    run_ranking,
    sweep_progress,
    sweep_results,
    sweep_start,
    transfer_choice,
)
from pages.parts.frame import home
from pages.parts.results import open_store
from pages.parts.transfer_choice import Chosen
from sparse_core.datasets import catalogue
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import ESTIMATES, KINDS, Job, transfer_kind
from sparse_core.jobs.sweeps import SweepStatus
from sparse_core.networks import library
from sparse_core.results.records import Record, Records
from sparse_core.results.store import Store
from sparse_core.specs.identity import AnyRun
from sparse_core.specs.training import Sgd
from sparse_core.transfer import durations
from sparse_core.views import detections, labels
from sparse_core.views import runs as run_views
from sparse_core.views import sweeps as sweep_views

MakeSpec = Callable[[str, str], AnyRun]
# The kinds of work of each page. Detectors are finetuned, and have no probe.
WORK = {"probe": ("probe",), "finetune": ("finetune", "finetune_detector")}

AnySettings = TypeVar("AnySettings", bound=Sgd)

# In four columns. Field, key in the link, label, smallest and largest value, help.
SCHEDULE = (
    ("epochs", "epochs", "Epochs", 1, 10_000, None),
    ("learning_rate", "lr", "Learning rate", 1e-6, 100.0, "Left empty, it is the paper's rate for this dataset."),
    ("batch_size", "batch", "Batch size", 1, 4096, None),
    ("weight_decay", "decay", "Weight decay", 0.0, 1.0, None),
    ("momentum", "momentum", "Momentum", 0.0, 0.999, None),
    ("step_epochs", "step", "LR step size (epochs)", 1, 10_000, "After each step the rate is multiplied by gamma."),
    ("step_factor", "factor", "LR decay (gamma)", 0.001, 1.0, None),
)


def transfer_page(
    kind: str,
    button: str,
    seeds: tuple[int, str],
    settings: Callable[[Chosen], MakeSpec | None],
    show_result: Callable[[list[Record]], None],
) -> None:
    """Controls, the button and a time estimate; then the progress of what the link names, then its result.

    ``kind`` is one of ``WORK``; ``seeds`` are their number at first and the help of their field; ``settings`` are the controls of
    the training, which give the spec for a backbone and a dataset.
    """
    store = open_store()
    queue.ensure_worker(home(), KINDS[kind].lane)  # loads torch before the button is pressed
    form_settings.take_from_link(*WORK[kind])
    batch = False
    with frame.errors_as_messages():  # what is wrong in the form must not hide what runs
        batch = _form(store, kind, button, seeds, settings)
    sweep = sweep_progress.shown_sweep(*WORK[kind])
    if sweep:
        _show_sweep(store, sweep)
    elif not batch or "job" in st.query_params:
        _show_job(store, kind, button, show_result)


def _form(
    store: Store,
    kind: str,
    button: str,
    seeds: tuple[int, str],
    settings: Callable[[Chosen], MakeSpec | None],
) -> bool:
    """The controls and the button, which is disabled while something is missing or wrong; returns whether it starts a batch."""
    chosen = transfer_choice.choose(*seeds, detectors="finetune_detector" in WORK[kind])
    make = settings(chosen) if chosen else None
    batch = chosen.batch if chosen else bool(st.session_state.get("several"))
    if chosen is None or make is None:
        _disabled("Start batch" if batch else button)
        return batch
    try:
        specs = [make(card.name, dataset) for dataset in chosen.datasets for card in chosen.backbones]
        for dataset, spec in zip(chosen.datasets, specs[:: len(chosen.backbones)], strict=True):
            transfer_choice.require_trainable(dataset, spec)
    except InputError as error:
        st.error(frame.plain(str(error)))
        _disabled("Start batch" if batch else button)
        return batch
    if batch:
        commands = "\n".join(run_views.command(spec, chosen.seeds) for spec in specs)
        sweep_start.start_row(store, "Start batch", chosen.plan(kind, make), commands)
    else:
        _start_job(button, Job(transfer_kind(specs[0]), specs[0], tuple(range(chosen.seeds))))
        if chosen.detects:
            box_data.sample(specs[0].dataset)
        else:
            images.sample(chosen.backbones[0], specs[0].dataset, specs[0].image_size)
    return batch


def _disabled(button: str) -> None:
    st.button(button, type="primary", icon=":material/play_arrow:", disabled=True, help="The message above says why.")


def _start_job(button: str, job: Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(button, type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), job)
            form_settings.keep_as_it_is(st.query_params["job"])
            if "sweep_id" in st.query_params:
                del st.query_params["sweep_id"]
            st.rerun()  # from the top, where what runs is shown
        links.share(run_views.command(job.spec, len(job.seeds)))
        _time_estimate(job)


def _show_sweep(store: Store, status: SweepStatus) -> None:
    """The progress of a batch, the curves of the run that goes on, and what has ended so far."""
    tasks = [each.task for each in status.tasks]
    backbones, datasets = ({getattr(task.spec, name) for task in tasks} for name in ("backbone", "dataset"))
    which = f"{labels.counted(len(backbones), 'backbone')} on {labels.counted(len(datasets), 'task')}"
    st.header(f"{sweep_views.number(tasks)}: {which}", divider="gray")
    sweep_progress.show(status)
    running = [each for each in status.tasks if each.state == "running" and each.task.kind != "sparsify"]
    if running:
        progress.live_curves(running[0].job_id)
    sweep_results.show(store, status)


def _show_job(store: Store, kind: str, button: str, show_result: Callable[[list[Record]], None]) -> None:
    """The progress of the job that the link names, or its result; else the newest result, or an example."""
    kinds = WORK[kind]
    status = progress.linked_job(*kinds) or progress.unfinished_job(*kinds) or _latest(kinds)
    if status is None:
        _shipped_example(store, "linear" if kind == "probe" else "full")
        return
    progress.job_heading(status)
    if not status.ended:
        progress.show_progress(status.job_id, curves=True)
    elif status.state != "done":
        progress.ended_without_result(status, button)
    elif records := _records(status):
        with st.container(key=f"result-{status.job_id}"):
            show_result(records)
            run_details.show_run_details(store, records)
            if detections.is_detection(records[0]):
                detection_details.show(store, records, "on this machine")
            else:
                images.misclassified(store, records)
            run_ranking.show(store, records[0])


def _latest(kinds: Sequence[str]) -> queue.Status | None:
    """The newest job of these kinds that gave a result."""
    ended = (status for status in queue.recent(home()) if status.job.kind in kinds)
    return next((status for status in ended if status.state == "done"), None)


def _shipped_example(store: Store, transfer: str) -> None:
    """What a result looks like, until there is one: that of the example backbone among the shipped ones, or of another."""
    rows = store.results(source="shipped", transfer=transfer)
    if rows.empty:
        return
    rows = rows.sort_values(
        ["dataset", "backbone"], key=lambda values: values.isin(["digits", choices.EXAMPLE]), ascending=False
    )
    first = rows.iloc[0]
    same = rows[(rows["network"] == first["network"]) & (rows["dataset_hash"] == first["dataset_hash"])]
    records = store.read(same.sort_values("seed")["run_id"].tolist())
    st.header(
        frame.plain(f"An example: {run_views.label(records[0], network=True).partition(', seed')[0]}"), anchor=False
    )
    st.caption("Shipped with this version. Your own result takes this place.")
    with st.container(horizontal=True):
        run_details.accuracy_metrics(records)
    run_details.show_run_details(store, records, where="shipped")


def schedule(
    usual: Callable[[str], AnySettings], datasets: Sequence[str], of: str = ""
) -> Callable[[str], AnySettings]:
    """The fields of the training settings, as a function of the dataset: an empty learning rate means that of ``usual``. ``of``
    goes before the keys of the controls, which keep their values apart from those with other defaults."""
    defaults = usual(datasets[0])
    rates = sorted({usual(dataset).learning_rate for dataset in datasets})
    columns = st.columns(4)
    chosen: dict[str, Any] = {}
    fields = [each for each in SCHEDULE if hasattr(defaults, each[0])]
    for number, (field, key, label, smallest, largest, help_text) in enumerate(fields):
        empty = field == "learning_rate"
        value = columns[number % len(columns)].number_input(
            label,
            smallest,
            largest,
            None if empty else getattr(defaults, field),
            format="%d" if isinstance(smallest, int) else "%g",
            key=f"{of}{key}",
            bind="query-params",
            placeholder=f"{' or '.join(f'{rate:g}' for rate in rates)} ({'' if of else 'paper '}default)"
            if empty
            else None,
            help="Left empty, it is that of YOLOv5." if of and empty else help_text,
        )
        chosen |= {} if value is None else {field: value}
    return lambda dataset: dataclasses.replace(usual(dataset), **chosen)


@st.fragment(run_every=1.0)
@frame.errors_as_messages()
def _time_estimate(job: Job) -> None:
    """About how long the job will take. What decides it is measured once on this machine: see ``durations.key``."""
    spec: AnyRun = job.spec
    cards = library.available(home())
    architecture = next((card.architecture for card in cards if card.name == spec.backbone), "")
    text = _estimate_label(job, architecture)
    if text:
        st.caption(text)
        return
    ready = {card.name: card.ready for card in cards}
    ready |= {card.id: card.ready for card in (*catalogue.available(home()), *catalogue.with_boxes(home()))}
    if not (ready.get(spec.backbone, True) and ready.get(spec.dataset, True)):
        st.caption(progress.NOT_READY)
        return
    asked = Job(ESTIMATES[job.kind], dataclasses.replace(spec, replicate=0), (0,))
    progress.measure_estimate(durations.key(spec), asked)


def _estimate_label(job: Job, architecture: str) -> str:
    """About how long the job takes; empty where nothing was measured yet."""
    seconds = [durations.estimate(home(), job.spec, len(job.seeds), cached, architecture) for cached in (True, False)]
    if None in seconds:
        return ""
    training, whole = (labels.duration(each) for each in seconds if each is not None)
    if job.spec.transfer == "full":
        return f"About {training} on this machine."
    return f"About {training} once the features are cached, {whole} the first time, on this machine."


def _records(status: queue.Status) -> list[Record]:
    """The runs of a finished job, by seed; a message says if they were deleted, or existed before the job."""
    records = Records(home()).read_many(set(status.result["runs"]))
    if not records:
        st.info("The runs of this job were deleted. Start it again to repeat them.")
    elif status.result["found"]:
        found = labels.counted(len(status.result["found"]), "run")
        st.info(f"{found} existed already and were not repeated. Rerun them on the Runs page.")
    return sorted(records, key=lambda record: record.spec["seed"])
