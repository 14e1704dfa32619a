"""What runs of detectors gave: average precision by class, precision–recall curves, and predictions on test images, as frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.results.records import Record


def is_detection(record: Record) -> bool:
    """Whether a run is a detector's."""
    return "precision_by_class" in record.result


def by_class(records: Sequence[Record], network: str) -> pd.DataFrame:
    """A row for each class with test boxes: ``network``, ``class``, average precision @0.5 as mean over seeds (0..1), its
    standard deviation (NaN for one seed) and ``n``."""
    values = np.array([record.result["precision_by_class"] for record in records], dtype=float)
    table = pd.DataFrame(values, columns=records[0].result["class_names"]).agg(["mean", "std", "count"]).T
    table = table.rename_axis("class").reset_index().rename(columns={"mean": "average_precision", "count": "n"})
    return table.dropna(subset=["average_precision"]).assign(network=network, n=table["n"].astype(int))


def precision_recall(records: Sequence[Record], network: str) -> pd.DataFrame:
    """Precision at each recall (both 0..1) of each ``class`` with test boxes, the mean over seeds, of a ``network``."""
    present = np.array(
        [[value is not None for value in record.result["precision_by_class"]] for record in records]
    ).any(axis=0)
    curves = np.mean([record.result["precision_curves"] for record in records], axis=0)
    recalls = np.linspace(0, 1, curves.shape[1])
    names = records[0].result["class_names"]
    return pd.concat(
        [
            pd.DataFrame({"network": network, "class": names[label], "recall": recalls, "precision": curves[label]})
            for label in np.flatnonzero(present)
        ],
        ignore_index=True,
    )


def images(record: Record, kind: str) -> list[dict[str, Any]]:
    """The test images kept with a run, of a kind: ``worst``, ``sample`` or ``other``."""
    return [each for each in record.result["detections"] if each["kind"] == kind]
