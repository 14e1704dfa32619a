"""Weights that do not fit an architecture: which keys are missing, unexpected or of another shape."""

from collections.abc import Iterable
from dataclasses import dataclass

from sparse_core.errors import InputError

LISTED = 5


@dataclass(frozen=True)
class Misfit:
    """The keys that do not fit."""

    missing: list[str]
    extra: list[str]
    misshaped: list[str]

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.misshaped)

    def kinds(self) -> dict[str, list[str]]:
        kinds = {"missing": self.missing, "unexpected": self.extra, "of another shape": self.misshaped}
        return {kind: keys for kind, keys in kinds.items() if keys}

    def summary(self) -> str:
        return "; ".join(f"{len(keys)} {kind} ({some(keys)})" for kind, keys in self.kinds().items())


class MisfitError(InputError):
    """Weights that do not fit an architecture. ``keys`` are all that are "missing", "unexpected" or "of another shape"; the
    message names the first of each."""

    def __init__(self, message: str, misfit: Misfit, advice: str = "") -> None:
        self.keys = misfit.kinds()
        if any(len(keys) > LISTED for keys in self.keys.values()):
            advice += " The dashboard's Library page lists them all."
        super().__init__(f"{message}: {misfit.summary()}.{advice}")


def some(keys: Iterable[object]) -> str:
    """The first few names, and how many more there are."""
    shown = [str(key)[:80].replace("\n", " ").replace("\0", "␀") for key in keys]
    more = f" and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
    return ", ".join(shown[:LISTED]) + more
