"""The result of a probe or finetuning: the runs of the job and their accuracy."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages.parts.frame import home
from sparse_core.catalog import METRICS
from sparse_core.jobs import queue
from sparse_core.results.records import Record, Records
from sparse_core.views import labels


def records_of(status: queue.Status) -> list[Record]:
    """The runs of a finished job, by seed; a message says if they were deleted, or existed before the job."""
    records = Records(home()).read_many(set(status.result["runs"]))
    if not records:
        st.info("The runs of this job were deleted. Start it again to repeat them.")
    elif status.result["found"]:
        found = labels.counted(len(status.result["found"]), "run")
        st.info(f"{found} existed already and were not repeated. Rerun them on the Runs page.")
    return sorted(records, key=lambda record: record.spec["seed"])


def accuracy_metrics(records: Sequence[Record]) -> None:
    """Final and best accuracy over the runs, as metrics."""
    metric = METRICS[records[0].result["metric"]]
    final, best = ([record.result[f"accuracy_{which}"] for record in records] for which in ("final", "best"))
    st.metric(f"Final {metric}", _mean_and_std(final), help="After the last epoch.")
    st.metric(
        f"Best {metric}",
        _mean_and_std(best),
        help="Best epoch (selected on test data: optimistic), the paper's convention.",
    )


def _mean_and_std(accuracies: Sequence[float]) -> str:
    percent = 100 * pd.Series(accuracies)
    return f"{percent.mean():.1f} % (n = 1)" if len(percent) == 1 else f"{percent.mean():.1f} ± {percent.std():.1f} %"
