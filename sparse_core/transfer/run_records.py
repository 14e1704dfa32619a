"""The record of a run: what it keeps of the result of one training."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core import __version__
from sparse_core.datasets.dataset import Dataset
from sparse_core.networks import structure_analysis
from sparse_core.networks.backbones import Backbone
from sparse_core.results.records import Record, Records
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.transfer import TransferSpec, protocol
from sparse_core.transfer.training_result import Result, epoch_values


def run_names(records: Records, spec: TransferSpec, seeds: Sequence[int]) -> tuple[dict[int, str], list[int]]:
    """The name of each seed's run, and the seeds that have no finished run yet."""
    names = {seed: run_id(spec, seed) for seed in seeds}
    finished = records.ids()
    return names, [seed for seed in seeds if names[seed] not in finished]


def job_result(names: dict[int, str], missing: Sequence[int]) -> dict[str, list[str]]:
    """What a transfer's job returns: the names of all its runs, and of those that were found finished."""
    return {
        "runs": list(names.values()),
        "found": [name for seed, name in names.items() if seed not in missing],
    }


def checkpoint_file(home: Path, name: str) -> Path:
    """The file for the state of an unfinished training."""
    return home / "checkpoints" / f"{name}.pt"


def shared_fields(home: Path, backbone: Backbone, dataset: Dataset, spec: TransferSpec) -> dict[str, Any]:
    """The fields of every run's result, whatever its transfer: backbone, dataset, protocol, version and time."""
    card, sizes = backbone.card, structure_analysis.analyse_cached(home, backbone)
    return {
        "architecture": card.architecture,
        "upstream": card.upstream,
        "method": card.method,
        "sparsity": card.sparsity,
        "backbone_sparsity": backbone.sparsity,
        "nonzero_parameters": sizes.nonzero,
        "multiply_adds": sizes.multiply_adds_sparse,
        "file_size": sizes.bytes_sparse,
        "dimensions": backbone.dimensions,
        "dataset_name": dataset.id,
        "metric": dataset.metric,
        "class_names": list(dataset.class_names),
        "train_images": len(dataset.train.labels),
        "test_images": len(dataset.test.labels),
        "protocol": protocol(spec),
        "notes": list(dataset.notes),
        "product_version": __version__,
        "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
    }


def record(name: str, spec: TransferSpec, result: Result[Any], shared: dict[str, Any]) -> Record:
    """The record of one seed: ``shared_fields``, the result's accuracies, confusion matrix and details, and its curves."""
    outcome = {
        **shared,
        "learning_rate": result.learning_rate,
        **_accuracies(shared["metric"], result),
        "confusion": _sparse_counts(result.confusion),
        **result.details,
    }
    epochs = len(result.curves["loss"])
    events = [epoch_values(result.curves, epoch) for epoch in range(1, epochs + 1)]
    return Record(name, record_document(spec, result.seed), outcome, events)


def _accuracies(metric: str, result: Result[Any]) -> dict[str, float]:
    """Best over epochs and final, of both metrics and of the dataset's own."""
    metrics = {"top1": "top1", "mean_per_class": "mean_per_class", "accuracy": metric}
    best = {f"{name}_best": result.best(measured) for name, measured in metrics.items()}
    return best | {f"{name}_final": result.final(measured) for name, measured in metrics.items()}


def _sparse_counts(confusion: np.ndarray) -> list[list[int]]:
    """The cells of a confusion matrix that are not 0, as [true class, predicted class, images]."""
    rows, columns = np.nonzero(confusion)
    return np.stack([rows, columns, confusion[rows, columns]], axis=1).tolist()
