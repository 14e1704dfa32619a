"""What the user says of runs: a note, tags, and whether the run is archived. A file for each run, which outlives the run."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparse_core import stored
from sparse_core.paths import write_text


@dataclass(frozen=True)
class Annotation:
    """``tags`` are sorted and without repeats. An ``archived`` run is in no view until it is restored."""

    note: str = ""
    tags: tuple[str, ...] = ()
    archived: bool = False


class Annotations:
    """The annotations in ``folder``. What cannot be read counts as none and is named: see ``stored``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, tuple[tuple[int, int], Annotation]] = {}  # by file name, with its time and size

    def read(self, run_id: str) -> Annotation:
        """That of one run; an empty one if there is none."""
        return _read(self.folder / f"{run_id}.json")

    def write(self, run_id: str, annotation: Annotation) -> None:
        """Keep it, in place of an earlier one."""
        tags = sorted(set(annotation.tags))
        document: dict[str, Any] = {"note": annotation.note, "tags": tags}
        document |= {"archived": True} if annotation.archived else {}
        write_text(self.folder / f"{run_id}.json", json.dumps(document))

    def archive(self, run_ids: Iterable[str], archived: bool = True) -> None:
        """Put runs into the archive, or take them out."""
        for run_id in run_ids:
            self.write(run_id, replace(self.read(run_id), archived=archived))

    def all(self) -> Mapping[str, Annotation]:
        """Every annotation by run id. A file is read again only when it has changed."""
        known: dict[str, tuple[tuple[int, int], Annotation]] = {}
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    status = entry.stat()
                    stamp = (status.st_mtime_ns, status.st_size)
                    before = self._known.get(entry.name)
                    known[entry.name] = before if before and before[0] == stamp else (stamp, _read(Path(entry.path)))
        self._known = known
        return {name.removesuffix(".json"): annotation for name, (_, annotation) in known.items()}

    def archived(self) -> list[str]:
        """The ids of the archived runs."""
        return [run_id for run_id, annotation in self.all().items() if annotation.archived]

    def fingerprint(self) -> int:
        """Changes whenever an annotation is written."""
        with suppress(OSError):
            return self.folder.stat().st_mtime_ns
        return 0


def _read(file: Path) -> Annotation:
    document = stored.read_json(file, {"note": str, "tags": list}, {"archived": bool})
    if document is None:
        return Annotation()
    return Annotation(document["note"], tuple(map(str, document["tags"])), bool(document.get("archived")))
