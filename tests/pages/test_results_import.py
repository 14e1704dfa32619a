"""The form for results of others: a file is checked before anything is kept, and a wrong row is named."""

import pytest

from sparse_core.results import imported
from tests.pages.support import choose, messages, open_app, press, run

HEAD = "architecture,transfer,method,sparsity,dataset,seed,top1\n"
ROWS = "resnet50,linear,Dense,0,pets,0,0.9\nresnet50,linear,STR,0.9,pets,0,0.8\nresnet50,linear,STR,0.9,pets,0,0.7\n"


@pytest.fixture
def app():
    return open_app("runs")


def upload(app, text, name="smith.csv"):
    app.file_uploader(key="results_file").set_value((name, text.encode(), "text/csv"))
    return run(app)


def test_a_file_is_checked_mapped_imported_replaced_and_deleted(home, app):
    upload(app, HEAD + ROWS)
    assert "No column for accuracy" in app.error[0].value
    choose(app, results_map_accuracy="top1", results_source="Smith 2024")
    assert "3 runs: 1 architecture, 2 methods, 1 task. Nothing is imported yet." in messages(app)
    assert "counted as one seed: 3." in messages(app)
    assert imported.sources(home) == []
    press(app, "Import")
    assert imported.sources(home) == ["Smith 2024"] and "Smith 2024" in messages(app)
    press(app, "Replace the results of Smith 2024")
    app.button(key="delete_source_Smith 2024").click()
    run(app)
    assert imported.sources(home) == []


def test_a_wrong_row_is_named_and_nothing_imported(home, app):
    upload(app, HEAD.replace("top1", "accuracy") + ROWS.replace("0.8", "80"))
    assert "Row 2: accuracy takes a fraction from 0 to 1, got '80" in app.error[0].value.replace("\\", "")
    assert imported.sources(home) == []


def test_a_file_that_is_none(app):
    upload(app, "\x00\x01", "x.parquet")
    assert "cannot be read as CSV or Parquet" in app.error[0].value


def test_one_value_for_all_rows_is_typed_in_place_of_a_column(app):
    app.session_state["results_map_transfer"] = (
        "full"  # before there is a file: the harness cannot type what is no option
    )
    upload(app, HEAD.replace("top1", "accuracy").replace("transfer,", "") + ROWS.replace("linear,", ""))
    shown = next(each.value for each in app.dataframe if "accuracy_best" in each.value)
    assert set(shown["transfer"]) == {"full"} and "Nothing is imported yet" in messages(app)
