"""Records of measured speed on disk: a round trip, invalid files, and the trash."""

import json
import math

import pytest

from sparse_core import stored
from sparse_core.speed import measurements
from tests.support.imports import loads_torch
from tests.support.measurements import line, speed_record
from tests.support.refusals import refused


def test_what_is_written_is_read(home):
    record = speed_record("b", created_at="2026-01-02T00:00:00", lines=[line(), line(engine="torch", ratio=1.0)])
    earlier = speed_record("c", created_at="2026-01-01T00:00:00")
    file = measurements.write(home, record)
    measurements.write(home, earlier)
    assert file.name == "b.json"
    assert measurements.read_all(home) == [earlier, record]
    assert [entry.name for entry in measurements.folder(home).iterdir() if entry.name.startswith(".")] == []


def test_nothing_measured_yet(home):
    assert measurements.read_all(home) == []
    assert measurements.fingerprint(home) == (0, 0)
    assert list(measurements.frame(home).columns) == list(measurements.COLUMNS)
    assert measurements.frame(home).empty


def test_one_row_per_line(home):
    measurements.write(home, speed_record("a", sparsity=0.9, lines=[line(ratio=3.0), line(batch_size=1, ratio=2.0)]))
    measurements.write(home, speed_record("b", created_at="2026-02-01", sparsity=0.95, lines=[line(ratio=3.5)]))
    table = measurements.frame(home)
    assert table["measurement"].tolist() == ["a", "a", "b"]
    assert table["sparsity"].tolist() == [0.9, 0.9, 0.95]
    assert table["ratio"].tolist() == [3.0, 2.0, 3.5]
    first = table.iloc[0]
    assert (first["quartile_low"], first["quartile_high"], first["rounds"]) == (3.9, 4.1, 3)
    assert (first["dense_quartile_low"], first["dense_quartile_high"]) == (12.0, 12.0)
    assert (first["processor"], first["cores"], first["dataset"]) == ("Some processor", 2, "")
    assert (first["busy_before"], first["busy_during"], first["peak_memory_bytes"]) == (0.02, 0.03, 1e9)


def test_older_records_have_no_background_load_and_no_comparable_memory(home):
    older = line()
    del older["busy_during"], older["restarts"]
    measurements.write(home, speed_record("a", lines=[older]))
    assert measurements.frame(home)[["busy_during", "peak_memory_bytes"]].isna().all(axis=None)


def test_sparsity_is_nominal_and_measured(home):
    measurements.write(home, speed_record("a", sparsity=0.9, measured_sparsity=0.88))
    assert measurements.frame(home)[["sparsity", "measured_sparsity"]].values.tolist() == [[0.9, 0.88]]


def test_infinity_becomes_null(home):
    measurements.write(home, speed_record("a", lines=[line(spread=math.inf)]))
    assert measurements.read_all(home)[0]["lines"][0]["spread"] is None
    assert math.isnan(measurements.frame(home)["spread"][0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it is damaged"),
        ("[]", "not a JSON object"),
        (json.dumps({"id": "bad"}), "'created_at' is missing"),
        (json.dumps(speed_record("other")), "its name differs"),
        (json.dumps({**speed_record("bad"), "lines": [{"engine": "torch"}]}), "'batch_size' of a line"),
        (json.dumps({**speed_record("bad"), "lines": ["torch"]}), "not a JSON object of a line"),
        (json.dumps(speed_record("bad", lines=[line(gain="some")])), "'gain' of a line"),
        (json.dumps(speed_record("bad", machine="a fast one")), "'machine' is of the wrong type"),
        (json.dumps(speed_record("bad", lines=[line(samples=[1, 2])])), "'samples' of a line is of the wrong type"),
        (json.dumps(speed_record("bad", created_at="yesterday")), "'created_at' is not a time"),
        ("\udcff", "it is damaged"),
    ],
)
def test_an_invalid_file_is_left_out_and_reported(home, content, message):
    measurements.write(home, speed_record("good"))
    (measurements.folder(home) / "bad.json").write_bytes(content.encode(errors="surrogateescape"))
    assert [record["id"] for record in measurements.read_all(home)] == ["good"]
    ((file, problem),) = stored.notes(home).items()
    assert file == "speeds/bad.json"
    assert message in problem


def test_an_invalid_record_is_not_written(home):
    for wrong in (speed_record("../a"), {**speed_record("a"), "lines": None}, speed_record("a", mode=None)):
        assert "Not a measurement" in refused(measurements.write, home, wrong)
    assert not measurements.folder(home).exists()


def test_deleted_and_restored(home):
    record = speed_record("a")
    measurements.write(home, record)
    before = measurements.fingerprint(home)
    measurements.delete(home, "a")
    assert measurements.read_all(home) == []
    assert measurements.fingerprint(home) != before
    measurements.restore(home, "a")
    assert measurements.read_all(home) == [record]
    for name in ("b", "../a"):
        refused(measurements.delete, home, name)
        refused(measurements.restore, home, name)


def test_ids_differ(home):
    names = {measurements.new_id() for _ in range(20)}
    assert len(names) == 20 and all(measurements.write(home, speed_record(name)) for name in names)


def test_no_torch_is_needed(home):
    script = "import pathlib; from sparse_core.speed import measurements; measurements.frame(pathlib.Path(sys.argv[1]))"
    assert not loads_torch(script, home)
