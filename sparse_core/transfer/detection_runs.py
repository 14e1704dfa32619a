"""Finetunings of detectors as runs: from a spec to a record and a network per seed. The worker and the command line call
``run_finetune``; its ``report`` may raise Cancelled."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sparse_core.catalog import architecture_label, listed_dataset
from sparse_core.datasets import catalogue
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.errors import InputError
from sparse_core.networks import backbones, classifier, detector, finetuned
from sparse_core.networks.backbones import Backbone
from sparse_core.results.records import Record, Records
from sparse_core.specs.identity import record_document
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.transfer import DetectionSpec, detection_protocol
from sparse_core.transfer import detection, durations
from sparse_core.transfer.runs import (
    job_result,
    keep,
    load_to_time,
    remember_duration,
    report_seed,
    run_names,
    shared_fields,
    sized,
    state_file,
)
from sparse_core.transfer.training import Result, epoch_values

METRICS = ("map50", "map")


def run_finetune(home: Path, spec: DetectionSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Finetune the missing seeds one after another; each leaves a network and a record as soon as it has ended."""
    backbone, dataset, spec = resolve(home, spec, report)
    names, missing = run_names(home, spec, seeds)
    for number, seed in enumerate(missing):
        started, name = time.perf_counter(), names[seed]
        on_progress = report_seed(report, seed, number, len(missing))
        state = state_file(home, name)
        result = detection.train(backbone, dataset, spec, seed, on_progress=on_progress, checkpoint=state)
        saved = finetuned.file(home, name)
        detector.save(result.network, backbone, dataset.class_names, saved, listed_dataset(dataset.id, dataset.task))
        violations = max(*result.curves["mask_violations"], classifier.violations(saved, backbone.mask))
        shared = shared_fields(home, backbone, dataset, detection_protocol(spec))
        keep(home, _record(name, spec, result, {**shared, "mask_violations": violations}), on_progress)
        images, seconds = shared["train_images"] + shared["test_images"], time.perf_counter() - started
        timed = durations.Timed(seconds, 1, images, statistics.fmean(result.seconds), stored=saved.stat().st_size)
        remember_duration(home, backbone, spec, timed)
    Records(home).compact()
    return job_result(names, missing)


def run_estimate(home: Path, spec: DetectionSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Time a few steps and tests, and keep and return the estimate; a known one is returned as it is: ``runs.run_estimate``."""
    known = durations.recall(home, spec)
    if known:  # the finetuning itself was done meanwhile
        return dataclasses.asdict(known)
    backbone, dataset, spec = resolve(home, spec, report, partial(load_to_time, load=backbones.load_cached))
    images = len(dataset.train.labels) + len(dataset.test.labels)
    stored = 4 * sum(each.numel() for each in backbone.module.parameters())
    seconds = detection.time_epoch(backbone, dataset, spec)
    estimate = durations.Estimate(images, 0.0, seconds, sampled=True, stored=stored)
    durations.keep(home, spec, estimate)
    return dataclasses.asdict(estimate)


def resolve(
    home: Path,
    spec: DetectionSpec,
    report: Report,
    load: Callable[[Path, str], Backbone] = backbones.load_cached,
) -> tuple[Backbone, BoxDataset, DetectionSpec]:
    """Detector and dataset, and the spec with their content hashes and its precision filled in; as ``runs.resolve``."""
    report(Progress(f"Opening {spec.backbone}"))
    backbone = load(home, spec.backbone)
    if not backbone.card.is_detector:
        label = architecture_label(backbone.card.architecture)
        raise InputError(
            f"{spec.backbone} classifies images ({label}); images with boxes need a detector, such as yolov3_tiny."
        )
    backbone, spec = sized(backbone, spec)
    report(Progress(f"Opening {spec.dataset}"))
    dataset = catalogue.load_boxes(home, spec.dataset)
    precision = spec.precision
    if precision == "auto":
        precision = "bf16" if not torch.cuda.is_available() and native_bf16() else "fp32"
    resolved = dataclasses.replace(spec, precision=precision, backbone_hash=backbone.hash, dataset_hash=dataset.hash)
    return backbone, dataset, resolved


def _record(name: str, spec: DetectionSpec, result: Result[Any], shared: dict[str, Any]) -> Record:
    """The record of one seed; its accuracies are mAP@0.5."""
    best, final = ({metric: value(metric) for metric in METRICS} for value in (result.best, result.final))
    outcome = {
        **shared,
        "learning_rate": result.learning_rate,
        **{
            f"{metric}_{when}": values[metric]
            for when, values in (("best", best), ("final", final))
            for metric in METRICS
        },
        "accuracy_best": best["map50"],
        "accuracy_final": final["map50"],
        **result.details,
    }
    events = [epoch_values(result.curves, epoch) for epoch in range(1, len(result.curves["loss"]) + 1)]
    return Record(name, record_document(spec, result.seed), outcome, events)
