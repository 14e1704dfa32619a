"""What Probe and Finetune ask for: backbone, dataset, seeds and training settings, and how long the job will take."""

import dataclasses

import streamlit as st

from pages.parts import choices, frame
from pages.parts.frame import home
from sparse_core.datasets import catalogue
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import TransferSpec
from sparse_core.transfer import durations
from sparse_core.views import labels

OWN_DATASET = "My own folder or Parquet file"


def backbone_and_dataset(seeds: int, seeds_help: str) -> tuple[str, str, int] | None:
    """The controls for backbone, dataset and number of seeds (``seeds`` at first); None while a path is missing or wrong."""
    cards = {card.name: card for card in library.available(home())}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        backbone = choices.selectbox(
            "Backbone",
            list(cards),
            format_func=lambda name: labels.backbone_label(cards[name]),
            key="backbone",
            persist_state="session",
            width=330,
            help="Import networks of your own on the Library page.",
        )
        chosen = dataset_choice()
        count = st.number_input("Seeds", 1, 50, seeds, key="seeds", bind="query-params", width=110, help=seeds_help)
    if not cards[backbone].ready:
        st.caption(f"{labels.backbone_label(cards[backbone])}: {frame.plain(cards[backbone].note)}.")
    dataset = resolve_dataset(chosen)
    return (backbone, dataset, int(count)) if dataset else None


def dataset_choice() -> str:
    """The control for the dataset: the id of an available one, or ``OWN_DATASET``."""
    tasks = {card.id: card for card in catalogue.available(home())}
    return choices.selectbox(
        "Dataset",
        [*tasks, OWN_DATASET],
        format_func=lambda name: f"{tasks[name].name}, {tasks[name].classes} classes" if name in tasks else OWN_DATASET,
        key="dataset",
        persist_state="session",
        width=330,
        help="Digits needs no network connection. Your own images: one folder per class, or Parquet.",
    )


def resolve_dataset(chosen: str) -> str | None:
    """The dataset that ``dataset_choice`` returned; asks for the path of the user's own, None while that is missing."""
    if chosen == OWN_DATASET:
        return _own_dataset()
    card = next(card for card in catalogue.available(home()) if card.id == chosen)
    if not card.ready:
        st.caption(f"{card.name}: {frame.plain(card.note)}.")
    return chosen


def _own_dataset() -> str | None:
    dataset = st.text_input(
        "Path on this machine",
        key="path",
        bind="query-params",
        persist_state="session",
        placeholder="/home/me/images",
        help=f"Laid out as {catalogue.LAYOUTS}.",
    )
    if not dataset:
        st.info("Enter the path of a folder with one folder per class, or of a Parquet file.")
        return None
    try:
        seen = catalogue.describe(home(), dataset)
    except InputError as error:
        st.error(frame.plain(str(error)))
        return None
    st.caption(
        f"{len(seen.class_names)} classes, {seen.train:,} training and {seen.test:,} test images: {seen.layout}."
    )
    return dataset


def schedule(defaults: Hyperparameters) -> Hyperparameters:
    """The fields of the training settings in four columns; an empty learning rate means that of ``defaults``."""
    columns = st.columns(4)
    epochs = columns[0].number_input("Epochs", 1, 10_000, defaults.epochs, key="epochs", bind="query-params")
    rate = columns[1].number_input(
        "Learning rate",
        1e-6,
        100.0,
        None,
        format="%g",
        key="lr",
        bind="query-params",
        placeholder=f"{defaults.learning_rate:g} (paper default)",
        help="Left empty, it is the paper's rate for this dataset.",
    )
    batch = columns[2].number_input("Batch size", 1, 4096, defaults.batch_size, key="batch", bind="query-params")
    decay = columns[3].number_input(
        "Weight decay", 0.0, 1.0, defaults.weight_decay, format="%g", key="decay", bind="query-params"
    )
    momentum = columns[0].number_input(
        "Momentum", 0.0, 0.999, defaults.momentum, format="%g", key="momentum", bind="query-params"
    )
    step = columns[1].number_input(
        "LR step size (epochs)",
        1,
        10_000,
        defaults.step_epochs,
        key="step",
        bind="query-params",
        help="After each step the learning rate is multiplied by gamma.",
    )
    factor = columns[2].number_input(
        "LR decay (gamma)", 0.001, 1.0, defaults.step_factor, format="%g", key="factor", bind="query-params"
    )
    return Hyperparameters(
        int(epochs),
        float(rate or defaults.learning_rate),
        float(momentum),
        float(decay),
        int(batch),
        int(step),
        float(factor),
    )


@st.fragment(run_every=1.0)
@frame.errors_as_messages()
def time_estimate(job: Job) -> None:
    """About how long the job will take. What decides it is measured once on this machine: see ``durations.key``."""
    spec: TransferSpec = job.spec
    known = durations.recall(home(), spec)
    if known:
        st.caption(_estimate_label(known, job))
        return
    if not _is_local(spec):
        st.caption("Something has to be downloaded first, so the time cannot be estimated yet.")
        return
    asked = st.session_state.setdefault("estimate_jobs", {})
    key = durations.key(spec)
    if key not in asked:
        kind = "estimate" if spec.transfer == "linear" else "estimate_finetune"
        asked[key] = queue.submit(home(), Job(kind, dataclasses.replace(spec, replicate=0), (0,)))
    status = queue.status(home(), asked[key])
    if status.state == "failed":
        st.caption(f"The time cannot be estimated: {frame.plain(status.message)}")
    elif status.state == "queued" and _is_waiting(status):
        st.caption("The time will be estimated when the running job has ended.")
    else:
        st.caption("Estimating the time on this machine …")


def _estimate_label(known: durations.Estimate, job: Job) -> str:
    seeds = len(job.seeds)
    training = labels.duration(known.seconds(job.spec, seeds, features_cached=True))
    if job.spec.transfer == "full":
        return f"About {training} on this machine."
    whole = labels.duration(known.seconds(job.spec, seeds, features_cached=False))
    return f"About {training} once the features are cached, {whole} the first time, on this machine."


def _is_local(spec: TransferSpec) -> bool:
    """True if neither backbone nor dataset has to be downloaded."""
    ready = {card.name: card.ready for card in library.available(home())}
    ready |= {card.id: card.ready for card in catalogue.available(home())}
    return ready.get(spec.backbone, True) and ready.get(spec.dataset, True)


def _is_waiting(status: queue.Status) -> bool:
    """True if other work of the job's lane comes first; estimates wait for the jobs that users started."""
    return queue.queued(home(), status.job.lane)[:1] != [status.job_id]
