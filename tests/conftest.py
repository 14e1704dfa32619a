"""Every test has a home folder of its own, so that none sees the user's runs."""

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
