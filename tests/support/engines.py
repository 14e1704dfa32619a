"""Engines and networks for tests that compile and run backbones."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from sparse_core import catalog
from sparse_core.engines import availability, compiling

AVAILABLE = [name for name in catalog.ENGINES if availability.missing(name) is None]
ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(name not in AVAILABLE, reason=str(availability.missing(name))))
    for name in catalog.ENGINES
]
needs_deepsparse = pytest.mark.skipif("deepsparse" not in AVAILABLE, reason=str(availability.missing("deepsparse")))


def images(number, size=32, seed=0):
    return np.random.default_rng(seed).standard_normal((number, 3, size, size), dtype=np.float32)


def features(network, images):
    """Features of the images, from torch."""
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


def patched_compile(monkeypatch, change):
    """Replace ``compiling.compile`` by ``change``, which is called with the original function and what it is given."""
    monkeypatch.setattr(compiling, "compile", functools.partial(change, compiling.compile))


def calibrated(network):
    """The network with BatchNorm statistics of its own activations: with others, a sparse one's features vanish."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(images(8, seed=1)))
    return network.eval()
