"""The store of results, opened once and shared by all pages."""

from pathlib import Path

import streamlit as st

from pages.parts import frame, links
from pages.parts.frame import home
from sparse_core.results.records import Records
from sparse_core.results.store import Store, default_database


def open_store() -> Store:
    """The results, including every run that has been finished or deleted by now. Every page calls this first."""
    frame.require_frame()
    links.update_address()
    store = _open_store(home())
    store.refresh()
    return store


@st.cache_resource(show_spinner="Opening the results …")
def _open_store(folder: Path) -> Store:
    records = Records(folder)
    return Store(records, default_database(records))
