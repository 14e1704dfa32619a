"""Reading the home folder, in which any file may be missing, damaged, foreign or of another version.

Such an entry is left out, so that everything else is still shown, and named once: in the log, and in a notice on the pages.
"""

import dataclasses
import functools
import json
import logging
import os
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sparse_core.errors import InputError

NUMBER = (int, float)
Kind = type | tuple[type, ...]
Kinds = Mapping[str, Kind]
Made = TypeVar("Made")

log = logging.getLogger(__name__)
_lock = threading.Lock()  # the pages of several browsers are threads of one process
_notes: dict[Path, tuple[Any, str]] = {}


@contextmanager
def reading(entry: Path) -> Iterator[None]:
    """Read ``entry``, a file or folder, within this; what goes wrong ends the block, and ``entry`` is left out.

    An entry that does not exist is not named: it may have been deleted meanwhile.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        if os.path.lexists(entry):
            leave_out(entry, _reason(error))


def read_json(file: Path, required: Kinds = {}, optional: Kinds = {}) -> dict[str, Any] | None:  # noqa: B006
    """The JSON object in a file, with fields as in ``require``; None where it is missing or left out."""
    with reading(file):
        return require(json.loads(file.read_bytes()), required, optional)
    return None


def require(document: Any, required: Kinds, optional: Kinds = {}, where: str = "") -> dict[str, Any]:  # noqa: B006
    """The document, if it is an object whose fields have these types; optional ones may be absent or null. Raises InputError,
    which names the field and says ``where`` it is."""
    problem = type_problem(document, required, optional, where)
    if problem:
        raise InputError(problem)
    return document


def type_problem(document: Any, required: Kinds, optional: Kinds = {}, where: str = "") -> str:  # noqa: B006
    """What ``require`` refuses; empty for a document that it accepts."""
    if not isinstance(document, dict):
        return f"not a JSON object{where}"
    for name, kind in required.items():
        if not is_kind(document.get(name), kind):
            return f"'{name}'{where} is missing or of the wrong type"
    for name, kind in optional.items():
        if document.get(name) is not None and not is_kind(document[name], kind):
            return f"'{name}'{where} is of the wrong type"
    return ""


def is_kind(value: Any, kind: Kind) -> bool:
    """``isinstance``, but true and false are no numbers."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def made(kind: type[Made], document: Any, *, strict: bool = False) -> Made:
    """An instance of the dataclass ``kind`` from a JSON object. Fields of another version are dropped, or refused if ``strict``;
    null stands for a default. Raises InputError, which names the field that is missing or of the wrong type."""
    if not isinstance(document, dict):
        raise InputError(f"Not a {kind.__name__}: not a JSON object.")
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(document.keys() - fields.keys())
    if strict and unknown:
        raise InputError(f"Not a {kind.__name__}: '{unknown[0]}' is unknown to this version.")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if name in document and (required or document[name] is not None):
            try:
                values[name] = _converted(document[name], hints[name], strict)
            except TypeError:
                raise InputError(f"Not a {kind.__name__}: '{name}' is of the wrong type.") from None
        elif required:
            raise InputError(f"Not a {kind.__name__}: '{name}' is missing.")
    return kind(**values)


def leave_out(entry: Path, reason: str) -> None:
    """Note that an entry is left out, and why."""
    note(entry, f"is left out: {reason}")


def note(entry: Path, text: str) -> None:
    """Remember what must be said of an entry, a sentence that begins with its path. The log says it once per process, unless
    the entry changes."""
    stamp, text = _stamp(entry), text.rstrip(".")
    with _lock:
        if _notes.get(entry) == (stamp, text):
            return
        _notes[entry] = stamp, text
    log.warning("%s %s.", entry, text)


def notes(home: Path) -> dict[str, str]:
    """What was noted of the entries of a home folder, by their path below it; not of those that have changed since."""
    with _lock:
        found = sorted(_notes.items())
    return {
        str(entry.relative_to(home)): text
        for entry, (stamp, text) in found
        if entry.is_relative_to(home) and _stamp(entry) == stamp
    }


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _converted(value: Any, hint: Any, strict: bool) -> Any:
    """A JSON value as a field of this type. Raises TypeError where it is none."""
    if hint is Any:
        return value
    if get_origin(hint) in (Union, types.UnionType):
        fitting = next((each for each in get_args(hint) if is_kind(value, _plain(each))), None)
        return _converted(value, fitting, strict) if fitting else _refuse()
    if not is_kind(value, _plain(hint)):
        _refuse()
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        inner = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return tuple(_converted(each, kind, strict) for each, kind in zip(value, inner, strict=True))
    return made(hint, value, strict=strict) if dataclasses.is_dataclass(hint) else value  # type: ignore[arg-type]


def _plain(hint: Any) -> Kind:
    """The types as which JSON holds values of a field."""
    if dataclasses.is_dataclass(hint):
        return dict
    return NUMBER if hint is float else (list, tuple) if get_origin(hint) is tuple else get_origin(hint) or hint


def _refuse() -> None:
    raise TypeError("of another type")


def _stamp(entry: Path) -> Any:
    """Changes with a file, and with a folder and the files in it."""
    files = [entry]
    with suppress(OSError):  # a file, or a folder that cannot be listed
        files += [Path(each) for each in sorted(os.listdir(entry))]
    return [_status(entry / file) for file in files]


def _status(file: Path) -> tuple[int, ...]:
    try:
        status = os.stat(file)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        return f"{Path(error.filename).name} is missing"
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror or type(error).__name__})"
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is damaged"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return "it is damaged, or of another version"
