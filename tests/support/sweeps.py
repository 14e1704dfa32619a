"""Sweeps whose runs are made up: what they do is written to a log, so that each can be counted."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparse_core.jobs import queue, sweeps
from sparse_core.jobs import worker as workers
from sparse_core.jobs.kinds import Job
from sparse_core.jobs.worker import Worker
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard, Provenance
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.sweep import Plan, plan

CHAIN = """
runs:
  - {kind: sparsify, method: Dense, seeds: 2, backbone: resnet20, dataset: digits, name: "dense_s{seed}"}
  - {kind: sparsify, methods: [GMP, LTH-T], sparsity: 0.9, backbone: dense_s0, dataset: digits, name: "{method}"}
  - {kind: probe, backbones: [dense_s1, gmp], dataset: digits, seeds: 3}
  - {kind: finetune, backbone: gmp, dataset: digits, epochs: 2}
"""
RUNS = ["sparsify dense_s0", "sparsify dense_s1", "sparsify gmp", "sparsify ltht"]
RUNS += ["finetune gmp", "probe dense_s1", "probe gmp"]


def chain() -> Plan:
    """Seven tasks, eleven runs."""
    return plan(CHAIN, "chain")


def label(job: Job) -> str:
    return f"{job.kind} {job.spec.name if job.kind == 'sparsify' else job.spec.backbone}"


def ended(home: Path) -> list[str]:
    """The made-up runs that came to their end, in order."""
    return [line.removeprefix("end ") for line in _lines(home) if line.startswith("end ")]


def begun(home: Path) -> list[str]:
    return [line.removeprefix("begin ") for line in _lines(home) if line.startswith("begin ")]


def _lines(home: Path) -> list[str]:
    file = home / "made-up.log"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def write(home: Path, line: str) -> None:
    with open(home / "made-up.log", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def made_up(during: Callable[[Path, Job, Report], None] = lambda *_: None) -> Callable[..., dict[str, Any]]:
    """A stand-in for ``kinds.run``: networks get a card with their provenance; ``during`` may wait, fail or kill the process."""

    def run(home: Path, job: Job, report: Report) -> dict[str, Any]:
        write(home, f"begin {label(job)}")
        report(Progress("at work", 1, 2, 7.0))
        during(home, job, report)
        write(home, f"end {label(job)}")
        if job.kind != "sparsify":
            return {"runs": [f"{job.kind}-{seed}" for seed in job.seeds], "found": []}
        card = make_card(home, job)
        return {"backbones": [{"name": card.name}], "found": []}

    return run


def make_card(home: Path, job: Job, **changed: Any) -> BackboneCard:
    """A network of the library as a job makes it, without weights."""
    (seed,) = job.seeds
    parent = library.find(home, job.spec.backbone)
    options = {**dataclasses.asdict(job.spec), "precision": "fp32", "backbone_hash": parent.hash if parent else ""}
    options |= changed
    made = Provenance(f"id {seed}", job.spec.method, options, seed, 0.5, (), 1, 1.0, 1.0, "test")
    name, sparsity = job.spec.name, job.spec.sparsity
    card = BackboneCard(name, "resnet20", "digits", job.spec.method, sparsity, "library", "", True, hash=name)
    card = dataclasses.replace(card, provenance=made)
    (home / "library" / name).mkdir(parents=True)
    (home / "library" / name / "card.json").write_text(json.dumps(dataclasses.asdict(card)))
    return card


def work_to_the_end(home: Path, sweep_id: str, *, lanes: tuple[str, ...] = ("long",), seconds: float = 60.0) -> None:
    """Do the sweep in this process as workers of these lanes do, until none has anything to do."""
    deadline = time.monotonic() + seconds
    workers = [Worker(home, lane) for lane in lanes]
    while sweeps.status(home, sweep_id).state == "running":
        assert time.monotonic() < deadline, sweeps.status(home, sweep_id)
        if not any(step(home, worker) for worker in workers):
            time.sleep(0.01)


def step(home: Path, worker: Worker) -> bool:
    """One turn of a worker; whether it did a job."""
    for sweep_id in os.listdir(home / "queue" / "sweeps"):
        sweeps.advance(home, sweep_id)
    job_id = worker._next_job()
    if job_id is None:
        return False
    with queue.claim(home, job_id) as claimed:
        if claimed:
            workers.work(home, job_id)
    return True
