"""What a sweep's runs do: a cell for each network and task, and the logs of those that failed."""

import streamlit as st

from pages.parts import frame, sweep_progress
from pages.parts.frame import home
from sparse_core.jobs import sweep_files, sweeps
from sparse_core.jobs.sweeps import SweepStatus
from sparse_core.views import sweeps as views

NEWEST = 50


def listed(wanted: str | None) -> dict[str, str]:
    """The newest sweeps that can be read, and the ``wanted`` one, each with its name and how much there is to do."""
    names = dict.fromkeys([*sweep_files.names(home())[:NEWEST], *([wanted] if wanted else [])])
    found = {name: sweep_files.find(home(), name) for name in names}
    return {
        name: f"{each[0].name}: {views.number(each[0].tasks)} ({name.rpartition('-')[2][:4]})"
        for name, each in found.items()
        if each
    }


@st.fragment(run_every=2.0)
@frame.errors_as_messages()
def cells(sweep_id: str) -> None:
    """A row for each network and a column for each task, with what its runs do."""
    found = sweeps.status(home(), sweep_id)
    table = views.state_table(found, sweep_progress.names(found))
    st.dataframe(table, placeholder="–", key=f"cells_{sweep_id}")
    st.caption(views.LEGEND)


def logs(found: SweepStatus) -> None:
    """The end of the log of each failed run."""
    named = sweep_progress.names(found)
    for each in found.failures[: sweep_progress.SHOWN_FAILURES]:
        with st.expander(frame.plain(f"Log of {views.describe(each.task, named)}"), icon=":material/terminal:"):
            text = sweeps.log(home(), found.sweep_id, each.task.key)
            st.code(f"{each.message}\n\n{text}".strip(), language=None, height=300)
