"""What can be said of finished runs: their curves and confusions as frames, and the command that makes them."""

import dataclasses
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparse_core.records import Record
from sparse_core.spec import Hyperparameters, ProbeSpec


def command(spec: ProbeSpec, seeds: int) -> str:
    """The command line that makes the same runs, with only what differs from the defaults."""
    words = ["python", "-m", "sparse_core", "probe", "--backbone", spec.backbone, "--dataset", spec.dataset]
    if seeds != 5:
        words += ["--seeds", str(seeds)]
    defaults = Hyperparameters()
    for field in dataclasses.fields(Hyperparameters):
        value = getattr(spec.settings, field.name)
        if value != getattr(defaults, field.name):
            words += [f"--{field.name.replace('_', '-')}", f"{value:g}"]
    if spec.sweep_lr:
        words += ["--sweep-lr", *(f"{rate:g}" for rate in spec.sweep_lr)]
    if spec.precision != "fp32":
        words += ["--precision", spec.precision]
    return shlex.join([*words, "--json"])


def label(record: Record) -> str:
    """A run in words: method, sparsity, dataset and seed, and the replicate where it is a rerun."""
    result, spec = record.result, record.spec
    method = f"{result['method']} {100 * result['sparsity']:g} %" if result["sparsity"] else "Dense"
    again = f", rerun {spec['replicate']}" if spec["replicate"] else ""
    return f"{method}, {result['dataset_name']}, seed {spec['seed']}{again}"


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
