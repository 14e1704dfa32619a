"""Pruning on the task itself beside sparse transfer: accuracy of both by method and sparsity."""

from collections.abc import Sequence
from datetime import date

import pandas as pd
import streamlit as st

from pages.parts import choices, frame
from pages.parts.results import show_chart, show_table
from sparse_core.catalog import METRICS
from sparse_core.networks.library import BackboneCard
from sparse_core.results.store import Store
from sparse_core.views import downstream, labels
from sparse_core.views.charts import sparsify as charts

COLUMNS = ["route", "method", "sparsity", "accuracy_mean", "accuracy_std", "seed_std", "networks", "runs", "epochs"]
COLUMNS += ["start", "network_name", "protocol"]
QUESTION = (
    "**Prune upstream and transfer, or prune on the task itself?** Transferred: sparse backbones that were finetuned on the task "
    "under their mask. On the task: networks that were pruned here with the task as upstream data."
)


def comparison(store: Store, made: Sequence[BackboneCard], accuracy: str = "") -> None:
    """Both routes of one task in one chart and table, and what is missing for a comparison. ``accuracy`` is that of the page, if
    it has chosen one."""
    st.markdown(QUESTION)
    rows = downstream.rows(store.results(source="measured", transfer="full"), made)
    tasks = downstream.tasks(rows)
    if not tasks:
        st.info(
            "Nothing to compare yet. Prune a dense backbone above with the task as upstream data, and finetune a sparse "
            "backbone on the same task on the Finetune page."
        )
        _links("", "")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choices.selectbox("Task", list(tasks), key="compared_task", width=330)
        accuracy = accuracy or choices.accuracy_choice()
    found = downstream.of_task(rows, tasks[chosen])
    table = downstream.points(found, accuracy)
    for row in downstream.differences(table).itertuples():
        st.markdown(f"- {frame.plain(downstream.sentence(row))}")
    _say_what_is_missing(found)
    _chart(chosen, found, table, accuracy)
    show_table(table.drop(columns="line"), key="routes", name="prune-downstream", shown_columns=COLUMNS)


def _chart(chosen: str, found: pd.DataFrame, table: pd.DataFrame, accuracy: str) -> None:
    metric = found["metric"].iloc[0]
    which = "best epoch, selected on test data: optimistic" if accuracy == "best" else "last epoch"
    spread = "bars: standard deviation between networks, or over seeds where n = 1; n counts networks"
    notes = [downstream.counts_note(found), downstream.epochs_note(table), downstream.PAPER_NOTE]
    show_chart(
        charts.routes(table, metric),
        "Pruned upstream and transferred, or pruned on the task",
        f"{chosen} · {METRICS[metric]}, {which} · higher is better · {spread}",
        f"{'. '.join(notes)}. Sparse Transfer Lab, {date.today():%Y-%m-%d}.",
        key="routes_chart",
        name="prune-downstream",
        alt=f"Accuracy against sparsity, {chosen}: pruned upstream and transferred, and pruned on the task itself",
        table=table.drop(columns="line")[COLUMNS],
    )


def _say_what_is_missing(found: pd.DataFrame) -> None:
    sparse = found[found["method"] != "Dense"]
    missing = [route for route in labels.ROUTES if not (sparse["route"] == route).any()]
    asked = found["asked"].iloc[0]
    if labels.ON_TASK in missing:
        st.info("No network was pruned on this task. Prune a dense backbone with it as upstream data to compare.")
    if labels.TRANSFERRED in missing:
        st.info("No backbone that was pruned elsewhere was finetuned on this task. Finetune one to compare.")
    if missing:
        _links(asked, missing[0])


def _links(dataset: str, missing: str) -> None:
    """Links to the forms that make what is missing, with the task chosen."""
    with st.container(horizontal=True):
        if missing != labels.TRANSFERRED:
            query = choices.dataset_query(dataset, "upstream", "upstream_path")
            label, icon = "Prune on this task" if dataset else "Prune on a task", ":material/content_cut:"
            st.page_link("pages/sparsify.py", label=label, icon=icon, query_params={"method": "GMP", **query})
        if missing != labels.ON_TASK:
            query = choices.dataset_query(dataset, "dataset", "path")
            st.page_link(
                "pages/finetune.py", label="Finetune a sparse backbone", icon=":material/tune:", query_params=query
            )
