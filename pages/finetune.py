"""Finetune: train the unpruned weights of a sparse backbone on the user's task, with the mask held fixed."""

from typing import Any

import streamlit as st

from pages.parts import finetuned_network, links, run_details, transfer
from pages.parts.transfer_choice import Chosen, image_size
from sparse_core.catalog import PRECISIONS
from sparse_core.datasets.boxes import METRIC
from sparse_core.results.records import Record
from sparse_core.specs.training import OPTIMIZERS
from sparse_core.specs.transfer import AVERAGE, WARM_UP_EPOCHS, DetectionSpec, FinetuneSpec
from sparse_core.views import detections, labels

OPTIMIZER_NAMES = {"sgd": "SGD (paper default)", "adamw": "AdamW"}
BOX = "box_"  # before the keys of the controls of detectors
PRECISION_NAMES = {"auto": "Fastest that agrees with fp32", "fp32": "fp32", "bf16": "bf16"}


def main() -> None:
    """The controls of a finetuning, its progress and its result."""
    transfer.transfer_page(
        "finetune",
        "Start finetuning",
        (1, "One network per seed, trained one after another."),
        _settings,
        _result,
    )


def _settings(chosen: Chosen) -> transfer.MakeSpec:
    if chosen.detects:
        return _of_detector(chosen)
    with st.expander("Training settings (default: the paper's protocol)"):
        settings = transfer.schedule(FinetuneSpec.usual_settings, chosen.datasets)
        options = _options(chosen)
    return lambda backbone, dataset: FinetuneSpec(backbone, dataset, settings=settings(dataset), **options)


def _of_detector(chosen: Chosen) -> transfer.MakeSpec:
    with st.expander("Training settings (default: YOLOv5's, with fewer epochs)"):
        settings = transfer.schedule(DetectionSpec.usual_settings, chosen.datasets, of=BOX)
        st.caption(
            f"SGD with {WARM_UP_EPOCHS} warm-up epochs and a cosine schedule. The weights are averaged (decay {AVERAGE}); the "
            "averaged network is tested and kept. Pruned weights stay 0; the new prediction layers are dense."
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            size = image_size(chosen)
            precision = _precision(width=330)
        augment = st.toggle("Random zoom, crops, flips and colours", True, key=f"{BOX}augment", bind="query-params")
    options: dict[str, Any] = {"image_size": size, "precision": precision, "augment": augment}
    return lambda backbone, dataset: DetectionSpec(backbone, dataset, settings=settings(dataset), **options)


def _precision(**place: Any) -> str:
    return st.selectbox(
        "Training precision",
        ("auto", *PRECISIONS),
        format_func=PRECISION_NAMES.__getitem__,
        key="training_precision",
        bind="query-params",
        help="bf16 is faster on processors with native support; the result names the precision used.",
        **place,
    )


def _options(chosen: Chosen) -> dict[str, Any]:
    columns = st.columns(4)
    optimizer = columns[0].selectbox(
        "Optimizer", OPTIMIZERS, format_func=OPTIMIZER_NAMES.__getitem__, key="optimizer", bind="query-params"
    )
    with columns[1]:
        precision = _precision()
    smoothing = columns[2].number_input(
        "Label smoothing", 0.0, 0.99, 0.0, format="%g", key="smoothing", bind="query-params"
    )
    with st.container(horizontal=True):
        augment = st.toggle("Random crops and flips", True, key="augment", bind="query-params")
        help_text = "Replaces the upstream weights by random ones and keeps only the mask."
        scratch = st.toggle("Random init, same mask", key="scratch", bind="query-params", help=help_text)
        help_text = "Keeps the upstream running statistics and parameters."
        frozen = st.toggle("Freeze BatchNorm", key="frozen", bind="query-params", help=help_text)
    return {
        "optimizer": optimizer,
        "from_scratch": scratch,
        "freeze_batch_norm": frozen,
        "label_smoothing": float(smoothing),
        "augment": augment,
        "precision": precision,
        "image_size": image_size(chosen),
    }


def _result(records: list[Record]) -> None:
    with st.container(horizontal=True):
        run_details.accuracy_metrics(records)
        if detections.is_detection(records[0]):
            run_details.strict_map_metric(records)
        finetuned_network.mask_metrics(records)
        seconds = sum(record.result["seconds_training"] for record in records)
        st.metric("Training", labels.duration(seconds))
    finetuned_network.notes(records)
    links.result_links(records[0].result)
    finetuned_network.offer(_chosen(records))


def _chosen(records: list[Record]) -> Record:
    """The run whose network is offered: the only one, or that of the seed that the user chooses."""
    if len(records) == 1:
        return records[0]
    by_seed = {record.spec["seed"]: record for record in records}
    metric = METRIC if detections.is_detection(records[0]) else "accuracy"
    names = {
        seed: f"seed {seed}, final {metric} {labels.percent(record.result['accuracy_final'])} %"
        for seed, record in by_seed.items()
    }
    return by_seed[st.selectbox("Network", list(names), format_func=names.__getitem__, key="network_seed", width=330)]


main()
