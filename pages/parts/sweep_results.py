"""What the transfers of a sweep gave: each network on each task beside dense, and links to the pages with all results."""

import streamlit as st

from pages.parts import choices, links
from pages.parts.frame import home
from pages.parts.results import show_table, titles
from sparse_core.catalog import MAP
from sparse_core.jobs.sweeps import SweepStatus
from sparse_core.networks import library
from sparse_core.results.store import Store
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.views import labels
from sparse_core.views import sweeps as views


def show(store: Store, status: SweepStatus) -> None:
    """The table of what has ended so far; nothing for a sweep without transfers."""
    transfers = [each for each in status.tasks if not isinstance(each.task.spec, SparsifySpec)]
    if not any(each.state == "done" for each in transfers):
        return
    made = {each.task.key: each.made for each in status.tasks if each.made}
    accuracy = choices.accuracy_choice()
    rows = store.results(source="measured")
    sizes = {card.name: card.preprocessing.crop for card in library.available(home()) if card.preprocessing}
    table = views.results(rows, [each.task for each in transfers], made, sizes, accuracy)
    if table.empty:
        st.info("The runs of this sweep were deleted. Start it again to repeat them.")
        return
    is_map = table["metric"] == MAP
    for part, key in ((table[~is_map], "sweep"), (table[is_map], "sweep_map")):  # never in one column
        if len(part):
            title = titles(labels.metric_name(part["metric"]))
            show_table(part, key=key, name="sweep-results", shown_columns=views.RESULT_COLUMNS, title=title)
    missing = int((table["baseline_accuracy"].isna() & (table["method"] != "Dense")).sum())
    if missing and status.state in ("ended", "cancelled"):
        st.caption("Without a difference: no dense network was run on the same task with the same settings.")
    links.result_links({"architecture": table["architecture"].iloc[0]})
