"""What the pointer shows of a network's accuracy and size."""

import html
import math
from typing import Any

from sparse_core.catalog import task_label
from sparse_core.views.labels import SIZES, counted, percent, sparsity_label


def accuracy_hover(name: str, row: Any, *details: str) -> str:
    """Name, sparsity, mean accuracy ± standard deviation and number of runs; then the ``details``, each on its line (HTML)."""
    deviation = getattr(row, "accuracy_std", math.nan)
    around = "" if math.isnan(deviation) else f" ± {percent(deviation)}"
    at = "" if row.sparsity == 0 else f" at {sparsity_label(row.sparsity)}"
    on = f" on {html.escape(task_label(row.dataset))}" if hasattr(row, "dataset") else ""
    accuracy = f"{percent(row.accuracy_mean)}{around} % ({counted(row.runs, 'run')})"
    return "<br>".join([f"<b>{html.escape(name)}</b>{at}{on}", accuracy, *details])


def size_hover(row: Any, size: str) -> str:
    """One of a network's sizes with its unit."""
    measure = SIZES[size]
    return f"{measure.label}: {getattr(row, size) / measure.scale:.3g} {measure.unit}"
