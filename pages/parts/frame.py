"""The frame around every page: the list of pages, the navigation bar, the home folder and how errors are shown.

It needs nothing but Streamlit, so that the browser draws it while the server still imports what the page needs.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import StreamlitPage

from sparse_core import stored
from sparse_core.errors import as_input_error
from sparse_core.paths import REPOSITORY, default_home, printable

PRODUCT = "Sparse Transfer Lab"
STATIC = REPOSITORY / "static"
SHOWN_NOTES = 5


@dataclass(frozen=True)
class ListedPage:
    """A page of the dashboard: its file in ``pages/``, and how the frame names it and says what it answers."""

    name: str
    title: str
    icon: str
    group: str
    answers: str


PAGES = (
    ListedPage(
        "tradeoffs",
        "Tradeoffs",
        ":material/show_chart:",
        "Results",
        "How much accuracy does each pruning method cost on a new task, at which sparsity?",
    ),
    ListedPage(
        "tasks",
        "Tasks",
        ":material/grid_on:",
        "Results",
        "How accurate is each network on each task, and how far is it from the dense one?",
    ),
    ListedPage(
        "guide",
        "Guide",
        ":material/explore:",
        "Results",
        "Which network should you transfer to your task, and how sure is that? Every answer is computed from the rows there are.",
    ),
    ListedPage(
        "compare",
        "Compare",
        ":material/balance:",
        "Results",
        "Which of these networks is better, on how many of the tasks they share, and can the results tell them apart?",
    ),
    ListedPage(
        "findings",
        "Findings",
        ":material/fact_check:",
        "Results",
        "Do the paper's statements hold in its rows, in the shipped ones and in yours?",
    ),
    ListedPage(
        "report",
        "Report",
        ":material/summarize:",
        "Results",
        "Which views tell your story? Put them with notes into one file that you can send: it opens anywhere, without a network.",
    ),
    ListedPage(
        "runs",
        "Runs",
        ":material/list_alt:",
        "Results",
        "Which runs are there, what are their settings, and how did they train?",
    ),
    ListedPage(
        "probe",
        "Probe",
        ":material/science:",
        "Experiments",
        "How accurate is a sparse backbone on your task? The backbone stays frozen; only a linear classifier on its features is "
        "trained, once per seed.",
    ),
    ListedPage(
        "rank",
        "Rank",
        ":material/leaderboard:",
        "Experiments",
        "Which backbones are worth a probe on your task? They are ranked on their features in seconds, before any is trained.",
    ),
    ListedPage(
        "evaluate",
        "Evaluate",
        ":material/checklist:",
        "Experiments",
        "How accurate is a network with its classifier, on ImageNet, ReaL, ImageNetV2, CIFAR-10 or your images; or a detector?",
    ),
    ListedPage(
        "finetune",
        "Finetune",
        ":material/tune:",
        "Experiments",
        "How accurate is a sparse backbone when it is finetuned on your task? Every weight that was not pruned is trained, with "
        "BatchNorm and a new classifier or prediction layers; pruned weights stay exactly 0.",
    ),
    ListedPage(
        "sparsify",
        "Sparsify",
        ":material/content_cut:",
        "Experiments",
        "Which sparse backbones do you need? Choose pruning methods and sparsities: each network goes into the library with how "
        "it was made, and can then be probed, finetuned and timed.",
    ),
    ListedPage(
        "speedup",
        "Speedup",
        ":material/speed:",
        "Experiments",
        "How much faster does a sparse backbone run than the dense one on this machine? Both are timed in turn in the same "
        "engine; a speedup counts only if the engine's output agrees with PyTorch's.",
    ),
    ListedPage(
        "sweeps",
        "Sweeps",
        ":material/grid_view:",
        "Experiments",
        "What do many runs at once do, here or on a SLURM cluster: which wait, run, are done or failed?",
    ),
    ListedPage(
        "library",
        "Library",
        ":material/inventory_2:",
        "Networks",
        "Which networks can be used here? Import your own from PyTorch or safetensors files, with the masks, wrappers or "
        "thresholds of the code that trained them. Only numbers are read: no code in a file is run.",
    ),
    ListedPage(
        "structure",
        "Structure",
        ":material/account_tree:",
        "Networks",
        "What did pruning leave of each layer, and how do networks differ?",
    ),
)

INTERNAL_ERROR = (
    "Internal error: this could not be drawn. The details are in the server's log. Reload the page or choose another."
)

_beside_title: ContextVar[DeltaGenerator | None] = ContextVar("beside_title", default=None)
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
    st.set_page_config(page_title=PRODUCT, page_icon=str(STATIC / "icon.svg"), layout="wide")
    st.session_state["framed"] = True
    st.logo(str(STATIC / "logo.svg"), size="large")
    groups: dict[str, list[StreamlitPage]] = {}
    for each in PAGES:
        file = REPOSITORY / "pages" / f"{each.name}.py"
        page = st.Page(file, title=each.title, icon=each.icon, default=each.name == "tradeoffs")
        groups.setdefault(each.group, []).append(page)
    chosen = st.navigation(groups, position="top")
    st.session_state["page"] = chosen.url_path or PAGES[0].name
    return chosen


def heading(page: StreamlitPage) -> None:
    """The page's title, in the browser's tab as well, and what the page answers."""
    st.set_page_config(page_title=f"{page.title} · {PRODUCT}")
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(page.title, anchor=False, width="stretch")
            _beside_title.set(st.container(horizontal=True, width="content", key="beside_title"))
        st.markdown(next(each.answers for each in PAGES if each.title == page.title))


def beside_title() -> DeltaGenerator:
    """The place beside the page's title, for what holds for the whole page."""
    return _beside_title.get() or st.container(horizontal=True, horizontal_alignment="right")


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
