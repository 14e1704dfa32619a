"""The frame around every page: the list of pages, the bar to choose one, and the style.

It needs nothing but Streamlit, so that the browser draws it while the server still loads what the page is made of.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from sparse_core.errors import as_input_error
from sparse_core.paths import REPOSITORY, default_home

STATIC = REPOSITORY / "static"

PAGES = (
    ("tradeoffs", "Tradeoffs", ":material/show_chart:"),
    ("tasks", "Tasks", ":material/grid_on:"),
    ("probe", "Probe", ":material/science:"),
    ("finetune", "Finetune", ":material/tune:"),
    ("library", "Library", ":material/inventory_2:"),
    ("structure", "Structure", ":material/account_tree:"),
    ("speedup", "Speedup", ":material/speed:"),
    ("runs", "Runs", ":material/list_alt:"),
)

# Words in charts take the page's own text colour, whichever theme is chosen: Plotly's grey is hard to read on white.
STYLE = """
<style>
.stMainBlockContainer { padding-top: 4.5rem; }
.js-plotly-plot :is(.infolayer, .xaxislayer-above, .yaxislayer-above, .hoverlayer) text {
  fill: currentColor !important;
}
.st-key-early { display: none; }
</style>
"""

FAULT = "This could not be drawn: a fault of ours, written to the log. Reload the page, or choose another."

_settle = st.components.v2.component(
    "sparse_transfer_settle", js="export default ({ setStateValue }) => setStateValue('settled', true);"
)


@contextmanager
def faults_in_words() -> Iterator[None]:
    """Whatever goes wrong within is one sentence on the page and, where it is not the user's input, a traceback in the log.

    Fragments and dialogs need it, too: Streamlit runs them without the page around them.
    """
    try:
        yield
    except Exception as error:
        wrong = as_input_error(error)
        if wrong is not error:
            logging.getLogger("sparse_transfer_lab").exception("a page failed")
        st.error(plain(str(wrong)) if wrong else FAULT)


def plain(text: str) -> str:
    """The text as it stands, wherever Streamlit takes Markdown: names out of a file may hold links and images."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:&])", r"\\\1", text)


def home() -> Path:
    """The folder of the user's own state, as this server was started with it."""
    return default_home()


def load_charts_early() -> None:
    """Have the browser load Streamlit's copy of Plotly while the server still loads what the page is made of.

    Else it begins when the first chart has arrived, which makes a fresh server's first page half a second later. Where
    another version of Streamlit names the file otherwise, it is just not early.
    """
    files = (Path(st.__file__).parent / "static" / "static" / "js").glob("PlotlyChart.*.js")
    script = "".join(f"import('./static/js/{file.name}');" for file in files)
    with st.container(key="early"):
        st.html(f"<script type='module'>{script}</script>", unsafe_allow_javascript=True)


def navigation() -> Any:
    """The page that the user chose, and the bar to choose another."""
    # Without an icon of our own the browser would fetch the page's from a server of Google's.
    st.set_page_config(page_title="Sparse Transfer Lab", page_icon=str(STATIC / "icon.svg"), layout="wide")
    st.session_state["framed"] = True
    return st.navigation(
        [
            st.Page(REPOSITORY / "pages" / f"{name}.py", title=title, icon=icon, default=name == "tradeoffs")
            for name, title, icon in PAGES
        ],
        position="top",
    )


def settle_link(page: Any) -> None:
    """Have the browser run ``page`` a second time where its address sets controls.

    Streamlit carries a control's value on to another page only once the browser has sent it back: what a link set would
    be lost to a user who goes on at once.
    """
    arrived = st.session_state.get("arrived")
    st.session_state["arrived"] = page.url_path
    if arrived != page.url_path and st.query_params:
        _settle(key="settle", height=0)


def require_frame() -> None:
    """Run again where the page came without the frame of ``app.py``.

    A fresh server takes the folder of pages for an app of Streamlit's older kind, and would answer a link straight to a
    page by that page alone, until the navigation has been set once.
    """
    if not st.session_state.get("framed"):
        navigation()
        st.rerun()
