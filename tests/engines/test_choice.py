"""The fastest engine: measured once, remembered, exact ones only."""

import json
import time

import numpy as np
import pytest

from sparse_core.engines import availability, compiling
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import InputError
from tests.support.engines import features, patched_compile


class TimedEngine(Compiled):
    """An engine with a given error, and a given speed by a clock that it advances."""

    clock = 0.0

    def __init__(self, name, module, seconds, error):
        super().__init__(name, 32, 2, 1)
        self._module, self._seconds, self._error = module, seconds, error

    def _run_batch(self, given):
        TimedEngine.clock += self._seconds
        return features(self._module, given) * np.float32(1 + self._error)


@pytest.fixture
def timed(monkeypatch):
    """Replaces the engines by timed ones; the list of those compiled."""
    compiled = []
    known = {"deepsparse": (0.0, 0.1), "onnxruntime": (0.02, 0.0), "torch": (0.2, 0.0)}

    def change(_, name, module, *__, **___):
        compiled.append(name)
        return TimedEngine(name, module, *known[name])

    patched_compile(monkeypatch, change)
    monkeypatch.setattr(availability, "missing", lambda name: None)
    monkeypatch.setattr("sparse_core.engines.compiled.MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: TimedEngine.clock)
    return compiled


def test_the_fastest_exact_engine_is_measured_once_and_remembered(small, timed, home):
    assert compiling.fastest(home, small, "key", 32, 2) == "onnxruntime"  # deepsparse is faster but not exact
    assert compiling.fastest(home, small, "key", 32, 2) == "onnxruntime"
    assert timed == ["deepsparse", "onnxruntime", "torch"]
    (file,) = (home / "engines").glob("*.json")
    document = json.loads(file.read_text())
    assert document["measured"]["deepsparse"]["is_exact"] is False
    assert document["machine"]["processor"] and document["batch_size"] == 2
    compiling.fastest(home, small, "key", 32, 4)
    compiling.fastest(home, small, "other", 32, 2)
    assert len(timed) == 9


def test_bf16_and_few_images_run_in_torch_unmeasured(home, small, timed):
    assert compiling.fastest(home, small, "key", 32, 2, precision="bf16") == "torch"
    assert compiling.fastest(home, small, "key", 32, 2, images=compiling.WORTH_MEASURING - 1) == "torch"
    assert not timed
    assert compiling.fastest(home, small, "key", 32, 2, images=compiling.WORTH_MEASURING) == "onnxruntime"
    assert compiling.fastest(home, small, "key", 32, 2, images=1) == "onnxruntime"


def test_an_engine_that_cannot_run_the_network_is_not_chosen(small, timed, monkeypatch, home):
    def change(compile, name, *given, **named):
        if name == "onnxruntime":
            raise InputError("This network cannot be exported to ONNX.")
        return compile(name, *given, **named)

    patched_compile(monkeypatch, change)
    assert compiling.fastest(home, small, "key", 32, 2) == "torch"
    (file,) = (home / "engines").glob("*.json")
    assert "cannot be exported" in json.loads(file.read_text())["measured"]["onnxruntime"]["error"]


def test_a_damaged_file_is_measured_again(small, timed, home):
    compiling.fastest(home, small, "key", 32, 2)
    (file,) = (home / "engines").glob("*.json")
    file.write_text("{")
    assert compiling.fastest(home, small, "key", 32, 2) == "onnxruntime"
    assert len(timed) == 6
