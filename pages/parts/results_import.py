"""The form that imports results of others: read and check first, then import; and the sources that were imported."""

import tempfile
from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pages.parts import frame
from pages.parts.frame import home
from sparse_core.results import imported
from sparse_core.results.imported import Import
from sparse_core.results.store import COLUMNS, Store
from sparse_core.views import labels

NOT_THERE = "not in the file"
SHOWN = ["architecture", "transfer", "method", "sparsity", "dataset", "seed", "metric", "accuracy_best"]
MAP_HELP = "The file's column; or type one value for all rows."
LAYOUTS = (
    "CSV or Parquet with a row for each run, accuracy and sparsity as fractions of 1; or the paper's raw text files "
    "(raw_results/*.txt). They are shown as a source of their own and never averaged with others."
)


def form(store: Store) -> None:
    """The expander with the form."""
    with st.expander("Import results of others", icon=":material/upload_file:"), frame.errors_as_messages():
        st.caption(LAYOUTS)
        uploaded = st.file_uploader("File with results", ["csv", "txt", "tsv", "parquet"], key="results_file")
        if uploaded is not None:
            with tempfile.TemporaryDirectory() as folder:
                _import(_written(uploaded, Path(folder)))
        _sources(store)


def _written(uploaded: UploadedFile, folder: Path) -> Path:
    """The uploaded file on disk, under its own name."""
    file = folder / Path(uploaded.name).name
    file.write_bytes(uploaded.getbuffer())
    return file


def _import(file: Path) -> None:
    """The map of columns, what a dry run finds, and the button."""
    there = imported.columns(file)
    source = st.text_input("Name of the source", file.stem, key="results_source", placeholder="for example Smith 2024")
    mapping: dict[str, str] = {}
    with st.container(horizontal=True):
        for name in (*imported.REQUIRED, *imported.OPTIONAL):
            options = [NOT_THERE, *there]
            usual = options.index(name) if name in there else 0
            label = name.replace("_", " ").capitalize()
            column = st.selectbox(
                label,
                options,
                index=usual,
                key=f"results_map_{name}",
                width=170,
                help=MAP_HELP,
                accept_new_options=True,
            )
            if column != NOT_THERE:
                mapping[name] = column if column in there else f"={column}"
    found = imported.read(file, mapping, source or "")
    _preview(found)
    replaces = found.source in imported.sources(home())
    label = f"Replace the results of {frame.plain(found.source)}" if replaces else "Import"
    if st.button(label, type="primary", key="results_import", icon=":material/download_done:"):
        imported.keep(home(), found, COLUMNS, replace=replaces)
        st.rerun()


def _preview(found: Import) -> None:
    """What would be imported: nothing is kept yet."""
    counts = {name: int(found.rows[name].nunique()) for name in ("architecture", "method", "dataset")}
    parts = [
        labels.counted(counts[name], word)
        for name, word in zip(counts, ("architecture", "method", "task"), strict=True)
    ]
    st.markdown(f"{labels.counted(len(found.rows), 'run')}: {', '.join(parts)}. Nothing is imported yet.")
    if found.duplicates:
        listed = ", ".join(map(str, found.duplicates[:10]))
        st.warning(f"Rows that repeat the key of an earlier one, kept and counted as one seed: {listed}.")
    st.dataframe(found.rows[SHOWN].head(20), hide_index=True, key="results_preview")


def _sources(store: Store) -> None:
    """The imported sources, each with a button that deletes it."""
    for name in imported.sources(home()):
        with st.container(horizontal=True, vertical_alignment="center"):
            count = len(store.results(source=name))
            st.markdown(f"**{frame.plain(name)}**: {labels.counted(count, 'run')}")
            if st.button("Delete", key=f"delete_source_{name}", type="tertiary", icon=":material/delete:"):
                imported.delete(home(), name)
                st.rerun()
