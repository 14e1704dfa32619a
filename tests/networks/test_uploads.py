"""Uploaded files: written atomically, under safe names, deleted after a day."""

import io
import os
import shutil
import time

import pytest

from sparse_core.networks import uploads
from sparse_core.paths import LEFTOVER_SECONDS, remove_leftovers
from tests.support.refusals import refused


def test_an_upload_is_stored(home):
    kept = uploads.keep(home, io.BytesIO(b"weights" * 1000), "net.pth", 7000)
    assert (kept.name, kept.read_bytes()) == ("net.pth", b"weights" * 1000)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\nets\\my net (1).pth", "my-net-1-.pth"),
        ("..", "checkpoint"),
        ("", "checkpoint"),
        (".hidden.pt", "hidden.pt"),
        ("x" * 300 + ".safetensors", "x" * 88 + ".safetensors"),
    ],
)
def test_names_are_made_safe(home, name, safe):
    assert uploads.safe_name(name) == safe
    assert uploads.keep(home, io.BytesIO(b"w"), name, 1).parent.parent == uploads.folder(home)


def test_an_interrupted_upload_leaves_nothing(home):
    class Broken(io.RawIOBase):
        def read(self, *_):
            raise ConnectionError

    with pytest.raises(ConnectionError):
        uploads.keep(home, Broken(), "net.pth", 1)
    assert list(uploads.folder(home).iterdir()) == []


def test_a_file_larger_than_the_free_space_is_refused(home):
    free = shutil.disk_usage("/").free
    assert "Not enough disk space" in refused(uploads.keep, home, io.BytesIO(b"w"), "net.pth", 1000 * free)


def test_only_uploads_are_discarded(home, tmp_path):
    kept = uploads.keep(home, io.BytesIO(b"w"), "net.pth", 1)
    own = tmp_path / "net.pth"
    own.write_bytes(b"w")
    for file in (kept, own):
        uploads.discard(home, file)
    assert not kept.exists() and own.exists()


def test_old_uploads_are_deleted(home):
    old = uploads.keep(home, io.BytesIO(b"w"), "old.pth", 1)
    day_ago = time.time() - LEFTOVER_SECONDS - 1
    os.utime(old.parent, (day_ago, day_ago))
    new = uploads.keep(home, io.BytesIO(b"w"), "new.pth", 1)
    assert not old.exists()
    os.utime(new.parent, (day_ago, day_ago))
    uploads.sweep(home)
    assert not new.exists()


def test_deleting_leftovers_allows_for_another_process_doing_the_same(tmp_path):
    remove_leftovers([tmp_path / "already deleted"])
