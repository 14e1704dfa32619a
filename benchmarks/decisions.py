"""The statistics of Compare, the measures behind every view, and the views that help to decide, on 1,000,000 rows.

    python -m benchmarks.decisions

``seconds``: 10,000 bootstrap resamples for 8 methods on 12 tasks with 5 seeds; and of the rows ``view`` (filtered, networks
joined, compared with dense, averaged) and its parts. ``seconds_of_view``: each page, and each tab of Tradeoffs, as the server
draws it once the rows are read and nothing else is cached: controls, figures, tables and what is sent to the browser.
``ratio_to_paper_rows``: the median over rounds of that time over that of the same page with the paper's and shipped rows only.
``seconds_after_first_load``: of pages that were drawn before, with a control that is then changed (``CHANGED``).

Expected: below 1 s for the bootstrap, below 0.5 s for each view after its first load.
"""

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from benchmarks import harness
from pages.parts import results as page_results
from sparse_core.results import measures, resampling, store
from sparse_core.results.records import Records
from sparse_core.results.resampling import Samples
from sparse_core.results.store import Store, coded_rows, published_rows, shipped_rows
from tests.pages.support import open_page

TABS = ("Accuracy per task", "Pareto front", "Difficulty", "Why", "Upstream and downstream", "Training length", "Runs")
SHIPPED_TABS = ("Why", "Upstream and downstream", "Training length", "Label smoothing", "Structured pruning")
SHIPPED = {"architecture": "ResNet20"}
VIEWS: dict[str, tuple[str, dict[str, str]]] = {
    "tradeoffs": ("tradeoffs", {}),
    **{f"tradeoffs, {tab.lower()}": ("tradeoffs", {"view": tab}) for tab in TABS},
    "tradeoffs, runs, filtered": ("tradeoffs", {"view": "Runs", "behind_filter": "WoodFisher 90"}),
    "tradeoffs, shipped": ("tradeoffs", SHIPPED),
    **{f"tradeoffs, shipped, {tab.lower()}": ("tradeoffs", {"view": tab, **SHIPPED}) for tab in SHIPPED_TABS},
    "tasks": ("tasks", {}),
    "tasks, by task": ("tasks", {"layout": "By task"}),
    "tasks, shipped, by task": ("tasks", {"layout": "By task", **SHIPPED}),
    "compare": ("compare", {}),
    "compare, bootstrap over tasks": ("compare", {"compare_interval": "Bootstrap over tasks"}),
    "compare, bootstrap over seeds": ("compare", {"compare_interval": "Bootstrap over seeds"}),
    "compare, runs": ("compare", {"compared": "Runs"}),
    "compare, shipped": ("compare", {"compare_source": "Shipped results", **SHIPPED}),
    "guide": ("guide", {}),
    "guide, by difficulty": ("guide", {"guide_kind": "By difficulty", "guide_transfer": "Full"}),
    "guide, shipped": ("guide", {"guide_source": "Shipped results", **SHIPPED}),
    "findings": ("findings", {}),
    "findings, shipped": ("findings", {"findings_source": "Shipped results"}),
}
CHANGED = {
    "tradeoffs": {"transfer": "Linear"},
    "tasks": {"task_transfer": "Full"},
    "compare": {"compare_transfer": "Full"},
    "guide": {"guide_transfer": "Full"},
    "findings": {"findings_source": "Shipped results"},
}


def million(rows: int) -> pd.DataFrame:
    """The paper's and the shipped rows, repeated with other seeds and a little noise."""
    base = pd.concat([published_rows(), shipped_rows()], ignore_index=True)
    copies = -(-rows // len(base))
    table = pd.concat([base] * copies, ignore_index=True).iloc[:rows]
    noise = np.random.default_rng(0).normal(0, 0.005, rows)
    return table.assign(
        seed=table["seed"].to_numpy(int) + 1000 * (np.arange(rows) // len(base)),
        accuracy_best=(table["accuracy_best"] + noise).clip(0, 1),
        run_id=[f"r{number}" for number in range(rows)],
    )


def view(rows: pd.DataFrame) -> pd.DataFrame:
    """The points of Tradeoffs for one architecture."""
    kept = measures.joined(rows[rows["architecture"] == "resnet50"].reset_index(drop=True))
    return measures.with_sizes(measures.over_tasks(measures.compared(kept)), kept)


def filled(rows: pd.DataFrame, home: Path) -> Store:
    """A store of these rows, read once."""
    made = Store(Records(home))
    made._connection.execute("DELETE FROM results")
    store._insert(made._connection, rows)
    made._read.clear()
    made.results(coded=True)
    return made


def drawn(rows: Store, page: str, query: dict[str, str]) -> Callable[[], None]:
    """Draws the page with these rows."""

    def draw() -> None:
        st.cache_data.clear()
        st.cache_resource.clear()
        page_results._open_store = lambda *_: rows
        open_page(page, **query)

    return draw


def changed(rows: Store, page: str, query: dict[str, str]) -> float:
    """Seconds to draw the page with a changed control, after it was drawn without."""
    drawn(rows, page, query)()
    return harness.seconds(lambda: open_page(page, **query, **CHANGED[page]))


def seconds_of_views(rows: pd.DataFrame, rounds: int) -> tuple[dict[str, float], ...]:
    """The median time of each of ``VIEWS``, the median ratio to that of the paper's and the shipped rows, and the median time of
    those after a change."""
    st.page_link = lambda *_, **__: None  # a page alone has no others
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SPARSE_TRANSFER_HOME"] = folder
        many, few = (
            filled(each, Path(folder)) for each in (rows, million(len(published_rows()) + len(shipped_rows())))
        )
        medians, ratios, after = {}, {}, {}
        for name, asked in VIEWS.items():
            works = {"many": drawn(many, *asked), "few": drawn(few, *asked)}
            harness.seconds_in_turn(works, 1)  # loads modules
            times = harness.seconds_in_turn(works, rounds)
            medians[name] = round(statistics.median(times["many"]), 3)
            ratios[name] = round(harness.median_ratio(times["many"], times["few"]), 1)
            if not CHANGED[asked[0]].keys() & asked[1].keys():
                after[name] = round(statistics.median(changed(many, *asked) for _ in range(rounds)), 3)
        return medians, ratios, after


def main() -> None:
    given = harness.parser(__doc__, methods=8, tasks=12, seeds=5, rows=1_000_000, rounds=3).parse_args()
    random = np.random.default_rng(0)
    errors = 0.1 + 0.05 * random.random((given.methods, given.tasks, 1, given.seeds))
    samples = Samples([str(n) for n in range(given.methods)], errors, errors[0])
    many = million(given.rows)
    rows = coded_rows(many)
    resampling.bootstrap(samples, resamples=10)  # loads SciPy
    times = harness.seconds_in_turn(
        {
            "bootstrap_over_tasks": lambda: resampling.bootstrap(samples, "new"),
            "bootstrap_over_seeds": lambda: resampling.bootstrap(samples, "these"),
            "view": lambda: view(rows),
            "difference_to_dense": lambda: measures.difference_to_dense(rows),
            "joined": lambda: measures.joined(rows),
        },
        given.rounds,
    )
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    of_view, ratios, after = seconds_of_views(many, given.rounds)
    figures = {"seconds": medians, "seconds_of_view": of_view, "ratio_to_paper_rows": ratios}
    harness.report("decisions", given, **figures, seconds_after_first_load=after)


if __name__ == "__main__":
    main()
