"""A trash folder: removed files and folders stay there until they are restored or the trash is emptied."""

import os
import shutil
from pathlib import Path

from sparse_core.errors import InputError
from sparse_core.paths import remove


class Trash:
    """The trash in ``folder``. Entries keep their names; a newer one of a name replaces the older."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, entry: Path) -> None:
        """Move a file or folder here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove(self.folder / entry.name)
        os.replace(entry, self.folder / entry.name)

    def restore(self, name: str, target: Path) -> None:
        """Move an entry back, to ``target``. Raises InputError if the trash lacks it or the target exists."""
        source = self.folder / Path(name).name
        if not name or not source.exists():
            raise InputError(f"'{name}' is not in the trash, so it cannot be restored.")
        if target.exists():
            raise InputError(f"Another '{name}' exists by now. Remove or rename it, then restore this one.")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)

    def names(self) -> list[str]:
        """The names of the entries here, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith("."))

    def empty(self) -> None:
        """Delete all entries permanently."""
        shutil.rmtree(self.folder, ignore_errors=True)
