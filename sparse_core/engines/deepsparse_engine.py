"""DeepSparse, the engine that skips weights that are zero, in a process of its own: see ``deepsparse_worker``."""

import contextlib
import itertools
import json
import mmap
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import nn

from sparse_core.engines.availability import DEEPSPARSE
from sparse_core.engines.compiled_from_onnx import CompiledFromOnnx
from sparse_core.engines.machine import PeakMemory
from sparse_core.errors import InputError

PYTHON = (str(DEEPSPARSE / "bin" / "python"), "-I")
SCRIPT = Path(__file__).with_name("deepsparse_worker.py")


class Engine(CompiledFromOnnx):
    """A backbone in DeepSparse, in fp32 on physical cores."""

    def __init__(self, module: nn.Module, input_size: int, batch_size: int, threads: int, precision: str) -> None:
        super().__init__("deepsparse", module, input_size, batch_size, threads)

    def _load(self) -> None:
        self._process = Process(self._onnx, (self.batch_size, 3, self.input_size, self.input_size), self.threads)
        self.threads = self._process.compiled["threads"]
        self.version = self._process.compiled["version"]
        supported = self._process.compiled["supported"]
        if not supported:
            self._process.close()
            raise InputError("DeepSparse supports none of this network's operators. Use another engine.")
        if supported < 1:
            self.notes = (f"DeepSparse leaves {1 - supported:.0%} of the operators to a slower fallback.",)

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        return self._process.run(images)

    def layer_shares(self, rounds: int = 3) -> dict[str, float] | None:
        milliseconds = self._process.ask("layers", rounds=rounds)["layers"]
        total = sum(value for _, value in milliseconds)
        shares: dict[str, float] = {}
        for node, value in milliseconds:
            shares[layer_name(node)] = shares.get(layer_name(node), 0.0) + value / total
        return shares or None

    def _memory_rise(self) -> int | None:
        return self._process.memory.rise()

    @property
    def restarts(self) -> int:
        return self._process.restarts

    def close(self) -> None:
        self._process.close()
        super().close()


def layer_name(node: str) -> str:
    """The module of an ONNX node, or of the first of fused nodes; "other" if it has none.
    ``/layer1/layer1.0/conv1/Conv`` is ``layer1.0.conv1``."""
    scopes = node.split(",")[0].split("/")[1:-1]
    inner = [scope for scope, next_one in itertools.pairwise(scopes) if not next_one.startswith(f"{scope}.")]
    return ".".join([*inner, *scopes[-1:]]) or "other"


class Process:
    """DeepSparse with one network compiled at one batch size. A process that dies is started again once.

    ``onnx`` is the backbone's file, which must exist until ``close``; ``shape`` is (B, 3, S, S). ``restarts`` counts restarts,
    which make times taken meanwhile invalid; ``memory`` starts when DeepSparse is loaded. Raises InputError if DeepSparse
    cannot compile the network or the process died twice.
    """

    def __init__(self, onnx: Path, shape: tuple[int, int, int, int], threads: int) -> None:
        self._onnx, self._shape, self._threads = onnx, shape, threads
        self._input_descriptor = os.memfd_create("images")
        self._output_descriptor = os.memfd_create("features")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._process: subprocess.Popen[str] | None = None
        self._answers: IO[str] | None = None
        self.restarts = 0
        try:
            os.ftruncate(self._input_descriptor, 4 * int(np.prod(shape)))
            self.input = _shared(self._input_descriptor, shape)
            self._start()
            self.compiled = self._compile()
            self.output = _shared(self._output_descriptor, (shape[0], self.compiled["dimensions"]))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of the worker process."""
        assert self._process
        return self._process.pid

    def run(self, images: np.ndarray) -> np.ndarray:
        """Features (N, D) of images (N, 3, S, S) float32, N up to the batch size."""
        self._require_open()
        self.input[: len(images)] = images
        self.ask("run")
        return self.output[: len(images)].copy()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer. If the process dies meanwhile, it is started again, once."""
        try:
            return self._ask(command, **arguments)
        except subprocess.CalledProcessError as death:
            if self.restarts:
                raise self._give_up(death.returncode) from death
        self.restarts = 1
        self._start()
        self._compile()
        return self.ask(command, **arguments)

    def close(self) -> None:
        """End the process and release the shared memory."""
        self._stop()
        for descriptor in (self._input_descriptor, self._output_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._input_descriptor = self._output_descriptor = -1
        for shared in ("input", "output"):  # each keeps its mapping of the memory alive
            vars(self).pop(shared, None)
        self._log.close()

    def _start(self) -> None:
        self._stop()
        self._log.seek(0)
        self._log.truncate()
        answers, for_answers = os.pipe()  # of their own: an engine may print to stdout
        self._answers = os.fdopen(answers, encoding="utf-8")
        descriptors = (self._input_descriptor, self._output_descriptor, for_answers)
        try:
            self._process = subprocess.Popen(
                [*PYTHON, str(SCRIPT), *map(str, descriptors)],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=descriptors,
                text=True,
            )
        finally:
            os.close(for_answers)

    def _stop(self) -> None:
        if self._answers is not None:
            self._answers.close()
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # a command that the dead process never read
            assert self._process.stdin
            self._process.stdin.close()
        self._process = None

    def _compile(self) -> dict[str, Any]:
        self.ask("ready")
        self.memory = PeakMemory(self.pid)
        return self.ask("compile", onnx=str(self._onnx), shape=self._shape, threads=self._threads)

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        self._require_open()
        assert self._process and self._process.stdin and self._answers
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._answers.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):  # it died, perhaps while it answered
            raise subprocess.CalledProcessError(self._process.wait(), SCRIPT.name)
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(f"DeepSparse cannot run this network: {answer['error']}")
        return answer

    def _require_open(self) -> None:
        if self._process is None:
            raise InputError("This engine was closed; compile the network again.")

    def _give_up(self, code: int) -> InputError:
        self._log.seek(0)
        output = self._log.read().decode(errors="replace").strip().splitlines()
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        last = f"; its last output: {output[-1]}" if output and code > 0 else ""
        self._stop()
        return InputError(
            f"DeepSparse's process died twice ({cause}{last}). Is there enough memory? Try again, or use another engine."
        )


def _shared(descriptor: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.ndarray(shape, np.float32, mmap.mmap(descriptor, 4 * int(np.prod(shape))))
