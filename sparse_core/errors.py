"""Errors that the user can act on: wrong input, a full disk, a cancelled job. Everything else is an internal error."""

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

_ELSEWHERE = "choose another home folder with SPARSE_TRANSFER_HOME"
_MESSAGES = {
    errno.ENOSPC: f"Expected free disk space for {{place}}, but the disk is full. Free some space, or {_ELSEWHERE}.",
    errno.EDQUOT: f"Expected free disk space for {{place}}, but your quota is used up. Free some space, or {_ELSEWHERE}.",
    errno.EACCES: f"Expected access to {{place}}, but permission is denied. Change its permissions, or {_ELSEWHERE}.",
    errno.EROFS: f"Expected to write {{place}}, but its disk is read-only. Please {_ELSEWHERE}.",
    errno.ENOTDIR: f"Expected a folder, but part of the path {{place}} is a file. Please {_ELSEWHERE}.",
    errno.EEXIST: f"Expected a folder, but {{place}} is a file. Please {_ELSEWHERE}.",
    errno.EISDIR: "Expected a file, but {place} is a folder. Name a file.",
    errno.ENAMETOOLONG: "Expected file names that the disk allows, but one in {place} is too long. Choose a shorter one.",
}
_SHOWN_LENGTH = 200


class InputError(ValueError):
    """Wrong input, in one line: what was expected, what came, what to do; ``candidates`` are names to choose from."""

    def __init__(self, message: str, candidates: Iterable[str] = ()) -> None:
        super().__init__(" ".join(message.splitlines()))  # names and paths given by the user may contain line breaks
        self.candidates = tuple(candidates)


class Cancelled(Exception):
    """The user cancelled the work. No half-written file is left."""


class Paused(Exception):
    """The user paused the work. What was saved stays, and the work goes on from there later."""


def as_input_error(error: Exception) -> InputError | None:
    """The error as one line for the user if the user can fix it, such as a full disk; None for an internal error."""
    if isinstance(error, InputError):
        return error
    number = getattr(error, "errno", None)
    if "no space left on device" in str(error).lower():  # DuckDB, Arrow and safetensors raise errors without errno
        number = errno.ENOSPC
    return InputError(_MESSAGES[number].format(place=_place(error))) if number in _MESSAGES else None


def _place(error: Exception) -> str:
    """The file or folder that an error is about: the target of a rename, or the folder of a temporary file."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if not isinstance(name, str | bytes):
        return "the file"
    path = Path(os.fsdecode(name))
    shown = str(path.parent if path.name.startswith(".") else path)
    return shown if len(shown) <= _SHOWN_LENGTH else f"{shown[:_SHOWN_LENGTH]}…"


LISTED = 15  # names in one line


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among ``known``; it suggests the nearest ones, else lists up to ``LISTED`` of all."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    more = f" and {len(choices) - LISTED} more" if len(choices) > LISTED else ""
    listed = f"{', '.join(choices[:LISTED]) or 'none yet'}{more}"
    hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"Known: {listed}."
    return InputError(f"Unknown {kind} '{name}'. {hint}")
