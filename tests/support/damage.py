"""Damage to the files of a home folder: each kind of damage, to each kind of file, one victim beside healthy siblings."""

import copy
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HASH = re.compile(r"[0-9a-f]{12,}")
NUMBERED = re.compile(r"\d{8}-[0-9a-z-]+|-\d+-")
# An entry of these stands alone, so copies of it can be damaged side by side.
WHOLE = ("runs", "jobs", "library", "speeds", "evaluations", "sweeps", "views")


def kind(home: Path, file: Path) -> str:
    """The kind of a file: its path without what differs from file to file of the kind."""
    parts = file.relative_to(home).parts
    names = [HASH.sub("#", NUMBERED.sub("#", part)) for part in parts]
    if len(parts) == 3 and parts[0] in (
        *("library", "jobs", "runs", "networks", "features", "uploads", "trash", "queue", "sweeps"),
    ):
        names[1] = names[1] if names[0] == "queue" else "*"
    if len(parts) > 3:
        names[1:-1] = ["*" if name not in (".trash", "network") else name for name in names[1:-1]]
    if (parts[0] == "structure" and "cards" in parts) or parts[0] in (
        "annotations",
        "speeds",
        "evaluations",
        "estimates",
        "backbones",
        "views",
        "columns",
    ):
        names[-1] = names[-1] if names[-1].startswith("corrections-") else f"*{file.suffix}"
    return "/".join(names)


def files_by_kind(home: Path) -> dict[str, list[Path]]:
    """All files of a home folder."""
    found: dict[str, list[Path]] = {}
    for file in sorted(home.rglob("*")):
        if file.is_file():
            found.setdefault(kind(home, file), []).append(file)
    return found


BYTES: dict[str, Callable[[Path], None]] = {
    "deleted": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
    "truncated": lambda file: os.truncate(file, file.stat().st_size * 2 // 3),
    "garbled": lambda file: file.write_bytes(bytes(byte ^ 0x5A for byte in file.read_bytes()[:4096])),
    "forbidden": lambda file: file.chmod(0),
}


def paths(document: Any, depth: int = 3) -> Iterator[tuple[Any, ...]]:
    """The fields of a JSON document, and of the first element of its lists."""
    if not depth:
        return
    if isinstance(document, list):
        document = dict(enumerate(document[:1]))
    if isinstance(document, dict):
        for name, value in document.items():
            yield (name,)
            yield from ((name, *inner) for inner in paths(value, depth - 1))


def _changed(document: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    document = copy.deepcopy(document)
    holder = document
    for name in path[:-1]:
        holder = holder[name]
    change(holder, path[-1])
    return document


def _other_type(holder: Any, name: Any) -> None:
    holder[name] = "seven" if isinstance(holder[name], int | float | list | dict) or holder[name] is None else 7


def _null(holder: Any, name: Any) -> None:
    holder[name] = None


def _added(holder: Any, name: Any) -> None:
    if isinstance(holder, dict):
        holder[f"{name} of a newer version"] = 1


def _nested(holder: Any, name: Any) -> None:
    holder[name] = {"x": [1]} if not isinstance(holder[name], dict) else [["x"]]


FIELDS: dict[str, Callable[[Any, Any], None]] = {
    "a field removed": lambda holder, name: holder.pop(name),
    "a field of another type": _other_type,
    "a field of a newer version": _added,
    "a field null": _null,
    "a field nested": _nested,
}


def variants(file: Path, change: Callable[[Any, Any], None]) -> Iterator[str]:
    """The texts of a JSON or JSON-lines file with each of its fields changed in turn."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines() if file.suffix == ".jsonl" else [text]
    for number, line in enumerate(lines[:2]):
        document = json.loads(line)
        for path in paths(document):
            changed = json.dumps(_changed(document, path, change))
            yield "\n".join([*lines[:number], changed, *lines[number + 1 :]]) + "\n"


def with_more(file: Path) -> str:
    """The text of a JSON file with a field of a newer version in it."""
    document = json.loads(file.read_text(encoding="utf-8"))
    return json.dumps({**document, "of_a_newer_version": {"x": 1}} if isinstance(document, dict) else document)


def copied(entry: Path, number: int) -> Path:
    """A copy of an entry of ``WHOLE`` under a name of its own, which its files know."""
    name = f"{entry.name[:-6]}{number:06x}" if entry.parent.name == "jobs" else f"{entry.stem}-copy{number}"
    target = entry.with_name(name + (entry.suffix if entry.is_file() else ""))
    if entry.is_file():
        shutil.copy(entry, target)
    else:
        shutil.copytree(entry, target)
    for file in [target] if target.is_file() else target.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(json.dumps(entry.stem), json.dumps(name)), encoding="utf-8")
    return target
