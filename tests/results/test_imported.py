"""Results of others: columns named by a map, refusals that name the row, duplicates, and a source that is never averaged."""

import json

import pandas as pd
import pytest

from sparse_core.cli import main
from sparse_core.errors import InputError
from sparse_core.results import imported, measures, store
from sparse_core.results.records import Records
from sparse_core.results.store import COLUMNS, Store, published_rows
from sparse_core.views import labels, tables

GIVEN = pd.DataFrame(
    {
        "arch": "resnet50",
        "kind": ["linear"] * 6,
        "method": ["Dense", "Dense", "STR", "STR", "GMP", "GMP"],
        "sparsity": [0.0, 0.0, 0.9, 0.9, 0.9, 0.9],
        "dataset": ["pets", "pets", "pets", "pets", "pets", "dtd"],
        "seed": [0, 1, 0, 1, 0, 0],
        "top1": [0.9, 0.92, 0.8, 0.82, 0.85, 0.5],
    }
)
MAP = {"architecture": "arch", "transfer": "kind", "accuracy": "top1"}
FLAGS = ["--map", "architecture=arch", "transfer=kind,accuracy=top1"]


@pytest.fixture
def file(tmp_path):
    GIVEN.to_csv(tmp_path / "other.csv", index=False)
    return tmp_path / "other.csv"


def wrong(tmp_path, column, value, row=3):
    table = GIVEN.astype({column: object})
    table.loc[row - 1, column] = value
    table.to_csv(tmp_path / "wrong.csv", index=False)
    return tmp_path / "wrong.csv"


def test_an_import_is_a_source_of_its_own(home, file, capsys):
    assert main(["import-results", str(file), *FLAGS, "--source", "Smith 2024", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["source"], printed["rows"], printed["imported"], printed["duplicates"]) == (
        "Smith 2024",
        6,
        True,
        [],
    )
    rows = Store(Records(home)).results(source="Smith 2024")
    assert len(rows) == 6 and list(rows.columns) == list(COLUMNS)
    means = measures.summary(Store(Records(home)).results()).set_index(["source", "method", "sparsity"])
    found = means.loc[("Smith 2024", "STR", 0.9), "mean_relative_error_increase"].item()
    assert found == pytest.approx((0.19 - 0.09) / 0.09)  # of its own dense network, not the paper's
    assert means.loc[("Smith 2024", "GMP", 0.9), "tasks"].item() == 1  # dtd has no dense network
    paper = measures.summary(published_rows()).set_index(["architecture", "transfer", "method", "sparsity"])
    before = paper.loc[("resnet50", "linear", "STR", 0.9), "mean_relative_error_increase"]
    both = means.loc["published"].query("architecture == 'resnet50' and transfer == 'linear'").loc[("STR", 0.9)]
    assert both["mean_relative_error_increase"].item() == before


def test_tables_name_the_source(home, file):
    imported.keep(home, imported.read(file, MAP, "Smith 2024"), COLUMNS)
    rows = Store(Records(home)).results(architecture="resnet50", transfer="linear")
    table = tables.task_table(rows, "best", measures.ordered_tasks(rows))
    assert any(name.endswith("Smith 2024") for name in table["line"])
    assert "Smith 2024" in labels.series_names(rows).values()


def test_seeds_of_others_are_no_pairs(home, tmp_path):
    """That runs of one seed share the order of the training data is known of ours only."""
    table = pd.concat([GIVEN, GIVEN[GIVEN["seed"] == 0].assign(seed=2, top1=lambda rows: rows["top1"] - 0.03)])
    table.to_csv(tmp_path / "three.csv", index=False)
    imported.keep(home, imported.read(tmp_path / "three.csv", MAP, "Smith 2024"), COLUMNS)
    rows = Store(Records(home)).results(source="Smith 2024", methods=["STR"])
    compared = measures.difference_to_dense(rows).set_index("method")
    assert compared.loc["STR", "interval"] == "Welch's t, over seeds"
    assert measures.difference_to_dense(rows.assign(source="measured"))["interval"].max() == "paired t, over seeds"


def test_a_dry_run_imports_nothing(home, file, capsys):
    assert main(["import-results", str(file), *FLAGS, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["imported"] is False
    assert imported.sources(home) == []


def test_parquet_and_other_separators(tmp_path):
    GIVEN.to_parquet(tmp_path / "a.parquet")
    GIVEN.to_csv(tmp_path / "b.tsv", sep="\t", index=False)
    first, second = (imported.read(tmp_path / name, MAP, "x") for name in ("a.parquet", "b.tsv"))
    pd.testing.assert_frame_equal(first.rows, second.rows, check_dtype=False)


def test_rows_that_repeat_a_key_are_found_and_count_as_one_seed(home, tmp_path, capsys):
    table = pd.concat([GIVEN, GIVEN.iloc[[2]].assign(top1=0.6)])
    table.to_csv(tmp_path / "twice.csv", index=False)
    assert main(["import-results", str(tmp_path / "twice.csv"), *FLAGS, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["duplicates"] == [7] and "rows 7" in printed.err
    means = measures.per_configuration(Store(Records(home)).results(source="twice")).set_index(["method", "dataset"])
    assert means.loc[("STR", "pets"), ["seeds", "runs"]].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("top1", 93.2, "Row 3: accuracy takes a fraction from 0 to 1, got '93.2'"),
        ("top1", "good", "Row 3: accuracy"),
        ("sparsity", None, "Row 3: sparsity"),
        ("kind", "partial", "Row 3: transfer takes one of linear, full"),
        ("seed", 0.5, "Row 3: seed takes a whole number"),
        ("method", None, "Row 3: method takes a name"),
        ("sparsity", "0,9", "Row 3: sparsity takes a fraction from 0 to 1, got '0,9'"),
        ("method", "dense", "Row 3: sparsity takes 0 for the method Dense"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_imported(home, tmp_path, capsys, column, value, message):
    assert main(["import-results", str(wrong(tmp_path, column, value)), *FLAGS]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert imported.sources(home) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No column for architecture, transfer, accuracy"),
        (["--map", "accuracy=top-1"], "Unknown column 'top-1'. Did you mean top1"),
        (["--map", "score=top1"], "Unknown field 'score'"),
        (["--map", "top1"], "--map takes FIELD=COLUMN"),
        ([*FLAGS, "--source", "published"], "is none of ours"),
        ([*FLAGS, "--source", "../up"], "A source's name"),
    ],
)
def test_refusals(file, capsys, arguments, message):
    assert main(["import-results", str(file), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_source_is_replaced_only_on_demand_and_can_be_deleted(home, file, capsys):
    assert main(["import-results", str(file), *FLAGS]) == 0
    assert main(["import-results", str(file), *FLAGS]) == 2
    assert "already" in capsys.readouterr().err
    assert main(["import-results", str(file), *FLAGS, "--replace"]) == 0
    open_store = Store(Records(home), store.default_database(Records(home)))
    assert len(open_store.results(source="other")) == 6
    imported.delete(home, "other")
    assert open_store.refresh()
    assert len(open_store.results()) == 2655
    with pytest.raises(InputError, match="Unknown source"):
        open_store.results(source="other")


def test_a_damaged_import_is_left_out_and_named(home, file, caplog):
    kept = imported.keep(home, imported.read(file, MAP, "other"), COLUMNS)
    kept.write_bytes(kept.read_bytes()[:100])
    assert len(Store(Records(home)).results()) == 2655
    assert "other.parquet is left out" in caplog.text


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no")
    (tmp_path / "empty.csv").write_text("architecture,transfer,method,sparsity,dataset,accuracy\n")
    for name, message in (
        ("none.csv", "There is no file"),
        ("x.parquet", "cannot be read"),
        ("empty.csv", "has no rows"),
    ):
        with pytest.raises(InputError, match=message):
            imported.read(tmp_path / name, {}, "x")


@pytest.mark.parametrize(
    ("name", "transfer", "architecture"),
    [
        ("linear_transfer_results.txt", "linear", "resnet50"),
        ("full_transfer_results.txt", "full", "resnet50"),
        ("linear_mobilenet_transfer_results.txt", "linear", "mobilenet_v1"),
        ("full_mobilenet_transfer_results.txt", "full", "mobilenet_v1"),
    ],
)
def test_the_papers_raw_text_layout_gives_the_published_rows(tmp_path, name, transfer, architecture):
    expected = published_rows().query("transfer == @transfer and architecture == @architecture").reset_index(drop=True)
    raw = expected[["dataset", "method", "sparsity", "seed", "accuracy_best"]].replace({"dataset": {"sun397": "SUN"}})
    raw = raw.assign(seed="seed_" + raw["seed"].astype(str)).set_axis(
        ["dset", "model", "sparsity", "seed", "val_acc"], axis=1
    )
    raw.to_csv(tmp_path / name, index=False)
    made = imported.read(tmp_path / name, {}, "Paper again")
    columns = ["architecture", "transfer", "method", "sparsity", "dataset", "seed", "replicate", "accuracy_best"]
    pd.testing.assert_frame_equal(made.rows[columns].reset_index(drop=True), expected[columns], check_dtype=False)
    assert len(made.duplicates) == (expected["replicate"] > 0).sum()


def test_a_file_of_a_spreadsheet_begins_with_a_mark(tmp_path):
    GIVEN.to_csv(tmp_path / "sheet.csv", index=False, encoding="utf-8-sig")
    assert len(imported.read(tmp_path / "sheet.csv", MAP, "x").rows) == 6
    assert imported.columns(tmp_path / "sheet.csv")[0] == "arch"


def test_what_is_known_is_known_in_any_spelling_so_it_has_a_baseline_and_a_kind(tmp_path):
    spelt = {
        "Dense": "dense",
        "STR": "str",
        "GMP": "AcDc",
        "pets": "Oxford-IIIT Pets",
        "dtd": "DTD",
        "resnet50": "ResNet-50",
    }
    GIVEN.replace(spelt).assign(metric="Top-1").to_csv(tmp_path / "small.csv", index=False)
    rows = imported.read(tmp_path / "small.csv", MAP, "x").rows
    assert set(rows["method"]) == {"Dense", "STR", "AC/DC"}
    assert set(rows["dataset"]) == {"pets", "dtd"} and set(rows["architecture"]) == {"resnet50"}
    assert set(rows["metric"]) == {"top1"}


def test_names_of_their_own_stay_as_they_are(tmp_path):
    spelt = {"GMP": "My-Method", "pets": "数据 pets", "resnet50": "resnet50-cifar"}
    GIVEN.replace(spelt).to_csv(tmp_path / "own.csv", index=False)
    rows = imported.read(tmp_path / "own.csv", MAP, "x").rows
    assert set(rows["method"]) == {"Dense", "STR", "My-Method"} and set(rows["dataset"]) == {"数据 pets", "dtd"}
    assert set(rows["architecture"]) == {"resnet50-cifar"}


def test_empty_cells_are_as_an_absent_column(tmp_path):
    GIVEN.assign(metric=["", "accuracy", ""] * 2, upstream=None, protocol=" ").to_csv(
        tmp_path / "empty.csv", index=False
    )
    GIVEN.to_csv(tmp_path / "absent.csv", index=False)
    empty, absent = (imported.read(tmp_path / name, MAP, "x").rows for name in ("empty.csv", "absent.csv"))
    names = ["metric", "upstream", "protocol"]
    assert empty[names].equals(absent[names])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("top1", pd.array([0.9, None, 0.8, 0.8, 0.8, 0.8], dtype="Float64")),
        ("top1", [True, False, True, True, True, True]),
        ("seed", [True, False, True, True, True, True]),
        ("seed", pd.array([0, None, 0, 1, 0, 0], dtype="Int64")),
        ("top1", [[0.9]] * 6),
    ],
)
def test_wrong_types_in_parquet_are_refused(tmp_path, column, values):
    GIVEN.assign(**{column: values}).to_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(InputError, match=r"Row [12]: (accuracy|seed) takes"):
        imported.read(tmp_path / "wrong.parquet", MAP, "x")


def test_a_last_epoch_may_be_unknown_of_some_rows(home, tmp_path):
    GIVEN.assign(accuracy_final=[0.88, None, 0.7, None, None, 0.4]).to_csv(tmp_path / "some.csv", index=False)
    made = imported.read(tmp_path / "some.csv", MAP, "x")
    imported.keep(home, made, COLUMNS)
    assert Store(Records(home)).results(source="x")["accuracy_final"].notna().sum() == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pets,STR,0.9", "Row 2: accuracy takes"),
        ("pets,STR,0.9,seed_x,0.8", "Row 2: seed takes a whole number, got 'x'"),
        ("### cut off", "Row 2: method takes a name"),
        ("pets,STR,0.9,seed_0,0.8,0.7", "Expected 5 fields in line 3, saw 6"),
    ],
)
def test_damaged_lines_of_the_raw_text_layout_are_named(tmp_path, line, message):
    (tmp_path / "full_x.txt").write_text(f"dset,model,sparsity,seed,val_acc\npets,Dense,0,seed_0,0.9\n{line}\n")
    with pytest.raises(InputError, match=message):
        imported.read(tmp_path / "full_x.txt", {}, "x")


def test_two_metrics_on_a_task_are_told_apart_by_name_whatever_they_are(home, tmp_path):
    both = pd.concat([GIVEN.assign(metric="top1"), GIVEN.assign(metric="f1")])
    both.to_csv(tmp_path / "both.csv", index=False)
    imported.keep(home, imported.read(tmp_path / "both.csv", MAP, "x"), COLUMNS)
    table = measures.per_configuration(Store(Records(home)).results(source="x"))
    assert {name.rpartition(", ")[2] for name in labels.name_tasks(table)} == {"top-1 accuracy", "f1"}


def test_a_value_for_all_rows(tmp_path):
    GIVEN.drop(columns="kind").to_csv(tmp_path / "other.csv", index=False)
    made = imported.read(tmp_path / "other.csv", {**MAP, "transfer": "=full"}, "x")
    assert set(made.rows["transfer"]) == {"full"}
    with pytest.raises(InputError, match="one of linear, full"):
        imported.read(tmp_path / "other.csv", {**MAP, "transfer": "=both"}, "x")
