"""Statistics by hand."""

import numpy as np
import pandas as pd
import pytest

from sparse_core.results import statistics


def test_pareto_optimal_rows_by_hand():
    frame = pd.DataFrame({"sparsity": [0.5, 0.8, 0.8, 0.9, 0.9], "accuracy": [0.9, 0.85, 0.8, 0.7, np.nan]})
    assert statistics.pareto_optimal(frame, "sparsity", "accuracy").tolist() == [True, True, False, True, False]


def test_wilson_interval_by_hand():
    low, high = statistics.wilson_interval(np.array([8, 0, 5]), np.array([10, 4, 5]))
    # (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96
    assert low == pytest.approx([0.4901625, 0, 0.5655175], abs=1e-6)
    assert high == pytest.approx([0.9433178, 0.4898910, 1], abs=1e-6)
    assert [len(ends) for ends in statistics.wilson_interval(np.array([]), np.array([]))] == [0, 0]
