"""Two home folders in one process: nothing written to one is seen in the other."""

import zipfile
from pathlib import Path

import pytest

from sparse_core.datasets import catalogue
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.results.records import Records
from sparse_core.results.store import Store, default_database
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.speed import measurements
from tests.support.images import image_folder
from tests.support.measurements import speed_record
from tests.support.records import record


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A home with a library, runs, jobs and a measurement."""
    with zipfile.ZipFile(Path(__file__).parent / "data" / "home-0.1.0.zip") as archive:
        archive.extractall(tmp_path / "used")
    return tmp_path / "used"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


def test_runs_and_their_caches_are_separate(used, new):
    stores = [Store(Records(home), default_database(Records(home))) for home in (used, new)]
    assert [len(store.results(source="measured")) for store in stores] == [3, 0]
    Records(new).write(record())
    assert [store.refresh() for store in stores] == [False, True]
    assert [len(store.results(source="measured")) for store in stores] == [3, 1]
    for store in stores:
        store.close()


def test_libraries_are_separate(used, new):
    assert [library.cards(new), library.removed(new)] == [[], []]
    library.remove(used, "made_98")
    assert library.cards(used) == library.cards(new) == library.removed(new) == []
    assert library.removed(used) == ["gone", "made_98"]


def test_caches_of_datasets_are_separate(used, new, tmp_path):
    images = str(image_folder(tmp_path / "images", {"a": 5, "b": 5}))
    before = sorted(used.rglob("*"))
    assert catalogue.load(new, images).hash == catalogue.load(new, images).hash
    assert sorted(entry.name for entry in (new / "datasets").iterdir()) == ["hashes", "unreadable"]
    assert sorted(used.rglob("*")) == before


def test_jobs_are_separate(used, new, monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    before = [status.job_id for status in queue.recent(used)]
    submitted = queue.submit(new, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0,)))
    assert [status.job_id for status in queue.recent(new)] == [submitted]
    assert [status.job_id for status in queue.recent(used)] == before != []


def test_measurements_of_speed_are_separate(used, new):
    before = measurements.read_all(used)
    measurements.write(new, speed_record("b"))
    assert [found["id"] for found in measurements.read_all(new)] == ["b"]
    assert measurements.read_all(used) == before != []
