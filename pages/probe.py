"""Probe: train a linear classifier on a backbone's frozen features, on this machine."""

from typing import Any

import streamlit as st

from pages.parts import frame, links, run_details, transfer
from pages.parts.transfer_choice import Chosen, image_size
from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.engines import availability
from sparse_core.results.records import Record
from sparse_core.specs.transfer import FEATURE_ENGINES, ProbeSpec
from sparse_core.views import labels


def main() -> None:
    """The controls of a probe, its progress and its result."""
    transfer.transfer_page(
        "probe",
        "Start probe",
        (5, "All seeds train together."),
        _settings,
        _result,
    )


def _settings(chosen: Chosen) -> transfer.MakeSpec | None:
    with st.expander("Training settings (default: the paper's protocol)"):
        settings = transfer.schedule(ProbeSpec.usual_settings, chosen.datasets)
        size = image_size(chosen)
        left, middle, right = st.columns([2, 1, 1])
        sweep = left.text_input(
            "Learning-rate sweep (optional)",
            key="sweep",
            bind="query-params",
            placeholder="0.001 0.01 0.1",
            help="The best rate is chosen on a validation split of the training data, never on the test data.",
        )
        help_text = "bf16 is faster on some processors and slightly less precise; the result names the precision."
        precision = middle.selectbox(
            "Feature precision", PRECISIONS, key="precision", bind="query-params", help=help_text
        )
        engine = right.selectbox(
            "Feature engine",
            [name for name in FEATURE_ENGINES if name == "auto" or availability.missing(name) is None],
            format_func=lambda name: ENGINES.get(name, "Fastest"),
            key="feature_engine",
            bind="query-params",
            help="What computes the features. Fastest: the engine that has these features soonest and agrees "
            "with PyTorch, by a short measurement once per machine and kind of network. Small datasets run in PyTorch.",
        )
    try:
        rates = tuple(float(word) for word in (sweep or "").replace(",", " ").split())
    except ValueError:
        st.error(f"Expected learning rates such as 0.001 0.01 0.1, got “{frame.plain(sweep)}”.")
        return None
    options: dict[str, Any] = {"sweep_lr": rates, "precision": precision, "engine": engine, "image_size": size}
    return lambda backbone, dataset: ProbeSpec(backbone, dataset, settings=settings(dataset), **options)


def _result(records: list[Record]) -> None:
    result = records[0].result
    with st.container(horizontal=True):
        run_details.accuracy_metrics(records)
        if result.get("validation"):
            run_details.learning_rate_metric(result)
        st.metric("Training", labels.duration(result["seconds_training"]))
        st.metric(
            "Features",
            "from cache" if result["features_cached"] else labels.duration(result["seconds_features"]),
            help=_engine(result),
        )
    for note in result["notes"]:
        st.warning(frame.plain(note))
    links.result_links(result)


def _engine(result: dict[str, Any]) -> str | None:
    """Which engine computed the features, where that is known."""
    name, version = result.get("engine"), result.get("engine_version", "")
    return frame.plain(f"Computed by {ENGINES.get(name, name)} {version}.") if name else None


main()
