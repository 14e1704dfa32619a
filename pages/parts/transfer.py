"""What Probe and Finetune share: backbone, dataset, seeds and training settings, the time estimate, progress and result."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, frame, links, progress
from pages.parts.frame import home
from pages.parts.results import open_store
from pages.parts.run_details import show_run_details
from sparse_core.catalog import MAX_SIDE, METRICS, MIN_SIDE
from sparse_core.datasets import catalogue
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import KINDS, Job
from sparse_core.networks import library
from sparse_core.results.records import Record, Records
from sparse_core.results.store import Store
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import TransferSpec
from sparse_core.transfer import durations
from sparse_core.views import labels
from sparse_core.views import runs as run_views

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
    introduction: str,
    button: str,
    choose_job: Callable[[], Job | None],
    show_result: Callable[[list[Record]], None],
) -> None:
    """Controls, the button and a time estimate; then the progress of the job that the link names, then its result."""
    store = open_store()
    st.markdown(introduction)
    queue.ensure_worker(home(), KINDS[kind].lane)  # loads torch before the button is pressed
    job = choose_job()
    if job is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(button, type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), job)
        links.share(run_views.command(job.spec, len(job.seeds)))
        _time_estimate(job)
    status = progress.linked_job(kind) or _latest(kind)
    if status is None:
        _shipped_example(store, job.spec.transfer)
        return
    progress.job_heading(status)
    if not status.ended:
        progress.show_progress(status.job_id, curves=True)
    elif status.state != "done":
        progress.ended_without_result(status, button)
    elif records := _records(status):
        show_result(records)
        show_run_details(records)


def _latest(kind: str) -> queue.Status | None:
    """The newest job of this kind that gave a result."""
    return next((status for status in queue.recent(home()) if status.job.kind == kind and status.state == "done"), None)


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
    records = [store.record(run_id) for run_id in same.sort_values("seed")["run_id"]]
    st.subheader(
        frame.plain(f"An example: {run_views.label(records[0], network=True).partition(', seed')[0]}"), anchor=False
    )
    st.caption("Shipped with this version. Your own result takes this place.")
    with st.container(horizontal=True):
        accuracy_metrics(records)
    show_run_details(records, where="shipped")


def backbone_and_dataset(seeds: int, seeds_help: str) -> tuple[str, str, int] | None:
    """The controls for backbone, dataset and number of seeds (``seeds`` at first); None while a path is missing or wrong."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        cards = library.available(home())
        settings: dict[str, Any] = {"persist_state": "session", "width": 330, "help": choices.IMPORT_HELP}
        card = choices.backbone_choice(cards, index=choices.example(cards), **settings)
        chosen = choices.dataset_choice()
        count = st.number_input("Seeds", 1, 50, seeds, key="seeds", bind="query-params", width=110, help=seeds_help)
    if not card.ready:
        st.caption(f"{labels.backbone_label(card)}: {frame.plain(card.note)}.")
    dataset = choices.resolve_dataset(chosen)
    return (card.name, dataset, int(count)) if dataset else None


def image_size(backbone: str) -> int:
    """The field for the side of the network's input; 0 while it is empty, which means the backbone's own."""
    card = next(card for card in library.available(home()) if card.name == backbone)
    value = st.number_input(
        "Image size (px)",
        MIN_SIDE,
        MAX_SIDE,
        None,
        key="size",
        bind="query-params",
        placeholder=f"{card.preprocessing.crop} (the backbone's own)",
        help="Each side of the network's input: 224 in the paper, 32 for CIFAR networks. Another size is another run.",
        width=330,
    )
    return int(value or 0)


def schedule(defaults: Hyperparameters) -> Hyperparameters:
    """The fields of the training settings; an empty learning rate means that of ``defaults``."""
    columns = st.columns(4)
    chosen: dict[str, Any] = {}
    for number, (field, key, label, smallest, largest, help_text) in enumerate(SCHEDULE):
        default = getattr(defaults, field)
        empty = field == "learning_rate"
        value = columns[number % len(columns)].number_input(
            label,
            smallest,
            largest,
            None if empty else default,
            format="%d" if isinstance(smallest, int) else "%g",
            key=key,
            bind="query-params",
            placeholder=f"{default:g} (paper default)" if empty else None,
            help=help_text,
        )
        chosen[field] = default if value is None else value
    return dataclasses.replace(defaults, **chosen)


@st.fragment(run_every=1.0)
@frame.errors_as_messages()
def _time_estimate(job: Job) -> None:
    """About how long the job will take. What decides it is measured once on this machine: see ``durations.key``."""
    spec: TransferSpec = job.spec
    known = durations.recall(home(), spec)
    if known:
        st.caption(_estimate_label(known, job))
        return
    ready = {card.name: card.ready for card in library.available(home())}
    ready |= {card.id: card.ready for card in catalogue.available(home())}
    if not (ready.get(spec.backbone, True) and ready.get(spec.dataset, True)):
        st.caption(progress.NOT_READY)
        return
    kind = "estimate" if spec.transfer == "linear" else "estimate_finetune"
    progress.measure_estimate(durations.key(spec), Job(kind, dataclasses.replace(spec, replicate=0), (0,)))


def _estimate_label(known: durations.Estimate, job: Job) -> str:
    seeds = len(job.seeds)
    training = labels.duration(known.seconds(job.spec, seeds, features_cached=True))
    if job.spec.transfer == "full":
        return f"About {training} on this machine."
    whole = labels.duration(known.seconds(job.spec, seeds, features_cached=False))
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


def accuracy_metrics(records: Sequence[Record]) -> None:
    """Final and best accuracy over the runs, as metrics."""
    metric = METRICS[records[0].result["metric"]]
    final, best = ([record.result[f"accuracy_{which}"] for record in records] for which in ("final", "best"))
    st.metric(f"Final {metric}", _mean_and_std(final), help="After the last epoch.")
    help_text = "Best epoch (selected on test data: optimistic), the paper's convention."
    st.metric(f"Best {metric}", _mean_and_std(best), help=help_text)


def _mean_and_std(accuracies: Sequence[float]) -> str:
    percent = 100 * pd.Series(accuracies)
    deviation = "" if len(percent) == 1 else f" ± {percent.std():.1f}"
    return f"{percent.mean():.1f}{deviation} % (n = {len(percent)})"
