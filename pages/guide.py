"""Guide: which network to transfer, ranked by the rows there are, with the evidence beside each answer."""

import shlex

import streamlit as st

from pages.parts import choices, frame, links
from pages.parts.frame import home
from pages.parts.results import open_store, show_table
from sparse_core.catalog import architecture_label, task_label
from sparse_core.results import advice
from sparse_core.results.advice import Advice, Request
from sparse_core.results.store import Store
from sparse_core.specs.options import PROGRAM
from sparse_core.speed import fastest, measurements
from sparse_core.views import decisions, labels

BY_DIFFICULTY = "difficulty"
KINDS = {"all": "Any", "general": "General", "specialised": "Specialised", BY_DIFFICULTY: "By difficulty"}
KIND_HELP = (
    "General: many kinds of objects or scenes. Specialised: fine distinctions within one kind, such as car models. By "
    "difficulty: the tasks nearest to a measured difficulty."
)
DIFFICULTY_HELP = (
    "Accuracy of the dense network under full minus that under linear transfer. Tradeoffs shows it for your tasks."
)
SIZE_HELP = "Of the network's weights, stored sparse. Networks of unknown size are left out. Empty: any size."
SPEEDUP_HELP = (
    "Over the dense network, in the fastest engine measured on the Speedup page. A network that was not measured counts as a "
    "timing-only mask of its sparsity: random weights, so not the network whose accuracy stands beside it. Empty: any speed."
)
RULE = (
    "A network meets the budget if the whole 95 % t interval of its accuracy loss over tasks lies within the accepted loss. "
    "Tied: the interval of the difference between two networks, over the tasks they share, includes 0. Only accuracies after "
    "transfer count, never accuracies upstream."
)

NEXT_STEP = (
    "Ask for less: sparsity, speed, or saving of size. Or choose any kind of task or another source, or run what is missing on "
    "Probe or Finetune."
)


def main() -> None:
    """The needs, the answer in a sentence, and the ranked networks with their evidence."""
    store = open_store("guide")
    request = _request(store)
    speeds = measurements.fingerprint(home())
    found = _advised(store, store.version, speeds, request)
    st.header(frame.plain(found.summary), anchor=False)
    for note in found.notes:
        st.caption(frame.plain(note))
    if found.answers:
        table = decisions.answer_table(found)
        show_table(table, key="guide", name="guide", title=lambda name: decisions.ANSWER_COLUMNS[name])
        st.caption(f"{RULE} {labels.counted(len(found.tasks), 'task')} stand for yours.")
    else:
        st.info(choices.HELD if store.kept.count else NEXT_STEP)
    _links(request, found.tasks)


def _request(store: Store) -> Request:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        source = choices.choice(
            "Rows", "guide_source", choices.sources(), "Whose rows count. They are never averaged together."
        )
        architecture = choices.architecture_choice(store, "accuracy", source)
        transfer = choices.choice("Transfer", "guide_transfer", labels.TRANSFER_NAMES, choices.TRANSFER_HELP)
        kind = choices.choice("Kind of task", "guide_kind", KINDS, KIND_HELP)
    difficulty = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if kind == BY_DIFFICULTY:
            difficulty = _number("Difficulty (points)", 10.0, 1.0, "guide_difficulty", DIFFICULTY_HELP)
        loss = _number("Accepted loss (points)", 1.0, 0.5, "guide_loss", "Of accuracy, over the dense network.") or 0.0
        least = _number("Sparsity, at least (%)", 80.0, 5.0, "guide_sparsity", "The share of zero weights.") or 0.0
        size = _number("File size, at most (MB)", None, 1.0, "guide_size", SIZE_HELP, most=None)
        speedup = _number("Speedup, at least (×)", None, 0.5, "guide_speedup", SPEEDUP_HELP, most=None)
    return Request(
        transfer,
        "all" if kind == BY_DIFFICULTY else kind,
        None if difficulty is None else difficulty / 100,
        loss / 100,
        least / 100,
        size * 1e6 if size else None,
        speedup or None,
        source,
        architecture,
    )


def _number(
    label: str, value: float | None, step: float, key: str, help_text: str, most: float | None = 99.9
) -> float | None:
    return st.number_input(
        label, 0.0, most, value, step, key=key, help=help_text, bind="query-params", width=170, placeholder="Any"
    )


@st.cache_data(show_spinner=False, max_entries=50)
def _advised(_store: Store, version: tuple[int, ...], speeds: tuple[int, int], request: Request) -> Advice:
    rows = _store.results(source=request.source, architecture=request.architecture, coded=True)
    return advice.advise(rows, request, fastest.measured(home(), request.architecture))


def _links(request: Request, tasks: list[str]) -> None:
    """To the rows of the tasks that stand for the user's, and to what gives more of them."""
    query: dict[str, str | list[str]] = {
        "architecture": architecture_label(request.architecture),
        "source": choices.sources()[request.source],
    }
    query["transfer"] = labels.TRANSFER_NAMES[request.transfer]
    if request.kind != "all" or request.difficulty is not None:
        query["tasks"] = [task_label(name) for name in tasks]
    with st.container(horizontal=True):
        st.page_link("pages/tradeoffs.py", label="Show the rows", icon=":material/show_chart:", query_params=query)
        st.page_link("pages/probe.py", label="Probe a backbone", icon=":material/science:")
        st.page_link("pages/finetune.py", label="Finetune a backbone", icon=":material/tune:")
        numbers = {name: getattr(request, name) for name in ("loss", "sparsity", "difficulty", "file_size", "speedup")}
        needs = [
            text
            for name, value in numbers.items()
            if value is not None
            for text in (f"--{name.replace('_', '-')}", f"{value:.10g}")
        ]
        about = [(f"--{name}", getattr(request, name)) for name in ("transfer", "kind", "source", "architecture")]
        command = [*PROGRAM, "guide", *needs, *(text for pair in about for text in pair), "--json"]
        links.share(shlex.join(command), key="share_guide")


main()
