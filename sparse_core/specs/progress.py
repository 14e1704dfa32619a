"""How far a piece of work is: what every long function reports, a job keeps, and a page or a terminal shows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of the stage that ``stage`` describes to the user; total 0 where there is no count.

    ``fraction`` (0..1) is finer than done over total where one is known. ``seconds_left`` is for the whole job, None where
    it cannot be estimated yet. ``epochs`` are the epochs that ended since the last report: dictionaries with ``seed``,
    ``epoch``, ``loss``, ``top1`` and ``mean_per_class``. ``saved`` means that all work so far is on disk: after a kill it is
    not repeated.
    """

    stage: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    fraction: float | None = None
    epochs: tuple[dict[str, Any], ...] = ()
    saved: bool = False

    @property
    def share(self) -> float:
        """The part of the stage that is done, in [0, 1]."""
        if self.fraction is not None:
            return self.fraction
        return self.done / self.total if self.total else 0.0

    @property
    def description(self) -> str:
        """The stage with its count, such as "Extracting features 64 of 1,797"."""
        return f"{self.stage} {self.done:,} of {self.total:,}" if self.total else self.stage


Report = Callable[[Progress], None]  # called while work goes on; may raise Cancelled
