"""Compile a backbone with an engine. DeepSparse skips weights that are zero; ONNX Runtime and PyTorch are the dense controls."""

import importlib
import time

from torch import nn

from sparse_core.catalog import ENGINES, PRECISIONS
from sparse_core.engines import availability
from sparse_core.engines.compiled import Compiled
from sparse_core.engines.machine import cores
from sparse_core.errors import InputError, unknown_name


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
