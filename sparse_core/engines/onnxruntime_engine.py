"""ONNX Runtime, a dense engine: the control that sparse figures are compared with."""

import numpy as np
import onnxruntime
from torch import nn

from sparse_core.engines.compiled_from_onnx import CompiledFromOnnx
from sparse_core.engines.machine import PeakMemory


class Engine(CompiledFromOnnx):
    """A backbone in ONNX Runtime, in fp32 on the CPU."""

    def __init__(self, module: nn.Module, input_size: int, batch_size: int, threads: int, precision: str) -> None:
        super().__init__("onnxruntime", module, input_size, batch_size, threads)

    def _load(self) -> None:
        self.version = onnxruntime.__version__
        self._memory = PeakMemory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(self._onnx), options, providers=["CPUExecutionProvider"])
        self._folder.cleanup()  # all is in memory now, and a killed process leaves nothing behind

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        given = len(images)
        if given < self.batch_size:
            images = np.concatenate([images, np.zeros((self.batch_size - given, *images.shape[1:]), np.float32)])
        (features,) = self._session.run(None, {"images": np.ascontiguousarray(images, np.float32)})
        return features[:given]
