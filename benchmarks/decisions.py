"""The statistics of Compare and the measures behind every view: 10,000 bootstrap resamples for 8 methods on 12 tasks with 5
seeds, and what Tradeoffs computes of 1,000,000 rows.

    python -m benchmarks.decisions

Expected: below 1 s for the bootstrap, below 0.5 s for the ``view``: filtered, networks joined, compared with dense, averaged.
"""

import statistics

import numpy as np
import pandas as pd

from benchmarks import harness
from sparse_core.results import measures, resampling
from sparse_core.results.resampling import Samples
from sparse_core.results.store import coded_rows, published_rows


def million(rows: int) -> pd.DataFrame:
    """The paper's rows, repeated with other seeds and a little noise."""
    base = published_rows()
    copies = -(-rows // len(base))
    table = pd.concat([base] * copies, ignore_index=True).iloc[:rows]
    noise = np.random.default_rng(0).normal(0, 0.005, rows)
    return table.assign(
        seed=np.arange(rows) // len(base),
        accuracy_best=(table["accuracy_best"] + noise).clip(0, 1),
        run_id=[f"r{number}" for number in range(rows)],
    )


def view(rows: pd.DataFrame) -> pd.DataFrame:
    """The points of Tradeoffs for one architecture."""
    kept = measures.joined(rows[rows["architecture"] == "resnet50"].reset_index(drop=True))
    return measures.with_sizes(measures.over_tasks(measures.compared(kept)), kept)


def main() -> None:
    given = harness.parser(__doc__, methods=8, tasks=12, seeds=5, rows=1_000_000, rounds=3).parse_args()
    random = np.random.default_rng(0)
    errors = 0.1 + 0.05 * random.random((given.methods, given.tasks, 1, given.seeds))
    samples = Samples([str(n) for n in range(given.methods)], errors, errors[0])
    rows = coded_rows(million(given.rows))
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
    harness.report("decisions", given, seconds=medians)


if __name__ == "__main__":
    main()
