"""Tables and sentences of measured speed: what was timed, in words, and how speed and accuracy go together. Needs no torch.

Measurements of different machines, engines, precisions and numbers of threads are never averaged or joined by a line.
Masks made for timing have no accuracy, so they never come into a table that has one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core.catalog import DISTRIBUTIONS, ENGINES, architecture_label, task_label
from sparse_core.results import measures, statistics
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import measurements
from sparse_core.views.labels import MODES as MODES
from sparse_core.views.labels import SERIES_KEY, series_names, sparsity_label

DENSITIES_OF = "as in "  # what a record's distribution begins with where a backbone gave the layer densities
TIMING_ONLY = "timing only"

LATEST_KEY = ["machine", "mode", "dataset", "architecture", "backbone_hash", "distribution", "sparsity", "engine"]
LATEST_KEY += ["precision", "batch_size", "threads"]
DENSE_KEY = ["machine", "architecture", "engine", "precision", "batch_size", "threads"]
SPLIT = {"backbone": "Backbone", "classifier": "Classifier", "waiting": "Waiting for images"}
SPLIT_NAMES = ["measurement", "network", "architecture", "sparsity", "timing_only", "engine_words", "dataset"]
WIDE = f"times spread by more than {100 * measurements.SPREAD_LIMIT:.0f} %"
UNRELIABLE = f"unreliable, for {WIDE}, or the machine had other work"


def table(home: Path, records: Sequence[dict[str, Any]], labels: Mapping[str, str]) -> pd.DataFrame:
    """``speeds.frame`` of these records with words for people: a row a line.

    Adds ``machine``, ``engine_words`` (with the precision where it is not fp32), ``origin`` (the method, or the mask that was
    made for timing) and ``network`` (origin, architecture and sparsity). ``labels`` tells what backbones are called.
    """
    rows = measurements.frame(home, records)
    rows["created_at"] = pd.to_datetime(rows["created_at"], format="ISO8601", utc=True).dt.tz_localize(None)
    rows["machine"] = [machine_label(*pair) for pair in rows[["processor", "cores"]].itertuples(index=False, name=None)]
    rows["engine_words"] = [
        engine_words(*pair) for pair in rows[["engine", "precision"]].itertuples(index=False, name=None)
    ]
    rows["origin"] = [_origin(row, labels) for row in rows.itertuples(index=False)]
    rows["network"] = [_network(row, labels) for row in rows.itertuples(index=False)]
    return rows


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """The newest of the rows that timed the same thing in the same way, in the order they were made."""
    return rows.drop_duplicates(LATEST_KEY, keep="last")


def machine_label(processor: str, cores: float) -> str:
    """A machine as measurements tell it from others: its processor and cores."""
    counted = "" if cores is None or math.isnan(cores) else f", {cores:.0f} cores"
    return f"{processor or 'Unknown processor'}{counted}"


def engine_words(engine: str, precision: str | None) -> str:
    """An engine as people write it, with its precision where that is not fp32."""
    name = ENGINES.get(engine, engine)
    return name if precision in (None, "fp32") else f"{name} ({precision})"


def times(ratio: float) -> str:
    """A ratio with two decimals, one from 10 on."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}"


def interval(row: Any) -> str:
    """The 95 % interval of a row's ratio, such as 3.10–3.30."""
    return f"{times(row.ratio_low)}–{times(row.ratio_high)}"


def verdict(row: Any) -> str:
    """What a row's ratio says, such as "3.20 times faster (3.10–3.30)" or "no gain here, 1.02 times the dense speed …"."""
    return (
        f"{times(row.ratio)} times faster ({interval(row)})"
        if row.gain == "faster"
        else f"{row.gain} here, {_held(row)}"
    )


def where(row: Any) -> str:
    """The engine and the batch size of a row, and for training the dataset."""
    batch = f"in {row.engine_words} at batch {row.batch_size:.0f}"
    return batch if row.mode == "inference" else f"training online on {task_label(row.dataset)} {batch}"


def in_words(row: Any) -> str:
    """A row as a sentence: what, how much faster, in which engine, at which batch size."""
    return f"{row.network}: {verdict(row)} {where(row)}{'' if row.reliable else ' (unreliable)'}"


def without_gain(rows: pd.DataFrame) -> list[str]:
    """A sentence an engine for the rows that are not faster: those whose interval includes 1, and those that are slower."""
    held = rows[rows["gain"] != "faster"].sort_values("sparsity", kind="stable")
    told = held["origin"].nunique() > 1
    sentences = []
    for (gain, engine), group in held.groupby(["gain", "engine_words"], sort=False):
        places = [
            f"{_held(row)} at {sparsity_label(row.sparsity)}{f', {row.origin}' if told else ''}"
            for row in group.itertuples()
        ]
        sentences.append(f"{gain.capitalize()} here in {engine}: {'; '.join(places)}.")
    return sentences


def doubts(rows: pd.DataFrame) -> list[str]:
    """Why figures of one measurement are unreliable: a sentence for other work when it began, one for each line during which
    there was, one for each wide spread."""
    busy = rows["busy_before"].max()
    words = (
        [f"The machine had other work when it began, which took {100 * busy:.0f} % of its cores' time."]
        if busy > measurements.BUSY
        else []
    )
    words += [
        f"Other work took {100 * row.busy_during:.0f} % of the cores' time meanwhile {where(row)}."
        for row in rows[rows["busy_during"] > measurements.BUSY].itertuples()
    ]
    wide = rows[rows["spread"] > measurements.SPREAD_LIMIT]
    return [*words, *(f"The times spread by {100 * row.spread:.0f} % {where(row)}." for row in wide.itertuples())]


def by_sparsity(rows: pd.DataFrame) -> pd.DataFrame:
    """The study's table 5: a row an architecture, origin, engine and number of threads, a column a sparsity, with "ratio (95 %
    interval)" in it. ``rows`` are those of one machine and batch size."""
    if rows.empty:
        return pd.DataFrame()
    levels = {sparsity_label(level): level for level in sorted(rows["sparsity"].unique())}
    found = []
    key = ["architecture", "origin", "engine_words", "threads", "dataset"]
    for values, group in rows.groupby(key, sort=False):
        newest = {sparsity_label(row.sparsity): row for row in group.itertuples()}
        row = dict(zip(key, values, strict=True))
        found.append({**row, **{level: _cell(newest.get(level)) for level in levels}})
    return pd.DataFrame(found)


def against_accuracy(training: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The study's figure 4: each backbone's speedup of online training, with its accuracy difference to dense.

    ``training`` are rows of ``table``; ``runs`` the store's measured runs. The accuracies are those of linear transfer of the
    same backbone (by content) to the same task, best over epochs; ``difference`` is NaN where there is no run, or no dense one
    of the same protocol. Timing-only rows are left out.
    """
    linear = with_hashes(runs[runs["transfer"] == "linear"])
    found = []
    for row in training[~training["timing_only"].astype(bool)].to_dict("records"):
        on_task = linear[(linear["dataset"] == row["dataset"]) | (linear["dataset_named"] == row["dataset"])]
        own = on_task[on_task["backbone_hash"] == row["backbone_hash"]]
        dense = on_task[on_task["method"] == "Dense"]
        compared = measures.difference_to_dense(pd.concat([own, dense]))
        compared = compared[compared["method"] != "Dense"] if len(own) else compared.head(0)
        taken = ["upstream", "protocol", "accuracy_mean", "accuracy_std", "runs", "baseline_accuracy", "difference"]
        found += [{**row, "source": "measured", **pair} for pair in compared[taken].to_dict("records") or [{}]]
    columns = [*training.columns, "source", "upstream", "protocol", "accuracy_mean", "accuracy_std", "runs"]
    return pd.DataFrame(found, columns=[*columns, "baseline_accuracy", "difference"])


def without_accuracy(compared: pd.DataFrame) -> list[str]:
    """What keeps rows of ``against_accuracy`` from being drawn, a sentence a backbone and task."""
    lonely = compared[compared["difference"].isna()]
    return list(
        dict.fromkeys(
            f"{row.network} on {task_label(row.dataset)}: "
            + (
                "no linear probe yet"
                if pd.isna(row.accuracy_mean)
                else "no linear probe of the dense network to compare"
            )
            for row in lonely.itertuples()
        )
    )


def speed_and_accuracy(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """A row a backbone that has both: its accuracy over ``runs`` of one task, and its fastest speed among ``rows``.

    Dense backbones come in by the dense times of their architecture. Adds ``front``: nothing is both faster and more accurate
    among those of one protocol. Timing-only rows are left out; protocols are never averaged together.
    """
    measured = rows[~rows["timing_only"].astype(bool)]
    key = ["architecture", "method", "sparsity", *SERIES_KEY, "backbone", "backbone_hash"]
    grouped = with_hashes(runs).groupby(key)["accuracy_best"]
    accuracies = grouped.agg(accuracy_mean="mean", accuracy_std="std", runs="size").reset_index()
    dense = accuracies["method"] == "Dense"
    taken = [
        "engine_words",
        "threads",
        "batch_size",
        "reliable",
        "milliseconds_per_image",
        "quartile_low",
        "quartile_high",
    ]
    sparse = accuracies[~dense].merge(measured[["backbone_hash", *taken]], on="backbone_hash")
    of_dense = {name: f"dense_{name}" for name in ("milliseconds_per_image", "quartile_low", "quartile_high")}
    times_of_dense = measured.drop_duplicates(DENSE_KEY, keep="last")
    times_of_dense = times_of_dense.drop(columns=list(of_dense)).rename(
        columns={old: new for new, old in of_dense.items()}
    )
    both = [sparse, accuracies[dense].merge(times_of_dense[["architecture", *taken]], on="architecture")]
    found = pd.concat(both, ignore_index=True).sort_values("milliseconds_per_image", kind="stable")
    found = found.drop_duplicates(key).sort_values(["architecture", "sparsity", "method"], ignore_index=True)
    found["images_per_second"] = 1000 / found["milliseconds_per_image"]
    found["front"] = False
    for _, group in found.groupby("protocol"):
        found.loc[group.index, "front"] = statistics.pareto_optimal(group, "images_per_second", "accuracy_mean")
    return found


def with_hashes(runs: pd.DataFrame) -> pd.DataFrame:
    """The store's runs with ``backbone_hash``, which follows the backbone's content, and ``dataset_named``, as a user named
    the task."""
    specs = [json.loads(spec) for spec in runs["spec"]]
    return runs.assign(
        backbone_hash=[spec.get("backbone_hash", "") for spec in specs],
        dataset_named=[spec.get("dataset", "") for spec in specs],
    )


def series(compared: pd.DataFrame) -> list[str]:
    """What each row's protocol and upstream are called besides its method: "measured", numbered where there are several."""
    names = series_names(compared)
    return [names[tuple(key)] for key in compared[SERIES_KEY].itertuples(index=False, name=None)]


def epoch_split(home: Path, records: Sequence[dict[str, Any]], labels: Mapping[str, str]) -> pd.DataFrame:
    """Where the time of an epoch of online training went, two rows a line: dense and sparse.

    Columns in seconds, averaged over the epochs: those of ``SPLIT``, and ``decode``: what decoding and augmenting takes alone. It
    runs beside the rest, so it is no part of the sum.
    """
    found = []
    rows = table(home, records, labels).to_dict("records")
    lines = [line for record in records for line in record["lines"]]
    for row, line in zip(rows, lines, strict=True):
        for which, field in (("dense", "dense_split"), ("sparse", "split")):
            split = line.get(field)
            if split:
                named = {name: row[name] for name in SPLIT_NAMES}
                parts = {name: float(split.get(name) or 0) for name in (*SPLIT, "decode")}
                found.append({**named, "which": which, **parts})
    return pd.DataFrame(found)


def layer_shares(record: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """For each line of a record that tells, in words: its layers and the share of time (0..1) of each, from the input on."""
    found = {}
    for line in record["lines"]:
        if line.get("layers"):
            words = f"{engine_words(line['engine'], line.get('precision'))}, batch {line['batch_size']}"
            found[words] = pd.DataFrame(line["layers"], columns=["name", "share"])
    return found


def about_seconds(spec: SpeedupSpec, architecture: str, rows: pd.DataFrame) -> float | None:
    """About how long a measurement takes, told from earlier ones of this machine; None where one of its parts is unknown."""
    known = rows[(rows["architecture"] == architecture) & (rows["mode"] == spec.mode)]
    if spec.mode == "training":
        same = known[(known["dataset"] == spec.dataset) & known["engine"].isin(spec.engines[:1])]
        if same.empty:
            return None
        last = same.iloc[-1]
        return spec.epochs * (last["seconds_per_epoch"] + last["dense_seconds_per_epoch"])
    total = 0.0
    for engine in spec.engines:
        of_engine = known[known["engine"] == engine]
        if of_engine.empty:
            return None
        last = of_engine.iloc[-1]
        total += len(spec.batch_sizes) * 2 * last["seconds_to_compile"]
        pair = last["milliseconds_per_image"] + last["dense_milliseconds_per_image"]
        total += (spec.rounds + 2) * sum(max(0.1, size * pair / 1000) for size in spec.batch_sizes)
    return total


def spec_words(spec: SpeedupSpec, labels: Mapping[str, str]) -> str:
    """What a spec asks to time, such as "ResNet18 at 90 %, uniform mask (timing only)"."""
    if spec.backbone:
        return labels.get(spec.backbone, spec.backbone)
    distribution = f"{DENSITIES_OF}{spec.densities_of}" if spec.densities_of else spec.distribution
    sparse = "" if spec.densities_of else f" at {sparsity_label(spec.sparsity)}"
    return f"{architecture_label(spec.architecture)}{sparse}, {_mask_words(distribution, labels)}"


def made_on(record: dict[str, Any]) -> str:
    """The machine of a measurement, its versions and its load, in one sentence."""
    machine = record.get("machine") or {}
    versions = machine.get("versions") or {}
    sets = ", ".join(machine.get("instruction_sets") or ()) or "unknown instruction sets"
    used = {line["engine"]: line.get("engine_version") or versions.get(line["engine"], "") for line in record["lines"]}
    named = ", ".join(f"{engine_words(engine, None)} {version}".strip() for engine, version in used.items())
    loads = [record.get(f"load_{when}") for when in ("before", "after")]
    said = [f"{when} {load:.2f}" for when, load in zip(("before", "after"), loads, strict=True) if load is not None]
    waiting = f". Load, in waiting processes a core: {', '.join(said)}" if said else ""
    shares = [line["busy_during"] for line in record["lines"] if line.get("busy_during") is not None]
    others = f". Other work took up to {100 * max(shares):.0f} % of the cores' time meanwhile" if shares else ""
    label = machine_label(machine.get("processor", ""), machine.get("cores") or math.nan)
    return f"{label} ({sets}); {named}{waiting}{others}."


def _origin(row: Any, labels: Mapping[str, str]) -> str:
    return _mask_words(row.distribution, labels) if row.timing_only else row.method or "Unknown method"


def _mask_words(distribution: str, labels: Mapping[str, str]) -> str:
    """A mask made for timing, by its distribution or by the backbone whose layer densities it has."""
    backbone = distribution.removeprefix(DENSITIES_OF)
    taken = f"mask as in {labels.get(backbone, backbone)}"
    named = f"{DISTRIBUTIONS[distribution]} mask" if distribution in DISTRIBUTIONS else taken
    return f"{named} ({TIMING_ONLY})"


def _network(row: Any, labels: Mapping[str, str]) -> str:
    words = f"{architecture_label(row.architecture)} at {sparsity_label(row.sparsity)}, {_origin(row, labels)}"
    return words if row.timing_only else labels.get(row.backbone) or words


def _held(row: Any) -> str:
    return f"{times(row.ratio)} times the dense speed ({interval(row)})"


def _cell(row: Any) -> str:
    if row is None:
        return ""
    words = f"{times(row.ratio)} ({interval(row)})"
    return f"{words}{'' if row.gain == 'faster' else f', {row.gain}'}{'' if row.reliable else ', unreliable'}"
