"""How a network stands among the others that were measured on the same task: ranks, differences to dense, and ties."""

import streamlit as st

from pages.parts import frame
from pages.parts.results import show_table, titles
from sparse_core.catalog import task_label
from sparse_core.results.records import Record
from sparse_core.results.store import SHIPPED_ID, Store
from sparse_core.views import labels, rankings, runs, tables

COLUMNS = ["method", "sparsity", "network_name", "accuracy_mean", "accuracy_std", "seeds", "difference"]
COLUMNS += ["difference_low", "difference_high", "interval", "rank", "tied"]


def show(store: Store, record: Record) -> None:
    """A sentence and a table; nothing while no other network was measured on this task with these settings."""
    result, spec = record.result, record.spec
    source = "shipped" if record.run_id.startswith(SHIPPED_ID) else "measured"
    rows = store.results(source=source, architecture=result["architecture"], transfer=spec["transfer"])
    same = (rows["dataset_hash"] == spec["dataset_hash"]) & (rows["metric"] == result["metric"])
    rows = rows[same & (rows["protocol"] == result["protocol"]) & (rows["upstream"] == result["upstream"])]
    network = spec.get("backbone_hash") or spec["backbone"]
    if rows["network"].nunique() < 2:
        return
    ranked = rankings.on_task(tables.task_table(rows, "best", {}), rows, "best")
    st.header(f"Compared on {frame.plain(task_label(result['dataset_name']))}", anchor=False)
    mine = ranked[ranked["network"] == network]
    if len(mine):
        st.markdown(frame.plain(runs.standing(mine.iloc[0])))
    title = titles(labels.metric_name([result["metric"]]))
    show_table(ranked.drop(columns=tables.LABELS), key="ranking", name="ranking", shown_columns=COLUMNS, title=title)
    st.caption(
        "Networks with the same settings. Rank: 1 + the number of networks at the same sparsity that are better beyond the 95 % "
        "interval of the difference. Best epoch (selected on test data: optimistic)."
    )
