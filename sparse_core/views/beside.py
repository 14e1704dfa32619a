"""What a source's findings rest on beside its transfer rows: speeds, structures and upstream accuracies."""

from pathlib import Path

from sparse_core.results.beside import SPEEDS, Beside
from sparse_core.speed import measurements
from sparse_core.views import relations


def known(home: Path, source: str) -> Beside:
    """Of the shipped networks or of those of this home folder; nothing of the paper's, which are not published."""
    if source == "published":
        return Beside()
    records = measurements.shipped() if source == "shipped" else measurements.read_all(home)
    speeds = measurements.frame(home, records)
    reliable = speeds[speeds["reliable"].astype(bool)]
    structures, upstream = relations.structures(home), relations.own_upstream(home)
    return Beside(
        reliable[SPEEDS], structures[["network", "filters_pruned"]], upstream[["network", "upstream_accuracy"]]
    )
