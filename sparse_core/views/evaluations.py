"""Evaluations of networks with their own classifiers as a table, which is the paper's table 3, those of detectors as another, and
their names in words."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sparse_core.catalog import BUILT_IN, asked_dataset, task_label
from sparse_core.results import evaluations
from sparse_core.specs.evaluation import CIFAR10, EVALUATIONS, IMAGENET, REAL, V2, V2_PARTS
from sparse_core.views.columns import OWN_DATA

ABOUT = ["method", "sparsity", "network_name"]
DETECTORS = [*ABOUT, "architecture", "upstream", "dataset", "map50", "map", "images", "network", "evaluated_at"]
SHOWN_OF_DETECTORS = [*ABOUT, "dataset", "map50", "map", "images", "evaluated_at"]
SHOWN = [*ABOUT, *EVALUATIONS]  # and the user's own data


def dataset_label(dataset: str) -> str:
    """What a dataset is called that a user asked for by name or path, or that a record names."""
    return EVALUATIONS.get(dataset) or task_label(asked_dataset(dataset))


def table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row for each network, by sparsity and method, with its top-1 (0..1) on each dataset: on ``EVALUATIONS``, on ``V2_PARTS``,
    and on the user's own data in columns that begin with ``OWN_DATA``; ``images_of`` each as text, and ``evaluated_at``, the
    latest time."""
    records = [record for record in records if not evaluations.is_of_detector(record)]
    titles = _own_titles(records)
    rows: dict[str, dict[str, Any]] = {}
    for record in sorted(records, key=lambda record: record["created_at"]):
        row = rows.setdefault(record["network"], {"images": {}})
        row |= {name: record[name] for name in ("architecture", "method", "sparsity", "network", "upstream")}
        row |= {"network_name": record["backbone"], "evaluated_at": record["created_at"]}
        column = titles[record["id"]]
        row[column] = record["top1"]
        row["images"][EVALUATIONS.get(column) or column.removeprefix(OWN_DATA)] = record["images"]
        if record["dataset"] == V2:
            row |= {name: record["parts"].get(name) for name in V2_PARTS}
    own = sorted(set(titles.values()) - set(EVALUATIONS))
    named = [IMAGENET, REAL, V2, *V2_PARTS, CIFAR10]
    columns = [*ABOUT, "architecture", "upstream", "network", *named, *own, "images_of", "evaluated_at"]
    counts = [{"images_of": "; ".join(f"{name} {n:,}" for name, n in row["images"].items())} for row in rows.values()]
    found = pd.DataFrame([row | count for row, count in zip(rows.values(), counts, strict=True)], columns=columns)
    found[[*named, *own]] = found[[*named, *own]].astype(float)
    found["evaluated_at"] = pd.to_datetime(found["evaluated_at"], utc=True, format="ISO8601").dt.tz_localize(None)
    return found.sort_values(["architecture", "sparsity", "method", "network_name"], ignore_index=True)


def detectors(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row for each detector and dataset, columns ``DETECTORS``: both mAP in 0..1."""
    rows = [
        {**record, "network_name": record["backbone"], "evaluated_at": record["created_at"]}
        for record in records
        if evaluations.is_of_detector(record)
    ]
    found = pd.DataFrame(rows, columns=DETECTORS)
    found["evaluated_at"] = pd.to_datetime(found["evaluated_at"], utc=True, format="ISO8601").dt.tz_localize(None)
    return found.sort_values(["architecture", "sparsity", "method", "network_name"], ignore_index=True)


def shown_columns(found: pd.DataFrame) -> list[str]:
    """The columns of ``table`` that are shown at first: not those of ImageNetV2's three samples."""
    own = [name for name in found if name.startswith(OWN_DATA)]
    return [*SHOWN, *own, "images_of", "evaluated_at"]


def name(record: dict[str, Any]) -> str:
    """One evaluation in words."""
    return f"{record['backbone']} on {dataset_label(record['dataset'])}, {record['images']:,} images"


def _own_titles(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The column of each record by its id; the start of the content hash tells two of the user's datasets of one name apart."""
    own = [record for record in records if record["dataset"] not in EVALUATIONS]
    hashes: dict[str, set[str]] = {}
    for record in own:
        hashes.setdefault(record["dataset"], set()).add(record.get("dataset_hash") or "")
    titles = {record["id"]: record["dataset"] for record in records}
    for record in own:
        several = len(hashes[record["dataset"]]) > 1
        mark = f" ({(record.get('dataset_hash') or '')[:6]})" if several else ""
        titles[record["id"]] = f"{OWN_DATA}{BUILT_IN.get(record['dataset'], record['dataset'])}{mark}"
    return titles
