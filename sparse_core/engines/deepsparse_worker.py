"""DeepSparse in a process of its own, run by the Python of .venv-deepsparse, which lacks the product's other packages.

    python -I deepsparse_worker.py INPUT_FD OUTPUT_FD ANSWERS_FD

Two descriptors are memory shared with the parent: images (B, 3, S, S) float32 in, features (B, D) float32 out. Commands are
JSON lines on stdin; each is answered by one JSON line on the third, with ``error`` if it failed. What the engine prints goes
elsewhere: to stdout and stderr, which are the parent's log. ``ready`` {} answers {}
once DeepSparse is loaded; ``compile`` {onnx, shape, threads} answers {dimensions, threads, supported, version}; ``run`` {}
answers {}; ``layers`` {rounds} answers {layers: [[name, milliseconds], …]}. The process ends with its parent.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from typing import Any

os.environ["NM_DISABLE_ANALYTICS"] = "1"

import deepsparse
import numpy as np


class Worker:
    """One compiled network and the shared memory of its input and output."""

    def __init__(self, input_descriptor: int, output_descriptor: int) -> None:
        self._input_descriptor = input_descriptor
        self._output_descriptor = output_descriptor

    def ready(self) -> dict[str, Any]:
        return {}

    def compile(self, onnx: str, shape: list[int], threads: int) -> dict[str, Any]:
        self._onnx = onnx
        self._threads = min(threads, deepsparse.cpu.cpu_architecture().num_available_physical_cores)
        self._input = _shared(self._input_descriptor, shape)
        self._engine = deepsparse.Engine(onnx, batch_size=shape[0], num_cores=self._threads)
        (features,) = self._engine.run([self._input])
        os.ftruncate(self._output_descriptor, features.nbytes)
        self._output = _shared(self._output_descriptor, features.shape)
        return {
            "dimensions": features.shape[1],
            "threads": self._threads,
            "supported": self._engine.fraction_of_supported_ops,
            "version": deepsparse.__version__,
        }

    def run(self) -> dict[str, Any]:
        (features,) = self._engine.run([self._input], val_inp=False)
        self._output[:] = features
        return {}

    def layers(self, rounds: int) -> dict[str, Any]:
        analysis = deepsparse.model_debug_analysis(
            self._onnx,
            [self._input],
            batch_size=len(self._input),
            num_cores=self._threads,
            num_iterations=rounds,
            num_warmup_iterations=1,
        )
        return {"layers": [entry for layer in analysis["layer_info"] for entry in _layer_times(layer)]}


def _shared(descriptor: int, shape: tuple[int, ...] | list[int]) -> np.ndarray:
    return np.ndarray(shape, np.float32, mmap.mmap(descriptor, 4 * int(np.prod(shape))))


def _layer_times(layer: dict[str, Any]) -> list[list[Any]]:
    """[name, milliseconds] of a layer, or of each of its parts if DeepSparse runs it in parts."""
    if layer["sub_layer_info"]:
        return [entry for part in layer["sub_layer_info"] for entry in _layer_times(part)]
    return [[layer.get("canonical_name") or layer["name"], layer["average_run_time_in_ms"]]]


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    answers = os.fdopen(int(sys.argv[3]), "w", buffering=1)
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    worker = Worker(*map(int, sys.argv[1:3]))
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as error:
            answer = {"error": (str(error).splitlines() or [type(error).__name__])[0]}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
