"""Finetune: train every weight of a sparse backbone that was not pruned on a task of one's own, the mask held fixed."""

import streamlit as st

from pages.parts import finetuned_network, frame, parts, transfer_controls
from pages.parts.frame import home
from sparse_core.catalog import PRECISIONS
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Record
from sparse_core.specs.training import OPTIMIZERS, Hyperparameters, full_learning_rate
from sparse_core.specs.transfer import FinetuneSpec
from sparse_core.views import labels
from sparse_core.views.runs import command

SEEDS = 1
OPTIMIZER_NAMES = {"sgd": "SGD (the study's)", "adamw": "AdamW"}
PRECISION_NAMES = {"auto": "Fastest that agrees with fp32", "fp32": "fp32", "bf16": "bf16"}


def main() -> None:
    """Controls, about how long it will take, the button; then progress, then the result."""
    parts.store()
    st.markdown(
        "**Which accuracy does a sparse backbone reach when it may learn your task?** Every weight that was not pruned is "
        "trained, with BatchNorm and a new classifier; what was pruned stays exactly 0."
    )
    queue.ensure_worker(home(), "long")  # so that torch is loaded by the time the button is pressed
    job = _controls()
    if job is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Run the finetuning", type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), job)
        parts.share(command(job.spec, len(job.seeds)))
        transfer_controls.estimate(job)
    status = transfer_controls.asked_for("finetune")
    if status is None:
        return
    transfer_controls.heading(status)
    if not status.ended:
        transfer_controls.progress(status.job_id, curves=True)
    elif status.state == "done":
        _result(status)
    elif status.state == "failed":
        st.error(frame.plain(status.message))
    else:
        st.info(f"{frame.plain(status.message)} Press Run to start again.")


def _controls() -> Job | None:
    chosen = transfer_controls.backbone_and_dataset(SEEDS, "One network a seed, trained one after another.")
    if chosen is None:
        return None
    backbone, dataset, seeds = chosen
    with st.expander("Training settings (the study's protocol unless you change it)"):
        settings = transfer_controls.schedule(Hyperparameters(learning_rate=full_learning_rate(dataset)))
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
        help="bf16 is faster where the processor computes it natively; the result says which was used.",
    )
    smoothing = columns[2].number_input(
        "Label smoothing", 0.0, 0.99, 0.0, format="%g", key="smoothing", bind="query-params"
    )
    with st.container(horizontal=True):
        augment = st.toggle("Random crops and flips", True, key="augment", bind="query-params")
        scratch = st.toggle(
            "From scratch with the mask",
            key="scratch",
            bind="query-params",
            help="New random weights in place of the upstream ones; only the mask is kept.",
        )
        frozen = st.toggle(
            "BatchNorm frozen",
            key="frozen",
            bind="query-params",
            help="The upstream running statistics and parameters stay as they are.",
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
    records = transfer_controls.records_of(status)
    if not records:
        return
    with st.container(horizontal=True):
        transfer_controls.accuracy_metrics(records)
        finetuned_network.mask_metrics(records)
        seconds = sum(record.result["seconds_training"] for record in records)
        st.metric("Training", labels.duration(seconds))
    finetuned_network.notes(records)
    transfer_controls.links(records[0].result)
    finetuned_network.offer(_chosen(records))
    parts.show_runs_in_depth(records)


def _chosen(records: list[Record]) -> Record:
    """The run whose network is offered: the only one, or the one of the seed that the user picks."""
    if len(records) == 1:
        return records[0]
    by_seed = {record.spec["seed"]: record for record in records}
    accuracies = {seed: labels.percent(record.result["accuracy_final"]) for seed, record in by_seed.items()}
    seed = st.selectbox(
        "Network of",
        list(by_seed),
        format_func=lambda seed: f"seed {seed}, final accuracy {accuracies[seed]} %",
        key="network_seed",
        width=330,
    )
    return by_seed[seed]


main()
