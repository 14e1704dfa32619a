"""Finetunings as runs: one record and one network per seed. Called by the worker and by the command line alike."""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

from sparse_core.networks import classifier, finetuned
from sparse_core.results.records import Records
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.transfer import FinetuneSpec
from sparse_core.transfer import durations, finetune
from sparse_core.transfer.resolve import resolve
from sparse_core.transfer.run_records import checkpoint_file, job_result, record, run_names, shared_fields


def run_finetune(home: Path, spec: FinetuneSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Finetune the missing seeds one after another; each leaves a network and a record as soon as it has ended.

    ``report`` may raise Cancelled. ``mask_violations`` in a record counts the pruned weights that are not 0 in the saved
    file, or in any epoch before it if there were more.
    """
    backbone, dataset, spec = resolve(home, spec, report)
    records = Records(home)
    names, missing = run_names(records, spec, seeds)
    for number, seed in enumerate(missing):
        name = names[seed]
        on_progress = _report_seed(report, seed, number, len(missing))
        state = checkpoint_file(home, name)
        result = finetune.train(backbone, dataset, spec, seed, on_progress=on_progress, checkpoint=state)
        saved = finetuned.file(home, name)
        classifier.save(result.network, backbone, dataset.class_names, saved, dataset.id)
        violations = max(*result.curves["mask_violations"], classifier.violations(saved, backbone.mask))
        shared = shared_fields(home, backbone, dataset, spec)
        records.write(record(name, spec, result, {**shared, "mask_violations": violations}))
        images = shared["train_images"] + shared["test_images"]
        durations.remember(home, spec, images, statistics.fmean(result.seconds))
    records.compact()
    return job_result(names, missing)


def _report_seed(report: Report, seed: int, number: int, seeds: int) -> Report:
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
