"""Progress reports of a training or an extraction, limited in rate, with an estimate of the time left."""

import math
import time
from collections.abc import Mapping

from sparse_core.specs.progress import Progress, Report
from sparse_core.transfer.training_result import Curves, epoch_values

SECONDS_BETWEEN = 0.2


def no_report(progress: Progress) -> None:
    """For callers that do not follow the work."""


class Reporter:
    """Reports progress towards ``total`` units a few times per second, whenever an epoch has ended, and at the end.

    The time left follows from the pace since this object was made, counted from ``start`` units (where a resumed work
    starts), plus ``seconds_after`` for the stages that follow.
    """

    def __init__(self, report: Report, total: int, start: int = 0, seconds_after: float = 0.0) -> None:
        self.report, self.total, self.start, self.seconds_after = report, total, start, seconds_after
        self.started = time.perf_counter()
        self.reported_at = -math.inf
        self.epochs_reported = 0

    def update(self, stage: str, done: float, curves: Mapping[int, Curves] | None = None) -> None:
        """Report ``done`` units if a report is due; ``curves`` (by seed) have a value per epoch that has ended."""
        ended = min([int(done), *(len(curve["loss"]) for curve in curves.values())]) if curves else 0
        epochs = tuple(
            {"seed": seed, **epoch_values(curve, epoch)}
            for epoch in range(self.epochs_reported + 1, ended + 1)
            for seed, curve in (curves or {}).items()
        )
        if not epochs and done < self.total and time.monotonic() - self.reported_at < SECONDS_BETWEEN:
            return
        self.reported_at = time.monotonic()
        self.epochs_reported = ended
        left = None
        if done > self.start:
            pace = (time.perf_counter() - self.started) / (done - self.start)
            left = pace * (self.total - done) + self.seconds_after
        self.report(Progress(stage, math.ceil(done), self.total, left, done / self.total, epochs))
