"""The two ways a request can end early: the user's input is wrong, or the user cancelled it."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The user's input is wrong. The message is one line: what was expected, what came, what to do.

    ``candidates`` are the names to choose one of, where the input leaves something open.
    """

    def __init__(self, message: str, candidates: Iterable[str] = ()) -> None:
        super().__init__(" ".join(message.splitlines()))  # names and paths from outside may hold line breaks
        self.candidates = tuple(candidates)


class Cancelled(Exception):
    """The user cancelled the work; nothing half-written is left behind."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among ``known``, naming the nearest ones that are."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if nearest:
        return InputError(f"Unknown {kind} '{name}'. Did you mean {' or '.join(nearest)}?")
    return InputError(f"Unknown {kind} '{name}'. Known: {', '.join(choices) or 'none yet'}.")
