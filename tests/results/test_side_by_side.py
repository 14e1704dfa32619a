"""Networks side by side: against SciPy on the paper's rows, and the same means by every interval."""

import numpy as np
import pytest
from scipy import stats

from sparse_core.errors import InputError
from sparse_core.results import measures, side_by_side, store
from sparse_core.results.store import published_rows, shipped_rows

SHIPPED = store.SHIPPED_RESULTS


def linear(rows):
    return measures.joined(rows[(rows["transfer"] == "linear") & (rows["architecture"] != "mobilenet_v1")])


def names(found):
    return {
        tuple(row): "/".join(map(str, row)) for row in found[measures.NETWORK_KEY].itertuples(index=False, name=None)
    }


@pytest.fixture(scope="module")
def published():
    rows = linear(published_rows())
    return rows, names(side_by_side.usual(side_by_side.networks(measures.difference_to_dense(rows))))


def test_the_usual_networks_are_those_of_the_papers_figure_at_90_percent(published):
    assert {name.split("/0.9")[0] for name in published[1].values()} == {
        *("AC/DC", "RigL ERK 1x", "RigL ERK 5x", "STR", "WoodFisher")
    }


def test_means_and_pairs_against_scipy(published):
    found = side_by_side.compare(*published)
    for row in found.means.itertuples():
        values = found.grid[row.name]
        ends = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
        assert (row.low, row.high) == pytest.approx(ends) and row.runs == 60
        assert row.won + row.drawn + row.lost == row.tasks == 12 and row.unknown == 0
    assert found.means["mean"].is_monotonic_increasing and len(found.pairs) == 10
    assert (found.pairs[["won", "drawn", "lost"]].sum(axis=1) == 12).all()


@pytest.mark.parametrize("source", ["published", "shipped"])
@pytest.mark.parametrize("interval", ["new", "these"])
def test_a_bootstrap_has_the_mean_of_the_t_interval(published, source, interval, monkeypatch):
    """Also of the shipped rows, which have dense networks of two recipes, several of each, and sparse ones that are joined."""
    rows, chosen = published
    if source == "shipped":
        monkeypatch.setattr(store, "SHIPPED_RESULTS", SHIPPED)
        rows = linear(shipped_rows())
        chosen = names(side_by_side.usual(side_by_side.networks(measures.difference_to_dense(rows))))
    t, drawn = (side_by_side.compare(rows, chosen, interval=how).means for how in ("t", interval))
    assert drawn["mean"].to_numpy() == pytest.approx(t["mean"].to_numpy())
    assert drawn["name"].tolist() == t["name"].tolist()


def test_a_pair_by_hand(published):
    found = side_by_side.compare(*published)
    first, second = found.grid.columns[:2]
    pair = side_by_side.pair(found, first, second)
    assert pair.tasks["difference"].to_numpy() == pytest.approx(
        (found.grid[first] - found.grid[second]).loc[
            list(pair.tasks[side_by_side.comparison.CONTENT_KEY].itertuples(index=False, name=None))
        ]
    )
    rows, _ = published
    of = rows[(rows["dataset"] == pair.tasks["dataset"][0])]
    one, other, dense = (
        of[(of["method"] == method) & (of["sparsity"] == level)]["accuracy_best"]
        for method, level in ((first.split("/0.9")[0], 0.9), (second.split("/0.9")[0], 0.9), ("Dense", 0.0))
    )
    ends = stats.ttest_ind(other, one, equal_var=False).confidence_interval()  # errors: the sign turns
    expected = np.array([ends.low, ends.high]) / (1 - dense.mean())
    assert (pair.tasks["low"][0], pair.tasks["high"][0]) == pytest.approx(tuple(expected))
    assert pair.tasks_needed is not None and pair.tasks_needed > 12


def test_refusals(published):
    rows, chosen = published
    with pytest.raises(InputError, match="two or more"):
        side_by_side.compare(rows, dict([next(iter(chosen.items()))]))
    many = {(*key, number): f"n{number}" for number in range(21) for key in chosen}
    with pytest.raises(InputError, match="At most 20"):
        side_by_side.compare(rows, many)
