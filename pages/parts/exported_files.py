"""What the Library page shows of a backbone's files: their bytes together, its measured time, and the downloads."""

import pandas as pd
import streamlit as st

from pages.parts import frame, links, progress
from pages.parts.frame import home
from sparse_core.jobs.kinds import Job
from sparse_core.networks import exports, library
from sparse_core.networks.library import BackboneCard
from sparse_core.specs.checkpoints import ExportSpec
from sparse_core.specs.options import PROGRAM
from sparse_core.views import labels, speed_tables

FILES = {
    exports.PLAIN: ("Dense file", "safetensors with the names of the public network, zeros stored", ".safetensors"),
    exports.PACKED: ("Packed file", "one bit per weight and the nonzero weights", "-packed.safetensors"),
    exports.ZIPPED: ("Zipped file", f"the dense file compressed: {exports.ZIP_TOOL}", ""),
    exports.COMPACT: ("Compact file", "without the filters that structured pruning removed", "-compact.safetensors"),
    exports.ONNX: ("ONNX", "images (uint8) to features, with preprocessing", ".onnx"),
    exports.COMPACT_ONNX: ("ONNX, compact", "the same without removed filters", "-compact.onnx"),
}


def show(card: BackboneCard) -> None:
    """The files of a backbone of the library or the zoo: sizes and downloads, or the button that makes them."""
    exports.sweep(home())
    sizes = exports.sizes(home(), card.hash)
    with st.expander("Export", icon=":material/download:"):
        if sizes:
            _sizes(card, sizes)
            _measured_time(card)
            _downloads(card, sizes)
        else:
            _make(card)


def _sizes(card: BackboneCard, sizes: dict[str, int]) -> None:
    shown = [name for name in FILES if name in sizes]
    table = pd.DataFrame(
        {
            "File": [FILES[name][0] for name in shown],
            "Bytes": [sizes[name] for name in shown],
            "Of the dense file (%)": [100 * sizes[name] / sizes[exports.PLAIN] for name in shown],
            "Contents": [FILES[name][1] for name in shown],
        }
    )
    formats = {
        "Bytes": st.column_config.NumberColumn(format="localized"),
        "Of the dense file (%)": st.column_config.NumberColumn(format="%.1f"),
    }
    st.dataframe(table, hide_index=True, column_config=formats, key=f"exported_{card.hash}")


def _measured_time(card: BackboneCard) -> None:
    """The fastest time that was measured of this network."""
    names = {other.name: labels.backbone_label(other) for other in library.available(home())}
    fastest = speed_tables.fastest(home(), card.hash, names)
    if fastest is None:
        st.caption("Measured time: none yet. Measure it on the Speedup page.")
        return
    times = f"{fastest.milliseconds_per_image:.2f} ms/image, dense {fastest.dense_milliseconds_per_image:.2f}"
    st.caption(frame.plain(f"Measured time: {times}. {speed_tables.sentence(fastest)}, on {fastest.machine}."))


def _downloads(card: BackboneCard, sizes: dict[str, int]) -> None:
    folder = exports.folder(home(), card.hash)
    with st.container(horizontal=True):
        for name, (label, contents, ending) in FILES.items():
            if ending and name in sizes:
                st.download_button(
                    f"{label}, {labels.file_size(sizes[name])}",
                    (folder / name).read_bytes,
                    f"{card.name}{ending}",
                    "application/octet-stream",
                    key=f"export_{name}_{card.hash}",
                    on_click="ignore",
                    icon=":material/download:",
                    help=f"{contents[:1].upper()}{contents[1:]}.",
                )
        command = [*PROGRAM, "export", f"{card.name}.safetensors", "--backbone", card.name, "--json"]
        links.share(" ".join(command), key=f"share_{card.hash}")


def _make(card: BackboneCard) -> None:
    st.caption(
        "Files of this backbone: safetensors for plain torch, packed for storage, compact where whole filters were removed, "
        "ONNX. Their sizes are shown together. They are kept for a day."
    )
    progress.job_button("Make files", f"export_{card.hash}", Job("export", ExportSpec(backbone=card.name)))
