"""Tables: filtering by words and numbers, choosing columns."""

import pandas as pd

from sparse_core.paths import PUBLISHED
from tests.pages.support import open_app, table


def test_tables_filter_by_words_and_columns() -> None:
    app = open_app(averages_filter="acdc", view="Averages")
    assert "No row contains these words" in app.info[0].value
    app = open_app(averages_filter="ac/dc 90 full")
    assert len(table(app)) == 1
    app = open_app(view="Runs", behind_filter="birds wood 95 full")
    assert len(table(app)) == 3 and table(app)["accuracy_final"].isna().all()
    app = open_app(view="Runs", behind_filter="WoodFisher 90")
    known = pd.read_csv(PUBLISHED / "transfer_accuracy.csv").query(
        "architecture == 'resnet50' and method == 'WoodFisher'"
    )
    assert set(table(app)["sparsity"]) == {90}  # not those with a 90 in their accuracy
    assert len(table(app)) == (known["sparsity"] == 0.9).sum()
    app = open_app(averages_columns=["Method", "Tasks"])
    assert list(table(app).columns) == ["method", "tasks"]
