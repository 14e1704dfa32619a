"""What the user keeps of the pages themselves: views by name, and the columns that a table shows. A file for each."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from sparse_core import stored
from sparse_core.errors import InputError
from sparse_core.paths import write_json

LONGEST = 80  # of a name


@dataclass(frozen=True)
class SavedView:
    """A view by ``name``: its ``page`` and the ``query`` of its link, lists of values by parameter."""

    name: str
    page: str
    query: dict[str, list[str]]


def views(home: Path) -> list[SavedView]:
    """All of them, by name."""
    found = (_read(file) for file in sorted((home / "views").glob("*.json")))
    return sorted((view for view in found if view), key=lambda view: view.name.lower())


def keep(home: Path, view: SavedView) -> None:
    """Keep a view, in place of another one of this name. Raises InputError for an empty or very long name."""
    if not 0 < len(view.name.strip()) <= LONGEST:
        raise InputError(f"A view's name takes 1 to {LONGEST} characters; got {len(view.name.strip())}.")
    write_json(_file(home, view.name), asdict(view))


def forget(home: Path, name: str) -> None:
    """Delete the view of this name, if there is one."""
    _file(home, name).unlink(missing_ok=True)


def columns(home: Path, table: str) -> list[str]:
    """The columns that were chosen for a table, in their order; empty if none were."""
    document = stored.read_json(_columns(home, table), {"columns": list})
    return [str(name) for name in document["columns"]] if document else []


def keep_columns(home: Path, table: str, names: list[str]) -> None:
    """Remember the columns of a table."""
    write_json(_columns(home, table), {"columns": names})


def _read(file: Path) -> SavedView | None:
    with stored.reading(file):
        view = stored.made(SavedView, stored.read_json(file, {"name": str, "page": str, "query": dict}))
        values = [value for each in view.query.values() for value in (each if isinstance(each, list) else [None])]
        if not all(isinstance(value, str) for value in values):
            raise InputError("'query' is of the wrong type")
        return view
    return None


def _file(home: Path, name: str) -> Path:
    return home / "views" / f"{hashlib.sha256(name.strip().encode()).hexdigest()[:16]}.json"


def _columns(home: Path, table: str) -> Path:
    return home / "columns" / f"{table}.json"
