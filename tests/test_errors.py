"""Which exceptions are the user's to solve, and the sentence that each becomes."""

import errno

import duckdb
import pytest

from sparse_core.errors import as_input_error, unknown_name


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left", "/d/.x.csv.k2v"), "free disk space for /d, but the disk is full"),
        (duckdb.IOException("IO Error: No space left on device"), "free disk space for the file, but the disk is full"),
        (OSError(errno.EACCES, "Permission denied", "/d/x"), "Expected access to /d/x, but permission is denied"),
        (OSError(errno.EROFS, "Read-only", b"/d/x"), "Expected to write /d/x, but its disk is read-only"),
        (OSError(errno.ENAMETOOLONG, "Too long", "x" * 999), f"but one in {'x' * 200}… is too long"),
    ],
)
def test_errors_of_the_disk_become_one_sentence(error, message):
    assert message in str(as_input_error(error))


def test_an_internal_error_is_not_an_input_error():
    assert as_input_error(KeyError("x")) is None
    assert as_input_error(OSError("no number")) is None


def test_an_unknown_name_lists_some_of_many_names():
    said = str(unknown_name("backbone", "zzz", [f"net{number:02}" for number in range(72)]))
    assert said.startswith("Unknown backbone 'zzz'. Known: net00, net01") and said.endswith("net14 and 57 more.")
    assert str(unknown_name("backbone", "zzz", ["b", "a"])) == "Unknown backbone 'zzz'. Known: a, b."
