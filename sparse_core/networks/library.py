"""The library: backbones that the user imported from checkpoint files, kept as safetensors. Listing needs no torch.

An entry is a folder ``library/<name>/`` with ``weights.safetensors`` (the backbone, under the names of ``models``),
``classifier.safetensors`` where the file had one, ``mask.safetensors`` (a bit a weight) and ``card.json``. It is written
whole or not at all; what a killed import leaves is swept after a day. A removed entry waits in ``library/.trash`` until it
is restored or the trash is emptied.
"""

import itertools
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import uploads
from sparse_core.networks.cards import TORCHVISION, BackboneCard, lite_cards, torchvision_card
from sparse_core.trash import Trash

if TYPE_CHECKING:
    pass

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def folder(home: Path) -> Path:
    """Where imported backbones lie."""
    return home / "library"


def available(home: Path) -> list[BackboneCard]:
    """The backbones that can be transferred, those that need no network first."""
    return [*lite_cards(), *cards(home), *(torchvision_card(home, name) for name in TORCHVISION)]


def cards(home: Path) -> list[BackboneCard]:
    """The imported backbones by name. Entries whose card cannot be read are left out."""
    sweep(home)
    found = (read_card(entry) for entry in _entries(folder(home)))
    return sorted((card for card in found if card is not None), key=lambda card: card.name.lower())


def remove(home: Path, name: str) -> None:
    """Move an imported backbone into the trash, from which ``restore`` brings it back."""
    if not _NAME.fullmatch(name) or not (folder(home) / name).is_dir():
        raise unknown_name("backbone of the library", name, [card.name for card in cards(home)])
    trash(home).put(folder(home) / name)


def restore(home: Path, name: str) -> BackboneCard:
    """Bring a removed backbone back. Raises InputError where the trash does not hold it or the name is taken anew."""
    trash(home).restore(name, folder(home) / name)
    card = read_card(folder(home) / name)
    if card is None:
        trash(home).put(folder(home) / name)
        raise InputError(f"The removed backbone '{name}' is damaged, so it cannot be restored.")
    return card


def removed(home: Path) -> list[str]:
    """The names that ``restore`` can bring back."""
    return trash(home).names()


def trash(home: Path) -> Trash:
    """Where removed backbones wait."""
    return Trash(folder(home) / ".trash")


def free_name(home: Path, words: str) -> str:
    """A name that an import may take, made of ``words``; numbered where there is a backbone of that name already."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).lstrip("._-")[:60] or "backbone"
    taken = _taken(home)
    numbers = itertools.count(2)
    return (
        name
        if name.lower() not in taken
        else next(numbered for numbered in (f"{name}-{number}" for number in numbers) if numbered.lower() not in taken)
    )


def _taken(home: Path) -> set[str]:
    """The names of all backbones there are, and of entries that cannot be read, in small letters."""
    return {card.name.lower() for card in available(home)} | {entry.name.lower() for entry in _entries(folder(home))}


def require_free_name(home: Path, name: str) -> None:
    """Raise InputError unless a new backbone can be kept under ``name``."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"A backbone's name is 1 to 64 letters, digits, dots, dashes and underscores and starts with a letter or digit; "
            f"got {name[:80]!r}."
        )
    if name.lower() in _taken(home):
        raise InputError(f"There is a backbone named '{name}' already. Choose another name, or remove that one first.")


def sweep(home: Path) -> None:
    """Remove what a killed import left: such folders are hidden and have a dot in their name, which the trash has not."""
    uploads.remove_old(folder(home).glob(".?*.*"))


def _entries(where: Path) -> list[Path]:
    if not where.is_dir():
        return []
    return [Path(entry.path) for entry in os.scandir(where) if entry.is_dir() and _NAME.fullmatch(entry.name)]


def read_card(entry: Path) -> BackboneCard | None:
    """The card in a library folder; None where it cannot be read."""
    try:
        document = json.loads((entry / "card.json").read_text(encoding="utf-8"))
        card = BackboneCard(**{**document, "formats": tuple(document["formats"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return card if card.name == entry.name else None
