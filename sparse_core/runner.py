"""Does the work of a job: resolves names, extracts features, trains, and writes a record for each run.

Used by the worker process and by the command line alike. Progress goes to ``report`` as dictionaries with ``stage``
(words), ``done``, ``total`` and ``seconds_left``; ``report`` may raise ``Cancelled``.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sparse_core import __version__, backbones, datasets, estimates, features, probe
from sparse_core.errors import InputError
from sparse_core.records import Record, Records
from sparse_core.spec import Job, ProbeSpec, protocol, record_document, run_id

Report = Callable[[dict[str, Any]], None]

REPORT_SECONDS = 0.2


def run(job: Job, report: Report) -> dict[str, Any]:
    """Do the job. Returns what it gave: for a probe ``{"runs": [names]}``, for an estimate its figures."""
    kinds = {"probe": run_probe, "estimate": run_estimate}
    if job.kind not in kinds:
        raise InputError(f"Unknown kind of job '{job.kind}'. Known: {', '.join(kinds)}.")
    return kinds[job.kind](job, report)


def run_probe(job: Job, report: Report) -> dict[str, Any]:
    """Train the probe's missing seeds together and write one record a seed; finished ones are found, not repeated."""
    backbone, dataset, spec = resolve(job.spec, report)
    records = Records()
    names = {seed: run_id(spec, seed) for seed in job.seeds}
    missing = [seed for seed in job.seeds if names[seed] not in records.ids()]
    found = [names[seed] for seed in job.seeds if seed not in missing]
    if not missing:
        return {"runs": found, "found": found}
    extracted = _features(backbone, dataset, spec, len(missing), report)
    started = time.perf_counter()
    rate, validation = _learning_rate(extracted, spec, missing, report)
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
    seconds = time.perf_counter() - started
    if not spec.sweep_lr:
        estimates.remember(spec, extracted, seconds / (spec.settings.epochs * len(missing)))
    for result in results:
        shared = _shared_result(backbone, dataset, extracted, spec, seconds)
        records.write(_record(names[result.seed], spec, result, {**shared, "validation": validation}))
    records.compact()
    return {"runs": [names[seed] for seed in job.seeds], "found": found}


def run_estimate(job: Job, report: Report) -> dict[str, Any]:
    """Measure on this machine about how long the probe will take: see ``sparse_core.estimates``."""
    backbone, dataset, spec = resolve(job.spec, report)
    return estimates.measure(backbone, dataset, spec)


def resolve(spec: ProbeSpec, report: Report) -> tuple[Any, Any, ProbeSpec]:
    """The backbone and the dataset that a spec names, and the spec with their content hashes filled in."""
    report({"stage": f"Opening {spec.backbone}", "done": 0, "total": 0, "seconds_left": None})
    backbone = _backbone(spec.backbone)
    report({"stage": f"Opening {spec.dataset}", "done": 0, "total": 0, "seconds_left": None})
    dataset = datasets.load(spec.dataset)
    return backbone, dataset, dataclasses.replace(spec, backbone_hash=backbone.hash, dataset_hash=dataset.hash)


def extract(backbone: Any, dataset: Any, spec: ProbeSpec, report: Report, *, seconds_after: float = 0.0) -> Any:
    """The features of every picture, cached; ``seconds_after`` is added to the time left that is reported."""
    last = 0.0

    def on_progress(done: int, total: int, images_per_second: float) -> None:
        nonlocal last
        if time.monotonic() - last < REPORT_SECONDS and done < total:
            return
        last = time.monotonic()
        left = (total - done) / images_per_second + seconds_after if images_per_second else None
        report({"stage": "Extracting features", "done": done, "total": total, "seconds_left": left})

    return features.extract(backbone, dataset, precision=spec.precision, engine=spec.engine, on_progress=on_progress)


@functools.lru_cache(maxsize=4)
def _backbone(name: str) -> Any:
    return backbones.load(name)


def _features(backbone: Any, dataset: Any, spec: ProbeSpec, seeds: int, report: Report) -> Any:
    known = estimates.recall(spec.backbone, spec.dataset)
    after = known.seconds_per_epoch * spec.settings.epochs * seeds if known else 0.0
    return extract(backbone, dataset, spec, report, seconds_after=after)


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
    return rate, {f"{candidate:g}": accuracy for candidate, accuracy in validation.items()}


def _epochs_to_events(report: Report, stage: str) -> Callable[[probe.Progress], None]:
    started = time.perf_counter()
    first_epoch: int | None = None

    def on_epoch(progress: probe.Progress) -> None:
        nonlocal first_epoch
        if first_epoch is None:
            first_epoch = progress.epoch - 1  # a resumed training begins later than at 0
        pace = (time.perf_counter() - started) / (progress.epoch - first_epoch)
        report(
            {
                "stage": stage,
                "done": progress.epoch,
                "total": progress.epochs,
                "seconds_left": pace * (progress.epochs - progress.epoch),
                "seeds": list(progress.seeds),
                "loss": progress.loss,
                "top1": progress.top1,
                "mean_per_class": progress.mean_per_class,
            }
        )

    return on_epoch


def _shared_result(backbone: Any, dataset: Any, extracted: Any, spec: ProbeSpec, seconds: float) -> dict[str, Any]:
    card = backbone.card
    return {
        "architecture": card.architecture,
        "upstream": card.upstream,
        "method": card.method,
        "sparsity": card.sparsity,
        "backbone_sparsity": backbone.sparsity,
        "dimensions": int(extracted.train.shape[1]),
        "dataset_name": dataset.id,
        "metric": dataset.metric,
        "class_names": list(extracted.class_names),
        "train_pictures": len(extracted.train_labels),
        "test_pictures": len(extracted.test_labels),
        "protocol": protocol(spec),
        "seconds_features": extracted.seconds,
        "images_per_second": extracted.images_per_second,
        "features_cached": extracted.cached,
        "seconds_training": seconds,
        "notes": list(extracted.notes),
        "product_version": __version__,
        "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
    }


def _record(name: str, spec: ProbeSpec, result: probe.ProbeResult, shared: dict[str, Any]) -> Record:
    by_metric = {
        "top1": (result.top1_best, result.top1_final),
        "mean_per_class": (result.mean_per_class_best, result.mean_per_class_final),
    }
    best, final = by_metric[shared["metric"]]
    rows, columns = np.nonzero(result.confusion)
    counts = result.confusion[rows, columns]
    outcome = {
        **shared,
        "learning_rate": result.learning_rate,
        "accuracy_best": best,
        "accuracy_final": final,
        "top1_best": result.top1_best,
        "top1_final": result.top1_final,
        "mean_per_class_best": result.mean_per_class_best,
        "mean_per_class_final": result.mean_per_class_final,
        "confusion": [[int(value) for value in triple] for triple in zip(rows, columns, counts, strict=True)],
    }
    events = [
        {"epoch": epoch, "loss": loss, "top1": top1, "mean_per_class": mean_per_class}
        for epoch, (loss, top1, mean_per_class) in enumerate(
            zip(result.loss, result.top1, result.mean_per_class, strict=True), start=1
        )
    ]
    return Record(name, record_document(spec, result.seed), outcome, events)
