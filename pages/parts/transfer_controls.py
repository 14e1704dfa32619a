"""What Probe and Finetune share: what to transfer to what, about how long it takes, how far it is, how it ended."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import frame, parts
from pages.parts.frame import home
from sparse_core.catalog import METRICS, architecture_label, task_label
from sparse_core.datasets import catalogue
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.results.records import Record, Records
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import TransferSpec
from sparse_core.transfer import durations
from sparse_core.views import labels
from sparse_core.views.charts import training

OWN = "My own folder or Parquet file"


def backbone_and_dataset(seeds: int, words_on_seeds: str) -> tuple[str, str, int] | None:
    """The controls for backbone, dataset and number of seeds (``seeds`` at first); None while a path is missing or wrong."""
    cards = {card.name: card for card in library.available(home())}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        backbone = parts.selectbox(
            "Backbone",
            list(cards),
            format_func=lambda name: labels.backbone_label(cards[name]),
            key="backbone",
            persist_state="session",
            width=330,
            help="Networks of yours come in on the Library page.",
        )
        choice = dataset_choice()
        count = st.number_input("Seeds", 1, 50, seeds, key="seeds", bind="query-params", width=110, help=words_on_seeds)
    if not cards[backbone].ready:
        st.caption(f"{labels.backbone_label(cards[backbone])}: {frame.plain(cards[backbone].note)}.")
    dataset = named_dataset(choice)
    return (backbone, dataset, int(count)) if dataset else None


def dataset_choice() -> str:
    """The control for the dataset: one of those there are, or ``OWN``."""
    tasks = {card.id: card for card in catalogue.available(home())}
    return parts.selectbox(
        "Dataset",
        [*tasks, OWN],
        format_func=lambda name: f"{tasks[name].name}, {tasks[name].classes} classes" if name in tasks else OWN,
        key="dataset",
        persist_state="session",
        width=330,
        help="Digits works with no network. Your own images: a folder a class, or Parquet.",
    )


def named_dataset(choice: str) -> str | None:
    """The dataset behind what ``dataset_choice`` gave, asking for the path of the user's own; None while that is missing."""
    if choice == OWN:
        return _own_dataset()
    card = next(card for card in catalogue.available(home()) if card.id == choice)
    if not card.ready:
        st.caption(f"{card.name}: {frame.plain(card.note)}.")
    return choice


def schedule(defaults: Hyperparameters) -> Hyperparameters:
    """The fields of the settings, in four columns; the learning rate left empty is that of ``defaults``."""
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
        placeholder=f"{defaults.learning_rate:g}, the study's",
        help="Left empty, it is the study's for this dataset.",
    )
    batch = columns[2].number_input("Batch size", 1, 4096, defaults.batch_size, key="batch", bind="query-params")
    decay = columns[3].number_input(
        "Weight decay", 0.0, 1.0, defaults.weight_decay, format="%g", key="decay", bind="query-params"
    )
    momentum = columns[0].number_input(
        "Momentum", 0.0, 0.999, defaults.momentum, format="%g", key="momentum", bind="query-params"
    )
    step = columns[1].number_input(
        "Epochs a step",
        1,
        10_000,
        defaults.step_epochs,
        key="step",
        bind="query-params",
        help="After each step the learning rate is multiplied by the factor.",
    )
    factor = columns[2].number_input(
        "Step factor", 0.001, 1.0, defaults.step_factor, format="%g", key="factor", bind="query-params"
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
@frame.faults_in_words()
def estimate(job: Job) -> None:
    """About how long the job will take; measured once on this machine for what decides it: see ``estimates.key``."""
    spec: TransferSpec = job.spec
    known = durations.recall(home(), spec)
    if known:
        st.caption(_estimate_in_words(known, job))
        return
    if not _is_here(spec):
        st.caption("Something has to be downloaded first, so the time cannot be told yet.")
        return
    asked = st.session_state.setdefault("estimate_jobs", {})
    key = durations.key(spec)
    if key not in asked:
        kind = "estimate" if spec.transfer == "linear" else "estimate_finetune"
        asked[key] = queue.submit(home(), Job(kind, dataclasses.replace(spec, replicate=0), (0,)))
    status = queue.status(home(), asked[key])
    if status.state == "failed":
        st.caption(f"The time cannot be estimated: {frame.plain(status.message)}")
    elif status.state == "queued" and _is_busy(asked[key]):
        st.caption("The time is measured once the work under way has ended.")
    else:
        st.caption("Measuring how long it will take on this machine …")


def asked_for(kind: str) -> queue.Status | None:
    """The job of this kind that the link names; says so where it is not known here."""
    job_id = st.query_params.get("job")
    if not job_id:
        return None
    try:
        status = queue.status(home(), job_id)
    except InputError:
        st.info("The run that this link names was started on another machine, or its state was deleted.")
        return None
    if status.job.kind != kind:
        st.info("The link names work of another page. Press Run to start here.")
        return None
    return status


def heading(status: queue.Status) -> None:
    """What the job transfers to what, as a heading."""
    network_labels = {card.name: labels.backbone_label(card) for card in library.available(home())}
    spec = status.job.spec
    dataset = task_label(Path(spec.dataset).name)  # that of a folder or file of the user's
    st.subheader(f"{network_labels.get(spec.backbone, spec.backbone)} on {dataset}", divider="gray")


def progress(job_id: str, *, curves: bool = False) -> None:
    """What is being done, how far it is, the time left, the button that cancels, and live curves."""
    _progress_and_cancel(job_id)
    if curves:
        _live_curves(job_id)


@st.fragment(run_every=0.5)
@frame.faults_in_words()
def _progress_and_cancel(job_id: str) -> None:
    status = queue.status(home(), job_id)
    if status.ended:
        st.rerun()
    show_progress(status)
    if st.button("Cancel", icon=":material/close:"):
        queue.cancel(home(), job_id)
        st.rerun()


@st.fragment(run_every=3.0)  # drawing takes time from the training that is drawn; a short one ends before
@frame.faults_in_words()
def _live_curves(job_id: str) -> None:
    curves = live_curves(queue.epochs(home(), job_id))
    if curves.empty:
        return
    value = parts.curve_choice("live_curve", "top1")
    st.plotly_chart(training.learning_curves(curves, value), key="live", config={"displayModeBar": False})


def live_curves(epochs: list[dict[str, Any]]) -> pd.DataFrame:
    """A row a run and epoch so far; a training that was resumed repeats an epoch, of which the last counts."""
    curves = pd.DataFrame(epochs, columns=["seed", "epoch", "loss", "top1", "mean_per_class"])
    curves = curves.drop_duplicates(["seed", "epoch"], keep="last")
    return curves.assign(run=[f"seed {seed}" for seed in curves["seed"]])


@st.fragment(run_every=0.3)
@frame.faults_in_words()
def wait_for(job_id: str) -> None:
    """The progress of a short job; the page is drawn anew once it has ended."""
    status = queue.status(home(), job_id)
    if status.ended:
        st.rerun()
    show_progress(status)


def show_progress(status: queue.Status) -> None:
    """A bar with the stage in words; starts the lane's worker where it left."""
    if status.state == "queued":
        lane = status.job.lane
        queue.ensure_worker(home(), lane)
        earlier = [queue.status(home(), name) for name in queue.queued(home(), lane) if name < status.job_id]
        waiting = [other for other in earlier if other.job.label]
        st.progress(0.0, f"Waiting for {labels.counted(len(waiting), 'other job')} to end" if waiting else "Starting …")
        return
    progress = status.progress
    st.progress(progress.share, f"{progress.description or 'Starting …'}{labels.time_left(progress.seconds_left)}")


def records_of(status: queue.Status) -> list[Record]:
    """The runs of a job that is done, by seed; says so where they were deleted, or were there before it."""
    records = Records(home()).read_many(set(status.result["runs"]))
    if not records:
        st.info("The runs of this job were deleted. Press Run to make them again.")
    elif status.result["found"]:
        found = labels.counted(len(status.result["found"]), "run")
        st.info(f"{found} of these were there already and not repeated. Rerun on the Runs page.")
    return sorted(records, key=lambda record: record.spec["seed"])


def accuracy_metrics(records: list[Record]) -> None:
    """Final and best accuracy over the runs, as metrics."""
    metric = METRICS[records[0].result["metric"]]
    final, best = ([record.result[f"accuracy_{when}"] for record in records] for when in ("final", "best"))
    st.metric(f"Final {metric}", _mean_and_spread(pd.Series(final)), help="After the last epoch.")
    st.metric(
        f"Best {metric}",
        _mean_and_spread(pd.Series(best)),
        help="Best over epochs, the study's convention; optimistic, for it is chosen on the test data.",
    )


def links(result: dict[str, Any]) -> None:
    """Where else a result is seen."""
    where = {"architecture": architecture_label(result["architecture"]), "source": "Measured"}
    with st.container(horizontal=True):
        st.page_link(
            "pages/tradeoffs.py", label="See it on Tradeoffs", icon=":material/show_chart:", query_params=where
        )
        st.page_link("pages/tasks.py", label="See it on Tasks", icon=":material/grid_on:", query_params=where)
        st.page_link("pages/runs.py", label="All runs", icon=":material/list_alt:")


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
        st.info("Give the path of a folder with one folder a class, or of a Parquet file.")
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


def _estimate_in_words(known: durations.Estimate, job: Job) -> str:
    seeds = len(job.seeds)
    training = labels.duration(known.seconds(job.spec, seeds, features_cached=True))
    if job.spec.transfer == "full":
        return f"About {training} on this machine."
    whole = labels.duration(known.seconds(job.spec, seeds, features_cached=False))
    return f"About {training} once the features are cached, {whole} the first time, on this machine."


def _is_here(spec: TransferSpec) -> bool:
    ready = {card.name: card.ready for card in library.available(home())}
    ready |= {card.id: card.ready for card in catalogue.available(home())}
    return ready.get(spec.backbone, True) and ready.get(spec.dataset, True)


def _is_busy(job_id: str) -> bool:
    """True where other work of the job's lane comes before it; estimates wait for what users asked for."""
    return queue.queued(home(), queue.status(home(), job_id).job.lane)[:1] != [job_id]


def _mean_and_spread(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{100 * values.iloc[0]:.1f} % (n = 1)"
    return f"{100 * values.mean():.1f} ± {100 * values.std():.1f} %"
