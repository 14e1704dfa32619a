"""The controls of Tradeoffs: the few that matter in a row, the others under More filters."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices
from sparse_core.catalog import BUILT_IN, METHODS, TRANSFERS, task_label
from sparse_core.results import measures
from sparse_core.results.filters import RunFilter
from sparse_core.results.store import Store
from sparse_core.specs.options import PROGRAM
from sparse_core.views import labels
from sparse_core.views.charts import tradeoffs

BOTH = "both"
TRANSFER_CHOICES = {BOTH: "Both", **labels.TRANSFER_NAMES}
AXES = {"sparsity": "Sparsity", **{name: size.label for name, size in labels.SIZES.items()}}
UNFILTERED: dict[str, Any] = {"transfer": BOTH, "source": "all", "accuracy": "best", "axis": "sparsity"}
UNFILTERED |= {"methods": [], "tasks": [], "sparsity": (0, 100), "points": [], "lottery": False, "join": True}


@dataclass(frozen=True)
class Controls:
    """What the user chose to see."""

    architecture: str
    source: str
    transfers: list[str]
    tasks: list[str]
    accuracy: str
    methods: list[str]
    sparsity: tuple[float, float]
    lottery: bool
    axis: str
    join: bool
    scale: tradeoffs.Scale
    metric: str = "accuracy"

    def command(self, kept: RunFilter, points: Sequence[str]) -> str:
        """The command line that gives the chart's figures, or those of the selected ``points``; ``kept`` is the filter that holds
        on all pages."""
        sources = [] if self.source == "all" else [self.source]
        transfers = kept.within("transfer", self.transfers)
        arguments = [*PROGRAM, "summary", "--architecture", self.architecture]
        arguments += ["--transfer", *transfers] if len(transfers) == 1 else []
        arguments += ["--source", *(kept.within("source", sources) or ["all"])]
        arguments += ["--metric", self.metric] if self.metric != "accuracy" else []
        arguments += ["--accuracy", self.accuracy] if self.accuracy != "best" else []
        named = {"--methods": kept.within("method", self.methods), "--tasks": kept.within("dataset", self.tasks)}
        named |= {"--tags": [*kept.tags], "--points": [*points]}
        for flag, values in named.items():
            arguments += [flag, *values] if values else []
        arguments += ["--sparsity", *map(str, self.sparsity)] if self.sparsity != (0.0, 1.0) else []
        arguments += [] if self.join else ["--separate"]
        arguments += ["--without-lottery"] if "linear" in self.transfers and not self.lottery else []
        return shlex.join([*arguments, "--json"])


def choose_controls(store: Store) -> Controls:
    """The controls, and what the user chose."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = choices.metric_choice()
        architecture = choices.architecture_choice(store, metric)
        known = available(store, store.version, architecture, metric)
        transfer = "full"  # of detectors there is no other
        if metric == "accuracy":
            transfer = choices.choice("Transfer", "transfer", TRANSFER_CHOICES, choices.TRANSFER_HELP)
        source = choices.source_choice(known)
        tasks = choices.multiselect(
            "Tasks",
            choices.offered("tasks", labels.task_choices({*BUILT_IN, *known["dataset"]}), known["dataset"], task_label),
            placeholder="All tasks",
            format_func=task_label,
            key="tasks",
            width=250,
            help="The downstream datasets. Averages are over these; with one task, ± and ranks are over its seeds.",
        )
        with choices.more_filters(UNFILTERED, ("accuracy", "methods", "sparsity", "lottery", "axis", "join")):
            more = _more_filters(store, architecture, known, transfer)
        scale = _vertical_scale(several=transfer == BOTH)
    transfers = list(TRANSFERS) if transfer == BOTH else [transfer]
    return Controls(architecture, source, transfers, tasks=tasks, scale=scale, metric=metric, **more)


def _more_filters(store: Store, architecture: str, known: pd.DataFrame, transfer: str) -> dict[str, Any]:
    """The controls that few need, by field of ``Controls``."""
    accuracy = choices.accuracy_choice(known)
    every = [method for method in METHODS if method != "Dense"]
    methods = choices.multiselect(
        "Methods",
        choices.offered("methods", every, known["method"]),
        placeholder="All methods",
        key="methods",
        help="\n".join(f"- **{method.name}** {method.summary}" for method in METHODS.values()),
    )
    help_text = "The share of zero weights in a network: nominal, the round figure by which a checkpoint is known."
    low, high = st.slider("Sparsity (%)", 0, 100, (0, 100), key="sparsity", bind="query-params", help=help_text)
    lottery = _lottery_choice(known, transfer)
    axis = _axis_choice(known)
    join = choices.join_choice(store, architecture)
    sparsity = (low / 100, high / 100)
    return {
        **{"accuracy": accuracy, "methods": methods, "sparsity": sparsity},
        **{"lottery": lottery, "axis": axis, "join": join},
    }


def _lottery_choice(known: pd.DataFrame, transfer: str) -> bool:
    help_text = (
        "Lottery tickets under linear transfer make up to five times the errors of the dense network, which "
        "hides all other differences. The paper leaves them out, and so does this page by default."
    )
    there = ((known["method"] == "LTH-T") & (known["transfer"] == "linear")).any() and transfer != "full"
    if not there:
        help_text = f"Nothing to show: no LTH-T under linear transfer in this view. {help_text}"
    key = "lottery"
    disabled = not there and not choices.is_set(key)
    return st.toggle("LTH-T, linear", key=key, bind="query-params", help=help_text, disabled=disabled)


def _axis_choice(known: pd.DataFrame) -> str:
    sizes = [name for name in labels.SIZES if known[f"has_{name}"].any()]
    help_text = "Sizes count nonzero weights only."
    if not sizes:
        help_text = (
            "No result of this architecture has a known size: the paper's networks are not published with its results. Shipped "
            "results and your runs have sizes."
        )
    disabled = not sizes and not choices.is_set("axis")
    return choices.selectbox(
        "X axis", list(AXES), format_func=AXES.__getitem__, key="axis", help=help_text, disabled=disabled
    )


@st.cache_data(show_spinner=False, max_entries=20)
def available(_store: Store, version: tuple[int, ...], architecture: str, metric: str) -> pd.DataFrame:
    """Which results exist for this architecture in this metric, and which have sizes and a last epoch; ``version`` includes new
    runs at once."""
    about = ["source", "method", "sparsity", "transfer", "dataset"]
    needed = [
        *about,
        "metric",
        "accuracy_best",
        "accuracy_final",
        "map_best",
        "map_final",
        *labels.SIZES,
        measures.CELL,
    ]
    rows = measures.measured_in(_store.results(architecture=architecture, coded=True, columns=needed), metric)
    number, known = measures.grouped(rows, about)
    counts = rows[[*labels.SIZES, "accuracy_final"]].groupby(number).count()
    return known.join(counts.gt(0).add_prefix("has_"))


def _vertical_scale(*, several: bool) -> tradeoffs.Scale:
    """The popover for the vertical axis of error increase; ``several`` panels can have the same one."""
    with st.popover(
        "Y axis", icon=":material/height:", help="Linear or logarithmic, the range, and one for all panels"
    ):
        names = {"linear": "Linear (%)", "log": "Logarithmic (×)"}
        log = (
            choices.choice("Scale", "y_scale", names, "Logarithmic: errors as a multiple of the dense network's.")
            == "log"
        )
        help_text = "Panels with one axis compare at a glance; with their own, small differences show."
        same = st.toggle(
            "Same y axis for all panels", key="y_same", bind="query-params", help=help_text, disabled=not several
        )
        settings: dict[str, Any] = {"format": "%g", "bind": "query-params", "placeholder": "fits the data"}
        low = st.number_input("From (%)", -100.0, 10_000.0, None, 5.0, key="y_low", **settings)
        high = st.number_input("To (%)", -100.0, 10_000.0, None, 5.0, key="y_high", **settings)
    return tradeoffs.Scale(log, same, low, high)
