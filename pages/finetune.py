"""Finetune: train the unpruned weights of a sparse backbone on the user's task, with the mask held fixed."""

import streamlit as st

from pages.parts import finetuned_network, links, progress, transfer_form, transfer_results
from pages.parts.frame import home
from pages.parts.run_details import show_run_details
from pages.parts.store import open_store
from sparse_core.catalog import PRECISIONS
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Record
from sparse_core.specs.training import OPTIMIZERS, Hyperparameters, full_learning_rate
from sparse_core.specs.transfer import FinetuneSpec
from sparse_core.views import labels
from sparse_core.views.runs import command

SEEDS = 1
BUTTON = "Start finetuning"
OPTIMIZER_NAMES = {"sgd": "SGD (paper default)", "adamw": "AdamW"}
PRECISION_NAMES = {"auto": "Fastest that agrees with fp32", "fp32": "fp32", "bf16": "bf16"}


def main() -> None:
    """Controls, the button and a time estimate; then progress, then the result."""
    open_store()
    st.markdown(
        "**How accurate is a sparse backbone when it is finetuned on your task?** Every weight that was not pruned is trained, "
        "together with BatchNorm and a new classifier. Pruned weights stay exactly 0."
    )
    queue.ensure_worker(home(), "long")  # loads torch before the button is pressed
    job = _controls()
    if job is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(BUTTON, type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), job)
        links.share(command(job.spec, len(job.seeds)))
        transfer_form.time_estimate(job)
    status = progress.linked_job("finetune")
    if status is None:
        return
    progress.job_heading(status)
    if not status.ended:
        progress.show_progress(status.job_id, curves=True)
    elif status.state == "done":
        _result(status)
    else:
        progress.ended_without_result(status, BUTTON)


def _controls() -> Job | None:
    chosen = transfer_form.backbone_and_dataset(SEEDS, "One network per seed, trained one after another.")
    if chosen is None:
        return None
    backbone, dataset, seeds = chosen
    with st.expander("Training settings (default: the paper's protocol)"):
        settings = transfer_form.schedule(Hyperparameters(learning_rate=full_learning_rate(dataset)))
        spec = _options(backbone, dataset, settings)
    return Job("finetune", spec, tuple(range(seeds)))


def _options(backbone: str, dataset: str, settings: Hyperparameters) -> FinetuneSpec:
    columns = st.columns(4)
    optimizer = columns[0].selectbox(
        "Optimizer", OPTIMIZERS, format_func=OPTIMIZER_NAMES.__getitem__, key="optimizer", bind="query-params"
    )
    precision = columns[1].selectbox(
        "Training precision",
        ("auto", *PRECISIONS),
        format_func=PRECISION_NAMES.__getitem__,
        key="training_precision",
        bind="query-params",
        help="bf16 is faster on processors with native support; the result names the precision used.",
    )
    smoothing = columns[2].number_input(
        "Label smoothing", 0.0, 0.99, 0.0, format="%g", key="smoothing", bind="query-params"
    )
    with st.container(horizontal=True):
        augment = st.toggle("Random crops and flips", True, key="augment", bind="query-params")
        scratch = st.toggle(
            "Random init, same mask",
            key="scratch",
            bind="query-params",
            help="Replaces the upstream weights by random ones and keeps only the mask.",
        )
        frozen = st.toggle(
            "Freeze BatchNorm",
            key="frozen",
            bind="query-params",
            help="Keeps the upstream running statistics and parameters.",
        )
    return FinetuneSpec(
        backbone,
        dataset,
        settings=settings,
        optimizer=optimizer,
        from_scratch=scratch,
        freeze_batch_norm=frozen,
        label_smoothing=float(smoothing),
        augment=augment,
        precision=precision,
    )


def _result(status: queue.Status) -> None:
    records = transfer_results.records_of(status)
    if not records:
        return
    with st.container(horizontal=True):
        transfer_results.accuracy_metrics(records)
        finetuned_network.mask_metrics(records)
        seconds = sum(record.result["seconds_training"] for record in records)
        st.metric("Training", labels.duration(seconds))
    finetuned_network.notes(records)
    links.result_links(records[0].result)
    finetuned_network.offer(_chosen(records))
    show_run_details(records)


def _chosen(records: list[Record]) -> Record:
    """The run whose network is offered: the only one, or that of the seed that the user chooses."""
    if len(records) == 1:
        return records[0]
    by_seed = {record.spec["seed"]: record for record in records}
    accuracies = {seed: labels.percent(record.result["accuracy_final"]) for seed, record in by_seed.items()}
    seed = st.selectbox(
        "Network",
        list(by_seed),
        format_func=lambda seed: f"seed {seed}, final accuracy {accuracies[seed]} %",
        key="network_seed",
        width=330,
    )
    return by_seed[seed]


main()
