"""A small network, and compiled in each engine."""

import pytest
import torch

from sparse_core.engines import compiling
from sparse_core.networks import architectures
from tests.support.engines import calibrated


@pytest.fixture(autouse=True)
def brief_measurements(monkeypatch):
    """PyTorch chooses between its ways after two runs each, not after a second: the results agree in either."""
    monkeypatch.setattr("sparse_core.engines.compiled.MEASURE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return calibrated(architectures.build("resnet20"))


@pytest.fixture(scope="module")
def compiled_small(small):
    compiled = {}

    def get(engine):
        if engine not in compiled:
            compiled[engine] = compiling.compile(engine, small, 32, 2, 1)
        return compiled[engine]

    yield get
    for one in compiled.values():
        one.close()
