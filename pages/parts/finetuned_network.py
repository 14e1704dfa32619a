"""What Finetune and Runs show of a finetuned network: whether its mask held, its files, and the import into the library."""

from collections.abc import Sequence
from statistics import fmean

import streamlit as st

from pages.parts import frame, progress
from pages.parts.frame import home
from sparse_core.catalog import task_label
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import finetuned, library
from sparse_core.results.records import Record
from sparse_core.specs.checkpoints import ExportSpec, ImportSpec
from sparse_core.views import detections, labels


def mask_metrics(records: Sequence[Record]) -> None:
    """Backbone sparsity before and after, and the number of pruned weights that are not 0, as metrics."""
    before, after = (fmean(record.result[f"sparsity_{when}"] for record in records) for when in ("before", "after"))
    help_text = "Over the backbone's convolution weights."
    st.metric(
        "Backbone sparsity before → after", f"{labels.percent(before)} → {labels.percent(after)} %", help=help_text
    )
    help_text = "Pruned weights that are not exactly 0, counted after each epoch and in the saved network. Must be 0."
    st.metric("Mask violations", f"{sum(record.result['mask_violations'] for record in records):,}", help=help_text)


def notes(records: Sequence[Record]) -> None:
    """Notes on the figures: a broken mask, accuracy in another precision, the dataset's own notes."""
    if any(record.result["mask_violations"] for record in records):
        st.error(
            "Internal error: pruned weights became nonzero during training. Don't use this network as a sparse one."
        )
    for record in records:
        exact = record.result.get("top1_final_fp32")  # none of a detector
        if exact is not None:
            trained = labels.percent(record.result["top1_final"])
            st.caption(f"Seed {record.spec['seed']}: top-1 {trained} % in bf16, {labels.percent(exact)} % in fp32.")
    for note in records[0].result["notes"]:
        st.warning(frame.plain(note))


def offer(record: Record) -> None:
    """The network's files to download, and the button that imports it into the library."""
    weights = finetuned.file(home(), record.run_id)
    if not weights.is_file():
        st.caption("The finetuned network's file was deleted. Rerun on the Runs page to make it again.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        _download(record, "safetensors", "Weights (safetensors)")
        if not detections.is_detection(record):
            _onnx(record)
        _import_form(record)
    job_id = st.session_state.get(f"import_{record.run_id}")
    status = queue.find(home(), job_id) if job_id else None
    if status:
        progress.import_result(status)


def _download(record: Record, ending: str, label: str) -> None:
    file = finetuned.file(home(), record.run_id, ending)
    result = record.result
    name = f"{result['architecture']}-{result['dataset_name']}-seed{record.spec['seed']}.{ending}"
    st.download_button(
        f"{label}, {labels.file_size(file.stat().st_size)}",
        file.read_bytes,
        name,
        "application/octet-stream",
        key=f"{ending}_{record.run_id}",
        on_click="ignore",
        icon=":material/download:",
        help="The finetuned network with its classifier, class names and image preprocessing.",
    )


def _onnx(record: Record) -> None:
    """The ONNX file is made on request, then it can be downloaded."""
    if finetuned.file(home(), record.run_id, "onnx").is_file():
        _download(record, "onnx", "ONNX")
        return
    asked, help_text = Job("export", ExportSpec(record.run_id)), "One file that other runtimes can load."
    progress.job_button("Make ONNX", f"export_{record.run_id}", asked, help_text)


def _import_form(record: Record) -> None:
    form = st.popover("Use as a backbone", icon=":material/inventory_2:", help="Import into the library")
    with form, st.form(f"use_{record.run_id}", border=False):
        suggested = library.free_name(home(), f"{record.spec['backbone']}-{record.result['dataset_name']}")
        name = st.text_input("Name in the library", suggested)
        if st.form_submit_button("Import", type="primary"):
            result = record.result
            spec = ImportSpec(
                str(finetuned.file(home(), record.run_id)),
                name,
                architecture=result["architecture"],
                method=result["method"],
                sparsity=result["sparsity"],
                upstream=f"{result['upstream']} → {task_label(result['dataset_name'])}",
                origin=f"finetuned here, run {record.run_id}",
            )
            st.session_state[f"import_{record.run_id}"] = queue.submit(home(), Job("import", spec))
            st.rerun()
