"""The choice of the engine that extracts features: by measurements in the form in which they extract, kept in the home folder.

How long an engine of one machine takes depends on architecture, input size and, for DeepSparse alone, sparsity; so a
measurement holds for every network that agrees in these. That an engine computes what PyTorch computes is checked for each
network anew.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_core import stored
from sparse_core.catalog import ENGINES
from sparse_core.engines import availability
from sparse_core.engines.extractor import Extractor, form
from sparse_core.engines.machine import cores, machine
from sparse_core.errors import InputError
from sparse_core.networks.backbones import Backbone
from sparse_core.paths import write_json
from sparse_core.specs.progress import Progress, Report

# A job has to take this long in the fastest engine so far for another one to be measured. Compiling takes some seconds, with
# the start of DeepSparse ten to fifteen, and a faster engine seldom saves more than two thirds of the time.
WORTH_SECONDS = {"onnxruntime": 6.0, "deepsparse": 40.0}
# The share of zeros from which on DeepSparse can be the fastest: dense networks are as fast in ONNX Runtime.
SPARSE_FROM = 0.5
FASTER_IF_SPARSE = ("deepsparse",)


@dataclass(frozen=True)
class Measured:
    """One engine on one kind of network: seconds to compile, and seconds per image; infinite where it cannot run it."""

    seconds_to_start: float
    seconds_per_image: float
    error: str = ""

    def seconds(self, images: int) -> float:
        """The time that so many images take, compiling included."""
        return self.seconds_to_start + images * self.seconds_per_image


def open_fastest(
    home: Path, backbone: Backbone, sample: Callable[[], np.ndarray], images: int, report: Report
) -> tuple[Extractor, list[str]]:
    """The fp32 engine that has the features of so many images soonest, ready to extract, and notes for the user.

    ``sample`` decodes a few of the images (N, crop, crop, 3) uint8, on which engines are timed and checked against PyTorch.
    An engine is measured once per machine and kind of network, and only where the job is long enough to pay for it; the
    network compiled for the measurement is the one that then extracts. PyTorch needs no compilation: few images run in it.
    """
    report(Progress("Choosing the fastest engine"))
    measured = _read(home, backbone)
    opened = {"torch": Extractor("torch", backbone)}

    def keep(engine: str, times: Measured) -> None:
        measured[engine] = times
        write_json(_file(home, backbone, engine), {"measured": dataclasses.asdict(times), **_kind(backbone, engine)})

    try:
        decoded = sample()
        if "torch" not in measured:
            keep("torch", Measured(0.0, opened["torch"].seconds_per_image(decoded)))
        for engine in _candidates(backbone):
            soonest = min(entry.seconds(images) for entry in measured.values())
            if engine not in measured and soonest >= WORTH_SECONDS[engine]:
                report(Progress(f"Measuring {ENGINES[engine]}"))
                keep(engine, _measure(engine, backbone, decoded, opened))
        return _open_soonest(backbone, measured, opened, decoded, images)
    finally:
        for extractor in opened.values():
            extractor.close()


def known_seconds(home: Path, backbone: Backbone, images: int) -> float | None:
    """The time that ``open_fastest`` and the extraction of so many decoded images take; None where that was not measured."""
    measured = _read(home, backbone)
    soonest = min((entry.seconds(images) for entry in measured.values()), default=math.inf)
    worth_measuring = (engine for engine in _candidates(backbone) if engine not in measured)
    is_known = math.isfinite(soonest) and all(soonest < WORTH_SECONDS[engine] for engine in worth_measuring)
    return soonest if is_known else None


def open_checked(
    engine: str, backbone: Backbone, sample: Callable[[], np.ndarray], precision: str = "fp32"
) -> Extractor:
    """This engine, ready to extract. Raises InputError where it is missing, cannot run the network, or differs from PyTorch
    on the images that ``sample`` decodes."""
    extractor = Extractor(engine, backbone, precision)
    try:
        if engine != "torch":
            extractor.require_exact(sample())
    except BaseException:
        extractor.close()
        raise
    return extractor


def _candidates(backbone: Backbone) -> list[str]:
    """The engines that may be faster than PyTorch, those that compile soonest first."""
    may_win = {"onnxruntime": True, "deepsparse": backbone.sparsity >= SPARSE_FROM}
    return [name for name, may in may_win.items() if may and availability.missing(name) is None]


def _measure(engine: str, backbone: Backbone, decoded: np.ndarray, opened: dict[str, Extractor]) -> Measured:
    """The engine's times; what was compiled for them is added to ``opened``."""
    try:
        extractor = opened[engine] = Extractor(engine, backbone)
        return Measured(extractor.seconds_to_start, extractor.seconds_per_image(decoded))
    except InputError as error:
        return Measured(math.inf, math.inf, str(error))


def _open_soonest(
    backbone: Backbone, measured: dict[str, Measured], opened: dict[str, Extractor], decoded: np.ndarray, images: int
) -> tuple[Extractor, list[str]]:
    """Takes the engine out of ``opened``, or opens it; one that is not exact for this network is passed over with a note."""
    notes: list[str] = []

    def seconds(engine: str) -> float:
        start = 0.0 if engine in opened else measured[engine].seconds_to_start
        return start + images * measured[engine].seconds_per_image

    for engine in sorted({*_candidates(backbone)} & measured.keys(), key=seconds):
        if seconds(engine) >= seconds("torch"):
            break
        try:
            if engine not in opened:
                opened[engine] = Extractor(engine, backbone)
            opened[engine].require_exact(decoded)
            return opened.pop(engine), notes
        except InputError as error:
            notes.append(f"{ENGINES[engine]}, the fastest engine, was not used. {error}")
    return opened.pop("torch"), notes


def _file(home: Path, backbone: Backbone, engine: str) -> Path:
    identity = json.dumps([_kind(backbone, engine), form(engine, backbone.transform.crop)], sort_keys=True)
    return home / "engines" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def _kind(backbone: Backbone, engine: str) -> dict[str, Any]:
    """What the times of an engine depend on."""
    kind = {
        "engine": engine,
        "architecture": backbone.card.architecture,
        "variant": backbone.variant,
        "input_size": backbone.transform.crop,
        "machine": machine(),
        "cores": cores(),
    }
    return kind | ({"sparsity": round(backbone.sparsity, 1)} if engine in FASTER_IF_SPARSE else {})


def _read(home: Path, backbone: Backbone) -> dict[str, Measured]:
    """What was measured before, by engine; nothing where a file is missing, damaged or of another version."""
    measured = {}
    for engine in ENGINES:
        file = _file(home, backbone, engine)
        with stored.reading(file):
            entry = json.loads(file.read_bytes())["measured"]
            measured[engine] = Measured(*_times(entry), str(entry["error"]))
    return measured


def _times(entry: dict[str, Any]) -> tuple[float, float]:
    """Both times of an entry, which has null for infinite ones. Raises ValueError for numbers that are no times."""
    names = ("seconds_to_start", "seconds_per_image")
    start, pace = (math.inf if entry[name] is None else float(entry[name]) for name in names)
    if not (start >= 0 and pace > 0):
        raise ValueError("not a time")
    return start, pace
