"""Library: bring in a pruned network from a file, see what it is, and use it on every other page."""

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import parts, transfer_controls
from pages.parts.frame import faults_in_words, home, plain
from sparse_core.catalog import ARCHITECTURES, METHODS, UNKNOWN, architecture_label
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import guesses, library, uploads
from sparse_core.networks.cards import BackboneCard
from sparse_core.specs.checkpoints import ImportSpec, InspectSpec
from sparse_core.views import labels
from sparse_core.views.charts import captions
from sparse_core.views.charts import structure as structure_charts

SOURCES = {"upload": "Drop a file", "path": "A path on this machine"}
COLUMNS = [
    "name",
    "architecture",
    "method",
    "sparsity",
    "measured_sparsity",
    "upstream",
    "imported_from",
    "imported_at",
]


def main() -> None:
    """A file comes in, is looked into, gets a name; below are the backbones that came in before."""
    parts.store()
    uploads.sweep(home())
    st.markdown(
        "**Bring in a pruned network of yours.** PyTorch files and safetensors of the known architectures, with the masks, "
        "wrappers or thresholds their projects left in them. A file is read as numbers only: nothing in it is run."
    )
    queue.ensure_worker(home())  # so that torch is loaded by the time a file has come in
    _receive()
    looked = _status("job", "inspect")
    imported = _status("import", "import")
    if looked and not (imported and imported.state == "done"):
        _look(looked)
    if imported:
        _imported(imported)
    _shelf()


def _receive() -> None:
    """The ways in: a file dropped into the browser, or a path on this machine."""
    source = parts.choice("From", "from", SOURCES, "A path saves copying: the file is read where it lies.")
    if source == "path":
        with st.form("path_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
            path = st.text_input(
                "Path of a checkpoint file", key="checkpoint", placeholder="/home/me/resnet50-acdc.pth"
            )
            if st.form_submit_button("Look inside", icon=":material/search:"):
                _ask(InspectSpec(str(Path(path.strip()).expanduser())))
        return
    taken = st.session_state.setdefault("uploads_taken", set())
    sent = st.file_uploader(
        "Checkpoint file",
        key=f"upload_{len(taken)}",
        help="Such as .pth, .pt, .tar or .safetensors. It stays on this machine.",
    )
    if sent is None or sent.file_id in taken:
        return
    try:
        kept = uploads.keep(home(), sent, sent.name, sent.size)
    except InputError as error:
        st.error(plain(str(error)))
        return
    taken.add(sent.file_id)
    _ask(InspectSpec(str(kept)))
    st.rerun()


def _ask(spec: InspectSpec) -> None:
    st.query_params.pop("import", None)
    st.query_params["job"] = queue.submit(home(), Job("inspect", spec))


def _status(parameter: str, kind: str) -> queue.Status | None:
    """The job of that kind that the link names, None where there is none here."""
    job_id = st.query_params.get(parameter)
    if not job_id:
        return None
    try:
        status = queue.status(home(), job_id)
    except InputError:
        st.info("What this link shows was done on another machine, or its state was deleted. Bring the file in again.")
        return None
    return status if status.job.kind == kind else None


def _look(status: queue.Status) -> None:
    spec: InspectSpec = status.job.spec
    st.subheader(plain(Path(spec.path).name), divider="gray")
    if not status.ended:
        transfer_controls.wait_for(status.job_id)
    elif status.state == "done":
        _what_it_is(Path(spec.path).name, status.result)
        _import_form(spec, status.result)
    else:
        _refused(spec, status)


def _refused(spec: InspectSpec, status: queue.Status) -> None:
    """Why the file cannot be read; where it leaves the architecture open, or the chosen one does not fit, choose one. A file
    that nothing can be chosen for is of no more use."""
    candidates = status.result.get("candidates")
    if candidates:
        st.warning(
            "Which architecture is this? The names in the file leave it open. Choose it; what does not fit is told."
        )
    else:
        st.error(plain(status.message))
        _misfit(status.result.get("keys") or {})
    names = candidates or (list(ARCHITECTURES) if spec.architecture else [])
    if not names:
        uploads.discard(home(), Path(spec.path))
        return
    with st.form("architecture_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Architecture", names, format_func=architecture_label, key="candidate", width=330)
        if st.form_submit_button("Read it as this", icon=":material/search:"):
            _ask(InspectSpec(spec.path, chosen))
            st.rerun()


def _misfit(keys: dict[str, list[str]]) -> None:
    """All keys that do not fit: the message names the first of each kind alone."""
    if not keys:
        return
    frame = pd.DataFrame([{"key": key, "what": kind} for kind, some in keys.items() for key in some])
    with st.expander(f"All {labels.counted(len(frame), 'key')} that do not fit"):
        st.dataframe(frame, hide_index=True)


def _what_it_is(file: str, seen: dict[str, Any]) -> None:
    """The file in a row of figures, and its layers as bars and as a table."""
    with st.container(horizontal=True):
        st.metric("Architecture", architecture_label(seen["architecture"]))
        st.metric(
            "Sparsity",
            f"{labels.percent(seen['sparsity'])} %",
            help="Zeros over size of all convolution and linear weights, the classifier included.",
        )
        st.metric(
            "Filters pruned",
            f"{labels.percent(seen['filters_pruned_share'])} %",
            help="Of all filters of the convolutions: those with every weight 0.",
        )
        st.metric("Parameters", f"{seen['parameters'] / 1e6:.3g} million")
        st.metric(
            "Classes", f"{seen['classes']:,}" if seen["classes"] else "none", help="Of the classifier in the file."
        )
    told = [f"Format: {', '.join(seen['formats'])}"]
    if seen["variant"]:
        told.append(f"variant {seen['variant']}")
    if seen["method"]:
        told.append(f"pruned by {seen['method']}, as the file lets on")
    st.caption(plain(f"{'; '.join([*told, *seen.get('notes', [])])}."))
    layers = pd.DataFrame(seen["layers"])
    layers["shape"] = [" × ".join(map(str, shape)) for shape in layers["shape"]]
    parts.show_chart(
        captions.with_caption(
            structure_charts.layer_sparsity(layers),
            "Where is it sparse?",
            f"{architecture_label(seen['architecture'])} · each layer from the input on · share of weights and of whole filters",
            f"{file}, with the masks and thresholds that it holds applied; the classifier comes last, where there is one. "
            f"Sparse Transfer Lab, {date.today():%Y-%m-%d}.",
        ),
        key="layers",
        name=f"layers-{seen['architecture']}",
        alt="Share of zero weights and of wholly pruned filters in each layer",
        table=layers,
    )


def _import_form(spec: InspectSpec, seen: dict[str, Any]) -> None:
    """How the backbone will be known; what the file tells or is measured stands there already."""
    measured = seen["backbone_sparsity"]
    guess = guesses.guess_method(seen["method"], measured)
    methods = list(dict.fromkeys([*METHODS, UNKNOWN, guess]))
    with st.form("import_form"):
        st.markdown("**Name it, and correct what the file could not tell.**")
        columns = st.columns([3, 2, 2, 2])
        name = columns[0].text_input(
            "Name", library.free_name(home(), _stem(spec.path)), help="How the other pages will list it."
        )
        method = columns[1].selectbox(
            "Pruned by", methods, index=methods.index(guess), help="The file cannot always tell."
        )
        percent = columns[2].number_input(
            "Nominal sparsity (%)",
            0.0,
            99.99,
            100 * guesses.nominal(measured),
            format="%g",
            help=f"The round figure it is known by. Measured over its convolutions: {labels.percent(measured)} %.",
        )
        upstream = columns[3].text_input(
            "Trained on",
            guesses.guess_upstream(seen["dataset"], seen.get("upstream"), seen["classes"], seen["architecture"]),
            help="The data it was trained on.",
        )
        if st.form_submit_button("Put it into the library", type="primary", icon=":material/library_add:"):
            asked = ImportSpec(
                spec.path,
                name.strip(),
                architecture=spec.architecture,
                method=method,
                sparsity=round(percent / 100, 6),
                upstream=upstream.strip(),
                origin=Path(spec.path).name,
            )
            st.query_params["import"] = queue.submit(home(), Job("import", asked))
            st.rerun()


def _imported(status: queue.Status) -> None:
    if not status.ended:
        transfer_controls.wait_for(status.job_id)
    elif status.state == "done":
        uploads.discard(home(), Path(status.job.spec.path))
        st.success(f"“{status.result['name']}” is in the library.", icon=":material/check:")
        parts.backbone_links(status.result["name"])
    else:
        st.error(plain(status.message))


def _shelf() -> None:
    """The backbones of the library, each with its uses and the way out."""
    st.subheader("In the library", divider="gray")
    _offer_undo()
    cards = {card.name: card for card in library.cards(home())}
    if cards:
        _backbones(cards)
    else:
        st.info("Nothing yet. Drop a checkpoint file above, or give its path: what it is, is shown before it comes in.")
    _deleted()


def _backbones(cards: dict[str, BackboneCard]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        name = st.selectbox(
            "Backbone",
            list(cards),
            format_func=lambda name: labels.backbone_label(cards[name]),
            key="card",
            label_visibility="collapsed",
            width=420,
        )
        if st.button("Delete …", icon=":material/delete:"):
            _ask_to_delete(name)
        parts.backbone_links(name)
    frame = pd.DataFrame([asdict(card) for card in cards.values()])
    frame = frame.rename(columns={"origin": "imported_from"})
    frame["formats"] = [", ".join(formats) for formats in frame["formats"]]
    frame["imported_at"] = pd.to_datetime(frame["imported_at"]).dt.floor("s")
    parts.show_table(frame.drop(columns=["kind", "ready"]), key="library_table", name="library", columns=COLUMNS)


@st.dialog("Delete this backbone?")
@faults_in_words()
def _ask_to_delete(name: str) -> None:
    st.write(f"“{name}” leaves the library. Runs that were made with it stay. You can undo it afterwards.")
    if st.button("Delete", type="primary"):
        library.remove(home(), name)
        st.session_state["removed"] = name
        st.query_params.pop("import", None)
        st.rerun()


def _offer_undo() -> None:
    name = st.session_state.get("removed")
    if not name:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(f"“{name}” was deleted.")
        if st.button("Undo", icon=":material/undo:"):
            _bring_back(name)


def _deleted() -> None:
    """What was deleted before, which can be brought back until it is deleted for good."""
    names = library.removed(home())
    if not names:
        return
    with st.expander(f"Deleted ({len(names)})"), st.container(horizontal=True, vertical_alignment="center"):
        name = st.selectbox("Deleted backbone", names, key="deleted", label_visibility="collapsed", width=420)
        if st.button("Bring back", icon=":material/undo:"):
            _bring_back(name)
        if st.button("Delete all for good …", icon=":material/delete_forever:"):
            _ask_to_empty(names)


@st.dialog("Delete for good?")
@faults_in_words()
def _ask_to_empty(names: list[str]) -> None:
    st.write(f"{labels.counted(len(names), 'deleted backbone')}: {', '.join(names)}. This cannot be undone.")
    if st.button("Delete for good", type="primary"):
        library.trash(home()).empty()
        st.session_state.pop("removed", None)
        st.rerun()


def _bring_back(name: str) -> None:
    try:
        library.restore(home(), name)
    except InputError as error:
        st.error(plain(str(error)))
        return
    st.session_state.pop("removed", None)
    st.rerun()


def _stem(path: str) -> str:
    """The file's name without its endings: resnet50 for resnet50.pth.tar."""
    name = Path(path).name
    for ending in (".gz", ".tar", ".safetensors", ".pth", ".pt", ".ckpt", ".bin"):
        name = name.removesuffix(ending)
    return name


main()
