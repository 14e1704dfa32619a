"""Parquet files: images, labels and class names, and which are refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparse_core.datasets import catalogue
from tests.support.images import encoded, parquet_file
from tests.support.refusals import refused


@pytest.mark.parametrize("struct", [False, True])
def test_plain_bytes_and_structs_of_hugging_face(home, tmp_path, struct):
    images = [encoded(20 * value) for value in range(10)]
    column = [{"bytes": data, "path": None} for data in images] if struct else images
    names = ["even", "odd"] if struct else []
    for part, count in (("train", 10), ("test", 4)):
        parquet_file(tmp_path / "d" / f"{part}-0.parquet", [0, 1] * (count // 2), names, column[:count])
    loaded = catalogue.load(home, str(tmp_path / "d"))
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (10, 4)
    assert loaded.class_names == (["even", "odd"] if struct else ["0", "1"])
    assert np.asarray(loaded.train.load(3))[0, 0].tolist() == [60, 60, 60]
    alone = catalogue.load(home, str(tmp_path / "d" / "train-0.parquet"))
    assert len(alone.train.labels) + len(alone.test.labels) == 10


def test_string_labels_are_matched_with_the_names_in_the_metadata(home, tmp_path):
    file = parquet_file(tmp_path / "x.parquet", ["dog", "cat"] * 5, ["dog", "cat"])
    assert catalogue.load(home, str(file)).class_names == ["dog", "cat"]
    assert np.bincount(catalogue.load(home, str(file)).test.labels).tolist() == [1, 1]


def test_only_numbers_that_occur_are_classes(home, tmp_path):
    gaps = parquet_file(tmp_path / "gaps.parquet", [0, 3_000_000] * 5)
    whole = parquet_file(tmp_path / "whole.parquet", [0, 1] * 5)
    assert catalogue.describe(home, str(gaps)).class_names == ["0", "3000000"]
    assert catalogue.describe(home, str(gaps)).layout == "Parquet, stratified split by seed 0, class numbers with gaps"
    assert catalogue.describe(home, str(whole)).layout == "Parquet, stratified split by seed 0"
    assert set(catalogue.load(home, str(gaps)).train.labels) == {0, 1}


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, -1, 1], "ab", r"1 of 4 labels in x.parquet .* first -1 in row 2; expected 0 to 1, or .*\(a, b\)"),
        ([0, 1, 2, 1], "ab", "first 2 in row 2; expected 0 to 1"),
        (["a", "b", "a", "c"], "ab", "first 'c' in row 3; expected 0 to 1"),
        ([0, 1, -1, -1], "", "2 of 4 labels .* first -1 in row 2; expected integers from 0"),
        ([0, 1, None, 1], "ab", "row 2 of x.parquet holds None"),
        ([0.5, 1.0, 0.5, 1.0], "", "row 0 of x.parquet holds 0.5"),
        ([[0], [1], [0], [1]], "", r"row 0 of x.parquet holds \[0\]"),
    ],
)
def test_labels_without_a_class_are_refused(home, tmp_path, labels, names, message):
    file = parquet_file(tmp_path / "x.parquet", labels, names)
    for look in (catalogue.describe, catalogue.load):
        refused(look, home, str(file), match=message)


def test_files_with_different_kinds_of_labels_are_refused(home, tmp_path):
    parquet_file(tmp_path / "names" / "train.parquet", [0, 1] * 3, "ab")
    parquet_file(tmp_path / "names" / "test.parquet", [0, 1] * 3, "ba")
    assert "test.parquet and train.parquet have different class names" in refused(
        catalogue.describe, home, str(tmp_path / "names")
    )
    parquet_file(tmp_path / "kinds" / "train.parquet", [0, 1] * 3)
    parquet_file(tmp_path / "kinds" / "test.parquet", ["a", "b"] * 3)
    assert "integers or strings, not both; test.parquet holds strings" in refused(
        catalogue.describe, home, str(tmp_path / "kinds")
    )


def test_damaged_files_and_missing_columns_are_refused(home, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    assert "not a readable Parquet file" in refused(catalogue.load, home, str(tmp_path / "x.parquet"))
    pq.write_table(pa.table({"photo": [b""], "label": [0]}), tmp_path / "y.parquet")
    assert "lacks the column image; it has photo, label" in refused(catalogue.load, home, str(tmp_path / "y.parquet"))
