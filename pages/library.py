"""Library: import a pruned network from a file, inspect it, use it on every other page, and export it."""

import dataclasses
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, deletion, exported_files, import_form, links, named_networks, progress
from pages.parts.frame import home, plain
from pages.parts.results import open_store, show_chart, show_table
from sparse_core.catalog import ARCHITECTURES, DETECTORS, architecture_label
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library, uploads
from sparse_core.networks.library import BackboneCard
from sparse_core.paths import printable
from sparse_core.specs.checkpoints import InspectSpec
from sparse_core.views import labels
from sparse_core.views.charts import structure as structure_charts

SOURCES = {"upload": "Upload", "path": "Path on this machine", "name": "torchvision or timm"}
COLUMNS = ["name", "architecture", "method", "sparsity", "measured_sparsity", "upstream"]
COLUMNS += ["preprocessing", "imported_from", "imported_at"]
KINDS = ("library", "offline", "zoo")  # the user's own, then those that come with the product


def main() -> None:
    """Upload or path, inspection and import of a file; below, the backbones of the library."""
    open_store()
    uploads.sweep(home())
    queue.ensure_worker(home())  # loads torch before a file has been uploaded
    _choose_file()
    inspection = progress.linked_job("inspect", advice="Inspect the file again.")
    imported = progress.linked_job("import", parameter="import", advice="Inspect the file again.")
    if inspection and not (imported and imported.state == "done"):
        _inspection(inspection)
    if imported:
        progress.import_result(imported)
        if imported.state == "done":
            uploads.discard(home(), Path(imported.job.spec.path))
    _backbones()


def _choose_file() -> None:
    """The file to inspect, uploaded through the browser or a path on this machine; or a network to download by its name."""
    linked = st.query_params.get("path", "")
    if (
        linked and st.session_state.setdefault("path_opened", "") != linked
    ):  # of a link such as library?path=/home/me/net.pth
        st.session_state.update({"path_opened": linked, "from": "path", "checkpoint": linked})
    help_text = (
        "A path avoids a copy: the file is read where it is. torchvision's and timm's networks are downloaded by name."
    )
    source = choices.choice("From", "from", SOURCES, help_text)
    if source == "name":
        named_networks.show()
        return
    if source == "path":
        with st.form("path_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
            path = st.text_input("Checkpoint path", key="checkpoint", placeholder="/home/me/resnet50-acdc.pth")
            if st.form_submit_button("Inspect", icon=":material/search:"):
                _inspect(InspectSpec(str(Path(path.strip()).expanduser())))
        return
    received = st.session_state.setdefault("uploads_received", set())
    help_text = "For example .pth, .pt, .tar or .safetensors. The file stays on this machine."
    sent = st.file_uploader("Checkpoint file", key=f"upload_{len(received)}", help=help_text)
    if sent is None or sent.file_id in received:
        return
    try:
        kept = uploads.keep(home(), sent, sent.name, sent.size)
    except InputError as error:
        st.error(plain(str(error)))
        return
    received.add(sent.file_id)
    _inspect(InspectSpec(str(kept)))
    st.rerun()


def _inspect(spec: InspectSpec) -> None:
    st.query_params.pop("import", None)
    st.query_params["job"] = queue.submit(home(), Job("inspect", spec))


def _inspection(status: queue.Status) -> None:
    spec: InspectSpec = status.job.spec
    st.header(plain(Path(spec.path).name), divider="gray")
    if not status.ended:
        progress.wait_for(status.job_id)
    elif status.state == "done":
        _choose_weights(spec, status.result.get("weight_sets"), status.result.get("weights"))
        settled = _is_settled(spec, status.result.get("alternatives"))
        _summary(Path(spec.path).name, status.result)
        if settled:
            import_form.show(spec, status.result)
    else:
        _inspection_error(spec, status)


def _choose_weights(spec: InspectSpec, names: list[str] | None, used: str | None = None) -> None:
    """Which of a file's sets of weights to read, such as those of a moving average: another one is inspected anew."""
    if not names:
        return
    chosen = st.selectbox(
        "Weights",
        names,
        index=names.index(used) if used in names else None,
        format_func=printable,
        key="weights",
        placeholder="Choose a set of weights",
        width=330,
        help="This file holds several sets, such as those of training and their moving average.",
    )
    if chosen and chosen != used:
        _inspect(dataclasses.replace(spec, weights=chosen))
        st.rerun()


def _is_settled(spec: InspectSpec, names: list[str] | None) -> bool:
    """Whether it is known which architecture the file holds; where several fit equally well, they are offered."""
    if not names:
        return True
    st.warning(
        "The weights fit these networks equally well. Choose the one that was trained: a wrong one costs accuracy."
    )
    chosen = st.selectbox(
        "Architecture",
        names,
        index=None,
        format_func=architecture_label,
        key="alternative",
        width=430,
        placeholder="Choose one",
    )
    if chosen:
        _inspect(dataclasses.replace(spec, architecture=chosen))
        st.rerun()
    return False


def _inspection_error(spec: InspectSpec, status: queue.Status) -> None:
    """Why a file cannot be read; offers a choice of architectures if there is one, else deletes an uploaded file."""
    sets = status.result.get("weight_sets")
    if sets:
        st.warning("This file holds several sets of weights. Choose one.")
        _choose_weights(spec, sets)
        return
    candidates = status.result.get("candidates")
    if candidates:
        st.warning(
            "Which architecture is this? The names in the file match several. Choose one; mismatches will be listed."
        )
    else:
        st.error(plain(status.message))
        _mismatched_keys(status.result.get("keys") or {})
    names = candidates or ([*ARCHITECTURES, *DETECTORS] if spec.architecture else [])
    if not names:
        uploads.discard(home(), Path(spec.path))
        return
    with st.form("architecture_form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Architecture", names, format_func=architecture_label, key="candidate", width=330)
        if st.form_submit_button("Load as this architecture", icon=":material/search:"):
            _inspect(dataclasses.replace(spec, architecture=chosen))
            st.rerun()


def _mismatched_keys(keys: dict[str, list[str]]) -> None:
    """All mismatched keys: the error message names only the first of each kind."""
    if not keys:
        return
    frame = pd.DataFrame([{"Key": key, "Mismatch": kind} for kind, names in keys.items() for key in names])
    with st.expander(f"All {labels.counted(len(frame), 'mismatched key')}"):
        st.dataframe(frame, hide_index=True)


def _summary(file: str, seen: dict[str, Any]) -> None:
    """The inspected file as a row of metrics, and its layers as bars and as a table."""
    with st.container(horizontal=True):
        st.metric("Architecture", architecture_label(seen["architecture"]))
        help_text = "Zero weights over all weights of convolution and linear layers, including the classifier."
        st.metric("Sparsity", f"{labels.percent(seen['sparsity'])} %", help=help_text)
        help_text = "Zero weights over the convolutions' weights, without the classifier: what a transfer starts from."
        st.metric("Backbone sparsity", f"{labels.percent(seen['backbone_sparsity'])} %", help=help_text)
        help_text = "Share of the convolutions' filters whose weights are all 0."
        st.metric("Fully pruned filters", f"{labels.percent(seen['filters_pruned_share'])} %", help=help_text)
        st.metric("Parameters", f"{seen['parameters'] / 1e6:.3g} million")
        st.metric(
            "Classes", f"{seen['classes']:,}" if seen["classes"] else "none", help="Of the classifier in the file."
        )
    details = [f"Format: {', '.join(seen['formats'])}"]
    if seen["variant"]:
        details.append(f"variant {seen['variant']}")
    if seen["method"]:
        details.append(f"pruning method according to the file: {seen['method']}")
    st.caption(plain(f"{'; '.join([*details, *seen.get('notes', [])])}."))
    layers = pd.DataFrame(seen["layers"])
    layers["shape"] = [" × ".join(map(str, shape)) for shape in layers["shape"]]
    show_chart(
        structure_charts.layer_sparsity(layers),
        "Sparsity by layer",
        f"{architecture_label(seen['architecture'])} · layers from input to output · share of zero weights and of fully "
        "pruned filters",
        f"{file}, with its masks and thresholds applied; the classifier, if any, comes last. "
        f"Sparse Transfer Lab, {date.today():%Y-%m-%d}.",
        key="layers",
        name=f"layers-{seen['architecture']}",
        alt="Share of zero weights and of fully pruned filters in each layer",
        table=layers,
    )


def _backbones() -> None:
    """The backbones of the library, with links to where each can be used, and what was deleted."""
    st.header("In the library", divider="gray")
    deletion.offer_undo(
        "removed", f"“{st.session_state.get('removed')}” was deleted.", partial(library.restore, home())
    )
    found = [card for card in library.available(home()) if card.kind in KINDS]
    cards = {card.name: card for card in sorted(found, key=lambda card: KINDS.index(card.kind))}
    if all(card.kind != "library" for card in cards.values()):
        st.info(
            "Nothing of your own yet. Upload a checkpoint file above, or enter its path. Its contents are shown before it is "
            "imported."
        )
    if cards:
        _backbone_table(cards)
    _deleted()


def _backbone_table(cards: dict[str, BackboneCard]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        names = {name: labels.backbone_label(card) for name, card in cards.items()}
        name = st.selectbox(
            "Backbone", names, format_func=names.__getitem__, key="card", label_visibility="collapsed", width=420
        )
        shipped = cards[name].kind != "library"
        help_text = "It comes with the product and cannot be deleted." if shipped else None
        if st.button("Delete …", icon=":material/delete:", disabled=shipped, help=help_text):
            text = f"“{name}” will be removed from the library. Its runs are kept. You can undo this afterwards."
            deletion.confirm("Delete this backbone?", text, lambda: _remove(name), {"removed": name})
        links.backbone_links(name)
    st.caption(f"Preprocessing: {cards[name].preprocessing.description}.")
    if cards[name].hash:
        exported_files.show(cards[name])
    frame = pd.DataFrame([dataclasses.asdict(card) for card in cards.values()])
    frame = frame.rename(columns={"origin": "imported_from"})
    frame["imported_from"] = frame["imported_from"].where(frame["imported_from"] != "", frame["note"])
    frame["preprocessing"] = [card.preprocessing.description for card in cards.values()]
    frame["formats"] = [", ".join(formats) for formats in frame["formats"]]
    frame["imported_at"] = pd.to_datetime(frame["imported_at"]).dt.floor("s")
    show_table(frame.drop(columns=["kind", "ready"]), key="library_table", name="library", shown_columns=COLUMNS)


def _remove(name: str) -> None:
    library.remove(home(), name)
    st.query_params.pop("import", None)


def _deleted() -> None:
    """Deleted backbones, which can be restored until they are deleted permanently."""
    names = library.removed(home())
    if not names:
        return
    with st.expander(f"Deleted ({len(names)})"), st.container(horizontal=True, vertical_alignment="center"):
        name = st.selectbox("Deleted backbone", names, key="deleted", label_visibility="collapsed", width=420)
        if st.button("Restore", icon=":material/undo:"):
            deletion.undo("removed", name, partial(library.restore, home()))
        if st.button("Delete all permanently …", icon=":material/delete_forever:"):
            text = f"{labels.counted(len(names), 'deleted backbone')}: {', '.join(names)}. This cannot be undone."
            empty = library.trash(home()).empty
            deletion.confirm("Delete permanently?", text, empty, {"removed": None}, "Delete permanently")


main()
