"""Transfers: probes and finetuning as runs, one record a seed. Used by the worker process and by the command line alike.

Progress goes to ``report``, which may raise ``Cancelled``.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core import __version__
from sparse_core.catalog import ENGINES
from sparse_core.datasets import catalogue
from sparse_core.engines import choice
from sparse_core.networks import backbones, finetuned, structure_analysis
from sparse_core.results.records import Record, Records
from sparse_core.specs.identity import record_document, run_id
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.transfer import AnyTransfer, FinetuneSpec, ProbeSpec, TransferSpec, exact, protocol
from sparse_core.transfer import durations, features, finetune, probe

REPORT_SECONDS = 0.2


def run_probe(home: Path, spec: ProbeSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Train the probe's missing seeds together and write one record a seed; finished ones are found, not repeated."""
    backbone, dataset, spec = resolve(home, spec, report)
    records = Records(home)
    names = {seed: run_id(spec, seed) for seed in seeds}
    missing = [seed for seed in seeds if names[seed] not in records.ids()]
    found = [names[seed] for seed in seeds if seed not in missing]
    if not missing:
        return {"runs": found, "found": found}
    extracted = _features(home, backbone, dataset, spec, len(missing), report)
    started = time.perf_counter()
    rate, validation = _learning_rate(extracted, spec, missing, report)
    chosen = time.perf_counter()
    settings = dataclasses.replace(spec.settings, learning_rate=rate)
    results = probe.train(
        extracted.train,
        extracted.train_labels,
        extracted.test,
        extracted.test_labels,
        len(extracted.class_names),
        missing,
        settings,
        on_epoch=_epochs_to_events(report, "Training the classifiers"),
        checkpoint=records.folder / "checkpoints" / f"{names[missing[0]]}-{len(missing)}.pt",
    )
    ended = time.perf_counter()
    shared = {
        **_shared_result(home, backbone, dataset, spec),
        **_extraction_result(extracted),
        "seconds_training": ended - started,
        "validation": validation,
    }
    for result in results:
        records.write(_probe_record(names[result.seed], spec, result, shared))
    records.compact()
    durations.remember(home, spec, extracted, (ended - chosen) / (spec.settings.epochs * len(missing)))
    return {"runs": [names[seed] for seed in seeds], "found": found}


def run_finetune(home: Path, spec: FinetuneSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Finetune the missing seeds one after another; each leaves a network and a record as soon as it has ended."""
    backbone, dataset, spec = resolve(home, spec, report)
    records = Records(home)
    names = {seed: run_id(spec, seed) for seed in seeds}
    missing = [seed for seed in seeds if names[seed] not in records.ids()]
    found = [names[seed] for seed in seeds if seed not in missing]
    for number, seed in enumerate(missing):
        result = finetune.train(
            backbone,
            dataset,
            spec,
            seed,
            on_step=_steps_to_events(report, spec, seed, number, len(missing)),
            checkpoint=records.folder / "checkpoints" / f"{names[seed]}.pt",
        )
        finetuned.save(result.network, backbone, dataset.class_names, finetuned.file(home, names[seed]), dataset.id)
        records.write(
            _finetune_record(home, names[seed], spec, result, _shared_result(home, backbone, dataset, spec), backbone)
        )
        durations.remember_finetune(home, spec, dataset, statistics.fmean(result.seconds))
    records.compact()
    return {"runs": [names[seed] for seed in seeds], "found": found}


def run_estimate(home: Path, spec: AnyTransfer, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Measure on this machine about how long the transfer will take: see ``sparse_core.transfer.durations``."""
    backbone, dataset, spec = resolve(home, spec, report)
    return durations.measure(home, backbone, dataset, spec)


def resolve(home: Path, spec: AnyTransfer, report: Report) -> tuple[Any, Any, AnyTransfer]:
    """The backbone and the dataset that a spec names, and the spec with their content hashes and precision filled in."""
    report(Progress(f"Opening {spec.backbone}"))
    backbone = backbones.load_cached(home, spec.backbone)
    report(Progress(f"Opening {spec.dataset}"))
    dataset = catalogue.load(home, spec.dataset)
    precision = finetune.best_precision(backbone) if spec.precision == "auto" else spec.precision
    resolved = dataclasses.replace(spec, precision=precision, backbone_hash=backbone.hash, dataset_hash=dataset.hash)
    return backbone, dataset, resolved


def extract(
    home: Path, backbone: Any, dataset: Any, spec: ProbeSpec, report: Report, *, seconds_after: float = 0.0
) -> Any:
    """The features of every image, cached; ``seconds_after`` is added to the time left that is reported."""
    last = 0.0

    def on_progress(done: int, total: int, images_per_second: float) -> None:
        nonlocal last
        if time.monotonic() - last < REPORT_SECONDS and done < total:
            return
        last = time.monotonic()
        left = (total - done) / images_per_second + seconds_after if images_per_second else None
        report(Progress("Extracting features", done, total, left))

    engine = spec.engine if spec.engine != "auto" else _engine(home, backbone, dataset, spec.precision, report)
    return features.extract(home, backbone, dataset, precision=spec.precision, engine=engine, on_progress=on_progress)


def _engine(home: Path, backbone: Any, dataset: Any, precision: str, report: Report) -> str:
    """The engine that has computed these features already, else the fastest that is exact enough."""
    cached = (name for name in ENGINES if features.is_cached(home, backbone, dataset.hash, precision, name))
    known = next(cached, None)
    if known:
        return known
    report(Progress("Looking for the fastest engine"))
    images = len(dataset.train.labels) + len(dataset.test.labels)
    return choice.fastest(
        home, backbone.module, backbone.hash, backbone.transform.crop, features.ENGINE_BATCH, precision, images
    )


def _features(home: Path, backbone: Any, dataset: Any, spec: ProbeSpec, seeds: int, report: Report) -> Any:
    known = durations.recall(home, spec)
    after = known.seconds(spec, seeds, features_cached=True) if known else 0.0
    return extract(home, backbone, dataset, spec, report, seconds_after=after)


def _learning_rate(
    extracted: Any, spec: ProbeSpec, seeds: list[int], report: Report
) -> tuple[float, dict[str, float] | None]:
    if not spec.sweep_lr:
        return spec.settings.learning_rate, None
    rate, validation = probe.choose_learning_rate(
        extracted.train,
        extracted.train_labels,
        len(extracted.class_names),
        seeds,
        spec.settings,
        spec.sweep_lr,
        on_epoch=_epochs_to_events(report, "Choosing the learning rate"),
    )
    return rate, {exact(candidate): accuracy for candidate, accuracy in validation.items()}


def _epochs_to_events(report: Report, stage: str) -> Callable[[probe.Progress], None]:
    started = time.perf_counter()
    first_epoch: int | None = None

    def on_epoch(progress: probe.Progress) -> None:
        nonlocal first_epoch
        if first_epoch is None:
            first_epoch = progress.epoch - 1  # a resumed training begins later than at 0
        pace = (time.perf_counter() - started) / (progress.epoch - first_epoch)
        values = zip(progress.seeds, progress.loss, progress.top1, progress.mean_per_class, strict=True)
        ended = [dict(zip(("seed", "loss", "top1", "mean_per_class"), one, strict=True)) for one in values]
        left = pace * (progress.epochs - progress.epoch)
        epochs = tuple({"epoch": progress.epoch, **one} for one in ended) if progress.stage == "train" else ()
        report(Progress(stage, progress.epoch, progress.epochs, left, epochs=epochs))

    return on_epoch


def _steps_to_events(
    report: Report, spec: FinetuneSpec, seed: int, number: int, seeds: int
) -> Callable[[finetune.Progress], None]:
    """Reports a few times a second, and after each epoch with its figures; ``number`` of ``seeds`` is being trained."""
    started = time.perf_counter()
    first: float | None = None
    last = 0.0
    told = 0
    stage = "Finetuning" if seeds == 1 else f"Finetuning seed {seed}, {number + 1} of {seeds}"

    def on_step(progress: finetune.Progress) -> None:
        nonlocal first, last, told
        done = progress.epoch - 1 + progress.step / progress.steps
        first = done - 1 / progress.steps if first is None else first  # a resumed training begins later than at 0
        ended = len(progress.curves.top1)
        if time.monotonic() - last < REPORT_SECONDS and ended == told:
            return
        last = time.monotonic()
        pace = (time.perf_counter() - started) / (done - first)
        left = pace * (progress.epochs - done + (seeds - number - 1) * progress.epochs)
        curves = [{"seed": seed, "epoch": epoch + 1, **_epoch(progress.curves, epoch)} for epoch in range(told, ended)]
        told = ended
        words = f"{stage}: step {progress.step:,} of {progress.steps:,} in epoch"
        report(Progress(words, progress.epoch, progress.epochs, left, done / progress.epochs, tuple(curves)))

    return on_step


def _epoch(curves: finetune.Curves, epoch: int) -> dict[str, Any]:
    return {name: values[epoch] for name, values in vars(curves).items()}


def _shared_result(home: Path, backbone: Any, dataset: Any, spec: TransferSpec) -> dict[str, Any]:
    """What every run's result tells, whatever its transfer."""
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


def _extraction_result(extracted: Any) -> dict[str, Any]:
    return {
        "seconds_features": extracted.seconds,
        "images_per_second": extracted.images_per_second,
        "engine": extracted.engine,
        "engine_version": extracted.engine_version,
        "features_cached": extracted.cached,
        "notes": list(extracted.notes),
    }


def _probe_record(name: str, spec: ProbeSpec, result: probe.ProbeResult, shared: dict[str, Any]) -> Record:
    outcome = {
        **shared,
        "learning_rate": result.learning_rate,
        "products": result.products,
        **_accuracies(shared["metric"], result.top1, result.mean_per_class),
        "confusion": _sparse_counts(result.confusion),
    }
    curves = {"loss": result.loss, "top1": result.top1, "mean_per_class": result.mean_per_class}
    return Record(name, record_document(spec, result.seed), outcome, _events(curves))


def _finetune_record(
    home: Path,
    name: str,
    spec: FinetuneSpec,
    result: finetune.FinetuneResult,
    shared: dict[str, Any],
    backbone: Any,
) -> Record:
    """``mask_violations`` counts the pruned weights that are not 0 in the saved file, and in any epoch before it."""
    curves = result.curves
    outcome = {
        **shared,
        "learning_rate": spec.settings.learning_rate,
        **_accuracies(shared["metric"], curves.top1, curves.mean_per_class),
        "top1_final_fp32": result.top1_fp32,
        "confusion": _sparse_counts(result.confusion),
        "sparsity_before": result.sparsity_before,
        "sparsity_after": result.sparsity_after,
        "mask_violations": max(
            *curves.mask_violations, finetuned.violations(finetuned.file(home, name), backbone.mask)
        ),
        "seconds_training": sum(result.seconds),
    }
    return Record(name, record_document(spec, result.seed), outcome, _events(vars(curves)))


def _accuracies(metric: str, top1: Sequence[float], mean_per_class: Sequence[float]) -> dict[str, float]:
    """Best over epochs (the study's convention, optimistic) and final, of both measures and of the dataset's own."""
    values = {"top1": top1, "mean_per_class": mean_per_class}
    values["accuracy"] = values[metric]
    best = {f"{name}_best": max(curve) for name, curve in values.items()}
    return best | {f"{name}_final": curve[-1] for name, curve in values.items()}


def _sparse_counts(confusion: np.ndarray) -> list[list[int]]:
    """The cells of a confusion matrix that are not 0, as [true class, predicted class, images]."""
    rows, columns = np.nonzero(confusion)
    counts = confusion[rows, columns]
    return [[int(value) for value in triple] for triple in zip(rows, columns, counts, strict=True)]


def _events(curves: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    epochs = zip(*curves.values(), strict=True)
    return [{"epoch": epoch, **dict(zip(curves, values, strict=True))} for epoch, values in enumerate(epochs, start=1)]
