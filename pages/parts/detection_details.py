"""What runs of detectors gave, on a page: precision–recall curves, average precision by class, predictions over images."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.parts import box_data, choices, frame, run_details
from pages.parts.frame import home
from pages.parts.results import show_chart
from sparse_core.errors import InputError
from sparse_core.results.records import Record
from sparse_core.results.store import Store
from sparse_core.views import detections, labels, runs
from sparse_core.views.charts import detection

KINDS = {"worst": "Worst images", "sample": "Sample"}


def show(store: Store, records: Sequence[Record], where: str) -> None:
    """Curves, average precision and predictions of the runs of one configuration, beside those of the dense network where it was
    run; captions say ``where`` they were made."""
    dense = runs.dense_baselines(store, records)
    _precision(records, dense, *run_details.described(records, where))
    if not dense and records[0].result["method"] != "Dense":
        st.caption(
            "Finetune the dense detector with the same images and settings to see its curves and boxes beside these."
        )
    part = st.expander("Predictions on test images", key="drawn", on_change="rerun")
    if part.open:
        with part, frame.errors_as_messages():
            _drawn(records, dense)


def _precision(
    records: Sequence[Record], dense: Sequence[Record], backbone: str, network: str, caption: str, name: str
) -> None:
    seeds = labels.counted(len(records), "seed")
    table = detections.precision_recall(records, backbone)
    if dense:
        table = pd.concat([table, detections.precision_recall(dense, "Dense")], ignore_index=True)
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
    st.dataframe(percent, hide_index=True, column_config=formats, placeholder="–", key="precision_by_class")


def _drawn(records: Sequence[Record], dense: Sequence[Record]) -> None:
    by_seed = {record.spec["seed"]: record for record in records}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        record = by_seed[st.selectbox("Seed", list(by_seed), key="drawn_seed", width=100)]
        kind = choices.choice(
            "Images",
            "drawn_kind",
            KINDS,
            "Worst: lowest F1 score at IoU 0.5 and confidence 0.25. Sample: at random, the same in all runs on this data.",
            persist=None,
        )
    st.caption("Blue: true boxes. Orange: predictions with a confidence of at least 0.25.")
    data = box_data.opened(home(), record.spec["dataset"])
    if data.hash != record.spec["dataset_hash"]:
        raise InputError(
            "The images have changed since this run, so its predictions cannot be drawn over them. Run it again."
        )
    other = next((each for each in dense if each.spec["seed"] == record.spec["seed"]), None)
    beside = {each["image"]: each for each in other.result["detections"]} if other else {}
    names = record.result["class_names"]
    for shown in detections.images(record, kind):
        pair = [("", shown)] + ([("Dense. ", beside[shown["image"]])] if shown["image"] in beside else [])
        for column, (whose, each) in zip(st.columns(2), pair, strict=False):
            image = data.test.load(data.test.names.index(each["image"]))
            drawn = box_data.with_boxes(image, each["truth"], each["predicted"], names)
            column.image(drawn, caption=f"{whose}{frame.plain(each['image'])}, F1 {100 * each['f1']:.0f} %")
