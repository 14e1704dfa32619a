"""Every test has a home folder of its own and no zoo, so that none sees the user's runs or what is shipped; and inputs that
several folders' tests use."""

import pytest

from sparse_core import paths
from sparse_core.jobs import queue
from sparse_core.results import store
from tests.support.images import image_folder
from tests.support.networks import pruned_file


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def without_shipped_results(tmp_path, monkeypatch):
    """Tests count rows: what is shipped changes with every version. Tests of it set a file of their own, or the real one."""
    monkeypatch.setattr(store, "SHIPPED_RESULTS", tmp_path / "no-results.parquet")
    monkeypatch.setattr(paths, "SHIPPED", tmp_path / "shipped")


@pytest.fixture(autouse=True)
def zoo_folder(tmp_path, monkeypatch):
    """The folder of the zoo, which is empty."""
    monkeypatch.setattr(paths, "ZOO", tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)


@pytest.fixture
def images(tmp_path):
    """A folder of two classes with ten images each, as a user names it."""
    return str(image_folder(tmp_path / "p", {"dark": 10, "light": 10}))


@pytest.fixture
def sparse_backbone(tmp_path):
    """A pruned network as a user names it, ARCHITECTURE:PATH."""
    return f"resnet20:{pruned_file(tmp_path / 'net.pth', 0.5)}"
