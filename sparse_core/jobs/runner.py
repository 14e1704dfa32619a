"""Does the work of a job, whatever its kind. Used by the worker process and by the command line alike.

Progress goes to ``report`` as dictionaries with ``stage`` (words), ``done``, ``total`` and ``seconds_left``; ``report`` may
raise ``Cancelled``.
"""

import dataclasses
from pathlib import Path
from typing import Any

from sparse_core.networks import finetuned
from sparse_core.specs.specs import ExportSpec, ImportSpec, InspectSpec, Job, Report, StructureSpec
from sparse_core.transfer import durations, running


def run(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """Do the job. Returns what it gave: for transfers ``{"runs": [names]}``, for the others what their function says."""
    return KINDS[job.kind](home, job, report)


def run_estimate(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """Measure on this machine about how long the transfer will take: see ``sparse_core.transfer.durations``."""
    backbone, dataset, spec = running.resolve(home, job.spec, report)
    return durations.measure(home, backbone, dataset, spec)


def run_inspect(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """What a checkpoint file is: the document of ``checkpoints.inspect``."""
    from sparse_core.networks import checkpoints

    spec: InspectSpec = job.spec
    report(_stage(f"Reading {Path(spec.path).name}"))
    return checkpoints.inspect(Path(spec.path), spec.architecture or None)


def run_import(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """Put a checkpoint file into the library; returns the backbone's card."""
    from sparse_core.networks import library

    spec: ImportSpec = job.spec
    report(_stage(f"Importing {Path(spec.path).name}"))
    card = library.add(
        home,
        Path(spec.path),
        spec.name,
        architecture=spec.architecture or None,
        method=spec.method or None,
        sparsity=spec.sparsity,
        upstream=spec.upstream or None,
        origin=spec.origin,
    )
    return dataclasses.asdict(card)


def run_structure(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """The structure of a backbone: see ``sparse_core.networks.structure``."""
    from sparse_core.networks import structure

    spec: StructureSpec = job.spec
    report(_stage(f"Opening {spec.backbone}"))
    return dataclasses.asdict(structure.of(home, running.load_backbone(home, spec.backbone)))


def run_export(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """Write the finetuned network of a run as ONNX; returns where it lies."""
    spec: ExportSpec = job.spec
    report(_stage("Writing ONNX"))
    return {"path": str(finetuned.export_onnx(home, spec.run_id))}


def run_speedup(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """Measure how much faster a sparse network is, and keep the record; returns it."""
    from sparse_core.speed import measurements, speedup

    record = speedup.measure(home, job.spec, report)
    measurements.write(home, record)
    return record


def _stage(words: str) -> dict[str, Any]:
    return {"stage": words, "done": 0, "total": 0, "seconds_left": None}


KINDS = {
    "probe": running.run_probe,
    "estimate": run_estimate,
    "finetune": running.run_finetune,
    "estimate_finetune": run_estimate,
    "inspect": run_inspect,
    "import": run_import,
    "structure": run_structure,
    "export": run_export,
    "speedup": run_speedup,
}
