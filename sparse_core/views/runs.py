"""What can be said of finished runs: their curves and confusions as frames, and the command that makes them."""

import dataclasses
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparse_core.catalog import task_label
from sparse_core.results.measures import wilson_interval
from sparse_core.results.records import Record
from sparse_core.specs.specs import FinetuneSpec, Hyperparameters, ProbeSpec, TransferSpec, full_learning_rate


def command(spec: TransferSpec, seeds: int) -> str:
    """The command line that makes the same runs, with only what differs from the defaults."""
    verb, usual_seeds = ("probe", 5) if isinstance(spec, ProbeSpec) else ("finetune", 1)
    words = ["python", "-m", "sparse_core", verb, "--backbone", spec.backbone, "--dataset", spec.dataset]
    if seeds != usual_seeds:
        words += ["--seeds", str(seeds)]
    defaults = Hyperparameters()
    if isinstance(spec, FinetuneSpec):
        defaults = Hyperparameters(learning_rate=full_learning_rate(spec.dataset))
    for field in dataclasses.fields(Hyperparameters):
        value = getattr(spec.settings, field.name)
        if value != getattr(defaults, field.name):
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    words += ["--rerun"] if spec.replicate else []
    words += _probe_options(spec) if isinstance(spec, ProbeSpec) else _finetune_options(spec)
    return shlex.join([*words, "--json"])


def _probe_options(spec: ProbeSpec) -> list[str]:
    words = ["--sweep-lr", *map(str, spec.sweep_lr)] if spec.sweep_lr else []
    words += ["--engine", spec.engine] if spec.engine != "auto" else []
    return [*words, *(["--precision", spec.precision] if spec.precision != "fp32" else [])]


def _finetune_options(spec: FinetuneSpec) -> list[str]:
    words = ["--optimizer", spec.optimizer] if spec.optimizer != "sgd" else []
    flags = {
        "--from-scratch": spec.from_scratch,
        "--freeze-batch-norm": spec.freeze_batch_norm,
        "--no-augmentation": not spec.augment,
    }
    words += [flag for flag, given in flags.items() if given]
    if spec.label_smoothing:
        words += ["--label-smoothing", str(spec.label_smoothing)]
    return [*words, *(["--precision", spec.precision] if spec.precision != "auto" else [])]


def label(record: Record) -> str:
    """A run in words: method, sparsity, dataset, transfer and seed, and the replicate where it is a rerun."""
    result, spec = record.result, record.spec
    method = f"{result['method']} {100 * result['sparsity']:g} %" if result["sparsity"] else "Dense"
    again = f", rerun {spec['replicate']}" if spec["replicate"] else ""
    return f"{method}, {task_label(result['dataset_name'])}, {spec['transfer']}, seed {spec['seed']}{again}"


def curves(records: Sequence[Record], *, by_seed: bool = True) -> pd.DataFrame:
    """One row a run and epoch: ``run`` (words), ``epoch``, ``loss``, ``top1``, ``mean_per_class`` (fractions of 1)."""
    return pd.DataFrame(
        [
            {"run": f"seed {record.spec['seed']}" if by_seed else label(record), **event}
            for record in records
            for event in record.events
        ]
    )


def confusion(records: Sequence[Record]) -> np.ndarray:
    """(C, C) counts summed over the runs: rows true classes, columns predicted ones, after the last epoch."""
    classes = len(records[0].result["class_names"])
    counts = np.zeros((classes, classes), dtype=np.int64)
    for record in records:
        for true, predicted, count in record.result["confusion"]:
            counts[true, predicted] += count
    return counts


def per_class(counts: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """One row a class that occurs, hardest first: ``accuracy`` and its 95 % interval (Wilson's), from counts (C, C)."""
    totals, hits = counts.sum(axis=1), np.diag(counts)
    present = totals > 0
    low, high = wilson_interval(hits[present], totals[present])
    table = pd.DataFrame(
        {
            "class": np.array(class_names, dtype=object)[present],
            "accuracy": hits[present] / totals[present],
            "lowest": low,
            "highest": high,
            "pictures": totals[present],
        }
    )
    return table.sort_values("accuracy", kind="stable", ignore_index=True)
