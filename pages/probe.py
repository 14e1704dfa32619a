"""Probe: train a linear classifier on a backbone's frozen features, here and now."""

import streamlit as st

from pages.parts import frame, parts, transfer_controls
from pages.parts.frame import home
from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.engines import availability
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FEATURE_ENGINES, ProbeSpec
from sparse_core.views import labels
from sparse_core.views.runs import command

SEEDS = 5


def main() -> None:
    """Controls, about how long it will take, the button; then progress, then the result."""
    parts.store()
    st.markdown(
        "**Which accuracy does a sparse backbone reach on your task?** The backbone stays frozen; only a linear "
        "classifier on its features is trained, once for each seed."
    )
    queue.ensure_worker(home())  # so that torch is loaded by the time the button is pressed
    job = _controls()
    if job is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Run the probe", type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), job)
        parts.share(command(job.spec, len(job.seeds)))
        transfer_controls.estimate(job)
    status = transfer_controls.asked_for("probe")
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
    chosen = transfer_controls.backbone_and_dataset(SEEDS, "All seeds train together.")
    if chosen is None:
        return None
    backbone, dataset, seeds = chosen
    with st.expander("Training settings (the study's protocol unless you change it)"):
        settings = transfer_controls.schedule(Hyperparameters())
        left, middle, right = st.columns([2, 1, 1])
        sweep = left.text_input(
            "Learning rates to choose from (optional)",
            key="sweep",
            bind="query-params",
            placeholder="0.001 0.01 0.1",
            help="The best is chosen on a validation split of the training data, never on the test data.",
        )
        precision = middle.selectbox(
            "Feature precision",
            PRECISIONS,
            key="precision",
            bind="query-params",
            help="bf16 is faster on some processors and slightly less exact; the result names it.",
        )
        engine = right.selectbox(
            "Feature engine",
            [name for name in FEATURE_ENGINES if name == "auto" or availability.missing(name) is None],
            format_func=lambda name: ENGINES.get(name, "Fastest"),
            key="feature_engine",
            bind="query-params",
            help="What computes the features. The fastest one that agrees with PyTorch is found by a short measurement "
            "where there are 5,000 images or more; for fewer it is PyTorch, unless it was measured before.",
        )
    try:
        rates = tuple(float(word) for word in (sweep or "").replace(",", " ").split())
    except ValueError:
        st.error(f"Expected learning rates such as 0.001 0.01 0.1, got “{sweep}”.")
        return None
    spec = ProbeSpec(backbone, dataset, settings=settings, sweep_lr=rates, precision=precision, engine=engine)
    return Job("probe", spec, tuple(range(seeds)))


def _result(status: queue.Status) -> None:
    records = transfer_controls.records_of(status)
    if not records:
        return
    result = records[0].result
    with st.container(horizontal=True):
        transfer_controls.accuracy_metrics(records)
        st.metric("Training", labels.duration(result["seconds_training"]))
        st.metric(
            "Features",
            "from cache" if result["features_cached"] else labels.duration(result["seconds_features"]),
            help=f"Computed by {ENGINES[result['engine']]} {result['engine_version']}." if "engine" in result else None,
        )
    for note in result["notes"]:
        st.warning(note)
    transfer_controls.links(result)
    parts.show_runs_in_depth(records)


main()
