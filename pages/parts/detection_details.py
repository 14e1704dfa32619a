"""What runs of detectors gave, on a page: precision–recall curves, average precision by class, predictions over images."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st
from PIL import Image, ImageDraw

from pages.parts import choices, frame, run_details
from pages.parts.frame import home
from pages.parts.results import show_chart
from sparse_core.datasets import catalogue
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.errors import InputError
from sparse_core.results.records import Record
from sparse_core.results.store import Store
from sparse_core.views import detections, labels, runs
from sparse_core.views.charts import detection

TRUE, PREDICTED = "#0072B2", "#D55E00"  # blue and orange of the Okabe–Ito set
KINDS = {"worst": "Worst images", "sample": "Sample of the others"}


def show(store: Store, records: Sequence[Record], where: str) -> None:
    """Curves, average precision and predictions of the runs of one configuration, beside those of the dense network where it was
    run; captions say ``where`` they were made."""
    dense = runs.dense_baselines(store, records)
    _precision(records, dense, *run_details.described(records, where))
    part = st.expander("Predictions on test images", key="drawn", on_change="rerun")
    if part.open:
        with part, frame.errors_as_messages():
            _drawn(records, dense)


def _precision(
    records: Sequence[Record], dense: Sequence[Record], backbone: str, network: str, caption: str, name: str
) -> None:
    seeds = labels.counted(len(records), "seed")
    table = detections.precision_recall(records)
    show_chart(
        detection.precision_recall(table),
        "Precision–recall by class",
        f"{network} · IoU 0.5, mean over {seeds}, last epoch; higher is better",
        caption,
        key="precision_recall",
        name=f"precision-recall-{name}",
        alt="Precision against recall, one line per class",
        table=table,
    )
    found = detections.by_class(records, backbone)
    if dense:
        found = pd.concat([found, detections.by_class(dense, "Dense")], ignore_index=True)
    st.subheader("Average precision by class", anchor=False)
    st.caption(frame.plain(f"IoU 0.5, mean over seeds, last epoch; higher is better. {caption}"))
    shown = found[["class", "network", "average_precision", "std", "n"]]
    columns = {
        "class": "Class",
        "network": "Network",
        "average_precision": "Average precision (%)",
        "std": "SD",
        "n": "n",
    }
    percent = shown.assign(average_precision=100 * shown["average_precision"], std=100 * shown["std"]).rename(
        columns=columns
    )
    formats = {column: st.column_config.NumberColumn(format="%.1f") for column in ("Average precision (%)", "SD")}
    st.dataframe(percent, hide_index=True, column_config=formats, key="precision_by_class")


def _drawn(records: Sequence[Record], dense: Sequence[Record]) -> None:
    by_seed = {record.spec["seed"]: record for record in records}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        record = by_seed[st.selectbox("Seed", list(by_seed), key="drawn_seed", width=100)]
        kind = choices.choice(
            "Images", "drawn_kind", KINDS, "Worst: lowest F1 score at IoU 0.5 and confidence 0.25.", persist=None
        )
    st.caption("Blue: true boxes. Orange: predictions with a confidence of at least 0.25.")
    data = _dataset(str(home()), record.spec["dataset"], record.spec["dataset_hash"])
    other = next((each for each in dense if each.spec["seed"] == record.spec["seed"]), None)
    beside = {each["image"]: each for each in other.result["detections"]} if other else {}
    names = record.result["class_names"]
    for shown in detections.images(record, kind):
        pair = [("", shown)] + ([("Dense. ", beside[shown["image"]])] if shown["image"] in beside else [])
        for column, (whose, each) in zip(st.columns(2), pair, strict=False):
            image = _with_boxes(data.test.load(data.test.names.index(each["image"])), each, names)
            column.image(image, caption=f"{whose}{frame.plain(each['image'])}, F1 {100 * each['f1']:.0f} %")


@st.cache_resource(show_spinner="Opening the images …", max_entries=2)
def _dataset(folder: str, name: str, content: str) -> BoxDataset:
    data = catalogue.load_boxes(home(), name)
    if data.hash != content:
        raise InputError(f"{name} has changed since the run, so its images cannot be shown.")
    return data


def _with_boxes(image: Image.Image, shown: dict[str, Any], names: Sequence[str]) -> Image.Image:
    draw, width = ImageDraw.Draw(image), max(1, max(image.size) // 300)
    for rows, colour in ((shown["truth"], TRUE), (shown["predicted"], PREDICTED)):
        for left, top, right, bottom, label, *confidence in rows:
            draw.rectangle((left, top, right, bottom), outline=colour, width=width)
            text = f"{names[int(label)]} {confidence[0]:.2f}" if confidence else names[int(label)]
            draw.text((left + width, top if not confidence else bottom - 12), text, fill=colour)
    return image
