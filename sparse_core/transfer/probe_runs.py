"""Probes as runs: one record per seed. Called by the worker and by the command line alike."""

import statistics
from pathlib import Path
from typing import Any

from sparse_core.results.records import Records
from sparse_core.specs.progress import Report
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.transfer import durations, probe
from sparse_core.transfer.resolve import resolve
from sparse_core.transfer.run_records import checkpoint_file, job_result, record, run_names, shared_fields


def run_probe(home: Path, spec: ProbeSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """Train the missing seeds together and write a record for each; finished runs are found, not repeated.

    ``report`` may raise Cancelled.
    """
    backbone, dataset, spec = resolve(home, spec, report)
    records = Records(home)
    names, missing = run_names(records, spec, seeds)
    if missing:
        state = checkpoint_file(home, f"{names[missing[0]]}-{len(missing)}")
        results = probe.train(backbone, dataset, spec, missing, home=home, on_progress=report, checkpoint=state)
        shared = shared_fields(home, backbone, dataset, spec)
        for result in results:
            records.write(record(names[result.seed], spec, result, shared))
        records.compact()
        seconds, pace = statistics.fmean(results[0].seconds), results[0].details["images_per_second"]
        durations.remember(home, spec, shared["train_images"] + shared["test_images"], seconds, pace)
    return job_result(names, missing)
