"""One filter of runs: on Runs, or, as long as the user wants that, on all pages."""

from collections.abc import Callable

import streamlit as st

from pages.parts import choices
from sparse_core.catalog import METHODS, TRANSFERS, architecture_label, task_label
from sparse_core.results.filters import PARTS, RunFilter
from sparse_core.results.store import Store
from sparse_core.views import labels

EVERYWHERE = "filter_everywhere"
# Part of the filter: label, and the name of a value.
CONTROLS: dict[str, tuple[str, Callable[[str], str]]] = {
    "architecture": ("Architectures", architecture_label),
    "transfer": ("Transfers", lambda name: TRANSFERS.get(name, name)),
    "method": ("Methods", str),
    "dataset": ("Tasks", task_label),
    "source": ("Sources", lambda name: labels.SOURCES.get(name, name)),
    "tags": ("Tags", str),
}


def everywhere() -> bool:
    """Whether the filter holds on all pages: by the toggle, or by the link."""
    return bool(st.session_state.get(EVERYWHERE, st.query_params.get(EVERYWHERE) == "true"))


def controls(store: Store, *, own_page: bool) -> RunFilter:
    """The controls in a popover, and the filter that they give; ``own_page`` is the one whose runs are filtered in any case."""
    count = sum(bool(st.session_state.get(_key(part), st.query_params.get(_key(part)))) for part in PARTS)
    label = "Filters on all pages" if everywhere() else "Filters"
    label = f"{label}: {count} set" if count else label
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover(label, icon=":material/filter_alt:", key="filters"):
            chosen = {part: tuple(_control(store, part)) for part in PARTS}
            help_text = (
                "Every page then shows these results only. Dense networks stay: they are what others are compared with."
            )
            st.toggle(
                "Use these filters on all pages",
                key=EVERYWHERE,
                bind="query-params",
                persist_state="session",
                help=help_text,
            )
        if not own_page and count:
            st.caption("Some results are hidden by the filters that hold on all pages.", width="content")
    return RunFilter(**chosen, keep_dense=not own_page)


def _control(store: Store, part: str) -> list[str]:
    label, name = CONTROLS[part]
    options = _options(store, part)
    if not options and not st.session_state.get(_key(part)):
        return []
    return choices.multiselect(
        label, options, key=_key(part), format_func=name, placeholder="All", persist_state="session"
    )


def _options(store: Store, part: str) -> list[str]:
    if part == "tags":
        return sorted({tag for each in store.records.annotations.all().values() for tag in each.tags})
    known = list(filter(None, store.values(part)))
    if part == "method":
        order = list(METHODS)
        return sorted(known, key=lambda name: (order.index(name) if name in order else len(order), name))
    return known


def _key(part: str) -> str:
    return f"filter_{part}"
