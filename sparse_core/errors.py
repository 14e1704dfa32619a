"""The two ways a request can end early: the user's input is wrong, or the user cancelled it."""

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

_ELSEWHERE = "choose another place (SPARSE_TRANSFER_HOME names that of the user's own data)"
_REFUSALS = {
    errno.ENOSPC: f"Expected room on the disk for {{place}}, but it is full. Free some space, or {_ELSEWHERE}.",
    errno.EDQUOT: f"Expected room on the disk for {{place}}, but your quota is used up. Free some, or {_ELSEWHERE}.",
    errno.EACCES: f"Expected {{place}} to be open to this user, but it is not. Change its permissions, or {_ELSEWHERE}.",
    errno.EROFS: f"Expected to write {{place}}, but its disk can only be read. Please {_ELSEWHERE}.",
    errno.ENOTDIR: f"Expected a folder, but a file is in the way of {{place}}. Please {_ELSEWHERE}.",
    errno.EEXIST: f"Expected a folder, but {{place}} is a file. Please {_ELSEWHERE}.",
    errno.EISDIR: "Expected a file, but {place} is a folder. Name a file.",
    errno.ENAMETOOLONG: "Expected names that a disk can hold, but one in {place} is too long. Choose a shorter one.",
}
_SHOWN_LENGTH = 200


class InputError(ValueError):
    """The user's input is wrong. The message is one line: what was expected, what came, what to do.

    ``candidates`` are the names to choose one of, where the input leaves something open.
    """

    def __init__(self, message: str, candidates: Iterable[str] = ()) -> None:
        super().__init__(" ".join(message.splitlines()))  # names and paths from outside may hold line breaks
        self.candidates = tuple(candidates)


class Cancelled(Exception):
    """The user cancelled the work; nothing half-written is left behind."""


def as_input_error(error: Exception) -> InputError | None:
    """The error in the user's words where it is the user's to mend, as with a full disk; None where it is a fault of ours."""
    if isinstance(error, InputError):
        return error
    number = getattr(error, "errno", None)
    if "no space left on device" in str(error).lower():  # DuckDB, Arrow and safetensors raise errors of their own
        number = errno.ENOSPC
    return InputError(_REFUSALS[number].format(place=_place(error))) if number in _REFUSALS else None


def _place(error: Exception) -> str:
    """The file or folder that an error is about: the target where one was renamed, the folder of a temporary file."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if not isinstance(name, str | bytes):
        return "the file"
    path = Path(os.fsdecode(name))
    words = str(path.parent if path.name.startswith(".") else path)
    return words if len(words) <= _SHOWN_LENGTH else f"{words[:_SHOWN_LENGTH]}…"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among ``known``, naming the nearest ones that are."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if nearest:
        return InputError(f"Unknown {kind} '{name}'. Did you mean {' or '.join(nearest)}?")
    return InputError(f"Unknown {kind} '{name}'. Known: {', '.join(choices) or 'none yet'}.")
