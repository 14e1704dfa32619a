"""The largest speedup over dense that was measured of each network: what the guide sets beside its answers. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_core.catalog import ENGINES
from sparse_core.results.advice import Speedup
from sparse_core.speed import measurements


def measured(home: Path, architecture: str) -> dict[tuple[str, float], Speedup]:
    """The speedups of an architecture's networks by method and sparsity (0..1): of this home folder, else the shipped ones."""
    return fastest(home, measurements.read_all(home), architecture) or fastest(
        home, measurements.shipped(), architecture
    )


def fastest(home: Path, records: Sequence[dict[str, Any]], architecture: str) -> dict[tuple[str, float], Speedup]:
    """Of each method and sparsity the reliable inference with the largest ratio to dense in the same engine, batch size and
    number of threads; of several measurements of one network in the same way the newest. Masks for timing have the method "".
    """
    rows = measurements.frame(home, records)
    rows = rows[(rows["architecture"] == architecture) & (rows["mode"] == "inference") & (rows["reliable"] == True)]  # noqa: E712
    same_way = [
        "backbone_hash",
        "method",
        "sparsity",
        "distribution",
        "form",
        "engine",
        "precision",
        "batch_size",
        "image_size",
    ]
    newest = rows.drop_duplicates([*same_way, "threads", "processor", "cores"], keep="last")
    best = newest.sort_values("ratio", kind="stable").drop_duplicates(["method", "sparsity"], keep="last")
    another = any(record.get("shipped") for record in records)
    return {(row.method, round(row.sparsity, 6)): _speedup(row, another) for row in best.itertuples()}


def _speedup(row: Any, another: bool) -> Speedup:
    mask = "" if row.method else ", timing-only mask"
    machine = ", another machine" if another else ""
    engine = ENGINES.get(row.engine, row.engine)
    how = f"{engine}, batch {row.batch_size:.0f}{mask}{machine}"
    return Speedup(row.ratio, row.ratio_low, row.ratio_high, how, timing_only=not row.method)
