"""Small measurements of speed for tests."""

import psutil

from sparse_core.jobs import kinds
from sparse_core.jobs.kinds import Job
from sparse_core.specs.speedup import SpeedupSpec

ROUNDS = 4


def spec(**fields) -> SpeedupSpec:
    settings = {"engines": ("onnxruntime",), "batch_sizes": (2,), "threads": 1, "rounds": ROUNDS}
    named = {} if "backbone" in fields else {"architecture": "resnet20", "sparsity": 0.9}
    return SpeedupSpec(**{**named, **settings, **fields})


def run(home, asked, report=lambda _: None):
    return kinds.run(home, Job("speedup", asked), report)


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "deepsparse_worker" in " ".join(child.cmdline())]
