"""Pages start no workers in these tests; a test that needs a job done does it itself."""

import pytest
import torch

from tests.support.networks import pruned_state


@pytest.fixture(autouse=True)
def page_alone(no_worker, monkeypatch):
    monkeypatch.setattr("streamlit.page_link", lambda *_, **__: None)  # a page alone has no others; see tests/browser


@pytest.fixture(scope="session")
def state():
    return pruned_state(0.5)


@pytest.fixture
def file(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "my net.pth.tar")
    return tmp_path / "my net.pth.tar"
