"""A single measurement of speed: its results as sentences, its record, deleting it and undoing that."""

import json
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import frame
from pages.parts.frame import home
from sparse_core.speed import measurements
from sparse_core.views import labels, speed_tables

ICONS = {"faster": ":material/speed:", "no gain": ":material/remove:", "slower": ":material/trending_down:"}


def show_result(record: dict[str, Any], backbone_labels: dict[str, str]) -> None:
    """What a finished measurement found."""
    _show_lines(record, speed_tables.table(home(), [record], backbone_labels))
    if record["timing_only"]:
        st.caption("Timing only: a mask on random weights. It has no accuracy.")


def show_measurement(record: dict[str, Any], label: str, lines: pd.DataFrame) -> None:
    """One measurement as sentences, its record to download, and the button that deletes it."""
    with st.container(border=True):
        _show_lines(record, lines)
        with st.container(horizontal=True):
            st.download_button(
                "Record (JSON)",
                json.dumps(record, indent=1),
                f"speed-{record['id']}.json",
                "application/json",
                on_click="ignore",
                icon=":material/download:",
                help="All samples, machine, versions and settings.",
            )
            if st.button("Delete …", icon=":material/delete:"):
                _confirm_delete(record["id"], label)


def offer_undo() -> None:
    """The button that restores the measurement deleted last."""
    measurement = st.session_state.get("deleted_speed")
    if not measurement:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info("The measurement was deleted.")
        if st.button("Undo", icon=":material/undo:"):
            measurements.restore(home(), measurement)
            del st.session_state["deleted_speed"]
            st.rerun()


def _show_lines(record: dict[str, Any], rows: pd.DataFrame) -> None:
    """Each line of a measurement as a sentence, what could not be measured, why results are unreliable, and the machine."""
    st.markdown("\n".join(f"- {ICONS[row.gain]} {speed_tables.sentence(row)}" for row in rows.itertuples()))
    for row in rows.dropna(subset=["accuracy"]).itertuples():
        st.caption(f"Top-1 accuracy on the test images after this training: {labels.percent(row.accuracy)} %.")
    for problem in record.get("problems") or ():
        st.warning(problem)
    reasons = speed_tables.reliability_warnings(rows)
    if reasons:
        st.warning(f"Unreliable. {' '.join(reasons)} Measure again when the machine is idle.")
    st.caption(f"Measured on {speed_tables.machine_description(record)}")


@st.dialog("Delete this measurement?")
@frame.errors_as_messages()
def _confirm_delete(measurement: str, label: str) -> None:
    st.write(f"{label} will be removed from this page. You can undo this afterwards.")
    if st.button("Delete", type="primary"):
        measurements.delete(home(), measurement)
        st.session_state["deleted_speed"] = measurement
        st.session_state["look"] = None
        st.rerun()
