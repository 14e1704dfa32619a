"""One filter of runs: on Runs, or, as long as the user wants that, on all pages."""

from collections.abc import Callable
from typing import Any

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


def popover(store: Store, *, own_page: bool) -> RunFilter:
    """The popover with the controls, and the filter that holds here: on all pages once the user wants that, else on Runs, its
    ``own_page``, only."""
    holds = own_page or everywhere()
    count = sum(bool(st.session_state.get(_key(part), st.query_params.get(_key(part)))) for part in PARTS)
    label = f"Filters ({count})" if count and holds else "Filters"
    help_text = "Architecture, transfer, methods, tasks, sources and tags: on Runs, or on all pages at once"
    shown = st.popover(label, icon=":material/filter_alt:", key="filters", on_change="rerun", help=help_text)
    if not holds and not shown.open:  # nothing is filtered, so a page need not wait for the controls
        return RunFilter()
    with shown:
        st.toggle(
            "Use these filters on all pages",
            key=EVERYWHERE,
            bind="query-params",
            persist_state="session",
            help="Every page then shows these results only. Dense networks stay: they are what others are compared with.",
        )
        chosen = {part: tuple(_control(store, part, disabled=not holds)) for part in PARTS}
        if not holds:
            st.caption("Switch this on to filter all pages. The controls of this page filter it alone.")
    return RunFilter(**chosen, keep_dense=not own_page) if holds else RunFilter()


def _control(store: Store, part: str, disabled: bool) -> list[str]:
    label, name = CONTROLS[part]
    options = _options(store, part)
    if not options and not st.session_state.get(_key(part)):
        return []
    settings: dict[str, Any] = {"placeholder": "All", "persist_state": "session", "disabled": disabled}
    return choices.multiselect(label, options, key=_key(part), format_func=name, **settings)


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
