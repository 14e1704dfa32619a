"""The frame around every page: the list of pages, the navigation bar, the home folder and how errors are shown.

It needs nothing but Streamlit, so that the browser draws it while the server still imports what the page needs.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from sparse_core import stored
from sparse_core.errors import as_input_error
from sparse_core.paths import REPOSITORY, default_home, printable

STATIC = REPOSITORY / "static"
SHOWN_NOTES = 5

PAGES = (
    ("tradeoffs", "Tradeoffs", ":material/show_chart:"),
    ("tasks", "Tasks", ":material/grid_on:"),
    ("probe", "Probe", ":material/science:"),
    ("finetune", "Finetune", ":material/tune:"),
    ("sparsify", "Sparsify", ":material/content_cut:"),
    ("library", "Library", ":material/inventory_2:"),
    ("structure", "Structure", ":material/account_tree:"),
    ("speedup", "Speedup", ":material/speed:"),
    ("runs", "Runs", ":material/list_alt:"),
)

INTERNAL_ERROR = (
    "Internal error: this could not be drawn. The details are in the server's log. Reload the page or choose another."
)

_settle = st.components.v2.component(
    "sparse_transfer_settle", js="export default ({ setStateValue }) => setStateValue('settled', true);"
)


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Show any error as one sentence on the page; unless the user's input caused it, log the traceback.

    Fragments and dialogs need this as well: Streamlit runs them without the page around them.
    """
    try:
        yield
    except Exception as error:
        input_error = as_input_error(error)
        if input_error is not error:
            logging.getLogger("sparse_transfer_lab").exception("a page failed")
        st.error(plain(str(input_error)) if input_error else INTERNAL_ERROR)


def plain(text: str) -> str:
    """The text with Markdown escaped: names read from a file may contain links and images, which a browser would fetch. Bytes of
    a path that are no UTF-8, which no browser can show, are replaced."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:&])", r"\\\1", printable(text))


def show_notes() -> None:
    """One notice that names what was left out of the home folder, and why."""
    found = list(stored.notes(home()).items())
    if not found:
        return
    lines = [f"- {plain(f'{entry} {text}.')}" for entry, text in found[:SHOWN_NOTES]]
    if len(found) > SHOWN_NOTES:
        lines.append(f"- and {len(found) - SHOWN_NOTES:,} more: the server's log names them.")
    text = (
        f"Some files of {plain(str(home()))} cannot be used as they are. Everything else is shown; nothing was deleted."
    )
    st.warning("\n".join([text, "", *lines]), icon=":material/rule:")


def home() -> Path:
    """The folder of the user's own state with which this server was started."""
    return default_home()


def navigation() -> StreamlitPage:
    """The page that the user chose; draws the bar to choose another."""
    # Without an icon of our own the browser fetches the page's icon from a Google server.
    st.set_page_config(page_title="Sparse Transfer Lab", page_icon=str(STATIC / "icon.svg"), layout="wide")
    st.session_state["framed"] = True
    folder = REPOSITORY / "pages"
    pages = [
        st.Page(folder / f"{name}.py", title=title, icon=icon, default=name == "tradeoffs")
        for name, title, icon in PAGES
    ]
    return st.navigation(pages, position="top")


def settle_link(page: StreamlitPage) -> None:
    """Have the browser run ``page`` a second time if its address sets controls.

    Streamlit carries a control's value to another page only after the browser has sent it back. Without the second run, a
    user who moves on at once would lose what the link set.
    """
    arrived = st.session_state.get("arrived")
    st.session_state["arrived"] = page.url_path
    if arrived != page.url_path and st.query_params:
        _settle(key="settle", height=0)


def require_frame() -> None:
    """Run the page again if it came without the frame of ``app.py``.

    A new server takes the folder of pages for an app of Streamlit's older kind. It answers a link straight to a page with
    that page alone until the navigation has been set once.
    """
    if not st.session_state.get("framed"):
        navigation()
        st.rerun()
