"""DeepSparse, the engine that skips weights that are zero, in a process of its own."""

import itertools

import numpy as np
from torch import nn

from sparse_core.engines.compiled import CompiledFromOnnx
from sparse_core.engines.deepsparse_client import Process
from sparse_core.errors import InputError


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

    ``/layer1/layer1.0/conv1/Conv`` is ``layer1.0.conv1``.
    """
    scopes = node.split(",")[0].split("/")[1:-1]
    inner = [scope for scope, next_one in itertools.pairwise(scopes) if not next_one.startswith(f"{scope}.")]
    return ".".join([*inner, *scopes[-1:]]) or "other"
