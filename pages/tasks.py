"""Tasks: every network on every task, as a heat map and as in tables C.1 and C.2 of the paper."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, frame, links
from pages.parts.results import open_store, show_chart, show_table, titles
from pages.parts.run_details import run_table
from pages.parts.tradeoff_controls import available
from sparse_core.catalog import TRANSFERS, architecture_label
from sparse_core.results import measures
from sparse_core.results.filters import RunFilter
from sparse_core.results.store import Store
from sparse_core.specs.options import PROGRAM
from sparse_core.views import footnotes, labels, rankings, tables
from sparse_core.views.charts import tasks as task_charts

VALUES = {"difference": "Difference to dense", "accuracy_mean": "Accuracy"}
SATURATION = {"accuracy_mean": [], "difference": ["Values beyond the ends of the scale have the colour of its end"]}
DENSE_ONLY = (
    "Only dense networks match these choices. Run a sparse one on the Probe or Finetune page with the same settings, or choose "
    "Accuracy as the value."
)
UNFILTERED: dict[str, Any] = {"source": "all", "accuracy": "best", "level": None, "cells": []}
UNFILTERED |= {"order": "difficulty", "join": True}
MORE = ("accuracy", "level", "order", "join")  # the controls that few need
CELL_COLUMNS = [
    "row",
    "task",
    "accuracy_mean",
    "accuracy_std",
    "seeds",
    "difference",
    "difference_low",
    "difference_high",
]
CELL_COLUMNS += ["interval"]
LONG_COLUMNS = ["task", "accuracy_mean", "accuracy_std", "seeds", "baseline_accuracy", "baseline_std", "baseline_seeds"]
LONG_COLUMNS += ["difference", "difference_low", "difference_high", "interval", "rank", "tied"]
LONG_COLUMNS += ["relative_error_increase", "difficulty"]


@dataclass(frozen=True)
class Controls:
    """What the user chose to see."""

    architecture: str
    transfer: str
    source: str
    accuracy: str
    value: str
    level: float | None
    order: str
    join: bool
    metric: str = "accuracy"


QUICKLY: dict[str | type, Callable[..., str]] = {Controls: repr}  # field by field takes Streamlit a millisecond


def main() -> None:
    """Controls, the heat map, the runs behind its cells, and the full table."""
    store = open_store("tasks")
    controls = _controls(store)
    rows, table = _view(store, store.version, controls)
    if rows.empty:
        _say_empty(store, controls)
        return
    _heat_map(store, controls, rows, table)
    _underlying_runs(rows, table)
    _full_table(store, controls, table)


@st.cache_resource(show_spinner=False, max_entries=50, hash_funcs=QUICKLY)
def _view(_store: Store, version: tuple[int, ...], controls: Controls) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs that these controls ask for, and the table of networks and tasks; cached so that a click below the heat map
    computes nothing twice. Never change them."""
    rows = _store.results(
        source=controls.source, architecture=controls.architecture, transfer=controls.transfer, coded=True
    )
    rows = measures.measured_in(rows, controls.metric).dropna(subset=[measures.ACCURACIES[controls.accuracy]])
    if controls.level is not None:
        rows = rows[(rows["sparsity"] == controls.level) | (rows["method"] == "Dense")]
    rows = measures.joined(rows) if controls.join else rows
    tasks = choices.ordered_tasks(_store, controls.architecture, controls.order)
    return rows, tables.task_table(rows, controls.accuracy, tasks)


@st.cache_resource(show_spinner=False, max_entries=50, hash_funcs=QUICKLY)
def _ranked(_store: Store, version: tuple[int, ...], controls: Controls) -> pd.DataFrame:
    """The table of the view with ranks and ties on each task. Never change it."""
    rows, table = _view(_store, version, controls)
    return rankings.on_task(table, rows, controls.accuracy)


def _controls(store: Store) -> Controls:
    """The controls; each offers what has results with the others as they are, and its help says what it leaves out."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = choices.metric_choice()
        architecture = choices.architecture_choice(store, metric)
        known = available(store, store.version, architecture, metric)
        transfer = _transfer_choice(known)
        known = known[known["transfer"] == transfer]
        help_text = f"The difference to the dense network in percentage points, or {metric} in percent."
        value = choices.choice("Value", "value", {**VALUES, "accuracy_mean": labels.metric_title(metric)}, help_text)
        source = choices.source_choice(known)
        known = known if source == "all" else known[known["source"] == source]
        with choices.more_filters(UNFILTERED, MORE):
            accuracy = choices.accuracy_choice(known)
            level = choices.selectbox(
                "Sparsity",
                [None, *sorted(known.loc[known["method"] != "Dense", "sparsity"].unique())],
                format_func=lambda level: "All" if level is None else labels.sparsity_label(level),
                key="level",
                width=110,
                help="The share of zero weights in a network.",
            )
            order = choices.task_order()
            join = choices.join_choice(store, architecture)
    return Controls(architecture, transfer, source, accuracy, value, level, order, join, metric)


def _transfer_choice(known: pd.DataFrame) -> str:
    """The transfers that have results of the sources that are chosen; without any, all of them."""
    source = st.session_state.get("source", "all")
    there = known if source == "all" else known[known["source"] == source]
    offered = choices.offered("task_transfer", list(TRANSFERS), there["transfer"], labels.TRANSFER_NAMES.__getitem__)
    missing = [TRANSFERS[name].lower() for name in TRANSFERS if name not in offered]
    names = labels.TRANSFER_NAMES if not offered else {name: labels.TRANSFER_NAMES[name] for name in offered}
    more = f" Not offered, for there are no such results of this architecture: {', '.join(missing)}." if missing else ""
    return choices.choice("Transfer", "task_transfer", names, choices.TRANSFER_HELP + more)


def _heat_map(store: Store, controls: Controls, rows: pd.DataFrame, table: pd.DataFrame) -> None:
    shown = table.dropna(subset=[controls.value])
    if controls.value == "difference":
        shown = shown[shown["method"] != "Dense"]
    if shown.empty and (table["method"] == "Dense").all():
        st.info(choices.HELD if store.kept.count else DENSE_ONLY)
        return
    if shown.empty:
        st.warning(
            "No baseline: there is no dense run of the same architecture, upstream data, task and protocol to compare "
            "with. Run the dense backbone on the Probe page with the same settings, or choose Accuracy as the value."
        )
        return
    name = architecture_label(controls.architecture)
    accuracy, metric = controls.value == "accuracy_mean", labels.metric_title(controls.metric)
    better = "in percent · higher is better" if accuracy else "in points · above 0 beats the dense network (blue)"
    show_chart(
        task_charts.heat_map(shown, controls.value, labels.distinct(shown["row"]), labels.distinct(shown["task"])),
        f"{metric} of each network on each task" if accuracy else "Difference to the dense network on each task",
        f"{name}, {TRANSFERS[controls.transfer].lower()} · mean over seeds, {better}"
        + (
            " · tasks from easy to difficult"
            if controls.order == "difficulty" and table["difficulty"].notna().any()
            else ""
        ),
        footnotes.caption(
            rows,
            [f"Only sparsity {labels.sparsity_label(controls.level)}"] if controls.level is not None else [],
            [*footnotes.row_notes(rows), *footnotes.single_seed_notes(table), *SATURATION[controls.value]],
            controls.accuracy,
            date.today(),
        ),
        key="heat_map",
        name=f"tasks-{controls.architecture}-{controls.transfer}",
        alt=f"{metric if accuracy else VALUES['difference']} of each network on each task, {name}",
        select_into="cells",
        table=shown[CELL_COLUMNS],
        beside=lambda: links.share(_command(controls, store.kept, _selected(table))),
        title=titles(controls.metric),
    )


def _underlying_runs(rows: pd.DataFrame, table: pd.DataFrame) -> None:
    """The control that selects cells, and the table of their runs."""
    links.update_names("cells", labels.former_points(table), table["point"])
    cells = choices.multiselect(
        "Underlying runs",
        table["point"].tolist(),
        placeholder="Click a number in the heat map, or choose one here, to see its runs",
        key="cells",
        help="Lists the runs of these numbers and the dense runs that they are compared with.",
    )
    if cells:
        run_table(measures.underlying_runs(rows, table[table["point"].isin(cells)]), key="behind")


def _full_table(store: Store, controls: Controls, table: pd.DataFrame) -> None:
    st.header("All numbers", anchor=False)
    name = f"table-{controls.architecture}-{controls.transfer}"

    def by_network() -> None:
        st.caption(
            f"{labels.metric_title(controls.metric)} in percent: mean ± standard deviation over seeds (number of seeds); of "
            "joined networks, over networks (number of networks). No ± where n = 1."
        )
        show_table(tables.paper_layout(table), key="wide", name=name, title=str)

    def by_task() -> None:
        columns = ["source", "method", "sparsity", *tables.network_columns(table), *LONG_COLUMNS]
        ranked = _ranked(store, store.version, controls)
        show_table(
            ranked.drop(columns=tables.LABELS),
            key="long",
            name=name,
            shown_columns=columns,
            title=titles(controls.metric),
        )

    choices.tabs("layout", {"By network": by_network, "By task": by_task})


def _selected(table: pd.DataFrame) -> list[str]:
    """The cells that the control below the chart, or at first the link, selects."""
    known = set(table["point"])
    return [cell for cell in st.session_state.get("cells", st.query_params.get_all("cells")) if cell in known]


def _command(controls: Controls, kept: RunFilter, cells: Sequence[str]) -> str:
    """The command line that gives the heat map's figures, or those of the selected ``cells``."""
    sources = [] if controls.source == "all" else [controls.source]
    arguments = [*PROGRAM, "summary", "--per-task", "--architecture", controls.architecture]
    arguments += ["--transfer", controls.transfer, "--source", *(kept.within("source", sources) or ["all"])]
    arguments += ["--metric", controls.metric] if controls.metric != "accuracy" else []
    arguments += ["--accuracy", controls.accuracy] if controls.accuracy != "best" else []
    arguments += [] if controls.level is None else ["--sparsity", str(controls.level), str(controls.level)]
    named = {"--methods": kept.method, "--tasks": kept.dataset, "--tags": kept.tags}
    for flag, values in {**named, "--points": cells}.items():
        arguments += [flag, *values] if values else []
    arguments += [] if controls.join else ["--separate"]
    return shlex.join([*arguments, "--json"])


def _say_empty(store: Store, controls: Controls) -> None:
    name = frame.plain(architecture_label(controls.architecture))
    if store.kept.count:
        st.info(choices.HELD)
    elif controls.metric != "accuracy":
        st.info(
            f"None of your runs of {name} matches these choices. Finetune it on images with boxes on the Finetune page."
        )
    elif controls.accuracy == "final" and controls.source in ("all", "published"):
        st.info("The paper's results have no last-epoch accuracy, and none of your runs matches. Choose Best epoch.")
    elif controls.source == "measured":
        st.info(
            f"None of your runs of {name} matches these choices. Start one on the Probe page, or show the paper's results."
        )
    elif controls.source == "shipped":
        st.info(f"No shipped result of {name} matches these choices.")
    elif controls.architecture not in store.results(source="published", coded=True)["architecture"].unique():
        st.info(f"{name} is not in the paper's published results, and you have no runs of it.")
    else:
        st.info(f"No run of {name} under {TRANSFERS[controls.transfer].lower()} matches these choices.")
    choices.reset_button(store, controls.architecture, UNFILTERED)


main()
