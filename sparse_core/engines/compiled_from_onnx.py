"""What the engines share that read the backbone from an ONNX file."""

import tempfile
from pathlib import Path

from torch import nn

from sparse_core.engines.compiled import Compiled
from sparse_core.networks import onnx_export
from sparse_core.paths import temporary_prefix


class CompiledFromOnnx(Compiled):
    """An engine that reads the backbone from an ONNX file, kept in a temporary folder until ``close``."""

    def __init__(self, engine: str, module: nn.Module, input_size: int, batch_size: int, threads: int) -> None:
        super().__init__(engine, input_size, batch_size, threads)
        self._folder = tempfile.TemporaryDirectory(prefix=temporary_prefix("engine"))
        self._onnx = Path(self._folder.name) / "backbone.onnx"
        try:
            onnx_export.backbone(module, input_size, self._onnx, batch_size)
            self._load()
        except BaseException:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        self._folder.cleanup()

    def _load(self) -> None:
        raise NotImplementedError
