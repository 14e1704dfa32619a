"""Runs by configuration: those that differ in their seed only, as one row with mean and standard deviation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.catalog import task_label
from sparse_core.results.annotations import Annotation
from sparse_core.results.measures import CONFIGURATION_KEY
from sparse_core.results.records import Record
from sparse_core.views import labels, runs
from sparse_core.views.charts.style import method_style

COLUMNS = [
    "colour",
    "method",
    "sparsity",
    "dataset",
    "transfer",
    "final_mean",
    "final_std",
    "seeds",
    "state",
    "created_at",
]
COLUMNS += ["seconds_training", "network_name", "protocol"]


def annotated(rows: pd.DataFrame, annotations: Mapping[str, Annotation]) -> pd.DataFrame:
    """Rows of the store with ``tags`` (a text) and ``note`` of each run."""
    found = [annotations.get(run_id, Annotation()) for run_id in rows["run_id"]] if annotations else []
    if not found:
        return rows.assign(tags="", note="")
    return rows.assign(tags=[" ".join(each.tags) for each in found], note=[each.note for each in found])


def configurations(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each configuration, newest first; ``rows`` are ``annotated`` ones of the store.

    Columns: those of ``CONFIGURATION_KEY``; ``final_mean``, ``final_std``, ``best_mean`` and ``best_std`` (of the best epoch;
    fractions of 1, n − 1, NaN for one seed); ``seeds`` (their number; runs that repeat one are averaged into it); ``runs``;
    ``created_at`` (of the newest), ``begun_at`` (of the oldest); ``seconds_training`` (of all); ``tags``, ``note``; ``run_ids``
    (a list); ``state`` and ``colour``.
    """
    key = pd.Series(_number(rows, CONFIGURATION_KEY), index=rows.index)
    samples = rows.groupby([key, rows["seed"]], sort=False)[["accuracy_final", "accuracy_best"]].mean()
    over_seeds = samples.groupby(level=0)
    means, deviations = over_seeds.mean(), over_seeds.std()
    grouped = rows.groupby(key, sort=True)
    table = grouped[CONFIGURATION_KEY].first()
    table = table.assign(
        final_mean=means["accuracy_final"],
        final_std=deviations["accuracy_final"],
        best_mean=means["accuracy_best"],
        best_std=deviations["accuracy_best"],
        seeds=over_seeds.size(),
        runs=grouped.size(),
        created_at=grouped["created_at"].max(),
        seconds_training=grouped["seconds_training"].sum(min_count=1),
        tags=_joined(rows, key, "tags"),
        note=_joined(rows, key, "note"),
        begun_at=grouped["created_at"].min(),
        run_ids=grouped["run_id"].agg(list),
    )
    colours = {method: swatch(method_style(method)[0]) for method in table["method"].unique()}
    table = table.assign(state=runs.STATES["done"], colour=table["method"].map(colours))
    return table.sort_values("created_at", ascending=False, kind="stable").reset_index(drop=True)


def unfinished(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``runs.with_states`` that are not done, by configuration and state, in the columns of ``configurations``."""
    left = table[table["state"] != runs.STATES["done"]]
    if left.empty:
        return left
    key = ["state", "backbone", "dataset", "transfer", "protocol", "replicate"]
    grouped = left.groupby(key, sort=False, dropna=False)
    found = grouped.first().assign(seeds=grouped.size()).reset_index()
    return found.assign(run_ids=[[] for _ in range(len(found))], tags="", note="", colour="")


def _number(rows: pd.DataFrame, key: Sequence[str]) -> np.ndarray:
    """A number for each row, the same where the columns ``key`` agree."""
    number = np.zeros(len(rows), dtype=np.int64)
    for name in key:
        codes, values = pd.factorize(rows[name], use_na_sentinel=False)
        number, _ = pd.factorize(number * (len(values) + 1) + codes)
    return number


def _joined(rows: pd.DataFrame, key: pd.Series, column: str) -> pd.Series:
    """The different words, or notes, of each configuration, as one text."""
    used = rows[rows[column] != ""]
    if used.empty:
        return pd.Series("", index=sorted(key.unique()))
    texts = used.groupby(key[used.index])[column].agg(lambda values: _distinct(values, words=column == "tags"))
    return texts.reindex(sorted(key.unique()), fill_value="")


def _distinct(values: pd.Series, words: bool) -> str:
    parts = [word for value in values for word in (value.split() if words else [value])]
    return (" " if words else "; ").join(sorted(set(parts)) if words else dict.fromkeys(parts))


def name(row: Any) -> str:
    """A configuration by method, sparsity, task and transfer."""
    return f"{labels.method_label(row.method, row.sparsity)}, {task_label(row.dataset)}, {row.transfer}"


def names(records: Sequence[Record]) -> list[str]:
    """A label for the configuration of each run; where labels would be the same, with the settings that differ."""
    plain = [runs.label(record, seed=False) for record in records]
    if len({*map(_settings_key, records)}) == len(set(plain)):
        return plain
    differing = settings(records)
    parts = ["; ".join(map(str, row)) for row in differing.itertuples(index=False)]
    return [f"{label} ({part})" if part else label for label, part in zip(plain, parts, strict=True)]


def settings(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each run with those of its settings that differ among them, as texts under their names."""
    flat = [_flat(record) for record in records]
    fields = list(dict.fromkeys(field for each in flat for field in each))
    table = pd.DataFrame([[each.get(field, "–") for field in fields] for each in flat], columns=fields)
    return table[[field for field in fields if table[field].nunique() > 1]]


def _settings_key(record: Record) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_flat(record).items()))


def _flat(record: Record) -> dict[str, str]:
    """The settings of a run but its seed, in words: network, data, and every option of its spec."""
    spec, result = record.spec, record.result
    flat = {"Architecture": result["architecture"], "Method": result["method"]}
    flat |= {"Sparsity": labels.sparsity_label(result["sparsity"]), "Network": Path(str(spec["backbone"])).name}
    flat |= {"Task": task_label(result["dataset_name"]), "Transfer": spec["transfer"]}
    values = {**spec.get("settings", {}), **spec}
    skipped = ("settings", "seed", "backbone", "dataset", "transfer", "backbone_hash", "dataset_hash", "replicate")
    for field, value in values.items():
        if field not in skipped:
            shown = ", ".join(f"{each:g}" for each in value) if isinstance(value, list | tuple) else value
            shown = f"{shown:g}" if isinstance(shown, float) else str(shown)
            flat[field.replace("_", " ").capitalize()] = shown or "none"
    return flat


def swatch(colour: str) -> str:
    """A small square of a colour, as the address of an image."""
    square = f"<rect width='16' height='16' rx='3' fill='{colour.replace('#', '%23')}'/>"
    return f"data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' width='16' height='16'>{square}</svg>"
