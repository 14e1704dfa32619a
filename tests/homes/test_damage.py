"""The proof that no file of the home folder brings anything down: each kind of file is damaged in each way, then all pages
and verbs are opened, and the workers take their next jobs. What is broken is named, everything else is still there.

The home folder is made by the product and its files are found by walking it, so new kinds of files are covered by themselves.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparse_core.jobs import queue
from sparse_core.paths import REPOSITORY
from tests.support import damage
from tests.support.damage import BYTES, FIELDS, WHOLE
from tests.support.homes import rich_home
from tests.support.opening import open_everything

JSON = (".json", ".jsonl")
NAMED = {"runs": ("*",), "library": ("card.json",), "jobs": ("job.json",), "speeds": ("*",), "evaluations": ("*",)}
NAMED |= {"sweeps": ("plan.json", "state.json"), "views": ("*",)}


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The home folder, where any user may read it."""
    with tempfile.TemporaryDirectory(prefix="homes-") as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o755)
        patch.setattr(queue, "ensure_worker", lambda *_: None)
        yield rich_home(Path(folder) / "home", Path(folder) / "inputs")


@pytest.fixture
def copy(made: Path) -> Iterator[Path]:
    target = made.with_name("copy")
    shutil.copytree(made, target)
    yield target
    subprocess.run(["chmod", "-R", "u+rwX", str(target)], check=False)
    shutil.rmtree(target)


def require_the_rest(home: Path, found: dict, made: Path, broken: list[Path]) -> None:
    """Nothing but what is broken is missing, and that is named."""
    assert not any(found["errors"].values()), found["errors"]
    runs = {run["run_id"] for run in found["answers"]["runs"]}
    whole = {entry.name for entry in (made / "runs").iterdir() if entry.is_dir()}
    assert whole <= runs
    backbones = {card["name"] for card in found["answers"]["backbones"]}
    assert {entry.name for entry in (made / "library").iterdir() if entry.name != ".trash"} <= backbones
    whole = {entry.name for entry in (made / "sweeps").iterdir()} - {file.parent.name for file in broken}
    assert whole <= set(found["sweeps"])
    for file in broken:
        area, inner, *_ = (*file.relative_to(home).parts, "")
        if inner == ".trash":
            continue
        if file.name in NAMED.get(area, ()) or "*" in NAMED.get(area, ()):
            assert any(str(file.relative_to(home)).startswith(entry) for entry in found["notes"]), file


@pytest.mark.parametrize("way", ["deleted", "garbled", "truncated", "emptied"])
def test_damaged_files(made, copy, way):
    broken = _break(copy, way)
    found = open_everything(copy, deep=way == "garbled")
    # The sweep that goes on says what became of its run, on the page of that kind of work.
    found["errors"] = {page: text for page, text in found["errors"].items() if not text.startswith("This job was lost")}
    if way == "deleted":  # nothing can be said of what left no trace
        broken = [file for file in broken if len(file.relative_to(copy).parts) == 3 and "jobs" not in file.parts]
    require_the_rest(copy, found, made, broken)


def _break(home: Path, way: str) -> list[Path]:
    """Damage one file of each kind; of what can be copied, in a copy."""
    broken = []
    for number, files in enumerate(damage.files_by_kind(home).values()):
        file = files[-1]
        area, name, *_ = (*file.relative_to(home).parts, "")
        if area in WHOLE and not name.startswith((".", "compacted-")):
            entry = damage.copied(home / area / name, number)
            file = entry if entry.is_file() else entry / file.name
        BYTES[way](file)
        broken.append(file)
    return broken


@pytest.mark.parametrize("way", damage.FIELDS)
def test_files_with_other_fields(made, copy, way):
    """Of the entries that stand alone there is a copy for each field; of other files the first field is changed."""
    rounds = _change_fields(copy, way)
    found = open_everything(copy, deep=False)
    require_the_rest(copy, found, made, [])
    assert rounds > 100


def _change_fields(home: Path, way: str) -> int:
    number = 0
    for files in damage.files_by_kind(home).values():
        file = files[-1]
        area, name, *_ = (*file.relative_to(home).parts, "")
        if file.suffix not in JSON or not file.stat().st_size:
            continue
        texts = list(damage.variants(file, FIELDS[way]))
        if area not in WHOLE or name.startswith("."):
            file.write_text(texts[0])
            continue
        original = home / area / name
        for text in texts:
            number += 1
            entry = damage.copied(original, number)
            target = entry if entry.is_file() else entry / file.name
            target.write_text(text.replace(json.dumps(original.stem), json.dumps(entry.stem)))
    return number


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="Only root can become another user.")
def test_files_without_permission(made, copy):
    broken = _break(copy, "forbidden")
    for entry in (copy, *copy.rglob("*")):
        os.chown(entry, 65534, 65534)
    require_the_rest(copy, _opened_by_another_user(copy), made, broken)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="Only root can become another user.")
def test_a_home_folder_that_cannot_be_written(made, copy):
    """It is root's, and another user opens it: everything is shown, and what would write says so in one line."""
    before = {entry: entry.lstat().st_mtime_ns for entry in copy.rglob("*")}
    found = _opened_by_another_user(copy, made.parent / "inputs" / "net.pth")
    assert before == {entry: entry.lstat().st_mtime_ns for entry in copy.rglob("*")}
    refused = {page: text for page, text in found["errors"].items() if text}
    assert all("permission is denied" in text for text in refused.values()) and "tradeoffs {}" not in refused, refused
    require_the_rest(copy, {**found, "errors": {}}, made, [])
    for verb, (code, words) in found["said"].items():
        (line,) = words.strip().splitlines()
        assert code == 2 and line.startswith("Error: ") and "permission is denied" in line, (verb, words)


def _opened_by_another_user(home: Path, *more: Path) -> dict:
    """What ``tests.support.opening`` finds as a user without rights of its own."""
    another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    command = [*another, sys.executable, "-m", "tests.support.opening", str(home), *map(str, more)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    return json.loads(answer.removeprefix("ANSWER "))
