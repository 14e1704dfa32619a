"""Records and store: records are the source of truth, the cache can be lost, nothing is stored twice."""

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import duckdb
import pandas as pd
import pytest

from sparse_core.errors import InputError
from sparse_core.paths import PUBLISHED, REPOSITORY
from sparse_core.results import records as records_module
from sparse_core.results import store as store_module
from sparse_core.results.records import Records
from sparse_core.results.store import Store, default_database, rebuild
from tests.support.records import record


@pytest.fixture
def records(home):
    return Records(home)


def write(records, count: int = 1) -> list[str]:
    """The ids of that many new runs, which differ in seed."""
    made = [record(seed=seed) for seed in range(count)]
    for entry in made:
        records.write(entry)
    return [entry.run_id for entry in made]


def finetuned(records):
    """The id of a run in the records, and the file of its finetuned network."""
    (run_id,) = write(records)
    network = records.networks / run_id / "network.safetensors"
    network.parent.mkdir(parents=True)
    network.write_bytes(b"weights")
    return run_id, network


def measured_runs(store):
    return store.results(source="measured")["run_id"].tolist()


def test_all_published_rows_are_read_including_both_replicates(home):
    raw = pd.read_csv(PUBLISHED / "transfer_accuracy.csv")
    rows = Store(Records(home)).results(source="published")
    assert len(rows) == len(raw) == 2655
    assert rows["accuracy_best"].sum() == pytest.approx(raw["accuracy"].sum())
    filters = {"architecture": "mobilenet_v1", "transfer": "full", "methods": ["STR"], "sparsity": (0.75, 0.75)}
    twice = Store(Records(home)).results(**filters)
    assert (twice[twice["method"] == "STR"].groupby("dataset").size() == 2).all()


def test_filters_keep_the_dense_baseline(home):
    filters = {"architecture": "resnet50", "transfer": "linear", "methods": ["AC/DC"], "sparsity": (0.9, 0.9)}
    rows = Store(Records(home)).results(**filters)
    assert set(rows["method"]) == {"AC/DC", "Dense"} and len(rows) == 120


def test_new_deleted_and_restored_records_show_in_the_store(records):
    store = Store(records)
    (run_id,) = write(records)
    assert store.refresh()
    assert measured_runs(store) == [run_id]
    records.delete(run_id)
    store.refresh()
    assert measured_runs(store) == []
    records.restore(run_id)
    store.refresh()
    assert measured_runs(store) == [run_id]
    with pytest.raises(InputError, match="not in the trash"):
        records.restore(run_id)


@pytest.mark.parametrize("newer", [False, True])
def test_a_finetuned_network_is_deleted_and_restored_with_its_run_unless_there_is_a_newer_one(records, newer):
    run_id, network = finetuned(records)
    records.delete(run_id)
    assert not network.parent.exists()
    if newer:
        network.parent.mkdir()
        network.write_bytes(b"new")
    records.restore(run_id)
    assert network.read_bytes() == (b"new" if newer else b"weights")


def test_the_first_record_of_an_id_is_kept(records):
    records.write(record(best=0.9))
    records.write(record(best=0.1))
    (run_id,) = records.ids()
    assert records.read(run_id).result["accuracy_best"] == 0.9


def test_compaction_changes_no_record(records, monkeypatch):
    monkeypatch.setattr(records_module, "COMPACT_ABOVE", 3)
    for seed in range(5):
        records.write(record(seed=seed, best=0.5 + seed / 100))
    before = {run_id: records.read(run_id) for run_id in records.ids()}
    assert records.compact() == 5
    assert not [entry for entry in records.runs.iterdir() if entry.is_dir()]
    assert {run_id: records.read(run_id) for run_id in records.ids()} == before
    gone = sorted(before)[0]
    records.delete(gone)
    assert records.ids() == set(before) - {gone}
    records.restore(gone)
    assert records.read(gone) == before[gone]


class Killed(BaseException):
    """Raised by tests in place of a kill -9."""


@contextlib.contextmanager
def killed_at(step: int):
    """Raise ``Killed`` at the ``step``-th change of a folder's entries; the list yielded is empty if there were fewer."""
    steps, struck = itertools.count(), []

    def work_or_die(work, *arguments, **options):
        if next(steps) == step:
            struck.append(step)
        if struck:
            raise Killed
        return work(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "unlink", "rmdir"):
            patch.setattr(os, name, partial(work_or_die, getattr(os, name)))
        with contextlib.suppress(Killed):
            yield struck


def test_an_interrupted_compaction_loses_no_run(home, monkeypatch):
    monkeypatch.setattr(records_module, "COMPACT_ABOVE", 1)
    for step in itertools.count():
        records = Records(home)
        write(records, 2)
        with killed_at(step) as struck:
            records.compact()
        assert len(measured_runs(Store(records))) == 2
        assert sorted(entry.run_id for entry in records.read_many(records.ids())) == sorted(records.ids())
        records.compact()
        assert len(measured_runs(Store(records))) == 2
        gone = sorted(records.ids())[0]
        records.delete(gone)
        assert gone not in Records(home).ids()
        if not struck:
            break
    assert step > 5


def test_an_interrupted_deletion_keeps_the_finetuned_network(home):
    for step in itertools.count():
        records = Records(home / str(step))
        run_id, network = finetuned(records)
        with killed_at(step) as struck:
            records.delete(run_id)
        if run_id in records.ids():
            records.delete(run_id)
        records.restore(run_id)
        assert network.read_bytes() == b"weights"
        assert records.ids() == {run_id}
        if not struck:
            break
    assert step > 3


def test_an_incomplete_run_is_skipped_and_named_in_the_log(records, caplog):
    half, broken, whole = write(records, 3)
    (records.runs / "lost+found").mkdir()
    (records.runs / half / "spec.json").unlink()
    (records.runs / broken / "result.json").write_text("{")
    assert measured_runs(Store(records)) == [whole]
    assert [entry.run_id for entry in records.read_many({half, broken, whole})] == [whole]
    with pytest.raises(InputError, match=f"Unknown run '{broken}'"):
        records.read(broken)
    for name in (half, broken, "lost+found"):
        assert f"{records.runs / name} is left out" in caplog.text
    records.write(record(seed=0))
    assert records.read(half) == record(seed=0)


def test_a_run_compacted_during_a_read_is_found(home, records, monkeypatch):
    monkeypatch.setattr(records_module, "COMPACT_ABOVE", 0)
    names = set(write(records))
    listed = records._folders()
    monkeypatch.setattr(records, "_folders", lambda: listed)
    Records(home).compact()
    assert [entry.run_id for entry in records.read_many(names)] == sorted(names)
    assert {records.read(name).run_id for name in names} == names


def test_old_records_without_sizes_are_read(home):
    old = record()
    for name in ("nonzero_parameters", "multiply_adds", "file_size"):
        del old.result[name]
    Records(home).write(old)
    (row,) = Store(Records(home)).results(source="measured").to_dict("records")
    assert pd.isna(row["nonzero_parameters"])
    assert row["accuracy_best"] == 0.9


def test_a_damaged_or_old_cache_is_rebuilt(records):
    records.write(record())
    file = default_database(records)

    def make_old():
        with duckdb.connect(str(file)) as connection:
            connection.execute("UPDATE cache_version SET version = 'old'")

    for change in (lambda: None, lambda: file.write_bytes(b"not a database" * 100), make_old):
        change()
        store = Store(records, file)
        assert len(store.results()) == 2656
        store.close()


def test_without_a_writable_cache_memory_is_used(records, caplog):
    records.write(record())
    file = default_database(records)
    file.mkdir()
    store = Store(records, file)
    assert len(store.results()) == 2656
    assert store.database is None
    assert f"The cache {file} is not used" in caplog.text


def no_space(*_):
    raise duckdb.TransactionException("Failed to commit: Could not write file: No space left on device")


def test_a_full_disk_hides_no_run(records, monkeypatch):
    store = Store(records, default_database(records))
    records.write(record())
    synchronise = store_module._synchronise
    with_file = store._connection

    def full(connection, of):
        return no_space() if connection is with_file else synchronise(connection, of)

    monkeypatch.setattr(store_module, "_synchronise", full)
    assert store.refresh()
    assert len(store.results(source="measured")) == 1


def test_a_rebuild_on_a_full_disk_leaves_no_file(home, monkeypatch):
    monkeypatch.setattr(store_module, "_synchronise", no_space)
    with pytest.raises(duckdb.Error, match="No space left"):
        rebuild(Records(home))
    assert list(home.iterdir()) == []


def test_a_running_store_opens_a_rebuilt_cache(records):
    file = default_database(records)
    store = Store(records, file)
    records.write(record())
    assert rebuild(records) == 2656
    assert store.refresh()
    assert len(store.results()) == 2656
    store.close()


def test_a_cache_held_by_another_process_is_not_an_error(records):
    file = default_database(records)
    script = (
        "import sys, pathlib; from sparse_core.results.store import Store; from sparse_core.results.records import Records;"
        "f = pathlib.Path(sys.argv[1]); s = Store(Records(f.parent), f); print('open', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, str(file)], cwd=REPOSITORY, **pipes) as other:
        assert other.stdout.readline() == b"open\n"
        store = Store(records, file)
        assert store.database is None
        assert len(store.results()) == 2655


def test_concurrent_readers_and_a_writer(records):
    store = Store(records, default_database(records))

    def read(_):
        store.refresh()
        return len(store.results(source="measured"))

    with ThreadPoolExecutor(4) as pool:
        reads = pool.map(read, range(20))
        write(records, 10)
        assert all(0 <= count <= 10 for count in reads)
    store.refresh()
    assert len(store.results(source="measured")) == 10
    store.close()


def test_export_is_complete(home, tmp_path):
    store = Store(Records(home))
    assert store.export(tmp_path / "all.parquet") == 2655
    assert store.export(tmp_path / "all.csv") == 2655
    assert len(pd.read_parquet(tmp_path / "all.parquet")) == len(pd.read_csv(tmp_path / "all.csv")) == 2655
    with pytest.raises(InputError, match="Expected a file ending in"):
        store.export(tmp_path / "all.xlsx")
    assert {file for file in os.listdir(tmp_path) if file.startswith((".all", "all"))} == {"all.csv", "all.parquet"}


def test_errors_for_unknown_names_suggest_the_nearest(home):
    with pytest.raises(InputError, match="Did you mean measured"):
        Store(Records(home)).results(source="measurd")
    with pytest.raises(InputError, match="Unknown run 'nothing'"):
        Records(home).read("nothing")


def test_notes_and_tags_stay_with_a_run(records):
    assert records.annotation("r") == ("", [])
    records.annotate("r", "odd curve", ["b", "a", "b"])
    assert records.annotation("r") == ("odd curve", ["a", "b"])


def test_data_of_pages_is_loaded_without_torch(home):
    script = (
        "import sys, pathlib; from sparse_core.results import measures, records, store; from sparse_core.jobs import queue;"
        "from sparse_core.views import charts, labels, runs; from sparse_core.networks import library;"
        "from sparse_core.datasets import catalogue; from sparse_core.transfer import durations;"
        "store.Store(records.Records(pathlib.Path(sys.argv[1]))).results(); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script, str(home)], cwd=REPOSITORY).strip() == b"False"


def test_a_path_that_is_no_utf8_does_not_keep_the_results_from_opening(home):
    made = record()
    file = b"resnet20:/tmp/\xff.pth".decode(errors="surrogateescape")
    Records(home).write(dataclasses.replace(made, spec={**made.spec, "backbone": file, "backbone_hash": ""}))
    rows = Store(Records(home)).results(source="measured")
    (name,) = rows["network_name"]
    assert name.startswith("\ufffd") and name.endswith(".pth") and rows["backbone"].iloc[0].endswith(name)
