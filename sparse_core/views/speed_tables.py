"""Tables and sentences of measured speed, and how speed and accuracy go together.

Measurements of different machines, engines, precisions and numbers of threads are never averaged or joined by a line.
Masks made for timing have no accuracy, so no table with accuracies contains them but one: ``training_with_paper_accuracy``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sparse_core.catalog import DISTRIBUTIONS, ENGINES, architecture_label, task_label
from sparse_core.results import measures
from sparse_core.results.statistics import pareto_optimal
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import measurements
from sparse_core.views.labels import GAINS, SERIES_KEY, series_names, sparsity_label

ANOTHER_MACHINE = "another machine (shipped results)"
DENSITIES_OF = "as in "  # start of a record's distribution where a backbone gave the layer densities
TIMING_ONLY = "timing only"

LATEST_KEY = ["machine", "mode", "dataset", "architecture", "backbone_hash", "distribution", "sparsity", "engine"]
LATEST_KEY += ["precision", "batch_size", "threads", "form", "image_size"]
DENSE_KEY = ["machine", "architecture", "engine", "precision", "batch_size", "threads", "image_size"]
EPOCH_PARTS = {"backbone": "Backbone", "classifier": "Classifier", "waiting": "Waiting for images"}
EPOCH_KEY = ["measurement", "network", "architecture", "sparsity", "timing_only", "engine_words", "dataset"]
UNRELIABLE = f"unreliable: times spread by more than {100 * measurements.SPREAD_LIMIT:.0f} %, or other processes used the machine"


def table(home: Path, records: Sequence[dict[str, Any]], backbones: Mapping[str, str]) -> pd.DataFrame:
    """``measurements.frame`` of these records with labels: a row for each line.

    Adds ``machine``, ``engine_words`` (engine with its precision if not fp32), ``origin`` (the method, or the timing-only
    mask) and ``network`` (origin, architecture and sparsity). ``backbones`` maps names of backbones to labels. The machine of
    shipped measurements is named as another one, also where its processor is the same.
    """
    rows = measurements.frame(home, records)
    rows["created_at"] = pd.to_datetime(rows["created_at"], format="ISO8601", utc=True).dt.tz_localize(None)
    shipped = {record["id"] for record in records if record.get("shipped")}
    rows["machine"] = [
        f"{f'{ANOTHER_MACHINE}: ' if row.measurement in shipped else ''}{machine_label(row.processor, row.cores)}"
        for row in rows.itertuples()
    ]
    rows["engine_words"] = [engine_label(row.engine, row.precision) for row in rows.itertuples()]
    rows["origin"] = [_origin(row, backbones) for row in rows.itertuples()]
    rows["network"] = [  # a backbone by its label; one that is gone, and random weights, by what is known of them
        (not row.timing_only and row.backbone in backbones and f"{backbones[row.backbone]}{_form(row)}")
        or f"{architecture_label(row.architecture)} at {sparsity_label(row.sparsity)}, {row.origin}"
        for row in rows.itertuples()
    ]
    return rows


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """The newest of the rows that measured the same thing in the same way, in the order of measuring."""
    return rows.drop_duplicates(LATEST_KEY, keep="last")


def fastest(home: Path, backbone_hash: str, backbones: Mapping[str, str]) -> Any | None:
    """The row of ``table`` with the fewest milliseconds per image that were measured of this network; None where none were."""
    records = [record for record in measurements.read_all(home) if record.get("backbone_hash") == backbone_hash]
    rows = latest(table(home, records, backbones)).sort_values("milliseconds_per_image") if records else pd.DataFrame()
    return next(rows.itertuples(), None)


def machine_label(processor: str, cores: float) -> str:
    """A machine by its processor and number of cores."""
    number = "" if cores is None or math.isnan(cores) else f", {cores:.0f} cores"
    return f"{processor or 'Unknown processor'}{number}"


def engine_label(engine: str, precision: str | None) -> str:
    """An engine's name, with the precision if that is not fp32."""
    name = ENGINES.get(engine, engine)
    return name if precision in (None, "fp32") else f"{name} ({precision})"


def ratio_label(ratio: float) -> str:
    """A ratio with two decimals, one from 10 on."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}"


def interval(row: Any) -> str:
    """The 95 % interval of a row's ratio, such as 3.10–3.30."""
    return f"{ratio_label(row.ratio_low)}–{ratio_label(row.ratio_high)}"


def result(row: Any) -> str:
    """A row's ratio as a result: "3.20× faster (3.10–3.30)" or "inconclusive: 1.02× the dense speed (0.92–1.12)"."""
    if row.gain == "faster":
        return f"{ratio_label(row.ratio)}× faster ({interval(row)})"
    return f"{GAINS[row.gain]}: {_relative_speed(row)}"


def setting(row: Any) -> str:
    """The engine and the batch size of a row, and for training the dataset."""
    side = f" and {row.image_size} px" if row.image_size else ""
    batch = f"in {row.engine_words} at batch {row.batch_size:.0f}{side}"
    return batch if row.mode == "inference" else f"in online training on {task_label(row.dataset)} {batch}"


def sentence(row: Any) -> str:
    """A row as a sentence: the network, how much faster, in which engine, at which batch size."""
    return f"{row.network}: {result(row)} {setting(row)}{'' if row.reliable else ' (unreliable)'}"


def after_network(rows: pd.DataFrame) -> list[str]:
    """Of detectors' rows, how long an image takes after the network, in a sentence for each batch size."""
    return [
        f"Images/s at batch {row.batch_size:.0f} in {row.engine_words}: {row.images_per_second:.3g}, dense "
        f"{1000 / row.dense_milliseconds_per_image:.3g}. After the network, in PyTorch: decoding of boxes "
        f"{row.decoding_milliseconds:.3g} ms/image, non-maximum suppression {row.nms_milliseconds:.3g} ms/image."
        for row in rows.dropna(subset=["nms_milliseconds"]).itertuples()
    ]


def none_faster(rows: pd.DataFrame) -> str:
    """What rows say of which none is faster: that they are inconclusive where an interval includes 1, else that they are not
    faster."""
    open_ones, slower = ((rows["gain"] == gain).sum() for gain in ("no gain", "slower"))
    if not slower:
        return "**Inconclusive.** " + (
            "The 95 % interval of this measurement includes 1: it may be faster or slower than dense."
            if open_ones == 1
            else "Every 95 % interval includes 1: these networks may be faster or slower than dense."
        )
    if not open_ones:
        return f"**Not faster than dense.** {'Every' if slower > 1 else 'The'} 95 % interval lies below 1."
    counts = f"{open_ones} inconclusive (interval includes 1), {slower} not faster (below 1)"
    return f"**Not shown to be faster than dense.** {counts}."


def not_faster(rows: pd.DataFrame) -> list[str]:
    """A sentence for each engine on the rows that are inconclusive, and one on those that are not faster."""
    rest = rows[rows["gain"] != "faster"].sort_values("sparsity", kind="stable")
    several = rest["origin"].nunique() > 1
    sentences = []
    for (gain, engine), group in rest.groupby(["gain", "engine_words"], sort=False):
        places = [
            f"{_relative_speed(row)} at {sparsity_label(row.sparsity)}{f', {row.origin}' if several else ''}"
            for row in group.itertuples()
        ]
        sentences.append(f"{GAINS[gain].capitalize()} in {engine}: {'; '.join(places)}.")
    return sentences


def reliability_warnings(rows: pd.DataFrame) -> list[str]:
    """Why figures of one measurement are unreliable: background load before or during it, and wide spreads of times."""
    before = rows["busy_before"].max()
    warnings = []
    if before > measurements.BUSY:
        warnings.append(f"Background CPU load was {100 * before:.0f} % when the measurement began.")
    warnings += [
        f"Background CPU load was {100 * row.busy_during:.0f} % {setting(row)}."
        for row in rows[rows["busy_during"] > measurements.BUSY].itertuples()
    ]
    wide = rows[rows["spread"] > measurements.SPREAD_LIMIT]
    return [*warnings, *(f"The times spread by {100 * row.spread:.0f} % {setting(row)}." for row in wide.itertuples())]


def by_sparsity(rows: pd.DataFrame) -> pd.DataFrame:
    """The paper's table 5: a row for each architecture, origin, engine and number of threads, a column for each sparsity, cells
    "ratio (95 % interval)". ``rows`` are those of one machine and batch size."""
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


def training_with_accuracy(training: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's figure 4: each backbone's speedup of online training, with its accuracy difference to dense.

    ``training`` are rows of ``table``; ``runs`` the store's measured runs. The accuracies are those of linear transfer of the
    same backbone (by content) to the same task, best over epochs; ``difference`` is NaN where there is no run, or no dense one
    of the same protocol. Timing-only rows are left out.
    """
    linear = with_named_datasets(runs[runs["transfer"] == "linear"])
    taken = ["source", "upstream", "protocol", "accuracy_mean", "accuracy_std", "seeds", "networks", "runs"]
    taken += ["baseline_accuracy", "baseline_std", "baseline_seeds", "baseline_networks"]
    taken += ["difference", "difference_low", "difference_high", "interval"]
    found = []
    for row in training[~training["timing_only"].astype(bool)].to_dict("records"):
        on_task = linear[(linear["dataset"] == row["dataset"]) | (linear["dataset_named"] == row["dataset"])]
        own = on_task[on_task["network"] == row["backbone_hash"]]
        dense = on_task[on_task["method"] == "Dense"]
        compared = measures.difference_to_dense(pd.concat([own, dense]))
        compared = compared[compared["method"] != "Dense"] if len(own) else compared.head(0)
        found += [{**row, **pair} for pair in compared[taken].to_dict("records") or [{"source": "measured"}]]
    return pd.DataFrame(found, columns=[*training.columns, *taken])


def training_with_paper_accuracy(training: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The paper's figure 4 from its own accuracies: timing-only masks, each with every method of the paper at its sparsity.

    ``training`` are rows of ``table``; ``published`` the paper's rows of linear transfer to one task. A row for each mask and
    method, with the columns of ``training_with_accuracy``; ``dataset`` is the accuracy's task, ``timed_on`` the timed one.
    """
    masks = (
        training[training["timing_only"].astype(bool)].drop(columns="method").rename(columns={"dataset": "timed_on"})
    )
    compared = measures.difference_to_dense(published).drop(columns="network")  # the hover names the mask
    compared = compared[(compared["method"] != "Dense") & ~measures.is_hidden_lottery_ticket(compared)]
    return masks.merge(compared, on=["architecture", "sparsity"])


def missing_accuracy(compared: pd.DataFrame) -> list[str]:
    """Why rows of ``training_with_accuracy`` cannot be drawn, a note for each backbone and task."""
    reasons = {True: "no linear probe yet", False: "no linear probe of the dense network to compare with"}
    incomplete = compared[compared["difference"].isna()].itertuples()
    notes = [f"{row.network} on {task_label(row.dataset)}: {reasons[pd.isna(row.accuracy_mean)]}" for row in incomplete]
    return list(dict.fromkeys(notes))


def speed_and_accuracy(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each backbone with both: its accuracy over ``runs`` of one task, and its fastest speed among ``rows``.

    Dense backbones get the dense times of their architecture. Adds ``images_per_second`` and ``front``: Pareto-optimal among
    the backbones of one protocol. Timing-only rows are left out; protocols are never averaged together.
    """
    measured = rows[~rows["timing_only"].astype(bool)]
    accuracies = measures.per_configuration(runs)
    dense = accuracies["method"] == "Dense"
    times = ["milliseconds_per_image", "quartile_low", "quartile_high"]
    taken = ["engine_words", "threads", "batch_size", "reliable", *times]
    of_network = measured[["backbone_hash", *taken]].rename(columns={"backbone_hash": "network"})
    sparse = accuracies[~dense].merge(of_network, on="network")
    of_dense = measured.drop_duplicates(DENSE_KEY, keep="last").drop(columns=times)
    of_dense = of_dense.rename(columns={f"dense_{name}": name for name in times})
    parts = [sparse, accuracies[dense].merge(of_dense[["architecture", *taken]], on="architecture")]
    found = pd.concat(parts, ignore_index=True).sort_values("milliseconds_per_image", kind="stable")
    found = found.drop_duplicates(measures.CONFIGURATION_KEY).sort_values(
        ["architecture", "sparsity", "method"], ignore_index=True
    )
    found["images_per_second"] = 1000 / found["milliseconds_per_image"]
    found["front"] = False
    for _, group in found.groupby("protocol"):
        found.loc[group.index, "front"] = pareto_optimal(group, "images_per_second", "accuracy_mean")
    return found


def with_named_datasets(runs: pd.DataFrame) -> pd.DataFrame:
    """The store's runs with ``dataset_named``, the user's name or path of the dataset."""
    return runs.assign(dataset_named=[json.loads(spec).get("dataset", "") for spec in runs["spec"]])


def series(compared: pd.DataFrame) -> list[str]:
    """The name of each row's series (``labels.series_names``)."""
    names = series_names(compared)
    return [names[tuple(key)] for key in compared[SERIES_KEY].itertuples(index=False, name=None)]


def epoch_split(home: Path, records: Sequence[dict[str, Any]], backbones: Mapping[str, str]) -> pd.DataFrame:
    """Time per epoch of online training by part, two rows for each line, dense and sparse: from low to high sparsity.

    Columns in seconds, averaged over the epochs: those of ``EPOCH_PARTS``, and ``decode``, which decoding and augmenting takes on
    its own. It runs in parallel to the rest, so it is not part of the sum.
    """
    lines = [line for record in records for line in record["lines"]]
    keys = table(home, records, backbones)[EPOCH_KEY].to_dict("records")
    pairs = sorted(zip(keys, lines, strict=True), key=lambda pair: (pair[0]["architecture"], pair[0]["sparsity"]))
    return pd.DataFrame(
        {**key, "which": which, **{part: float(split.get(part) or 0) for part in (*EPOCH_PARTS, "decode")}}
        for key, line in pairs
        for which, split in (("dense", line.get("dense_split")), ("sparse", line.get("split")))
        if split
    )


def layer_shares(record: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """For each line of a record that has them (by label): its layers, input to output, with their share of time (0..1)."""
    found = {}
    for line in record["lines"]:
        if line.get("layers"):
            label = f"{engine_label(line['engine'], line.get('precision'))}, batch {line['batch_size']}"
            found[label] = pd.DataFrame(line["layers"], columns=["name", "share"])
    return found


def spec_label(spec: SpeedupSpec, backbones: Mapping[str, str]) -> str:
    """What a spec measures, such as "ResNet18 at 90 %, uniform mask (timing only)"."""
    side = f", {spec.image_size} px" if spec.image_size else ""
    if spec.backbone:
        return f"{backbones.get(spec.backbone, spec.backbone)}{side}"
    distribution = f"{DENSITIES_OF}{spec.densities_of}" if spec.densities_of else spec.distribution
    sparse = "" if spec.densities_of else f" at {sparsity_label(spec.sparsity)}"
    return f"{architecture_label(spec.architecture)}{sparse}{side}, {_mask_label(distribution, backbones)}"


def machine_description(record: dict[str, Any]) -> str:
    """The machine of a measurement, its versions and its load, in one sentence."""
    machine = record.get("machine") or {}
    versions = machine.get("versions") or {}
    sets = ", ".join(machine.get("instruction_sets") or ()) or "unknown instruction sets"
    used = {line["engine"]: line.get("engine_version") or versions.get(line["engine"], "") for line in record["lines"]}
    engines = ", ".join(f"{engine_label(engine, None)} {version}".strip() for engine, version in used.items())
    loads = {when: record.get(f"load_{when}") for when in ("before", "after")}
    known = ", ".join(f"{when} {load:.2f}" for when, load in loads.items() if load is not None)
    load = f". Load average per core: {known}" if known else ""
    shares = [line["busy_during"] for line in record["lines"] if line.get("busy_during") is not None]
    background = f". Background CPU load up to {100 * max(shares):.0f} %" if shares else ""
    label = machine_label(machine.get("processor", ""), machine.get("cores") or math.nan)
    return f"{label} ({sets}); {engines}{load}{background}."


def _origin(row: Any, backbones: Mapping[str, str]) -> str:
    return (
        _mask_label(row.distribution, backbones) if row.timing_only else f"{row.method or 'Unknown method'}{_form(row)}"
    )


def _form(row: Any) -> str:
    """What follows the name of a network of which another form than the masked one was timed."""
    return f", {row.form} form" if row.form else ""


def _mask_label(distribution: str, backbones: Mapping[str, str]) -> str:
    """A timing-only mask, by its distribution or by the backbone that gave the layer densities."""
    backbone = distribution.removeprefix(DENSITIES_OF)
    copied = f"mask as in {backbones.get(backbone, backbone)}"
    mask = f"{DISTRIBUTIONS[distribution]} mask" if distribution in DISTRIBUTIONS else copied
    return f"{mask} ({TIMING_ONLY})"


def _relative_speed(row: Any) -> str:
    return f"{ratio_label(row.ratio)}× the dense speed ({interval(row)})"


def _cell(row: Any) -> str:
    if row is None:
        return ""
    cell = f"{ratio_label(row.ratio)} ({interval(row)})"
    return f"{cell}{'' if row.gain == 'faster' else f', {GAINS[row.gain]}'}{'' if row.reliable else ', unreliable'}"
