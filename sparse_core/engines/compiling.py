"""Compile a backbone with an engine, and check that it computes what PyTorch computes in fp32. DeepSparse skips weights
that are zero; ONNX Runtime and PyTorch are the dense controls."""

import importlib
import time

import numpy as np
import torch
from torch import nn

from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.engines import availability
from sparse_core.engines.compiled import Compiled, noise
from sparse_core.engines.machine import cores
from sparse_core.errors import InputError, unknown_name

# By precision, the largest accepted difference to PyTorch in fp32, relative to the largest feature.
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}
CHECKED_IMAGES = 4


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


def difference(compiled: Compiled, module: nn.Module, images: np.ndarray | None = None) -> float:
    """The largest difference between the engine's features and those of ``module`` in PyTorch, fp32, on prepared images
    (N, 3, S, S), by default of noise. Relative to the largest feature; infinite where a feature is not finite."""
    images = noise(CHECKED_IMAGES, compiled.input_size) if images is None else images
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        expected = module(torch.from_numpy(images)).float().numpy()
    found = float(np.abs(compiled.run(images) - expected).max())
    return found / (float(np.abs(expected).max()) or 1.0) if np.isfinite(found) else float("inf")


def is_exact(compiled: Compiled, difference: float) -> bool:
    """Whether a relative difference is small enough to keep the engine's figures."""
    return difference <= TOLERANCE[compiled.precision]


def require_exact(compiled: Compiled, module: nn.Module, images: np.ndarray | None = None) -> float:
    """The ``difference``. Raises InputError if it is too large."""
    found = difference(compiled, module, images)
    if not is_exact(compiled, found):
        raise InputError(
            f"The output of {ENGINES[compiled.engine]} differs from PyTorch's in fp32 by {found:.1e} of the largest "
            f"value, above {TOLERANCE[compiled.precision]:.0e}, so no figure was kept."
        )
    return found
