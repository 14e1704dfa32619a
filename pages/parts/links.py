"""Links: to this view, to other pages, and those that earlier versions wrote."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages.parts import buttons, frame
from pages.parts.frame import home
from sparse_core.catalog import DETECTORS, MAP, architecture_label
from sparse_core.networks import library
from sparse_core.views import columns, labels, report

USES = {"probe": "Probe it", "finetune": "Finetune it", "structure": "Show its structure"}
USES |= {"speedup": "Measure its speedup", "sparsify": "Prune it"}

# A link holds the labels of chosen options, but not of defaults. Labels of version 0.1.0 that have changed, by control:
RENAMED_OPTIONS = {
    "source": {"Published": labels.SOURCES["published"], "Measured": labels.SOURCES["measured"]},
    "runs_source": {"Published": labels.SOURCES["published"]},
    "layout": {"One row a task": "By task"},
    "part": {
        "Mask of a layer": "Layer mask",
        "Overlap of masks": "Mask overlap",
        "Against accuracy": "Accuracy and size",
    },
    "from": {"A path on this machine": "Path on this machine"},
    "what": {"An architecture, timing only": "Random weights (timing only)"},
    "speed_axis": {"Images a second": "images/s"},
}


_open_address = st.components.v2.component(
    "sparse_transfer_open_address", js="export default ({ data }) => { window.location.search = data; }"
)


def update_address() -> None:
    """Rewrite an address of an earlier version to today's labels, then start the page again."""
    _rewrite({name: update_values(name, st.query_params.get_all(name)) for name in st.query_params})


def update_names(name: str, former: Mapping[str, Sequence[str]], today: Iterable[str]) -> None:
    """The same for the control ``name`` whose options follow from the results: ``former`` maps names of earlier versions to
    those of ``today``. A name that is in use stays. Call it before the control is drawn."""
    if name in st.query_params:
        kept = set(today)
        values = st.query_params.get_all(name)
        _rewrite({name: [new for old in values for new in ([old] if old in kept else former.get(old, [old]))]})


def _rewrite(wanted: dict[str, list[str]]) -> None:
    """Put these values into the address and start the page again, if they differ from those in it.

    Streamlit sets a control from the address that a run starts with, and drops labels that it does not know. Where it does
    not let the address be changed, the browser opens the new one.
    """
    arrived = {name: st.query_params.get_all(name) for name in st.query_params}
    changed = {name: values for name, values in wanted.items() if values != arrived[name]}
    if not changed:
        return
    try:
        st.query_params.update(changed)
    except StreamlitAPIException:  # the user went back to this address: controls of this session hold its parameters
        _open_address(data=urlencode({**arrived, **changed}, doseq=True), key="open_address", height=0)
        st.stop()
    st.rerun()


def update_values(name: str, values: list[str]) -> list[str]:
    """Today's labels for the values that a link of an earlier version gives the control ``name``."""
    if name.endswith("_columns"):
        defined = columns.COLUMNS.values()
        titles = {column.title for column in defined}  # a heading that is in use stays
        headings = {column.formerly: column.title for column in defined if column.formerly not in titles}
        return [headings.get(value, value) for value in values]
    if name in ("points", "cells"):
        return [labels.current_point(value) for value in values]
    renamed = RENAMED_OPTIONS.get(name, {})
    return [renamed.get(value, value) for value in values]


def share(command: str | None = None, key: str = "share_link") -> None:
    """A button that shows the link to exactly this view and, if there is one, the command that gives its figures."""
    with st.popover("Share", icon=":material/share:", help="A link to exactly this view, or the same as a command"):
        st.markdown("**Link.** It opens exactly this view: page, filters and selection.")
        buttons.link_field(key=key)
        if command:
            st.markdown("**Command.** The same figures as JSON, for a script.")
            st.code(command, language="bash", wrap_lines=True)
        _report(key)


def _report(key: str) -> None:
    """The view as a file."""
    page = st.session_state.get("page", "")
    if page not in report.PAGES:
        return
    query = {name: st.query_params.get_all(name) for name in st.query_params}
    st.markdown(
        "**Report.** This view as one file that opens without a network. Several go into one on the page Report."
    )
    view = report.View(f"/{page}?{urlencode(query, doseq=True)}")
    report_file([view], report.About(), f"{page}-{date.today():%Y-%m-%d}.html", key=f"{key}_report")


def report_file(views: Sequence[report.View], about: report.About, file: str, *, key: str) -> None:
    """A button that makes a report, which takes seconds, and then one that downloads it."""
    asked = (tuple(views), about)
    if st.button("Make report", key=key, icon=":material/summarize:"):
        with frame.errors_as_messages(), st.spinner("Drawing the views …"):
            st.session_state[f"{key}_made"] = (asked, report.make(home(), views, about))
    made = st.session_state.get(f"{key}_made")
    if made and made[0] == asked:
        st.download_button(
            "Download report", made[1], file, "text/html", key=f"{key}_file", type="primary", on_click="ignore"
        )


def backbone_links(name: str) -> None:
    """Links to the pages that use a backbone, with this one chosen."""
    card = next((card for card in library.available(home()) if card.name == name), None)
    if card is None:
        return
    label = labels.backbone_label(card)
    queries = {page: {"backbone": label} for page in USES}
    queries["speedup"] |= {"measure": "true"}
    queries["sparsify"] = {"parent": label, "method": "GMP"}
    unfit = {"sparsify" if card.sparsity else "speedup"}  # dense networks are the baseline of the speedup
    unfit |= {"probe"} if card.is_detector else set()
    with st.container(horizontal=True):
        for page in frame.PAGES:
            if page.name in USES and page.name not in unfit:
                label = USES[page.name]
                st.page_link(f"pages/{page.name}.py", label=label, icon=page.icon, query_params=queries[page.name])


def batch_links(names: Sequence[str]) -> None:
    """Links to Probe and Finetune with all these backbones chosen for a batch."""
    cards = [card for card in library.available(home()) if card.name in names]
    shown = [labels.backbone_label(card) for card in cards]
    with st.container(horizontal=True):
        for page in frame.PAGES:
            if page.name == "finetune" or (page.name == "probe" and not any(card.is_detector for card in cards)):
                label = f"{page.title} all {len(shown)}"
                query = {"several": "true", "backbones": shown}
                st.page_link(f"pages/{page.name}.py", label=label, icon=page.icon, query_params=query)


def result_links(result: dict[str, Any]) -> None:
    """Links to the pages that show a run's result beside others."""
    query = {"architecture": architecture_label(result["architecture"]), "source": labels.SOURCES["measured"]}
    query |= {"metric": MAP} if result["architecture"] in DETECTORS else {}
    with st.container(horizontal=True):
        st.page_link("pages/tradeoffs.py", label="Show on Tradeoffs", icon=":material/show_chart:", query_params=query)
        st.page_link("pages/tasks.py", label="Show on Tasks", icon=":material/grid_on:", query_params=query)
        st.page_link("pages/runs.py", label="All runs", icon=":material/list_alt:")
