"""Controls that several pages have; what is chosen is kept in the link."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import pandas as pd
import streamlit as st

from pages.parts import frame
from pages.parts.frame import home
from sparse_core.catalog import (
    DETECTORS,
    METRICS,
    PAPER_ARCHITECTURES,
    RESULT_METRICS,
    TRANSFERS,
    architecture_label,
    task_label,
)
from sparse_core.datasets import catalogue
from sparse_core.datasets.boxes import METRIC
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks.library import BackboneCard
from sparse_core.results import imported, measures
from sparse_core.results.store import Store
from sparse_core.specs.locations import absolute_dataset
from sparse_core.views import labels

TRANSFER_HELP = (
    "Linear: the backbone is frozen and only a new classifier is trained. Full: every weight that was not pruned is "
    "trained as well."
)
IMPORT_HELP = "Import networks of your own on the Library page."
OWN_DATASET = "My own folder or Parquet file"
HELD = "No result passes both these choices and the filters that hold on all pages. Change those filters beside the page's title."
EXAMPLE = "resnet20_acdc_90_s0"  # of the zoo: small enough for a result within seconds
MEASURED_TASK_KEY = ["source", "dataset", "dataset_hash", "transfer", "metric"]

Option = TypeVar("Option")


def selectbox(
    label: str, options: Sequence[Option], *, key: str, format_func: Callable[[Option], str] = str, **settings: Any
) -> Option:
    """``st.selectbox`` kept in the link; a message says when the link names an option that does not exist."""
    report_unknown(label, key, map(format_func, options))
    return st.selectbox(label, options, key=key, format_func=format_func, bind="query-params", **settings)


def multiselect(
    label: str, options: Sequence[Option], *, key: str, format_func: Callable[[Option], str] = str, **settings: Any
) -> list[Option]:
    """``st.multiselect`` kept in the link; a message says when the link names an option that does not exist."""
    report_unknown(label, key, map(format_func, options))
    return st.multiselect(label, options, key=key, format_func=format_func, bind="query-params", **settings)


def choice(
    label: str,
    key: str,
    options: Mapping[str, str],
    help_text: str | None = None,
    persist: Literal["session"] | None = "session",
    disabled: bool = False,
) -> str:
    """One of a few options (value to label), the first by default, kept in the link and, unless ``persist`` is None, from page
    to page."""
    report_unknown(label, key, options.values())
    names = list(options)
    settings: dict[str, Any] = {"bind": "query-params", "persist_state": persist, "help": help_text, "required": True}
    settings["disabled"] = disabled
    return st.segmented_control(label, names, default=names[0], format_func=options.__getitem__, key=key, **settings)


def tabs(key: str, contents: Mapping[str, Callable[[], None]]) -> None:
    """Tabs kept in the link, with the function that draws each; only the open one is drawn, and an error ends that one only."""
    report_unknown("the tabs", key, contents)
    headed = st.tabs(list(contents), key=key, on_change="rerun", bind="query-params")
    for tab, draw in zip(headed, contents.values(), strict=True):
        if tab.open:
            with tab, frame.errors_as_messages():
                draw()


def report_unknown(label: str, key: str, known: Iterable[str]) -> None:
    """Streamlit drops unknown options in silence, and would show another view than the one asked for. Once the control is there
    the address follows it, a step behind: it may still name what was just deleted."""
    if key not in st.query_params or key in st.session_state:
        return
    names = list(known)
    for name in st.query_params.get_all(key):
        if name not in names:
            unknown = unknown_name(f"choice under {label}", name, names)
            message = frame.plain(f"The link names an option that does not exist here. {unknown}")
            st.toast(message, icon=":material/link_off:", duration="infinite")


def example(cards: Sequence[BackboneCard]) -> int:
    """The place of the backbone that is chosen at first."""
    return next((number for number, card in enumerate(cards) if card.name == EXAMPLE), 0)


def backbone_choice(
    cards: Iterable[BackboneCard], label: str = "Backbone", key: str = "backbone", **settings: Any
) -> BackboneCard:
    """The control that chooses a backbone."""
    by_name = {card.name: card for card in cards}
    names = {name: labels.backbone_label(card) for name, card in by_name.items()}
    return by_name[selectbox(label, list(names), format_func=names.__getitem__, key=key, **settings)]


def dataset_choice(label: str = "Dataset", key: str = "dataset", about: str = "") -> str:
    """The control for the dataset: the id of an available one, or ``OWN_DATASET``. ``about`` goes before its help."""
    names = _dataset_names()
    return selectbox(
        label,
        list(names),
        format_func=names.__getitem__,
        key=key,
        persist_state="session",
        width=330,
        help=f"{about}Digits needs no network connection. Your own images: one folder per class, or Parquet.",
    )


def dataset_choices() -> list[str]:
    """The control for several datasets: each as ``dataset_choice`` gives it."""
    names = _dataset_names()
    return multiselect(
        "Datasets",
        list(names),
        default=[catalogue.DIGITS],
        format_func=names.__getitem__,
        key="datasets",
        width=330,
        help="Your own images: one folder per class, or Parquet.",
    )


def _dataset_names() -> dict[str, str]:
    cards = catalogue.available(home())
    return {**{card.id: f"{card.name}, {card.classes} classes" for card in cards}, OWN_DATASET: OWN_DATASET}


def dataset_query(dataset: str, key: str = "dataset", path_key: str = "path") -> dict[str, str]:
    """The part of a link that chooses a dataset, given by name or path; empty for none."""
    if not dataset:
        return {}
    names = _dataset_names()
    return {key: names[dataset]} if dataset in names else {key: OWN_DATASET, path_key: dataset}


def resolve_dataset(chosen: str, key: str = "path") -> str | None:
    """The dataset that ``dataset_choice`` returned; asks for the path of the user's own, None while that is missing."""
    if chosen == OWN_DATASET:
        return _own_dataset(key)
    card = next(card for card in catalogue.available(home()) if card.id == chosen)
    if not card.ready:
        st.caption(f"{card.name}: {frame.plain(card.note)}.")
    return chosen


def _own_dataset(key: str) -> str | None:
    dataset = path_field(
        key, "/home/me/images", catalogue.LAYOUTS, "a folder with one folder per class, or of a Parquet file"
    )
    if not dataset:
        return None
    try:
        seen = catalogue.describe(home(), dataset)
    except InputError as error:
        st.error(frame.plain(str(error)))
        return None
    st.caption(
        f"{len(seen.class_names)} classes, {seen.train:,} training and {seen.test:,} test images: {seen.layout}."
    )
    return absolute_dataset(dataset)


def path_field(key: str, example: str, layouts: str, what: str) -> str:
    """The field for the path of the user's own data, "" while it is empty, with a message that asks for it unless ``what`` is
    empty."""
    path = st.text_input(
        "Path on this machine",
        key=key,
        bind="query-params",
        persist_state="session",
        placeholder=example,
        help=f"Laid out as {layouts}.",
    )
    if not path and what:
        st.info(f"Enter the path of {what}.")
    return path or ""


def metric_choice() -> str:
    """The control for what results are of: accuracies, or one of the two mAP of detectors. A link that names a detector is one to
    its mAP."""
    names = {architecture_label(name) for name in DETECTORS}
    if not is_set("metric") and set(st.query_params.get_all("architecture")) & names:
        st.session_state["metric"] = METRIC
    help_text = (
        "Accuracies of networks that classify images, or mean average precision of detectors. They are never mixed."
    )
    return selectbox(
        "Metric",
        list(RESULT_METRICS),
        format_func=RESULT_METRICS.__getitem__,
        key="metric",
        persist_state="session",
        width=150,
        help=help_text,
    )


def architecture_choice(store: Store, metric: str, source: str = "") -> str:
    """The control that chooses among the architectures of the paper and those measured here that have or can have results in the
    metric, ResNet50 first; of one ``source``, among those that have results there, if any has."""
    names = {*PAPER_ARCHITECTURES, *store.values("architecture")}
    if source:
        names = set(store.results(source=source, coded=True)["architecture"].unique()) or names
    names = names & set(store.kept.architecture) or names
    detectors = {name for name in names if name.partition("-")[0] in DETECTORS}
    names = names - detectors if metric == "accuracy" else detectors or set(DETECTORS)
    return selectbox(
        "Architecture",
        sorted(names, key=lambda name: (name != "resnet50", architecture_label(name))),
        format_func=architecture_label,
        key="architecture",
        persist_state="session",
        width=190,
        help="Sparse networks are compared with the dense network of the same architecture.",
    )


def sources() -> dict[str, str]:
    """The sources of results with their labels, those that were imported too."""
    return {**labels.SOURCES, **{name: name for name in imported.sources(home())}}


def source_choice(known: pd.DataFrame | None = None) -> str:
    """The control for ``all``, ``published``, ``shipped`` or ``measured`` results; of the sources, those that are ``known``."""
    options = {"all": "All", **sources()}
    help_text = (
        "Paper results: the runs published with the paper. Shipped results: small networks that come with this product. Your "
        "runs: made on this machine. They are never averaged together."
    )
    if known is not None:
        there = offered("source", list(sources()), known["source"], options.__getitem__)
        missing = [name for source, name in labels.SOURCES.items() if source not in there]
        options = {name: label for name, label in options.items() if name == "all" or name in there}
        help_text += f" Not offered, for there are none of this architecture: {', '.join(missing)}." if missing else ""
    return choice("Results", "source", options, help_text)


def is_set(key: str) -> bool:
    """Whether the link or the user has set this control."""
    return key in st.query_params or bool(st.session_state.get(key))


def offered(key: str, options: Sequence[str], known: Iterable[str], label: Callable[[str], str] = str) -> list[str]:
    """Those of the options that have results, and those that the control ``key`` is set to: another one would empty the view."""
    there = set(known)
    chosen = st.session_state.get(key) or []
    there |= {chosen} if isinstance(chosen, str) else set(chosen)
    asked = set(st.query_params.get_all(key))
    return [option for option in options if option in there or label(option) in asked]


@contextmanager
def more_filters(usual: Mapping[str, Any], keys: Sequence[str]) -> Iterator[None]:
    """A popover for the controls that few need, headed by how many of them (``keys``) are set to other than ``usual``."""
    values = ((key, st.session_state.get(key, usual[key])) for key in keys)
    number = sum(value is not None and value != usual[key] for key, value in values)
    with st.popover(f"More filters ({number})" if number else "More filters", icon=":material/filter_list:"):
        yield


def join_choice(store: Store, architecture: str) -> bool:
    """The control that joins networks trained alike; there is none where no network's training is known."""
    if not _has_recipes(store, store.version, architecture):
        return True
    help_text = (
        "Networks of one method and sparsity that differ in their upstream seed only are one point: the mean of their means, "
        "with the spread between them. Off: each is a point of its own."
    )
    return st.toggle("Join networks", True, key="join", bind="query-params", help=help_text)


@st.cache_data(show_spinner=False, max_entries=20)
def _has_recipes(_store: Store, version: tuple[int, ...], architecture: str) -> bool:
    return bool((_store.results(architecture=architecture, coded=True, columns=["recipe"])["recipe"] != "").any())


def accuracy_choice(known: pd.DataFrame | None = None) -> str:
    """The control for the accuracy that counts: ``best`` over epochs, or ``final``, disabled if it is ``known`` of no run."""
    help_text = (
        "Best epoch is the paper's convention. It is selected on test data, so it is optimistic. The last epoch is known "
        "for your runs only."
    )
    options = {"best": "Best epoch", "final": "Last epoch"}
    disabled = (
        known is not None and not known["has_accuracy_final"].any() and st.session_state.get("accuracy") != "final"
    )
    if disabled and "accuracy" not in st.query_params:
        help_text = f"No result of this architecture has a last-epoch accuracy. {help_text}"
        return choice("Accuracy", "accuracy", options, help_text, disabled=True)
    return choice("Accuracy", "accuracy", options, help_text)


def task_order() -> str:
    """The control that orders tasks: ``difficulty`` or ``name``."""
    help_text = (
        "A task is difficult if the dense network gains much from full over linear transfer. Easiest first. The paper's figure "
        "counts where there is one; else that of your runs with the two protocols that have most seeds, one of each transfer."
    )
    return choice("Order of tasks", "order", {"difficulty": "By difficulty", "name": "By name"}, help_text)


def ordered_tasks(store: Store, architecture: str, order: str) -> dict[tuple[str, str], float]:
    """The tasks of an architecture in that order, with their difficulty: see ``measures.ordered_tasks``."""
    return _tasks(store, store.version, architecture, order)


@st.cache_data(show_spinner=False, max_entries=50)
def _tasks(_store: Store, version: tuple[int, ...], architecture: str, order: str) -> dict[tuple[str, str], float]:
    columns = [*measures.CONFIGURATION_KEY, "seed", "accuracy_best", measures.CELL]
    return measures.ordered_tasks(_store.results(architecture=architecture, coded=True, columns=columns), order)


def measured_task(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The control for a task and transfer of the user's runs, most networks first; returns its runs and name."""
    groups = runs.groupby(MEASURED_TASK_KEY)
    counts = groups.agg(networks=("network", "nunique"), runs=("run_id", "size")).reset_index()
    counts = counts.sort_values(["networks", "runs"], ascending=False)
    options = {_task_name(row, counts): tuple(row[MEASURED_TASK_KEY]) for _, row in counts.iterrows()}
    chosen = selectbox("Task", list(options), key="task", width=330)
    return runs[(runs[MEASURED_TASK_KEY] == list(options[chosen])).all(axis=1)], chosen


def _task_name(row: pd.Series, rows: pd.DataFrame) -> str:
    """A task and transfer as a label; the start of the content hash tells two tasks of one name apart."""
    same_name = rows[(rows[["source", "dataset", "transfer"]] == row[["source", "dataset", "transfer"]]).all(axis=1)]
    name = f"{task_label(row['dataset'])}, {TRANSFERS[row['transfer']].lower()}"
    name = f"{name}, {labels.SERIES['shipped']}" if row["source"] == "shipped" else name
    return name if len(same_name) == 1 else f"{name} ({row['dataset_hash'][:6]}, {METRICS[row['metric']]})"


def reset_button(store: Store, architecture: str, unfiltered: Mapping[str, Any]) -> None:
    """The button out of an empty view: removes every filter, and leaves an architecture that has no results at all."""
    values = dict(unfiltered)
    if architecture not in store.values("architecture"):
        values["architecture"] = "resnet50"
    st.button("Reset filters", on_click=st.session_state.update, args=(values,), type="primary")


def curve_choice(key: str, metric: str) -> str:
    """The control for the curve that is drawn; returns the column of ``metric`` or that of the loss."""
    if metric == METRIC:
        options = {METRIC: METRIC, "mAP@[.5:.95]": "mAP@[.5:.95]", "loss": "Loss"}
        return choice("Curve", key, options, persist=None)
    chosen = choice("Curve", key, {"accuracy": "Accuracy", "loss": "Loss"}, persist=None)
    return "loss" if chosen == "loss" else metric
