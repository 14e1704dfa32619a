"""The form of Speedup that starts a measurement: what is timed, in which engines, and about how long it takes."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, form_settings, frame, links
from pages.parts.frame import home
from sparse_core.catalog import ARCHITECTURES, DETECTORS, ENGINES, MAX_SIDE, MIN_SIDE, architecture_label
from sparse_core.engines import availability, machine
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.specs import options
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import durations
from sparse_core.views import labels, speed_tables

NETWORKS = {"backbone": "Sparse backbone", "architecture": "Random weights (timing only)"}
DISTRIBUTIONS = {"uniform": "Uniform over layers", "erk": "Erdős–Rényi-Kernel"}
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def measure_form(rows: pd.DataFrame, *, expanded: bool) -> None:
    """The form in an expander, its button and about how long the measurement takes; ``rows`` are earlier measurements."""
    icon = ":material/timer:"
    form = st.expander(
        "Measure this machine", expanded, key="measure", icon=icon, on_change="rerun", bind="query-params"
    )
    if not form.open:
        return
    with form:
        spec = _spec()
        if spec is None:
            help_text = "The message above says why."
            st.button("Measure", type="primary", icon=":material/play_arrow:", disabled=True, help=help_text)
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Measure", type="primary", icon=":material/play_arrow:"):
                st.query_params["job"] = queue.submit(home(), Job("speedup", spec))
                form_settings.keep_as_it_is(st.query_params["job"])
                st.rerun()
            links.share(options.command("speedup", spec), key="share_form")
            st.caption(_time_estimate(spec, rows))


def this_machine() -> str:
    """This machine as measurements name it."""
    here = machine.machine()
    return speed_tables.machine_label(here["processor"], here["cores"])


def _spec() -> SpeedupSpec | None:
    """What the controls ask for; None while something is missing or wrong."""
    help_text = (
        "Random weights with a sparse mask give the speedup before there is a trained network. They have no accuracy "
        "and are marked “timing only” everywhere."
    )
    network_kind = choices.choice("Network", "what", NETWORKS, help_text)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        network = _backbone() if network_kind == "backbone" else _random_weights()
        help_text = (
            "Inference: the backbone alone. Online training (section 3.6 of the paper): images are decoded and "
            "augmented, pass through the backbone, and train a linear classifier, in batches of 64."
        )
        mode = choices.choice("Mode", "time", labels.MODES, help_text, persist=None)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = _engines(mode)
        settings = _inference_settings() if mode == "inference" else _training_settings()
        threads = st.number_input(
            "Threads", 1, machine.cores(), machine.cores(), key="use_threads", bind="query-params", width=110
        )
    for name in ENGINES:
        if availability.missing(name):
            st.caption(frame.plain(f"{ENGINES[name]} is not available: {availability.missing(name)}"))
    if not (network and chosen and settings):
        return None
    all_cores = threads == machine.cores()
    try:
        return SpeedupSpec(**network, engines=chosen, threads=0 if all_cores else int(threads), mode=mode, **settings)
    except InputError as error:
        st.error(frame.plain(str(error)))
        return None


def _backbone() -> dict[str, Any]:
    cards = [card for card in library.available(home()) if card.sparsity and card.ready]
    sparsest = cards.index(max(cards, key=lambda card: card.sparsity))
    help_text = f"The sparse backbones on this machine. {choices.IMPORT_HELP}"
    return {"backbone": choices.backbone_choice(cards, index=sparsest, width=400, help=help_text).name}


def _random_weights() -> dict[str, Any]:
    names = [*ARCHITECTURES, *DETECTORS]
    architecture = st.selectbox(
        "Architecture", names, 0, architecture_label, key="of_architecture", bind="query-params", width=200
    )
    same_architecture = {
        card.name: f"As in {labels.backbone_label(card)}"
        for card in library.available(home())
        if card.architecture == architecture and card.sparsity and card.ready
    }
    distributions = {**DISTRIBUTIONS, **same_architecture}
    distribution = st.selectbox(
        "Sparsity distribution",
        list(distributions),
        format_func=distributions.__getitem__,
        key="distribution",
        bind="query-params",
        width=260,
        help="Uniform: the same sparsity in every convolution but the first, which stays dense. Erdős–Rényi-Kernel: small "
        "layers keep more of their weights, as in RigL. As in a backbone: the layer sparsities of that backbone.",
    )
    if distribution in same_architecture:
        return {"architecture": architecture, "densities_of": distribution}
    sparsity = st.number_input(
        "Sparsity (%)", 1.0, 99.9, 90.0, 1.0, format="%g", key="to_sparsity", bind="query-params", width=130
    )
    return {"architecture": architecture, "sparsity": round(float(sparsity) / 100, 5), "distribution": distribution}


def _engines(mode: str) -> tuple[str, ...]:
    available = [name for name in ENGINES if not availability.missing(name)]
    if mode == "training":
        engine = st.selectbox(
            "Engine", available, format_func=ENGINES.__getitem__, key="engine", bind="query-params", width=180
        )
        return (engine,)
    chosen = st.multiselect(
        "Engines",
        available,
        default=available,
        format_func=ENGINES.__getitem__,
        key="engines",
        bind="query-params",
        width=400,
        help="DeepSparse skips zero weights. The others compute them like any other weight and serve as controls.",
    )
    if not chosen:
        st.info("Choose an engine.")
    return tuple(chosen)


def _inference_settings() -> dict[str, Any] | None:
    sizes = st.multiselect(
        "Batch sizes", BATCH_SIZES, default=(1, 64), format_func=str, key="sizes", bind="query-params", width=230
    )
    help_text = "In each round, the dense and the sparse network are timed one after the other."
    rounds = st.number_input("Rounds", 3, 200, 10, key="rounds", bind="query-params", width=110, help=help_text)
    help_text = "Each side of the network's input; of detectors multiples of 32, such as 416 and 640."
    side = st.number_input(
        "Image size (px)",
        MIN_SIDE,
        MAX_SIDE,
        None,
        key="timed_size",
        bind="query-params",
        placeholder="its own",
        width=170,
        help=help_text,
    )
    if not sizes:
        st.info("Choose a batch size.")
        return None
    return {"batch_sizes": tuple(sorted(sizes)), "rounds": int(rounds), "image_size": int(side or 0)}


def _training_settings() -> dict[str, Any] | None:
    chosen = choices.dataset_choice()
    epochs = st.number_input("Epochs", 1, 100, 1, key="times_epochs", bind="query-params", width=110)
    dataset = choices.resolve_dataset(chosen)
    return {"dataset": dataset, "epochs": int(epochs)} if dataset else None


def _time_estimate(spec: SpeedupSpec, rows: pd.DataFrame) -> str:
    architecture = spec.architecture
    if spec.backbone:
        architecture = next(card.architecture for card in library.available(home()) if card.name == spec.backbone)
    seconds = durations.estimate(home(), spec, architecture, rows)
    if seconds is None:
        return "No estimate yet: nothing similar was measured on this machine. Progress shows the time left."
    return f"About {labels.duration(seconds)} on this machine. Leave it idle meanwhile: other load makes times vary."
