"""A spec's fields as options: each is declared once, and gives the flag, its help, and the "copy as command" of a page."""

import argparse
import dataclasses
import os
import shlex
import string
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from sparse_core.errors import InputError

PROGRAM = ("sparse-transfer",)  # `python -m sparse_core` in a clone that is not installed

AnySpec = TypeVar("AnySpec")


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    flag: str = "",
    convert: Callable[[str], str] | None = None,
    **keywords: Any,
) -> Any:
    """A dataclass field that the user can set: without a default it is required.

    ``flag`` defaults to the field's name with dashes; one that does not begin with a dash makes the argument positional.
    ``convert`` is applied to the text that the user gave, unless it is a list. ``keywords`` are more of those of
    ``add_argument``. Fields made without this function are no options.
    """
    metadata = {"flag": flag, "convert": convert, "keywords": {"help": help, **keywords}}
    return dataclasses.field(default=default, metadata=metadata)


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong arguments as an InputError of one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. '{self.prog} --help' lists the options.")


def add_arguments(parser: argparse.ArgumentParser, spec: type, *, only: tuple[str, ...] = ()) -> None:
    """Give ``parser`` the options of a spec, or those named in ``only``. An option that is not given is parsed as None."""
    for field in _options(spec):
        if only and field.name not in only:
            continue
        default, keywords = field.default, dict(field.metadata["keywords"])
        if isinstance(default, bool):
            keywords |= {"action": "store_const", "const": not default}
        elif default not in (dataclasses.MISSING, None, "", ()):
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
            keywords["help"] += f" (default {shown})"
        if isinstance(default, tuple):
            keywords["nargs"] = "+"
        elif type(default) in (int, float):
            keywords["type"] = type(default)
        flag = _flag(field)
        if flag.startswith("-"):
            keywords |= {"dest": field.name, "required": default is dataclasses.MISSING}
        parser.add_argument(flag, **keywords)


def from_arguments(spec: type[AnySpec], arguments: argparse.Namespace, **fixed: Any) -> AnySpec:
    """The spec that the parsed arguments and ``fixed`` fields give. Raises InputError for values it refuses."""
    known = names(spec)
    given = {name: value for name, value in vars(arguments).items() if name in known and value is not None}
    values: dict[str, Any] = {}
    for field in dataclasses.fields(spec):  # type: ignore[arg-type]
        if field.name == "settings":
            usual = spec.usual_settings(given["dataset"])  # type: ignore[attr-defined]
            changed = {inner.name: given[inner.name] for inner in _options(type(usual)) if inner.name in given}
            values["settings"] = dataclasses.replace(usual, **changed)
        elif field.name in given:
            values[field.name] = _converted(spec, field, given[field.name])
    return spec(**{**values, **fixed})


def names(spec: type) -> list[str]:
    """The options of a spec by their fields' names, those of its settings among them."""
    return [field.name for field in _options(spec)]


def command(verb: str, spec: Any, *more: str) -> str:
    """The command line that asks for ``spec``: the required options, those that differ from their defaults, and ``more``."""
    return " ".join(map(_quoted, [*PROGRAM, verb, *_command_arguments(spec), *more, "--json"]))


def _quoted(argument: str) -> str:
    """An argument for a shell; a path with bytes that are no UTF-8 in the form that Bash, zsh and ksh have for it."""
    if not any("\udc80" <= character <= "\udcff" for character in argument):  # as Python reads such bytes
        return shlex.quote(argument)
    plain = string.ascii_letters + string.digits + "/._- "
    return "$'" + "".join(chr(byte) if chr(byte) in plain else f"\\x{byte:02x}" for byte in os.fsencode(argument)) + "'"


def _command_arguments(spec: Any) -> Iterator[str]:
    usual = spec.usual_settings(spec.dataset) if hasattr(spec, "settings") else None
    for field in _options(type(spec)):
        owner = spec if hasattr(spec, field.name) else spec.settings
        value = getattr(owner, field.name)
        default = getattr(usual, field.name) if owner is not spec else field.default
        if value == default:
            continue
        if _flag(field).startswith("-"):
            yield _flag(field)
        if not isinstance(value, bool):
            yield from map(str, value if isinstance(value, tuple) else (value,))


def _options(spec: type) -> list[dataclasses.Field[Any]]:
    """The fields that are options; those of ``settings`` stand in its place."""
    found: list[dataclasses.Field[Any]] = []
    for field in dataclasses.fields(spec):
        if field.name == "settings":
            found += _options(get_type_hints(spec)["settings"])
        elif "flag" in field.metadata:
            found.append(field)
    return found


def _flag(field: dataclasses.Field[Any]) -> str:
    return field.metadata["flag"] or f"--{field.name.replace('_', '-')}"


def _converted(spec: type, field: dataclasses.Field[Any], value: Any) -> Any:
    """A list of values, each given on its own or with commas between them, as a tuple of the field's type."""
    if not isinstance(field.default, tuple):
        convert = field.metadata["convert"]
        return convert(value) if convert else value
    kind = get_args(get_type_hints(spec)[field.name])[0]
    parts = [part for given in value for part in given.replace(",", " ").split()]
    try:
        return tuple(kind(part) for part in parts)
    except ValueError as error:
        expected = "whole numbers such as 1,64" if kind is int else "numbers such as 0.001,0.01"
        raise InputError(f"{_flag(field)} takes {expected}; got '{' '.join(value)}'.") from error
