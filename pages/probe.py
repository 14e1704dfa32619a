"""Probe: train a linear classifier on a backbone's frozen features, here and now."""

import pandas as pd
import streamlit as st

from pages import parts
from sparse_core import backbones, charts, datasets, estimates, jobs, views
from sparse_core.catalog import METRICS, architecture_label, task_label
from sparse_core.errors import InputError
from sparse_core.records import Records
from sparse_core.runs import command
from sparse_core.spec import Hyperparameters, Job, ProbeSpec

DEFAULTS = Hyperparameters()
OWN = "my own folder or Parquet file"


def main() -> None:
    """Controls, about how long it will take, the button; then progress, then the result."""
    parts.store()
    st.markdown(
        "**Which accuracy does a sparse backbone reach on your task?** The backbone stays frozen; only a linear "
        "classifier on its features is trained, once for each seed."
    )
    jobs.ensure_worker()  # so that torch is loaded by the time the button is pressed
    job = _controls()
    if job is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Run the probe", type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = jobs.submit(job)
        parts.share(command(job.spec, len(job.seeds)))
        _estimate(job)
    job_id = st.query_params.get("job")
    if not job_id:
        return
    try:
        status = jobs.status(job_id)
    except InputError:
        st.info("The run that this link names was started on another machine, or its state was deleted.")
        return
    st.divider()
    names = {card.name: _backbone_words(card) for card in backbones.available()}
    st.subheader(
        f"{names.get(status.job.spec.backbone, status.job.spec.backbone)} on {task_label(status.job.spec.dataset)}"
    )
    if not status.ended:
        _progress(job_id)
    elif status.state == "done":
        _result(status)
    elif status.state == "failed":
        st.error(status.message)
    else:
        st.info(f"{status.message} Press Run to start again.")


def _controls() -> Job | None:
    cards = {card.name: card for card in backbones.available()}
    tasks = {card.id: card for card in datasets.available()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        backbone = st.selectbox(
            "Backbone",
            list(cards),
            format_func=lambda name: _backbone_words(cards[name]),
            key="backbone",
            bind="query-params",
            width=330,
            help="Those marked “download” fetch their weights at first use.",
        )
        choice = st.selectbox(
            "Dataset",
            [*tasks, OWN],
            format_func=lambda name: _dataset_words(tasks[name]) if name in tasks else "My own folder or Parquet file",
            key="dataset",
            bind="query-params",
            width=330,
            help="Digits works with no network. Your own pictures: a folder a class, or Parquet.",
        )
        count = st.number_input(
            "Seeds", 1, 50, 5, key="seeds", bind="query-params", width=110, help="All seeds train together."
        )
    dataset = choice
    if choice == OWN:
        dataset = st.text_input(
            "Path on this machine",
            key="path",
            bind="query-params",
            placeholder="/home/me/pictures",
            help=f"Laid out as {datasets.LAYOUTS}.",
        )
        if not dataset:
            st.info("Give the path of a folder with one folder a class, or of a Parquet file.")
            return None
    settings, sweep, precision = _settings()
    try:
        rates = tuple(float(word) for word in sweep.replace(",", " ").split())
    except ValueError:
        st.error(f"Expected learning rates such as 0.001 0.01 0.1, got “{sweep}”.")
        return None
    if choice == OWN:
        try:
            seen = datasets.describe(dataset)
        except InputError as error:
            st.error(str(error))
            return None
        st.caption(
            f"{len(seen.class_names)} classes, {seen.train:,} training and {seen.test:,} test pictures: {seen.layout}."
        )
    spec = ProbeSpec(backbone, dataset, settings=settings, sweep_lr=rates, precision=precision)
    return Job("probe", spec, tuple(range(int(count))))


def _settings() -> tuple[Hyperparameters, str, str]:
    with st.expander("Training settings (the study's protocol unless you change it)"):
        columns = st.columns(4)
        epochs = columns[0].number_input("Epochs", 1, 10_000, DEFAULTS.epochs, key="epochs", bind="query-params")
        rate = columns[1].number_input(
            "Learning rate", 1e-6, 100.0, DEFAULTS.learning_rate, format="%g", key="lr", bind="query-params"
        )
        batch = columns[2].number_input("Batch size", 1, 4096, DEFAULTS.batch_size, key="batch", bind="query-params")
        decay = columns[3].number_input(
            "Weight decay", 0.0, 1.0, DEFAULTS.weight_decay, format="%g", key="decay", bind="query-params"
        )
        momentum = columns[0].number_input(
            "Momentum", 0.0, 0.999, DEFAULTS.momentum, format="%g", key="momentum", bind="query-params"
        )
        step = columns[1].number_input(
            "Epochs a step",
            1,
            10_000,
            DEFAULTS.step_epochs,
            key="step",
            bind="query-params",
            help="After each step the learning rate is multiplied by the factor.",
        )
        factor = columns[2].number_input(
            "Step factor", 0.001, 1.0, DEFAULTS.step_factor, format="%g", key="factor", bind="query-params"
        )
        precision = columns[3].selectbox(
            "Feature precision",
            ["fp32", "bf16"],
            key="precision",
            bind="query-params",
            help="bf16 is faster on some processors and slightly less exact; the result names it.",
        )
        sweep = st.text_input(
            "Learning rates to choose from (optional)",
            key="sweep",
            bind="query-params",
            placeholder="0.001 0.01 0.1",
            help="The best is chosen on a validation split of the training data, never on the test data.",
        )
    settings = Hyperparameters(
        int(epochs), float(rate), float(momentum), float(decay), int(batch), int(step), float(factor)
    )
    return settings, sweep or "", precision


@st.fragment(run_every=1.0)
def _estimate(job: Job) -> None:
    """About how long it will take; measured once on this machine for each backbone and dataset."""
    known = estimates.recall(job.spec.backbone, job.spec.dataset)
    if known:
        training = _duration(known.seconds(job.spec.settings.epochs, len(job.seeds), features_cached=True))
        whole = _duration(known.seconds(job.spec.settings.epochs, len(job.seeds), features_cached=False))
        st.caption(f"About {training} once the features are cached, {whole} the first time, on this machine.")
        return
    if not _is_here(job.spec):
        st.caption("Something has to be downloaded first, so the time cannot be told yet.")
        return
    asked = st.session_state.setdefault("estimate_jobs", {})
    key = (job.spec.backbone, job.spec.dataset)
    if key not in asked:
        asked[key] = jobs.submit(Job("estimate", job.spec, (0,)))
    status = jobs.status(asked[key])
    if status.state == "failed":
        st.caption(f"The time cannot be estimated: {status.message}")
    else:
        st.caption("Measuring how long it will take on this machine …")


def _is_here(spec: ProbeSpec) -> bool:
    ready = {card.name: card.ready for card in backbones.available()}
    ready |= {card.id: card.ready for card in datasets.available()}
    return ready.get(spec.backbone, True) and ready.get(spec.dataset, True)


@st.fragment(run_every=0.5)
def _progress(job_id: str) -> None:
    """What is being done, how far it is, the time left, live curves and the button that cancels."""
    status = jobs.status(job_id)
    if status.ended:
        st.rerun()
    if status.state == "queued":
        jobs.ensure_worker()
        waiting = [name for name in jobs.queued() if name < job_id]
        st.progress(0.0, f"Waiting for {views.counted(len(waiting), 'other run')} to end" if waiting else "Starting …")
    else:
        left = f", about {_duration(status.seconds_left)} left" if status.seconds_left is not None else ""
        count = f" {status.done:,} of {status.total:,}" if status.total else ""
        st.progress(status.done / status.total if status.total else 0.0, f"{status.stage}{count}{left}")
    if st.button("Cancel", icon=":material/close:"):
        jobs.cancel(job_id)
        st.rerun()
    lines = [
        {"run": f"seed {seed}", "epoch": event["done"], "top1": top1}
        for event in jobs.events(job_id)
        if event.get("stage") == "Training the classifiers"
        for seed, top1 in zip(event["seeds"], event["top1"], strict=True)
    ]
    if lines:
        st.plotly_chart(charts.learning_curves(pd.DataFrame(lines)), key="live", config={"displayModeBar": False})


def _result(status: jobs.Status) -> None:
    records = Records().read_many(set(status.result["runs"]))
    if not records:
        st.info("The runs of this probe were deleted. Press Run to make them again.")
        return
    records.sort(key=lambda record: record.spec["seed"])
    result = records[0].result
    metric = METRICS[result["metric"]]
    best = pd.Series([record.result["accuracy_best"] for record in records])
    final = pd.Series([record.result["accuracy_final"] for record in records])
    found = status.result["found"]
    if found:
        st.info(
            f"{views.counted(len(found), 'run')} of these were there already and not repeated. Rerun on the Runs page."
        )
    with st.container(horizontal=True):
        st.metric(f"Final {metric}", _mean_and_spread(final), help="After the last epoch.")
        st.metric(
            f"Best {metric}",
            _mean_and_spread(best),
            help="Best over epochs, the study's convention; optimistic, for it is chosen on the test data.",
        )
        st.metric("Training", _duration(result["seconds_training"]))
        st.metric("Features", "from cache" if result["features_cached"] else _duration(result["seconds_features"]))
    for note in result["notes"]:
        st.warning(note)
    where = {"architecture": architecture_label(result["architecture"]), "source": "Measured"}
    with st.container(horizontal=True):
        st.page_link(
            "pages/tradeoffs.py", label="See it on Tradeoffs", icon=":material/show_chart:", query_params=where
        )
        st.page_link("pages/tasks.py", label="See it on Tasks", icon=":material/grid_on:", query_params=where)
        st.page_link("pages/runs.py", label="All runs", icon=":material/list_alt:")
    parts.show_runs_in_depth(records)


def _backbone_words(card: backbones.BackboneCard) -> str:
    method = "dense" if card.method == "Dense" else f"{card.method.lower()} {views.sparsity_label(card.sparsity)}"
    return f"{architecture_label(card.architecture)}, {method}{'' if card.ready else ' (download)'}"


def _dataset_words(card: datasets.DatasetCard) -> str:
    absent = {"download": " (download)", "folder": " (needs a folder)"}
    return f"{card.name}, {card.classes} classes{'' if card.ready else absent.get(card.kind, '')}"


def _mean_and_spread(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{100 * values.iloc[0]:.1f} % (n = 1)"
    return f"{100 * values.mean():.1f} ± {100 * values.std():.1f} %"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


main()
