"""Reading files of the home folder that may be damaged or of another version: left out, and named once."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparse_core import stored
from tests.support.refusals import refused


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Example:
    count: int
    share: float
    parts: tuple[Inner, ...] = ()
    size: tuple[int, int] = (1, 1)
    limit: float | None = None


GOOD = {"count": 1, "share": 1, "parts": [{"name": "a"}], "size": [2, 3], "limit": None}


def test_a_document_becomes_a_dataclass_with_those_within():
    assert stored.made(Example, GOOD) == Example(1, 1, (Inner("a"),), (2, 3))
    assert stored.made(Example, {"count": 1, "share": 0.5, "limit": 2, "newer": []}) == Example(1, 0.5, limit=2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": "1"}, "Not a Example: 'count' is of the wrong type."),
        ({"count": True}, "'count' is of the wrong type."),
        ({"count": None}, "'count' is of the wrong type."),
        ({"share": []}, "'share' is of the wrong type."),
        ({"parts": [7]}, "'parts' is of the wrong type."),
        ({"parts": [{}]}, "Not a Inner: 'name' is missing."),
        ({"limit": "7"}, "'limit' is of the wrong type."),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changed, message):
    assert message in refused(stored.made, Example, {**GOOD, **changed})


def test_unknown_fields_are_refused_where_they_change_the_meaning():
    assert "'newer' is unknown" in refused(stored.made, Example, {**GOOD, "newer": 1}, strict=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"count": "one"}', b"[" * 100_000])
def test_a_damaged_file_is_left_out_and_named_once(tmp_path: Path, caplog, content):
    file = tmp_path / "some.json"
    file.write_bytes(content)
    for _ in range(2):
        assert stored.read_json(file, {"count": int}) is None
    assert caplog.text.count(f"{file} is left out") == 1
    assert list(stored.notes(tmp_path)) == ["some.json"]
    file.write_text(json.dumps({"count": 1}))
    assert stored.read_json(file, {"count": int}) == {"count": 1}
    assert stored.notes(tmp_path) == {}


def test_a_missing_file_is_not_named(tmp_path, caplog):
    assert stored.read_json(tmp_path / "none.json") is None
    assert not caplog.text and not stored.notes(tmp_path)


def test_a_file_within_a_folder_that_changes_ends_the_folders_note(tmp_path):
    inner = tmp_path / "run" / "spec.json"
    inner.parent.mkdir()
    inner.write_text("{")
    stored.leave_out(inner.parent, "it is damaged")
    assert stored.notes(tmp_path) == {"run": "is left out: it is damaged"}
    inner.write_text("{}")
    os.utime(inner, (1, 1))
    assert stored.notes(tmp_path) == {}
