"""What can be said of finished runs: their curves and confusions as frames, and the command that makes them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparse_core.catalog import task_label
from sparse_core.results.records import Record
from sparse_core.results.statistics import wilson_interval
from sparse_core.specs import options
from sparse_core.specs.transfer import ProbeSpec, TransferSpec


def command(spec: TransferSpec, seeds: int) -> str:
    """The command line that makes the same runs, with only what differs from the defaults."""
    verb = "probe" if isinstance(spec, ProbeSpec) else "finetune"
    more = ["--seeds", str(seeds)] if seeds != spec.usual_seeds else []
    return options.command(verb, spec, *more, *(["--rerun"] if spec.replicate else []))


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
            "images": totals[present],
        }
    )
    return table.sort_values("accuracy", kind="stable", ignore_index=True)
