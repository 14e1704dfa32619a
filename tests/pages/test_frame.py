"""The frame around the pages: errors are shown as one sentence."""

import errno

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.frame import plain
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Records


@pytest.mark.parametrize("refusal", ["file", "full"])
def test_a_home_that_cannot_be_used_is_one_sentence(refusal, home, monkeypatch):
    message = f"SPARSE_TRANSFER_HOME takes a folder; got the file {home}"
    if refusal == "file":
        home.write_text("")
    else:
        message = "Expected free disk space for the file, but the disk is full"
        monkeypatch.setattr(Records, "fingerprint", lambda _: no_space())
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60).run()
    assert not app.exception
    (error,) = app.error
    assert error.value.startswith(plain(message))


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device")
