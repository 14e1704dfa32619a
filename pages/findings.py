"""Findings: the paper's statements, checked against the rows of the paper, of the shipped networks and of the user."""

import streamlit as st

from pages.parts import choices, links
from pages.parts.frame import home
from pages.parts.results import open_store, show_table
from sparse_core.results import findings
from sparse_core.results.findings import Finding
from sparse_core.results.store import Store
from sparse_core.specs.options import PROGRAM
from sparse_core.speed import measurements, network_facts
from sparse_core.views import decisions, labels

RULE = (
    "A statement holds where the whole 95 % interval lies on its side, does not hold where it lies on the other, and cannot be "
    "told otherwise. Intervals are t intervals over tasks, unless the command's answer says another method. Where the rows have "
    "none of the paper's architecture, the one with most runs stands in for it."
)


def main() -> None:
    """The source, how many statements hold, and the table with a link to the view of each."""
    store = open_store("findings")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        source = choices.choice("Rows", "findings_source", labels.SOURCES, "Whose rows are checked.")
    found = _checked(store, store.version, measurements.fingerprint(home()), source)
    st.header(decisions.finding_summary(found, source), anchor=False)
    if not any(each.rows for each in found):
        st.info(
            "There are no rows to check yet. Probe a dense and a sparse backbone on a task, or choose the paper's results."
        )
    table = decisions.finding_table(found)
    show_table(table, key="findings", name="findings", title=lambda name: decisions.FINDING_COLUMNS[name])
    st.caption(RULE)
    command = " ".join([*PROGRAM, "findings", "--source", source, "--json"])
    links.share(command, key="share_findings")


@st.cache_data(show_spinner=False, max_entries=20, ttl=60)  # structures and upstream accuracies change, too
def _checked(_store: Store, version: tuple[int, ...], speeds: tuple[int, int], source: str) -> list[Finding]:
    return findings.check(_store.results(source=source, coded=True), source, facts=network_facts.known(home(), source))


main()
