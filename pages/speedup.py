"""Speedup: how much faster sparse backbones run on this machine, in which engine, and how accurate they are."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, deletion, form_settings, frame, links, progress, speedup_charts, speedup_form
from pages.parts.frame import home
from pages.parts.results import open_store, show_table
from pages.parts.speedup_filters import choose_filters
from sparse_core.jobs import queue
from sparse_core.networks import library
from sparse_core.speed import measurements
from sparse_core.views import labels, speed_tables, times

ICONS = {"faster": ":material/speed:", "no gain": ":material/remove:", "slower": ":material/trending_down:"}
COLUMNS = ["created_at", "network", "mode", "engine_words", "batch_size", "threads", "ratio", "ratio_low", "ratio_high"]
COLUMNS += [
    "interval_method",
    "gain",
    "reliable",
    "milliseconds_per_image",
    "dense_milliseconds_per_image",
    "timing_only",
]

DETECTION = ["images_per_second", "decoding_milliseconds", "nms_milliseconds"]


def main() -> None:
    """The form that measures, the speedup by sparsity, and the tabs with more."""
    store = open_store("speedup")
    queue.ensure_worker(home(), "long")  # loads torch before the button is pressed
    backbone_labels = {card.name: labels.backbone_label(card) for card in library.available(home())}
    records, rows = _measurements(home(), measurements.fingerprint(home()), backbone_labels)
    _measure(rows, backbone_labels)
    shipped = not (rows["machine"] == speedup_form.this_machine()).any() and measurements.shipped()
    deletion.offer_undo("deleted_speed", "The measurement was deleted.", partial(measurements.restore, home()))
    if shipped:
        records = [*shipped, *records]
        rows = speed_tables.table(home(), records, backbone_labels)
        st.info(
            "This machine has not been measured yet. The charts show measurements that come with the product, made on another "
            "machine. Press Measure above for your own."
        )
    kept = [store.kept.keeps_network(row.architecture, row.method) for row in rows.itertuples()]
    if len(rows) and not any(kept):
        st.info("No measurement passes the filters that hold on all pages. Change them beside the page's title.")
        return
    rows = rows[kept]
    if rows.empty:
        st.info(
            "No measurements yet. Press Measure above. Random weights (timing only) need neither a network nor data; a "
            "ResNet18 takes about a minute."
        )
        st.caption(speedup_charts.PAPER_NOTE)
        return
    filters = choose_filters(rows)
    speedup_charts.speedup_by_sparsity(filters, rows)
    training = {
        "Online training": lambda: speedup_charts.online_training(store, filters, records, rows, backbone_labels)
    }
    tabs = {
        **(training if shipped else {}),  # first: it holds the paper's table 5 and figure 4
        "By batch size": lambda: speedup_charts.speedup_by_batch_size(filters, rows),
        "Accuracy and speed": lambda: speedup_charts.accuracy_and_speed(store, filters, rows),
        **training,
        "Time by layer": lambda: speedup_charts.time_by_layer(filters, records, rows),
        "All measurements": lambda: _all_measurements(records, rows),
    }
    choices.tabs("part", tabs)


@st.cache_resource(show_spinner=False, max_entries=4)
def _measurements(
    folder: Path, version: tuple[int, int], backbone_labels: dict[str, str]
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """All measurements, and their lines as a table; cached, so never change them."""
    records = measurements.read_all(folder)
    return records, speed_tables.table(folder, records, backbone_labels)


def _measure(rows: pd.DataFrame, backbone_labels: dict[str, str]) -> None:
    """The form, and the progress or result of the measurement that the link names."""
    form_settings.take_from_link("speedup")
    status = progress.linked_job("speedup") or progress.unfinished_job("speedup")
    with frame.errors_as_messages():  # what is wrong in the form must not hide what runs
        speedup_form.measure_form(rows, expanded=rows.empty or status is not None)
    if status is None:
        return
    st.header(frame.plain(speed_tables.spec_label(status.job.spec, backbone_labels)), divider="gray")
    if not status.ended:
        progress.show_progress(status.job_id)
    elif status.state == "done":
        _show_lines(status.result, speed_tables.table(home(), [status.result], backbone_labels))
        if status.result["timing_only"]:
            st.caption("Timing only: a mask on random weights. It has no accuracy.")
    else:
        progress.ended_without_result(status, "Measure")


def _names(newest: pd.DataFrame, made: Callable[[Any], pd.Timestamp]) -> dict[str, str]:
    """A label for each measurement, with its time as ``made`` gives it, and its id."""
    return {
        f"{row.network}, {labels.MODES[row.mode].lower()} ({made(row.created_at):%d %b %H:%M}, {row.measurement[-4:]})": (
            row.measurement
        )
        for row in newest.itertuples()
    }


def _all_measurements(records: list[dict[str, Any]], rows: pd.DataFrame) -> None:
    columns = [*COLUMNS, *(DETECTION if rows["nms_milliseconds"].notna().any() else [])]
    columns += ["image_size"] if rows["image_size"].any() else []
    columns = [*columns, *(["machine"] if rows["machine"].nunique() > 1 else [])]
    newest = rows.iloc[::-1].reset_index(drop=True)
    show_table(newest, key="measurements", name="speeds", shown_columns=columns)
    measured = newest.drop_duplicates("measurement")
    names = _names(measured, times.local)
    in_utc = zip(_names(measured, pd.Timestamp), names, strict=True)  # as labels of earlier versions had the time
    links.update_names("look", {former: [name] for former, name in in_utc}, names)
    chosen = st.selectbox(
        "Selected measurement",
        list(names),
        index=None,
        placeholder="Choose a measurement to show, download or delete it",
        key="look",
        bind="query-params",
        width=520,
    )
    if chosen is not None:
        record = next(record for record in records if record["id"] == names[chosen])
        _show_measurement(record, chosen, rows[rows["measurement"] == record["id"]])


def _show_measurement(record: dict[str, Any], label: str, lines: pd.DataFrame) -> None:
    """One measurement as sentences, its record to download, and the button that deletes it."""
    with st.container(border=True):
        _show_lines(record, lines)
        with st.container(horizontal=True):
            text, name, icon = json.dumps(record, indent=1), f"speed-{record['id']}.json", ":material/download:"
            help_text = "All samples, machine, versions and settings."
            st.download_button(
                "Record (JSON)", text, name, "application/json", on_click="ignore", icon=icon, help=help_text
            )
            if not record.get("shipped") and st.button("Delete …", icon=":material/delete:"):
                text = f"{label} will be removed from this page. You can undo this afterwards."
                delete = partial(measurements.delete, home(), record["id"])
                state = {"deleted_speed": record["id"], "look": None}
                deletion.confirm("Delete this measurement?", text, delete, state)


def _show_lines(record: dict[str, Any], rows: pd.DataFrame) -> None:
    """Each line of a measurement as a sentence, what could not be measured, why results are unreliable, and the machine."""
    st.markdown(
        "\n".join(f"- {ICONS[row.gain]} {frame.plain(speed_tables.sentence(row))}" for row in rows.itertuples())
    )
    for row in rows.dropna(subset=["accuracy"]).itertuples():
        st.caption(f"Top-1 accuracy on the test images after this training: {labels.percent(row.accuracy)} %.")
    for sentence in speed_tables.after_network(rows):
        st.caption(sentence)
    for problem in record.get("problems") or ():
        st.warning(frame.plain(problem))
    reasons = speed_tables.reliability_warnings(rows)
    if reasons:
        st.warning(frame.plain(f"Unreliable. {' '.join(reasons)} Measure again when the machine is idle."))
    st.caption(frame.plain(f"Measured on {speed_tables.machine_description(record)}"))


main()
