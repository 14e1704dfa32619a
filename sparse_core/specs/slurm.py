"""What a sweep asks of SLURM for each of its tasks."""

from dataclasses import dataclass

from sparse_core.specs.checks import require
from sparse_core.specs.options import option

LONGEST_HOURS = 24.0 * 365


@dataclass(frozen=True)
class SlurmSpec:
    """The options of ``--executor slurm``; in a sweep's file they stand under ``slurm``."""

    partition: str = option("", "with slurm: the partition; the cluster's default where not given")
    time: float = option(4.0, "with slurm: hours that one SLURM task may take; a longer training goes on in the next")
    gpus: int = option(0, "with slurm: GPUs of each task")
    cpus: int = option(4, "with slurm: CPUs of each task")
    memory: int = option(16, "with slurm: memory of each task in GB")
    shards: int = option(
        0, "with slurm: tasks that extract the features of one backbone and dataset side by side; 0: by their length"
    )
    setup: str = option("", "with slurm: shell commands before each task, such as 'module load cuda'")

    def __post_init__(self) -> None:
        require(0 < self.time <= LONGEST_HOURS, "time", "the hours of a task, above 0", self.time)
        require(self.gpus >= 0, "gpus", "a number of GPUs, at least 0", self.gpus)
        require(self.cpus >= 1, "cpus", "a number of CPUs, at least 1", self.cpus)
        require(self.shards >= 0, "shards", "a number of tasks, at least 0", self.shards)
        require(self.memory >= 1, "memory", "whole GB, at least 1", self.memory)
