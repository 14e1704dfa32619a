"""A sweep of short probes on a one-node SLURM against the same sweep by this machine's worker, and the same one disturbed.

    python -m benchmarks.slurm_sweep [--probes 40] [--rounds 1] [--disturbances 10]

The probes are of different networks of the zoo on digits at 32 pixels, two at a time on a core each. ``ratio_to_local`` is the
time from the first one's start to the last one's end on SLURM over that by this machine's workers (limit 1.15), and
``ratio_to_simulated`` over the makespan that a dry run would tell (within 15 %). Then every probe is a SLURM task of its own, and
as many of them as ``--disturbances`` are cancelled, requeued or killed in turn while they run; what failed is retried.
``same_as_local`` says whether every run is there exactly once, with the same accuracies.
Needs root, to start SLURM's daemons; prints one JSON line.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks import harness
from sparse_core.errors import InputError
from sparse_core.jobs import queue, slurm, sweep_files, sweep_packs, sweeps
from sparse_core.jobs.schedule import makespan
from sparse_core.jobs.sweep_seconds import Seconds
from sparse_core.networks import library
from sparse_core.results.records import Records
from sparse_core.specs.slurm import SlurmSpec
from sparse_core.specs.sweep import Plan, plan
from tests.support import slurm as cluster

SPEC = SlurmSpec(cpus=1, memory=1, time=0.5)
PARALLEL = 2
POLL_SECONDS = 0.1


def main() -> None:
    given = harness.parser(__doc__, probes=40, rounds=1, disturbances=10).parse_args()
    if cluster.REASON:
        print(json.dumps({"benchmark": "slurm_sweep", "skipped": cluster.REASON}))
        sys.exit()
    os.environ["OMP_NUM_THREADS"] = str(SPEC.cpus)  # the worker's processes as SLURM's
    with tempfile.TemporaryDirectory() as folder, cluster.one_node(Path(folder) / "node"):
        asked = sweep_of(given.probes, Path(folder))
        seconds: dict[str, list[float]] = {"local": [], "slurm": [], "simulated": []}
        for number in range(given.rounds):
            here, there = Path(folder) / f"local{number}", Path(folder) / f"slurm{number}"
            seconds["local"].append(seconds_to_end(here, sweeps.submit(here, asked)))
            seconds["simulated"].append(makespan(asked.tasks, Seconds(here, asked).of, PARALLEL) or 0.0)
            shutil.copytree(
                here / "estimates", there / "estimates"
            )  # as after a dry run: short tasks are packed by their length
            seconds["slurm"].append(seconds_to_end(there, sweep_packs.submit(there, asked, SPEC, PARALLEL)))
        same = results(there) == results(here) and len(results(here)) == given.probes
        done: list[str] = []
        retries = 0
        if given.disturbances:
            done, retries = disturb(Path(folder) / "disturbed", asked, given.disturbances)
            same = same and results(Path(folder) / "disturbed") == results(here)
        harness.report(
            "slurm_sweep",
            given,
            ratio_to_local=round(harness.median_ratio(seconds["slurm"], seconds["local"]), 2),
            ratio_to_simulated=round(harness.median_ratio(seconds["slurm"], seconds["simulated"]), 2),
            same_as_local=same,
            disturbed=done,
            retries=retries,
            seconds=harness.rounded(seconds, 1),
        )


def sweep_of(probes: int, folder: Path) -> Plan:
    names = [card.name for card in library.available(folder) if card.kind == "zoo"][:probes]
    entry = {
        "kind": "probe",
        "backbones": names,
        "dataset": "digits",
        "image_size": 32,
        "seeds": [0],
        "engine": "torch",
    }
    return plan(json.dumps({"runs": [entry], "parallel": PARALLEL}), "probes")


def seconds_to_end(home: Path, sweep_id: str) -> float:
    """Seconds from the moment that the first task runs to the end of the last."""
    started = 0.0
    while True:
        status = sweeps.status(home, sweep_id)
        if status.state == "ended":
            return time.perf_counter() - started
        if not started and status.count("running", "done"):
            started = time.perf_counter()
        time.sleep(POLL_SECONDS)


def disturb(home: Path, asked: Plan, disturbances: int) -> tuple[list[str], int]:
    """The sweep with every probe as a SLURM task, some disturbed while they run; what was done, and the retries it took."""
    sweep_packs.PACK_SECONDS = 1.0  # shorter than any
    chance = random.Random(0)
    victims = {task.key for task in chance.sample(asked.tasks, disturbances)}
    done: list[str] = []
    retries = 0
    sweep_id = sweep_packs.submit(home, asked, SPEC, PARALLEL)
    while True:
        status = sweeps.status(home, sweep_id)
        for each in status.tasks:
            if each.state == "running" and each.progress.stage and each.task.key in victims:
                victims.discard(each.task.key)
                done.append(disturbed(home, sweep_id, each, list(WAYS)[len(done) % len(WAYS)]))
        if status.state == "ended":
            if not status.failures:
                return done, retries
            retries += 1
            sweep_packs.submit(home, asked, SPEC, PARALLEL, retry=True)
        time.sleep(POLL_SECONDS)


def disturbed(home: Path, sweep_id: str, task: sweeps.TaskStatus, way: str) -> str:
    """Disturb a running task; it may have ended meanwhile."""
    with suppress(ProcessLookupError, InputError):
        WAYS[way](home, sweep_files.read(home, sweep_id)[1].tasks[task.task.key].slurm, task.job_id)
    return way


def kill(home: Path, slurm_id: str, job_id: str) -> None:
    process = next(event["started"] for event in queue.events(home, job_id) if "started" in event)
    os.kill(process, signal.SIGKILL)


def requeue(home: Path, slurm_id: str, job_id: str) -> None:
    subprocess.run(["scontrol", "requeue", slurm_id], check=False, capture_output=True)


WAYS = {"scancel": lambda home, slurm_id, job_id: slurm.cancel([slurm_id]), "requeue": requeue, "kill -9": kill}


def results(home: Path) -> list[tuple[str, int, float, float]]:
    """The runs that are there, each with its backbone, seed and accuracies."""
    kept = Records(home)
    return sorted(
        (
            record.spec["backbone"],
            int(record.spec["seed"]),
            float(record.result["accuracy_best"]),
            float(record.result["accuracy_final"]),
        )
        for record in kept.read_many(kept.ids())
    )


if __name__ == "__main__":
    main()
