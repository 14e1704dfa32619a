"""Transfers as runs: from a spec to a record per seed, and estimates of how long that takes. The worker and the command
line call the ``run_…`` functions; their ``report`` may raise Cancelled."""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_core import __version__
from sparse_core.catalog import ARCHITECTURES, DETECTORS, listed_dataset
from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Dataset
from sparse_core.engines.compiling import TOLERANCE
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.networks import backbones, classifier, finetuned, library, structure_analysis
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import flush
from sparse_core.results import predictions
from sparse_core.results.records import Record, Records
from sparse_core.specs.identity import AnyRun, record_document, run_id
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import AnySized, AnyTransfer, FinetuneSpec, ProbeSpec, TransferSpec, protocol
from sparse_core.transfer import durations, features, finetune, linear_training, probe
from sparse_core.transfer.linear_training import Samples
from sparse_core.transfer.training import Result, TrainingState, discard, epoch_values

SAMPLE_ROWS = 4096
SAMPLE_STEPS = 256
SAMPLE_EPOCHS = 3
SAMPLE_SEEDS = 5


def run_probe(home: Path, spec: ProbeSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Train the missing seeds together and write a record for each; finished runs are found, not repeated."""
    started = time.perf_counter()
    backbone, dataset, spec = resolve(home, spec, report)
    records = Records(home)
    names, missing = run_names(home, spec, seeds)
    sweep = state_file(home, f"{run_id(spec, 0)}-sweep")
    if missing:
        states = {seed: state_file(home, names[seed]) for seed in missing}
        files: dict[str, Any] = {"checkpoints": states, "sweep_checkpoint": sweep}
        with TrainingState(sweep, ""):  # it goes with the seeds' states when the job is cancelled
            results = probe.train(backbone, dataset, spec, missing, home=home, on_progress=report, **files)
        shared = shared_fields(home, backbone, dataset, protocol(spec))
        for result in results:
            keep(home, _record(names[result.seed], spec, result, shared), report)
        records.compact()
        details = results[0].details
        timed = durations.Timed(
            time.perf_counter() - started,
            len(missing),
            shared["train_images"] + shared["test_images"],
            statistics.fmean(results[0].seconds),
            details["images_per_second"],
            details["features_cached"],
            features.stored_bytes(backbone, dataset),
        )
        remember_duration(home, backbone, spec, timed)
    discard(sweep)
    return job_result(names, missing)


def extract_shard(home: Path, spec: ProbeSpec, number: int, count: int, report: Report) -> None:
    """Part ``number`` (from 0) of ``count`` of the features that a probe needs: see ``features.extract_shard``."""
    backbone, dataset, spec = resolve(home, spec, report)
    features.extract_shard(
        home, backbone, dataset, number, count, precision=spec.precision, engine=spec.engine, on_progress=report
    )


def run_finetune(home: Path, spec: FinetuneSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Finetune the missing seeds one after another; each leaves a network and a record as soon as it has ended.

    ``mask_violations`` in a record counts the pruned weights that are not 0 in the saved file, or in any epoch before it if
    there were more.
    """
    backbone, dataset, spec = resolve(home, spec, report)
    records = Records(home)
    names, missing = run_names(home, spec, seeds)
    for number, seed in enumerate(missing):
        started, name = time.perf_counter(), names[seed]
        on_progress = report_seed(report, seed, number, len(missing))
        state = state_file(home, name)
        result = finetune.train(backbone, dataset, spec, seed, on_progress=on_progress, checkpoint=state)
        saved = finetuned.file(home, name)
        named = listed_dataset(dataset.id, dataset.task)
        classifier.save(result.network, backbone, dataset.class_names, saved, named)
        violations = max(*result.curves["mask_violations"], classifier.violations(saved, backbone.mask))
        shared = shared_fields(home, backbone, dataset, protocol(spec))
        keep(home, _record(name, spec, result, {**shared, "mask_violations": violations}), on_progress)
        images = shared["train_images"] + shared["test_images"]
        seconds = time.perf_counter() - started
        timed = durations.Timed(seconds, 1, images, statistics.fmean(result.seconds), stored=saved.stat().st_size)
        remember_duration(home, backbone, spec, timed)
    records.compact()
    return job_result(names, missing)


def run_estimate(home: Path, spec: AnyTransfer, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Time a small part of the transfer, and keep and return the estimate; a known one is returned as it is. For a probe: a few
    images through decoding and backbone, and a few epochs on noise of the features' shape. For finetuning: a few training steps
    and tests."""
    known = durations.recall(home, spec)
    if known:  # the transfer itself was done meanwhile
        return dataclasses.asdict(known)
    backbone, dataset, spec = resolve(home, spec, report, load_to_time)
    rows, tested = len(dataset.train.labels), len(dataset.test.labels)
    if isinstance(spec, FinetuneSpec):
        seconds = finetune.time_epoch(backbone, dataset, spec)
        stored = 4 * sum(each.numel() for each in backbone.module.parameters())
        estimate = durations.Estimate(rows + tested, 0.0, seconds, sampled=True, stored=stored)
    else:
        pace = features.seconds_per_image(home, backbone, dataset, spec.precision, spec.engine, report)
        sample = min(rows, SAMPLE_ROWS, SAMPLE_STEPS * spec.settings.batch_size)
        seconds = _time_epoch(sample, backbone.dimensions, len(dataset.class_names), spec.settings)
        stored = features.stored_bytes(backbone, dataset)
        estimate = durations.Estimate(rows + tested, pace, seconds * rows / sample, sampled=True, stored=stored)
    durations.keep(home, spec, estimate)
    return dataclasses.asdict(estimate)


def sized(backbone: Backbone, spec: AnySized) -> tuple[Backbone, AnySized]:
    """The backbone for images of the size that the spec asks for, and the spec without it where it is the backbone's own."""
    spec = spec.as_run(backbone.transform.crop)
    return (backbones.for_images(backbone, spec.image_size) if spec.image_size else backbone), spec


def resolve(
    home: Path,
    spec: AnyTransfer,
    report: Report,
    load: Callable[[Path, str], Backbone] = backbones.load_classifying,
) -> tuple[Backbone, Dataset, AnyTransfer]:
    """The backbone and the dataset that a spec names, and the spec with their content hashes and its precision filled in. The
    backbone takes images of the size asked for, which is none where that is its own."""
    report(Progress(f"Opening {spec.backbone}"))
    backbone = load(home, spec.backbone)
    backbone, spec = sized(backbone, spec)
    report(Progress(f"Opening {spec.dataset}"))
    dataset = catalogue.load(home, spec.dataset)
    precision = _best_precision(backbone) if spec.precision == "auto" else spec.precision
    resolved = dataclasses.replace(spec, precision=precision, backbone_hash=backbone.hash, dataset_hash=dataset.hash)
    return backbone, dataset, resolved


def load_to_time(home: Path, name: str, load: Callable[[Path, str], Backbone] = backbones.load_classifying) -> Backbone:
    """The backbone of that name; of an architecture that has no weights here, an untrained one, which takes as long."""
    card = library.find(home, name)
    without = name.partition("-")[0] in (*ARCHITECTURES, *DETECTORS) and not (card and card.ready)
    return backbones.untrained(name) if without else load(home, name)


def remember_duration(home: Path, backbone: Backbone, spec: AnyRun, run: durations.Timed) -> None:
    """Keep the times of a run, also for networks of this architecture that are not there yet, and for its own size by number."""
    for name, size in itertools.product(
        (spec.backbone, backbone.card.architecture), {spec.image_size, backbone.transform.crop}
    ):
        durations.remember(home, dataclasses.replace(spec, backbone=name, image_size=size), run)


def _best_precision(backbone: Backbone) -> str:
    """bf16 where the processor computes it natively and the features agree with those in fp32; else fp32."""
    if torch.cuda.is_available() or not native_bf16():
        return "fp32"
    side = backbone.transform.crop
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = backbone.module(images)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = backbone.module(images).float()
    difference = (reduced - exact).abs().max() / exact.abs().max()
    return "bf16" if float(difference) <= TOLERANCE["bf16"] else "fp32"


def report_seed(report: Report, seed: int, number: int, seeds: int) -> Report:
    """Adds to the progress of one seed which it is, and the time that the seeds after it will take."""
    if seeds == 1:
        return report
    whole = 0.0

    def report_seed(progress: Progress) -> None:
        nonlocal whole
        left = progress.seconds_left
        if left is not None and progress.share < 1:
            whole = left / (1 - progress.share)
        left = None if left is None else left + whole * (seeds - number - 1)
        stage = f"Seed {seed} ({number + 1} of {seeds}). {progress.stage}"
        report(dataclasses.replace(progress, stage=stage, seconds_left=left))

    return report_seed


def _time_epoch(rows: int, dimensions: int, classes: int, settings: Hyperparameters) -> float:
    """Seconds per epoch and seed on noise (rows, dimensions), with a quarter as many test samples."""
    x = np.random.default_rng(0).standard_normal((rows, dimensions), dtype=np.float32)
    y = np.arange(rows) % classes
    tested = max(rows // 4, classes)
    short = Hyperparameters(epochs=SAMPLE_EPOCHS, batch_size=settings.batch_size)
    results = linear_training.train(Samples(x, y), Samples(x[:tested], y[:tested]), classes, range(SAMPLE_SEEDS), short)
    return results[0].seconds[0]


def run_names(home: Path, spec: AnyRun, seeds: Sequence[int]) -> tuple[dict[int, str], list[int]]:
    """The name of each seed's run, and the seeds that have no finished run yet. A kill may have left the others' state."""
    names = {seed: run_id(spec, seed) for seed in seeds}
    finished = Records(home).ids()
    for name in finished.intersection(names.values()):
        discard(state_file(home, name))
    return names, [seed for seed in seeds if names[seed] not in finished]


def state_file(home: Path, name: str) -> Path:
    """Where the state of a run's training is saved until the run is finished."""
    return home / "checkpoints" / f"{name}.pt"


def keep(home: Path, record: Record, report: Report) -> None:
    """Write a run's record, then delete the state of its training: only now is nothing of it needed any more."""
    records = Records(home)
    network = finetuned.file(home, record.run_id)
    if network.is_file():
        flush(network)
    records.write(record)
    flush(records.runs / record.run_id)
    discard(state_file(home, record.run_id))
    report(Progress("Keeping the results", fraction=1.0, saved=True))


def job_result(names: dict[int, str], missing: Sequence[int]) -> dict[str, list[str]]:
    """What a transfer's job returns: the names of all its runs, and of those that were found finished."""
    return {"runs": list(names.values()), "found": [name for seed, name in names.items() if seed not in missing]}


def shared_fields(home: Path, backbone: Backbone, dataset: Dataset, protocol: str) -> dict[str, Any]:
    """The fields of every run's result, whatever its transfer: backbone, dataset, protocol, version and time."""
    card, sizes = backbone.card, structure_analysis.analyse_cached(home, backbone)
    return {
        "architecture": card.architecture,
        "upstream": card.upstream,
        "method": card.method,
        "sparsity": card.sparsity,
        "recipe": card.provenance.recipe if card.provenance else "",
        "backbone_sparsity": backbone.sparsity,
        "nonzero_parameters": sizes.nonzero,
        "multiply_adds": sizes.multiply_adds_sparse,
        "file_size": sizes.bytes_sparse,
        "dimensions": backbone.dimensions,
        "dataset_name": dataset.id,
        "task": dataset.task,
        "metric": dataset.metric,
        "class_names": list(dataset.class_names),
        "train_images": len(dataset.train.labels),
        "test_images": len(dataset.test.labels),
        "protocol": protocol,
        "notes": list(dataset.notes),
        "product_version": __version__,
        "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
    }


def _record(name: str, spec: TransferSpec, result: Result[Any], shared: dict[str, Any]) -> Record:
    """The record of one seed: ``shared_fields``, the result's accuracies, confusion matrix and details, and its curves."""
    outcome = {
        **shared,
        "learning_rate": result.learning_rate,
        **_accuracies(shared["metric"], result),
        "confusion": _sparse_counts(result.confusion),
        "predicted": predictions.encode(result.predicted),
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
