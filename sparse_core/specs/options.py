"""A spec's fields as options: each is declared once, and gives the flag, its help, and the "copy as command" of a page."""

import argparse
import dataclasses
import shlex
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from sparse_core.errors import InputError

PROGRAM = ("python", "-m", "sparse_core")

AnySpec = TypeVar("AnySpec")


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    choices: tuple[str, ...] = (),
    flag: str = "",
    metavar: str | None = None,
    kind: type | None = None,
    positional: bool = False,
) -> Any:
    """A dataclass field that the user can set: without a default it is required.

    ``flag`` defaults to the field's name with dashes; ``kind`` is the type of a value where the annotation is not one.
    Fields made without this function are no options.
    """
    metadata = {
        "help": help,
        "choices": choices or None,
        "flag": flag,
        "metavar": metavar,
        "kind": kind,
        "positional": positional,
    }
    return dataclasses.field(default=default, metadata=metadata)


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are InputErrors of one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. '{self.prog} --help' lists the options.")


def add_arguments(parser: argparse.ArgumentParser, spec: type, *, only: tuple[str, ...] = ()) -> None:
    """Give ``parser`` the options of a spec (of those named in ``only``, where there are any)."""
    for field in _options(spec):
        if only and field.name not in only:
            continue
        if field.metadata["positional"]:
            parser.add_argument(field.name, help=field.metadata["help"])
        else:
            parser.add_argument(_flag(field), dest=field.name, **_argument(spec, field))


def from_arguments(spec: type[AnySpec], arguments: argparse.Namespace, **fixed: Any) -> AnySpec:
    """The spec that the parsed arguments ask for; ``fixed`` are values of fields that are no options.

    Raises InputError for values that the spec refuses.
    """
    names = {field.name for field in _options(spec)}
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    values: dict[str, Any] = {}
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        if field.name == "settings":
            usual = spec.usual_settings(given["dataset"])  # type: ignore[attr-defined]
            changed = {inner.name: given[inner.name] for inner in _options(type(usual)) if inner.name in given}
            values["settings"] = dataclasses.replace(usual, **changed)
        elif field.name in given:
            values[field.name] = _converted(spec, field, given[field.name])
    return spec(**{**values, **fixed})


def command(verb: str, spec: Any, *more: str) -> str:
    """The command line that asks for ``spec``: the required options, those that differ from their defaults, and ``more``."""
    return shlex.join([*PROGRAM, verb, *_words(spec), *more, "--json"])


def _words(spec: Any) -> Iterator[str]:
    usual = spec.usual_settings(spec.dataset) if hasattr(spec, "settings") else None
    for field in _options(type(spec)):
        owner = spec if hasattr(spec, field.name) else spec.settings
        value = getattr(owner, field.name)
        default = getattr(usual, field.name) if owner is not spec else field.default
        if value == default:
            continue
        if field.metadata["positional"]:
            yield str(value)
        elif isinstance(value, bool):
            yield _flag(field)
        else:
            yield from (_flag(field), *map(str, value if isinstance(value, tuple) else (value,)))


def _options(spec: type) -> list[dataclasses.Field[Any]]:
    """The fields that are options; those of ``settings`` stand in its place."""
    found: list[dataclasses.Field[Any]] = []
    for field in dataclasses.fields(spec):
        if field.name == "settings":
            found += _options(get_type_hints(spec)["settings"])
        elif "help" in field.metadata:
            found.append(field)
    return found


def _flag(field: dataclasses.Field[Any]) -> str:
    return field.metadata["flag"] or f"--{field.name.replace('_', '-')}"


def _argument(spec: type, field: dataclasses.Field[Any]) -> dict[str, Any]:
    """The keywords of ``add_argument``. Defaults stay with the spec: what is not given is None."""
    required = field.default is dataclasses.MISSING
    help = field.metadata["help"]
    if isinstance(field.default, bool):
        return {"action": "store_const", "const": not field.default, "help": help}
    if isinstance(field.default, tuple):
        return {"nargs": "+", "metavar": field.metadata["metavar"], "help": _with_default(help, field.default)}
    kind = field.metadata["kind"] or type("" if required else field.default)
    shared = {"type": kind, "metavar": field.metadata["metavar"], "choices": field.metadata["choices"]}
    return {**shared, "required": required, "help": help if required else _with_default(help, field.default)}


def _with_default(help: str, default: Any) -> str:
    if default in (None, "", ()):
        return help
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{help} (default {shown})"


def _converted(spec: type, field: dataclasses.Field[Any], value: Any) -> Any:
    """A list of values, each given on its own or with commas between them, as a tuple of the field's type."""
    if not isinstance(field.default, tuple):
        return value
    kind = get_args(get_type_hints(spec)[field.name])[0]
    parts = [part for given in value for part in given.replace(",", " ").split()]
    try:
        return tuple(kind(part) for part in parts)
    except ValueError as error:
        expected = "whole numbers such as 1,64" if kind is int else "numbers such as 0.001,0.01"
        raise InputError(f"{_flag(field)} takes {expected}; got '{' '.join(value)}'.") from error
