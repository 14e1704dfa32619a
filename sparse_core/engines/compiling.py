"""Compile a backbone with an engine, check that it computes what PyTorch computes in fp32, and choose the fastest
engine. DeepSparse skips weights that are zero; ONNX Runtime and PyTorch are the dense controls."""

import contextlib
import hashlib
import importlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.engines import availability
from sparse_core.engines.compiled import Compiled, median_seconds, noise
from sparse_core.engines.machine import cores, machine
from sparse_core.errors import InputError, unknown_name
from sparse_core.paths import write_json

# By precision, the largest accepted difference to PyTorch in fp32, relative to the largest feature.
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}
CHECKED_IMAGES = 4
WORTH_MEASURING = 5000  # images; extracting fewer takes about as long as measuring the engines


def compile(
    name: str, module: nn.Module, input_size: int, batch_size: int, threads: int = 0, precision: str = "fp32"
) -> Compiled:
    """Make ``module`` (in evaluation mode, (N, 3, S, S) to (N, D)) ready to run by an engine.

    ``threads`` 0 means all cores. ``precision`` fp32, bf16 (PyTorch only), or best: PyTorch's faster one of the two,
    by a short measurement, bf16 only if the processor has it. Raises InputError, one line each, for an engine that is
    missing, a batch size below 1, more threads than cores, and a network that the engine cannot run.
    """
    reason = availability.missing(name)
    if reason:
        raise InputError(reason)
    if precision not in (*PRECISIONS, "best"):
        raise unknown_name("precision", precision, (*PRECISIONS, "best"))
    if precision == "bf16" and name != "torch":
        raise InputError(f"{ENGINES[name]} computes in fp32 here; precision bf16 needs the engine torch.")
    for what, value in (("batch size", batch_size), ("input size", input_size)):
        if value < 1:
            raise InputError(f"The {what} must be at least 1; got {value}.")
    if not 0 <= threads <= cores():
        raise InputError(f"Expected 1 to {cores()} threads, as many as this machine has cores; got {threads}.")
    started = time.perf_counter()
    # Imported now, because an engine's library may be missing and takes time to load.
    engine = importlib.import_module(f"sparse_core.engines.{name}_engine").Engine
    compiled: Compiled = engine(module, input_size, batch_size, threads or cores(), precision)
    compiled.seconds_to_compile = time.perf_counter() - started
    return compiled


def difference(compiled: Compiled, module: nn.Module) -> float:
    """The largest difference between the engine's features and those of ``module`` in PyTorch, fp32, on images of
    noise. Relative to the largest feature; infinite where a feature is not finite."""
    images = noise(CHECKED_IMAGES, compiled.input_size)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        expected = module(torch.from_numpy(images)).float().numpy()
    found = float(np.abs(compiled.run(images) - expected).max())
    return found / (float(np.abs(expected).max()) or 1.0) if np.isfinite(found) else float("inf")


def is_exact(compiled: Compiled, difference: float) -> bool:
    """Whether a relative difference is small enough to keep the engine's figures."""
    return difference <= TOLERANCE[compiled.precision]


def require_exact(compiled: Compiled, module: nn.Module) -> float:
    """The ``difference``. Raises InputError if it is too large."""
    found = difference(compiled, module)
    if not is_exact(compiled, found):
        raise InputError(
            f"The output of {ENGINES[compiled.engine]} differs from PyTorch's in fp32 by {found:.1e} of the largest "
            f"value, above {TOLERANCE[compiled.precision]:.0e}, so no figure was kept."
        )
    return found


def fastest(
    home: Path,
    module: nn.Module,
    key: str,
    input_size: int,
    batch_size: int,
    precision: str = "fp32",
    images: int | None = None,
) -> str:
    """The fastest available engine that is exact enough, for a backbone whose content hash is ``key``; else torch.

    Measured once per machine, backbone and batch size, then remembered and used for any number of ``images``. A backbone
    not measured yet runs in torch, unmeasured, for fewer than ``WORTH_MEASURING`` images. So does bf16, which no other
    engine has.
    """
    if precision == "bf16":
        return "torch"
    available = [name for name in ENGINES if availability.missing(name) is None]
    circumstances = {"machine": machine(), "cores": cores(), "engines": available}
    identity = json.dumps([circumstances, key, input_size, batch_size], sort_keys=True)
    file = home / "engines" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return json.loads(file.read_text(encoding="utf-8"))["fastest"]
    if images is not None and images < WORTH_MEASURING:
        return "torch"
    measured = {name: _measure(name, module, input_size, batch_size) for name in available}
    exact = {name: found["milliseconds_per_image"] for name, found in measured.items() if found["is_exact"]}
    chosen = min(exact, key=lambda name: exact[name], default="torch")
    document = {"fastest": chosen, "measured": measured, "backbone": key, "batch_size": batch_size, **circumstances}
    write_json(file, document)
    return chosen


def _measure(name: str, module: nn.Module, input_size: int, batch_size: int) -> dict[str, Any]:
    """ms/image and the difference to PyTorch, or the error of an engine that cannot run the network or is not exact."""
    images = noise(batch_size, input_size)
    try:
        with compile(name, module, input_size, batch_size) as compiled:
            difference = require_exact(compiled, module)
            seconds = median_seconds(lambda: compiled.run(images))
            return {"milliseconds_per_image": 1e3 * seconds / batch_size, "difference": difference, "is_exact": True}
    except InputError as error:
        return {"error": str(error), "is_exact": False}
