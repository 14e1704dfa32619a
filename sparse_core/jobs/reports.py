"""What a job reports while it runs, in its folder: small to read, however long the job takes.

``progress.json`` is the last ``Progress``, written over the one before. ``events.jsonl`` holds one line for each start of
the job, for the first state saved after it, for each pause, and for the epochs that have ended.
"""

import dataclasses
import functools
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparse_core import stored
from sparse_core.paths import write_text
from sparse_core.specs.progress import Progress

OPEN_JOBS = 32  # whose epochs a process keeps in memory


class Reports:
    """The reports of one start of the job in ``folder``, as its worker writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._epochs = {(epoch.get("seed"), epoch.get("epoch")) for epoch in epochs(folder)}
        self._saved = False

    def start(self) -> None:
        """The job was started by this process."""
        append(self.folder, {"started": os.getpid()})

    def paused(self) -> None:
        """The job rests until the user lets it go on."""
        append(self.folder, {"paused": True})

    def report(self, progress: Progress) -> None:
        """Keep the progress; epochs that an earlier start reported are not repeated."""
        document = {"time": time.time(), **dataclasses.asdict(dataclasses.replace(progress, epochs=()))}
        write_text(self.folder / "progress.json", json.dumps(document))
        new = [epoch for epoch in progress.epochs if (epoch.get("seed"), epoch.get("epoch")) not in self._epochs]
        if new:
            append(self.folder, {"epochs": new})
            self._epochs.update((epoch.get("seed"), epoch.get("epoch")) for epoch in new)
        if progress.saved and not self._saved:
            append(self.folder, {"saved": True})
            self._saved = True


def append(folder: Path, event: dict[str, Any]) -> None:
    """Add one line to the job's events."""
    with open(_events_file(folder), "a", encoding="utf-8") as file:
        file.write(json.dumps({"time": time.time(), **event}) + "\n")


def events(folder: Path) -> list[dict[str, Any]]:
    """The job's events so far, oldest first; a line still being written, or cut off by a full disk, is left out."""
    with suppress(OSError):
        return list(_parsed(_events_file(folder).read_bytes()))
    return []


def epochs(folder: Path) -> list[dict[str, Any]]:
    """The epochs that have ended in the job's trainings: see ``Progress.epochs``. Each call reads only what is new."""
    return _log(_events_file(folder)).epochs()


def last_progress(folder: Path) -> Progress:
    """The newest progress, without fields that another version of the product wrote; empty where there is none."""
    file = folder / "progress.json"
    with stored.reading(file):
        return stored.made(Progress, json.loads(file.read_bytes()))
    return Progress("")


def starts_without_progress(events: list[dict[str, Any]]) -> int:
    """How often the job was started since it last saved anything or was paused: a job that advances may resume without limit."""
    starts = 0
    for event in events:
        starts = 0 if event.get("saved") or event.get("paused") else starts + ("started" in event)
    return starts


class _Log:
    """A file of events that grows; what was read is kept."""

    def __init__(self, file: Path) -> None:
        self.file, self.read = file, 0
        self._epochs: list[dict[str, Any]] = []
        self._lock = threading.Lock()  # the pages of several browsers are threads of one process

    def epochs(self) -> list[dict[str, Any]]:
        with self._lock:
            with suppress(OSError), open(self.file, "rb") as file:
                file.seek(self.read)
                lines = file.read().rpartition(b"\n")
                self.read += len(lines[0]) + len(lines[1])
                for event in _parsed(lines[0] + b"\n"):
                    found = event.get("epochs")
                    self._epochs += (
                        [epoch for epoch in found if isinstance(epoch, dict)] if isinstance(found, list) else []
                    )
            return list(self._epochs)


@functools.lru_cache(maxsize=OPEN_JOBS)
def _log(file: Path) -> _Log:
    return _Log(file)


def _parsed(text: bytes) -> Iterator[dict[str, Any]]:
    for line in text.split(b"\n")[:-1]:
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _events_file(folder: Path) -> Path:
    return folder / "events.jsonl"
