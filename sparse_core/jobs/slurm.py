"""SLURM's commands: submit work as a job array, see which of it is still there, cancel it. Submission goes through submitit."""

import functools
import getpass
import math
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import REPOSITORY
from sparse_core.specs.slurm import SlurmSpec

LOOK_SECONDS = 2.0  # between two questions to SLURM, which a cluster's users share
COMMAND_SECONDS = 60.0
REQUEUES = 1000  # after a time limit; each goes on from the saved state
WARNING_SECONDS = 90  # between SLURM's signal and the end of a task


class Requeued:
    """Work that SLURM starts again, from its saved state, when it was preempted or reached its time limit."""

    def __call__(self) -> None:
        """Do the work."""
        raise NotImplementedError

    def checkpoint(self) -> object:
        """Called by submitit after SLURM's signal: what to submit again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def missing() -> str:
    """Why nothing can be submitted from this machine; empty if it can."""
    return (
        "" if shutil.which("sbatch") else "SLURM's sbatch is not on this machine. Run this on the cluster's login node."
    )


def require_available(spec: SlurmSpec) -> None:
    """Raise InputError where SLURM is missing, does not answer, or lacks the partition."""
    if reason := missing():
        raise InputError(f"{reason.removesuffix('.')}, or leave out --executor slurm.")
    partitions = _ask("sinfo", "-h", "-o", "%R").split()
    if spec.partition and spec.partition not in partitions:
        raise unknown_name("partition", spec.partition, partitions)


def submit(
    folder: Path, name: str, work: Sequence[Requeued], spec: SlurmSpec, parallel: int, after: Iterable[str] = ()
) -> list[str]:
    """Submit ``work`` as a job array of which ``parallel`` tasks run at once, and return each id; a single one is a plain job.

    It starts when the jobs ``after`` have ended, however they did. ``folder`` gets what is submitted and the logs, and has to be
    seen by the nodes. Raises InputError where SLURM refuses it.
    """
    import submitit  # here: only clusters need it

    minutes = max(1, math.ceil(spec.time * 60))
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=REQUEUES)
    setup = [f"export PYTHONPATH={shlex.quote(str(REPOSITORY))}:$PYTHONPATH", f"export OMP_NUM_THREADS={spec.cpus}"]
    parameters = {
        "job_name": name,
        "time": minutes,
        "cpus_per_task": spec.cpus,
        "mem": f"{spec.memory}GB",
        "gpus_per_node": spec.gpus or None,
        "partition": spec.partition or None,
        "dependency": ":".join(["afterany", *after]) if after else None,
        "array_parallelism": parallel,
        "signal_delay_s": min(WARNING_SECONDS, minutes * 60 // 2),
        "setup": [*setup, *([spec.setup] if spec.setup else [])],
        "additional_parameters": {"requeue": True},
    }
    executor.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
    try:
        with executor.batch():
            jobs = [executor.submit(each) for each in work]
    except submitit.core.utils.FailedJobError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if "error" in line.lower()), str(error))
        raise InputError(f"SLURM refused the job: {reason.rpartition('error: ')[2].strip()}") from error
    _listed.cache_clear()
    return [job.job_id for job in jobs]


def present(ids: Iterable[str]) -> set[str] | None:
    """Those of the jobs that wait or run; None where this machine cannot ask SLURM."""
    if shutil.which("squeue") is None:
        return None
    try:
        return {*ids} & _listed(int(time.monotonic() / LOOK_SECONDS), os.environ.get("SLURM_CONF", ""))
    except InputError:
        return None


def cancel(ids: Iterable[str]) -> None:
    """Cancel jobs; those that have ended stay as they are."""
    for part in _parts(list(ids), 500):
        _ask("scancel", *part)


@functools.lru_cache(maxsize=1)
def _listed(moment: int, configuration: str) -> frozenset[str]:
    """All jobs of this user that have not ended, asked once in each ``moment``."""
    return frozenset(_ask("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i").split())


def _parts(ids: list[str], size: int) -> Iterable[list[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"SLURM does not answer ({type(error).__name__} of {command[0]}). Is it running?") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"SLURM's {command[0]} failed: {reason}")
    return done.stdout
