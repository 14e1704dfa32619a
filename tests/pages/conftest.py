"""Pages start no workers in these tests; a test that needs a job done does it itself."""

import pytest
import torch

from sparse_core.jobs import queue
from sparse_core.networks import architectures, masks


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    monkeypatch.setattr("streamlit.page_link", lambda *_, **__: None)  # a page alone has no others; see tests/browser


@pytest.fixture(scope="session")
def state():
    """A CIFAR ResNet20 of 10 classes, half of its convolution weights 0."""
    torch.manual_seed(0)
    module = architectures.build("resnet20")
    masks.apply(module, masks.top_k(module, 0.5))
    return {**module.state_dict(), "linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}


@pytest.fixture
def file(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "my net.pth.tar")
    return tmp_path / "my net.pth.tar"
