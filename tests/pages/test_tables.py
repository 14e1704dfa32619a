"""Tables of runs in Streamlit's test harness: their filter, and what is shown of very many rows."""

import pandas as pd
import pytest

from pages.parts import results
from sparse_core.results.store import published_rows
from tests.pages.support import messages, open_app, table


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ("WoodFisher 90", "method == 'WoodFisher' and sparsity == 0.9"),
        ("FLOWERS full", "dataset == 'flowers' and transfer == 'full'"),  # as stored
        ("Oxford Flowers-102 Full transfer", "dataset == 'flowers' and transfer == 'full'"),  # as shown
        ("RigL 5x 95", "method == 'RigL ERK 5x' and sparsity == 0.95"),
        ("nothing", "seed < 0"),
    ],
)
def test_a_filter_keeps_the_rows_with_every_word(words, query):
    expected = (
        published_rows().query("architecture == 'resnet50' and (transfer == 'full' or method != 'LTH-T')").query(query)
    )
    expected = expected[~expected["seed"].isin([90, 95]) | expected["sparsity"].isin([0.9, 0.95])]
    app = open_app("tradeoffs", view="Runs", behind_filter=words)
    if expected.empty:
        assert "No row contains these words" in messages(app)
        return
    shown = table(app)
    assert len(shown) == len(expected)
    pd.testing.assert_series_equal(
        shown["accuracy_best"].sort_values(ignore_index=True),
        (100 * expected["accuracy_best"]).sort_values(ignore_index=True),
        check_names=False,
    )


def test_of_very_many_rows_the_first_are_shown(monkeypatch):
    monkeypatch.setattr(results, "MOST_SHOWN", 10)
    app = open_app("tradeoffs", view="Runs")
    assert len(table(app)) == 10
    assert "1,743 of 1,743 rows. The first 10 are shown; filter to find others." in messages(app)
