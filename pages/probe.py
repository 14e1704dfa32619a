"""Probe: train a linear classifier on a backbone's frozen features, on this machine."""

import streamlit as st

from pages.parts import links, progress, transfer_form, transfer_results
from pages.parts.frame import home
from pages.parts.run_details import show_run_details
from pages.parts.store import open_store
from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.engines import availability
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FEATURE_ENGINES, ProbeSpec
from sparse_core.views import labels
from sparse_core.views.runs import command

SEEDS = 5
BUTTON = "Start probe"


def main() -> None:
    """Controls, the button and a time estimate; then progress, then the result."""
    open_store()
    st.markdown(
        "**How accurate is a sparse backbone on your task?** The backbone stays frozen; only a linear classifier on its "
        "features is trained, once per seed."
    )
    queue.ensure_worker(home())  # loads torch before the button is pressed
    job = _controls()
    if job is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(BUTTON, type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), job)
        links.share(command(job.spec, len(job.seeds)))
        transfer_form.time_estimate(job)
    status = progress.linked_job("probe")
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
    chosen = transfer_form.backbone_and_dataset(SEEDS, "All seeds train together.")
    if chosen is None:
        return None
    backbone, dataset, seeds = chosen
    with st.expander("Training settings (default: the paper's protocol)"):
        settings = transfer_form.schedule(Hyperparameters())
        left, middle, right = st.columns([2, 1, 1])
        sweep = left.text_input(
            "Learning-rate sweep (optional)",
            key="sweep",
            bind="query-params",
            placeholder="0.001 0.01 0.1",
            help="The best rate is chosen on a validation split of the training data, never on the test data.",
        )
        precision = middle.selectbox(
            "Feature precision",
            PRECISIONS,
            key="precision",
            bind="query-params",
            help="bf16 is faster on some processors and slightly less precise; the result names the precision.",
        )
        engine = right.selectbox(
            "Feature engine",
            [name for name in FEATURE_ENGINES if name == "auto" or availability.missing(name) is None],
            format_func=lambda name: ENGINES.get(name, "Fastest"),
            key="feature_engine",
            bind="query-params",
            help="What computes the features. Fastest: for 5,000 images or more, a short measurement finds the fastest "
            "engine that agrees with PyTorch; for fewer it is PyTorch, unless the engines were measured before.",
        )
    try:
        rates = tuple(float(word) for word in (sweep or "").replace(",", " ").split())
    except ValueError:
        st.error(f"Expected learning rates such as 0.001 0.01 0.1, got “{sweep}”.")
        return None
    spec = ProbeSpec(backbone, dataset, settings=settings, sweep_lr=rates, precision=precision, engine=engine)
    return Job("probe", spec, tuple(range(seeds)))


def _result(status: queue.Status) -> None:
    records = transfer_results.records_of(status)
    if not records:
        return
    result = records[0].result
    with st.container(horizontal=True):
        transfer_results.accuracy_metrics(records)
        st.metric("Training", labels.duration(result["seconds_training"]))
        st.metric(
            "Features",
            "from cache" if result["features_cached"] else labels.duration(result["seconds_features"]),
            help=f"Computed by {ENGINES[result['engine']]} {result['engine_version']}." if "engine" in result else None,
        )
    for note in result["notes"]:
        st.warning(note)
    links.result_links(result)
    show_run_details(records)


main()
