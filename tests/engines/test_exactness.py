"""The difference between an engine's output and PyTorch's in fp32."""

import numpy as np
import pytest
import torch

from benchmarks import deepsparse_speed
from sparse_core.engines import compiling, exactness
from sparse_core.engines.compiled import Compiled


def test_a_difference_is_relative_to_the_largest_feature(small):
    class Off(Compiled):
        def _run_batch(self, given):
            with torch.no_grad():
                expected = small(torch.from_numpy(given)).numpy()
            return expected + 0.01 * np.abs(expected).max()

    compiled = Off("torch", 32, 2, 1)
    difference = exactness.difference(compiled, small)
    assert difference == pytest.approx(0.01, rel=1e-3)
    assert not exactness.is_exact(compiled, difference)
    compiled.precision = "bf16"
    assert exactness.is_exact(compiled, difference)
    assert not exactness.is_exact(compiled, float("nan"))


def test_features_that_are_not_finite_are_not_exact(small):
    class Broken(Compiled):
        def _run_batch(self, given):
            return np.full((len(given), 64), np.nan, np.float32)

    assert exactness.difference(Broken("torch", 32, 2, 1), small) == float("inf")


def test_the_benchmark_stops_if_an_output_differs_too_much(small):
    with compiling.compile("onnxruntime", small, 32, 2, 1) as compiled:
        networks, modules = {"dense": compiled}, {"dense": small}
        assert 0 <= deepsparse_speed.differences(networks, modules)["dense"] <= exactness.TOLERANCE["fp32"]
        right = compiled._run_batch
        compiled._run_batch = lambda given: 1.1 * right(given)
        with pytest.raises(SystemExit) as end:
            deepsparse_speed.differences(networks, modules)
    assert "The output of ONNX Runtime differs from PyTorch's in fp32 by 1.0e-01" in end.value.code
