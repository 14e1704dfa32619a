"""The table of columns: units decide how numbers are shown, and nothing is lost on the way to the screen."""

import pandas as pd
import pytest

from sparse_core.results.store import COLUMNS as STORED
from sparse_core.speed import measurements
from sparse_core.views.columns import COLUMNS, PERCENT, column, for_display


def test_a_heading_carries_its_unit():
    assert column("sparsity").title == "Sparsity (%)"
    assert column("ratio").title == "Speedup over dense (×)"
    assert column("file_size").title == "File size (bytes)"
    assert column("milliseconds_per_image").title == "ms/image"


def test_a_column_without_a_definition_is_headed_by_its_name():
    assert column("learning_rate").title == "Learning rate"


def test_fractions_are_shown_in_percent_and_stored_names_as_labels():
    frame = pd.DataFrame({"sparsity": [0.9], "source": ["measured"], "gain": ["no gain"], "runs": [3]})
    shown = for_display(frame)
    assert shown.iloc[0].to_dict() == {"sparsity": 90.0, "source": "Your runs", "gain": "inconclusive", "runs": 3}
    assert frame["sparsity"].tolist() == [0.9]


def test_an_unknown_value_keeps_its_name():
    assert for_display(pd.DataFrame({"engine": ["another"], "gain": ["odd"]})).iloc[0].tolist() == ["another", "odd"]


def test_a_number_format_can_be_finer_than_that_of_the_unit():
    assert (column("accuracy_std").number_format, column("difference").number_format) == ("%.2f", "%.1f")


@pytest.mark.parametrize("names", [STORED, measurements.COLUMNS], ids=["results", "speed"])
def test_headings_of_one_table_differ(names):
    """Links select columns by their heading."""
    titles = [column(name).title for name in names]
    assert len(set(titles)) == len(titles)


def test_no_older_heading_is_that_of_another_column():
    former = [definition.formerly for definition in COLUMNS.values() if definition.formerly]
    assert len(set(former)) == len(former)


def test_every_share_is_in_percent():
    assert all(COLUMNS[name].unit == PERCENT for name in COLUMNS if name.endswith("_share") or "sparsity" in name)
