"""Checks that specs share: each refuses a value in one line."""

from collections.abc import Iterable

from sparse_core.errors import InputError, unknown_name


def require(holds: bool, name: str, expected: str, value: object) -> None:
    """Raise InputError unless ``holds``, naming what was expected and what came."""
    if not holds:
        raise InputError(f"{name} must be {expected}; got {value}.")


def require_known(name: str, value: str, known: Iterable[str]) -> None:
    """Raise InputError, with the nearest names, unless ``value`` is one of ``known``."""
    choices = tuple(known)
    if value not in choices:
        raise unknown_name(name, value, choices)
