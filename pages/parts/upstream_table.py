"""The paper's table 3 for the networks of this machine: their accuracies with their own classifiers, as far as evaluated."""

from functools import partial

import streamlit as st

from pages.parts import choices, deletion
from pages.parts.frame import home
from pages.parts.results import show_table
from sparse_core.results import evaluations
from sparse_core.views import evaluations as tables

NOTE = (
    "Top-1 accuracy of each network with the classifier it was trained with, measured on this machine; ImageNetV2: mean of its "
    "three samples, which Columns offers. The paper's table 3 is not in its public rows."
)

DETECTORS_NOTE = (
    "mAP of each detector with its own prediction layers on the test images of data with its classes, measured on this machine. "
    "The paper's table 6 is not in its public rows."
)


def show(title: str, *, deletable: bool = False) -> None:
    """The table, with what deletes an evaluation if ``deletable``; one sentence while there is none."""
    st.header(title, anchor=False)
    if deletable:
        message = "The evaluation was deleted."
        deletion.offer_undo("deleted_evaluation", message, partial(evaluations.restore, home()))
    records = evaluations.read_all(home())
    if not records:
        st.info("No network was evaluated on this machine yet. Evaluate one: any with a classifier, or a detector.")
        return
    table, detectors = tables.table(records), tables.detectors(records)
    if len(table):
        show_table(table, key="evaluations", name="upstream-accuracies", shown_columns=tables.shown_columns(table))
        st.caption(NOTE)
    if len(detectors):
        show_table(detectors, key="evaluated_detectors", name="upstream-map", shown_columns=tables.SHOWN_OF_DETECTORS)
        st.caption(DETECTORS_NOTE)
    if deletable:
        _delete({tables.name(record): record["id"] for record in records})


def _delete(names: dict[str, str]) -> None:
    with st.expander("Delete an evaluation"), st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choices.selectbox("Evaluation", list(names), key="evaluation", width=520)
        if st.button("Delete …", icon=":material/delete:"):
            text = f"{chosen} will be removed from the table. You can undo this afterwards."
            delete = partial(evaluations.delete, home(), names[chosen])
            deletion.confirm("Delete this evaluation?", text, delete, {"deleted_evaluation": names[chosen]})
