"""How long a measurement of speed will take on this machine, by earlier ones and by how long those really took. No torch."""

from pathlib import Path

import pandas as pd

from sparse_core.catalog import DETECTORS
from sparse_core.engines import machine
from sparse_core.networks.preprocessing import default
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.transfer import durations

SHORTEST = 0.1  # seconds of a round at one batch size: small batches are repeated for so long
WARM_UP = 2  # rounds that are not counted


def estimate(home: Path, spec: SpeedupSpec, architecture: str, rows: pd.DataFrame) -> float | None:
    """Seconds of a measurement, by ``rows`` of ``measurements.frame``; None where one of its parts was never timed on this
    machine.

    What earlier measurements tell of their parts is corrected by how long whole measurements took: see ``learn``.
    """
    known = by_parts(spec, architecture, rows)
    return None if known is None else known * durations.correction(home, _work(spec))


def learn(home: Path, spec: SpeedupSpec, architecture: str, rows: pd.DataFrame, seconds: float) -> None:
    """A measurement took ``seconds``; ``rows`` are those before it."""
    known = by_parts(spec, architecture, rows)
    if known:
        durations.learn_correction(home, _work(spec), known, seconds)


def by_parts(spec: SpeedupSpec, architecture: str, rows: pd.DataFrame) -> float | None:
    """The sum over the measurement's parts of what the newest rows of this machine say of them."""
    this = machine.machine()
    here = (rows["processor"] == this["processor"]) & (rows["cores"] == this["cores"])
    known = rows[here & (rows["architecture"] == architecture) & (rows["mode"] == spec.mode)]
    known = known[known["image_size"] == _image_size(spec, architecture)]
    if spec.mode == "training":
        same = known[(known["dataset"] == spec.dataset) & known["engine"].isin(spec.engines[:1])]
        if same.empty:
            return None
        last = same.iloc[-1]
        return float(spec.epochs * (last["seconds_per_epoch"] + last["dense_seconds_per_epoch"]))
    total = 0.0
    for engine in spec.engines:
        of_engine = known[known["engine"] == engine]
        if of_engine.empty:
            return None
        last = of_engine.iloc[-1]
        total += len(spec.batch_sizes) * 2 * last["seconds_to_compile"]
        pair = last["milliseconds_per_image"] + last["dense_milliseconds_per_image"]
        total += (spec.rounds + WARM_UP) * sum(max(SHORTEST, size * pair / 1000) for size in spec.batch_sizes)
    return total


def _image_size(spec: SpeedupSpec, architecture: str) -> int:
    """As records have it."""
    return spec.image_size or (default(architecture).crop if architecture in DETECTORS else 0)


def _work(spec: SpeedupSpec) -> str:
    return f"speedup-{spec.mode}"
