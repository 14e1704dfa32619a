"""What is done to runs on Runs: notes and tags, archive, trash, and rerunning one."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from pages.parts import deletion
from pages.parts.frame import home
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job, transfer_kind
from sparse_core.results.records import Record, Records
from sparse_core.specs.identity import first_free_replicate, recorded
from sparse_core.views import columns, labels

EDIT = "edit_annotations"
EDITED = ["method", "sparsity", "dataset", "transfer", "seeds", "final_mean", "tags", "note"]
EDITED_ROWS = 500


def bulk(records: Records, run_ids: Sequence[str], source: str, archived: bool) -> None:
    """Archive or restore, delete and tag the selected runs."""
    if source != "measured":
        return
    count = labels.counted(len(run_ids), "run")
    with st.container(horizontal=True, vertical_alignment="center"):
        if archived:
            if st.button(f"Restore {count}", icon=":material/unarchive:"):
                records.annotations.archive(run_ids, False)
                _unselect()
        elif st.button(f"Archive {count}", icon=":material/archive:", help="Hidden on all pages until restored."):
            records.annotations.archive(run_ids)
            st.session_state["archived"] = list(run_ids)
            _unselect()
        if st.button("Delete …", icon=":material/delete:"):
            text = f"{count} will be removed from all pages. You can undo this afterwards."
            state = {"deleted": list(run_ids), "chosen": []}
            deletion.confirm(f"Delete {count}?", text, partial(records.delete, *run_ids), state)
        with (
            st.popover("Tag", icon=":material/label:", help=f"Add tags to {count}"),
            st.form("tag", clear_on_submit=True, border=False),
        ):
            tags = st.text_input("Tags to add", placeholder="separated by spaces")
            if st.form_submit_button("Add"):
                for run_id in run_ids:
                    note, before = records.annotation(run_id)
                    records.annotate(run_id, note, [*before, *(tags or "").split()])
                st.toast(f"Tags added to {count}.")
                st.rerun()


def _unselect() -> None:
    st.session_state["chosen_next"] = []
    st.rerun()


def rerun_button(record: Record, records: Records) -> None:
    """Trains the run again as a new replicate."""
    if st.button("Rerun", icon=":material/replay:", help="Trains again as a new replicate. This run is kept."):
        spec, seed = recorded(record.spec), record.spec["seed"]
        again = first_free_replicate(spec, (seed,), records.ids())
        job_id = queue.submit(home(), Job(transfer_kind(again), again, (seed,)))
        page = "probe" if spec.transfer == "linear" else "finetune"
        st.switch_page(f"pages/{page}.py", query_params={"job": job_id})


def annotation_form(run_ids: Sequence[str], records: Records) -> None:
    """The note and the tags of a run, or of all runs of a configuration."""
    note, tags = records.annotation(run_ids[0])
    with st.form(f"annotation_{run_ids[0]}"):
        new_note = st.text_area("Notes", note, placeholder="Purpose of this run, observations")
        new_tags = st.text_input("Tags", " ".join(tags), placeholder="separated by spaces")
        if st.form_submit_button("Save"):
            for run_id in run_ids:
                records.annotate(run_id, new_note, new_tags.split())
            st.toast("Saved.")


def editing() -> bool:
    """The control for writing tags and notes into the table; whether it is on."""
    help_text = "Write into the columns Tags and Note; it is kept at once, for all seeds of the configuration."
    return st.toggle("Edit tags and notes", key=EDIT, help=help_text)


def edit(table: pd.DataFrame) -> None:
    """The newest configurations with columns Tags and Note to write into."""
    rows = table[table["run_ids"].map(len) > 0].head(EDITED_ROWS).reset_index(drop=True)
    shown = columns.for_display(rows[EDITED])
    config = {name: st.column_config.Column(columns.column(name).title) for name in EDITED}
    mean = columns.column("final_mean")
    config["final_mean"] = st.column_config.NumberColumn(mean.title, format=mean.number_format)
    st.data_editor(
        shown,
        key="edited",
        hide_index=True,
        disabled=[name for name in EDITED if name not in ("tags", "note")],
        column_config=config,
        on_change=partial(_keep_edits, rows),
    )


def _keep_edits(rows: pd.DataFrame) -> None:
    records = Records(home())
    for place, changed in st.session_state["edited"]["edited_rows"].items():
        row = rows.loc[int(place)]
        for run_id in row["run_ids"]:
            note, tags = records.annotation(run_id)
            tags = str(changed["tags"] or "").split() if "tags" in changed else tags
            records.annotate(run_id, str(changed["note"] or "") if "note" in changed else note, tags)
