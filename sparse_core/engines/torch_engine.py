"""PyTorch, a dense engine, in the fastest of a few ways."""

import copy
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sparse_core.engines.compiled import Compiled, median_seconds
from sparse_core.engines.machine import PeakMemory
from sparse_core.engines.torch_cpu import native_bf16, torch_threads

CHUNK = 8  # images run at once: the C library maps larger activations anew for each layer, which is slower

Forward = Callable[[Tensor], Tensor]


class Engine(Compiled):
    """A backbone in PyTorch: as it is, as a frozen graph or in bf16, by a short measurement. ``precision`` fp32, bf16,
    or best: the faster of the two, bf16 only if the processor has it."""

    def __init__(self, module: nn.Module, input_size: int, batch_size: int, threads: int, precision: str) -> None:
        super().__init__("torch", input_size, batch_size, threads)
        self.version = str(torch.__version__)
        self._memory = PeakMemory()
        sample = torch.zeros(min(batch_size, CHUNK), 3, input_size, input_size)
        own = copy.deepcopy(module).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        candidates: list[tuple[str, Forward]] = []
        if precision != "bf16":
            candidates += [("fp32", own), ("fp32", _frozen(own, sample))]
        if precision == "bf16" or (precision == "best" and native_bf16()):
            candidates += [("bf16", _in_bf16(own))]
        if len(candidates) > 1:
            with torch_threads(threads), torch.inference_mode():
                candidates.sort(key=lambda candidate: median_seconds(lambda: candidate[1](sample)))
        self.precision, self._forward = candidates[0]

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        chunks = torch.from_numpy(np.ascontiguousarray(images, np.float32)).split(CHUNK)
        with torch_threads(self.threads), torch.inference_mode():
            return torch.cat([self._forward(chunk).float() for chunk in chunks]).numpy()


def _frozen(module: nn.Module, sample: Tensor) -> Forward:
    """The network as torch's own inference graph: BatchNorm folded, weights laid out as its kernels need them."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; torch.compile needs a C++ compiler to be there
        return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, sample, check_trace=False)))


def _in_bf16(module: nn.Module) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return module(images.to(memory_format=torch.channels_last))

    return forward
