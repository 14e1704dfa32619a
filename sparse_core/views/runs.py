"""Runs: every run with its state; for finished ones curves, confusion, per-class accuracy and the command to repeat them."""

import dataclasses
import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.catalog import asked_dataset, task_label
from sparse_core.jobs.queue import Status
from sparse_core.networks import library
from sparse_core.paths import printable, printable_values
from sparse_core.results.filters import RunFilter
from sparse_core.results.records import Record
from sparse_core.results.store import SHIPPED_ID, Store, network_name
from sparse_core.specs import options
from sparse_core.specs.identity import AnyRun, protocol_of, recorded, to_json
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.views.labels import method_label, percent

STATES = {"queued": "waiting", "running": "running", "done": "done", "failed": "failed", "cancelled": "cancelled"}
_CURVES = {"map50": "mAP@0.5", "map": "mAP@[.5:.95]"}
TRANSFER_KINDS = ("probe", "finetune", "finetune_detector")


def with_states(home: Path, rows: pd.DataFrame, statuses: Iterable[Status]) -> pd.DataFrame:
    """The store's measured rows with ``state`` (a label), after a row for each run that jobs were asked for and did not finish.

    ``statuses`` are those of jobs, newest first: of several attempts at a run the newest determines its state, unless the run
    is in the store. Rows of unfinished runs lack what only a finished one has.
    """
    unfinished = {run: status for run, status in _newest(statuses).items() if status.state != "done"}
    finished = rows.assign(state=STATES["done"])
    if not unfinished:
        return finished
    asked = {printable(network_name(status.job.spec.backbone)) for status in unfinished.values()}
    specs = [json.loads(spec) for spec in rows["spec"][rows["backbone"].map(network_name).isin(asked)]]
    stored = {_run(recorded(spec), spec["seed"]) for spec in specs}
    cards = {card.name: dataclasses.asdict(card) for card in library.available(home)}
    missing = {run: status for run, status in unfinished.items() if run not in stored}
    new = [_row(status, seed, cards.get(spec.backbone, {})) for (spec, seed), status in missing.items()]
    return pd.concat([pd.DataFrame(new, columns=finished.columns), finished], ignore_index=True) if new else finished


def _newest(statuses: Iterable[Status]) -> dict[tuple[AnyRun, int], Status]:
    """The newest job for each run."""
    found: dict[tuple[AnyRun, int], Status] = {}
    for status in statuses:
        for seed in status.job.seeds if status.job.kind in TRANSFER_KINDS else ():
            found.setdefault(_run(status.job.spec, seed), status)
    return found


def _run(spec: AnyRun, seed: int) -> tuple[AnyRun, int]:
    """What identifies a run before names are resolved and automatic choices are made."""
    plain = dataclasses.replace(spec, backbone_hash="", dataset_hash="")
    if isinstance(plain, ProbeSpec):
        return dataclasses.replace(plain, engine="auto"), seed
    return dataclasses.replace(plain, precision="auto"), seed


def _row(status: Status, seed: int, card: dict[str, Any]) -> dict[str, Any]:
    spec: AnyRun = status.job.spec
    row = {
        "source": "measured",
        **{name: card.get(name) for name in ("architecture", "upstream", "method")},
        "sparsity": card.get("sparsity", math.nan),
        "transfer": spec.transfer,
        "dataset": asked_dataset(spec.dataset),
        "protocol": protocol_of(spec),
        "seed": seed,
        "replicate": spec.replicate,
        "backbone": spec.backbone,
        "network": card.get("hash") or "",
        "network_name": network_name(spec.backbone),
        "spec": to_json(spec),
        "state": STATES[status.state],
    }
    return printable_values(row)


def command(spec: AnyRun, seeds: int | tuple[int, ...]) -> str:
    """The command line for the same runs, with only the options that differ from the defaults. ``seeds`` is their number, counted
    from 0, or the seeds themselves; those that no one command asks for take one each."""
    asked = tuple(range(seeds)) if isinstance(seeds, int) else seeds
    verb = "probe" if isinstance(spec, ProbeSpec) else "finetune"
    again = ["--rerun"] if spec.replicate else []
    if asked == tuple(range(len(asked))):
        more = ["--seeds", str(len(asked))] if len(asked) != spec.usual_seeds else []
        return options.command(verb, spec, *more, *again)
    return "\n".join(options.command(verb, spec, "--only-seed", str(seed), *again) for seed in asked)


def list_command(source: str, kept: RunFilter, run_ids: Sequence[str] = ()) -> str:
    """The command line that lists these runs, or those of a source that the filter keeps."""
    words = ["--source", source]
    if run_ids:
        words += ["--run", *run_ids]
    else:
        words += ["--transfer", *kept.transfer] if len(kept.transfer) == 1 else []
        named = {"--architecture": kept.architecture, "--methods": kept.method, "--tasks": kept.dataset}
        for flag, values in {**named, "--tags": kept.tags}.items():
            words += [flag, *values] if values else []
    return shlex.join([*options.PROGRAM, "runs", *words, "--json"])


def label(record: Record, *, network: bool = False, seed: bool = True) -> str:
    """A run by method, sparsity, dataset, transfer and seed, and the replicate if it is a rerun; with the name of its
    ``network`` if asked for, or without the ``seed``."""
    result, spec = record.result, record.spec
    method = method_label(result["method"], result["sparsity"])
    name = f", {network_name(spec['backbone'])} ({spec.get('backbone_hash', '')[:6]})" if network else ""
    again = f", rerun {spec['replicate']}" if spec["replicate"] else ""
    what = f"{method}{name}, {task_label(result['dataset_name'])}, {spec['transfer']}"
    return f"{what}, seed {spec['seed']}{again}" if seed else what


def configurations(records: Sequence[Record]) -> list[str]:
    """A label of each run's configuration, which runs that differ in their seed only share: with the network's name, and a
    number, where several would have the same."""
    shorts = [label(record).partition(", seed")[0] for record in records]
    keys = [
        (short, network_name(record.spec["backbone"]), record.spec.get("backbone_hash", ""), record.result["protocol"])
        for short, record in zip(shorts, records, strict=True)
    ]
    names: dict[tuple[str, ...], str] = {}
    for key in dict.fromkeys(keys):
        alike = [other for other in dict.fromkeys(keys) if other[0] == key[0]]
        named = [other for other in alike if other[1] == key[1]]
        number = f" ({named.index(key) + 1})" if len(named) > 1 else ""
        names[key] = f"{key[0]}, {key[1]}{number}" if len(alike) > 1 else key[0]
    return [names[key] for key in keys]


def dense_baselines(store: Store, records: Sequence[Record]) -> list[Record]:
    """The runs of the dense network with which these runs, of one configuration, are compared, by seed; none for a dense network.

    They agree in source, architecture, upstream, dataset content, metric and protocol. Of several dense networks it is one of the
    most frequent recipe, as in ``measures``: the one that shares most seeds with the runs, then that with most runs, then the
    first by name.
    """
    result, spec = records[0].result, records[0].spec
    if result["method"] == "Dense":
        return []
    source = "shipped" if records[0].run_id.startswith(SHIPPED_ID) else "measured"
    rows = store.results(source=source, architecture=result["architecture"], transfer=spec["transfer"])
    rows = rows[(rows["method"] == "Dense") & (rows["dataset_hash"] == spec["dataset_hash"])]
    same = [rows[name] == result[name] for name in ("upstream", "metric", "protocol")]
    rows = rows[same[0] & same[1] & same[2]]
    if rows.empty:
        return []
    rows = rows[rows["recipe"] == rows.groupby("recipe")["network"].nunique().idxmax()]
    seeds = {record.spec["seed"] for record in records}
    shared = rows["seed"].isin(seeds).groupby([rows["network_name"], rows["network"]]).agg(["sum", "size"])
    _, best = shared.sort_values(["sum", "size"], ascending=False, kind="stable").index[0]
    rows = rows[rows["network"] == best].drop_duplicates("seed").sort_values("seed")
    found = store.read(list(rows["run_id"]))
    return [record for record in found if record.result["class_names"] == result["class_names"]]


def standing(row: Any) -> str:
    """Where a network stands on a task, of a row of ``rankings.on_task``, such as "AC/DC 90 %: 85.3 % (n = 5), −1.20 points to
    dense (95 % interval −2.00 to −0.40, Welch's t, over seeds), rank 1 at this sparsity, tied with GMP 90 %."."""
    text = f"{method_label(row['method'], row['sparsity'])}: {percent(row['accuracy_mean'])} % (n = {row['seeds']})"
    if row["method"] == "Dense":
        return f"{text}. It is the baseline of the others."
    if not math.isnan(row["difference"]):
        text += f", {percent(row['difference'], signed=True)} points to dense"
        low, high = row["difference_low"], row["difference_high"]
        known = f"95 % interval {percent(low, signed=True)} to {percent(high, signed=True)}, {row['interval']}"
        text += " (one seed: no interval)" if math.isnan(low) else f" ({known})"
    else:
        text += ", no dense baseline"
    rank = "" if math.isnan(row["rank"]) else f", rank {row['rank']:.0f} at this sparsity"
    return f"{text}{rank}{', tied with ' if row['tied'] else ''}{row['tied'].replace('; ', ', ')}."


def cell_name(class_names: Sequence[str], true: int, predicted: int) -> str:
    """A cell of a confusion matrix in words."""
    return f"{class_names[true]}, predicted {class_names[predicted]}"


def wrong_cells(records: Sequence[Record]) -> dict[tuple[int, int], str]:
    """The cells off the diagonal of the runs' confusion matrix that are not empty, most frequent first, with their names."""
    counts = confusion(records)
    np.fill_diagonal(counts, 0)
    true, predicted = np.nonzero(counts)
    order = np.argsort(-counts[true, predicted], kind="stable")
    names = records[0].result["class_names"]
    cells = zip(true[order].tolist(), predicted[order].tolist(), strict=True)
    return {cell: cell_name(names, *cell) for cell in cells}


def curves(records: Sequence[Record], *, by_seed: bool = True) -> pd.DataFrame:
    """One row for each run and epoch: ``run`` and ``group`` (labels of the run, and of all that differ in seed only), ``epoch``,
    ``loss``, ``top1``, ``mean_per_class`` or, of detectors, ``mAP@0.5``, ``mAP@[.5:.95]`` (fractions of 1)."""
    names = [f"seed {record.spec['seed']}" if by_seed else label(record) for record in records]
    named = zip(names, configurations(records), records, strict=True)
    table = pd.DataFrame(
        [{"run": name, "group": group, **event} for name, group, record in named for event in record.events]
    )
    return table.rename(columns=_CURVES)


def epoch_table(epochs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The epochs of a job's trainings so far (``queue.epochs``), as ``curves`` has those of finished runs."""
    measured = list(_CURVES) if any("map50" in epoch for epoch in epochs) else ["top1", "mean_per_class"]
    table = pd.DataFrame(epochs, columns=["seed", "epoch", "loss", *measured])
    table = table.drop_duplicates(["seed", "epoch"], keep="last")  # a resumed training repeats an epoch
    return table.assign(run=[f"seed {seed}" for seed in table["seed"]]).rename(columns=_CURVES)


def confusion(records: Sequence[Record]) -> np.ndarray:
    """(C, C) counts summed over the runs: rows true classes, columns predicted ones, after the last epoch."""
    classes = len(records[0].result["class_names"])
    counts = np.zeros((classes, classes), dtype=np.int64)
    for record in records:
        for true, predicted, count in record.result["confusion"]:
            counts[true, predicted] += count
    return counts
