"""Home folders: one of version 0.1.0 opens with nothing lost or run again; two in one process stay separate.

``data/home-0.1.0.zip`` was written by that version: a library with one backbone and one in its trash, three probes of which
one is in the trash and the rest are compacted, a finetuning with its network, a speed measurement, jobs, a structure.
"""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.frame import PAGES
from sparse_core.cli import main
from sparse_core.datasets import catalogue
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import backbones, classifier, finetuned, library, structure
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Records
from sparse_core.results.store import Store, default_database
from sparse_core.specs.identity import recorded, run_id
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.speed import measurements
from tests.pages.support import open_app, table
from tests.support.images import image_folder
from tests.support.measurements import backbone_record, speed_record
from tests.support.records import record

OLD_HOME = zipfile.ZipFile(Path(__file__).parent / "data" / "home-0.1.0.zip")


@pytest.fixture
def old_home(home: Path) -> Path:
    OLD_HOME.extractall(home)
    return home


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A home with a library, runs, jobs and a measurement, which the environment does not name."""
    OLD_HOME.extractall(tmp_path / "used")
    return tmp_path / "used"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


def test_runs_keep_their_names_notes_and_networks(old_home):
    records = Records(old_home)
    assert len(records.ids()) == 3
    for found in records.read_many(records.ids()):
        assert run_id(recorded(found.spec), found.spec["seed"]) == found.run_id
        assert (found.result["train_images"], found.result["test_images"]) == (1437, 360)
    (finetuning,) = (name for name in records.ids() if name.startswith("full-"))
    backbone = backbones.load(old_home, "made_98")
    assert classifier.violations(finetuned.file(old_home, finetuning), backbone.mask) == 0
    noted = [name for name in records.ids() if records.annotation(name) == ("seen on Monday", ["good"])]
    assert len(noted) == 1
    (removed,) = (entry.name for entry in (old_home / "trash").iterdir())
    records.restore(removed)
    assert len(Store(records).results(source="measured")) == 4


def test_the_library_opens_and_its_trash_restores(old_home):
    assert [card.name for card in library.cards(old_home)] == ["made_98"]
    backbone = backbones.load(old_home, "made_98")
    assert backbone.sparsity == pytest.approx(0.98, abs=1e-4)
    assert structure.recall(old_home, backbone.hash).sparsity == backbone.sparsity
    assert library.removed(old_home) == ["gone"]
    assert library.restore(old_home, "gone").method == "GMP"


def test_jobs_and_measurements_are_listed(old_home):
    states = [(status.job.kind, status.state) for status in queue.recent(old_home)]
    assert states == [("probe", "failed"), ("speedup", "done"), ("finetune", "done"), ("probe", "done")]
    assert len(measurements.frame(old_home)) == 1


def test_the_same_runs_are_found_and_not_repeated(old_home, capsys):
    probe = ["probe", "--backbone", "made_98", "--dataset", "digits", "--epochs", "2", "--seeds", "2", "--json"]
    assert main(probe) == 0
    said = capsys.readouterr()
    assert "2 of 2 runs were there already" in said.err
    assert json.loads(said.out)["accuracy_mean"] == pytest.approx((0.1111111 + 0.1083333) / 2, abs=1e-6)


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_every_page_opens(old_home, no_worker, page):
    app = AppTest.from_file(str(REPOSITORY / "app.py"), default_timeout=60).run()
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception and not app.error


@pytest.fixture
def home_of_sparse_dense(old_home):
    """A home whose card, run and measurement call a sparse network dense, as an earlier version accepted."""
    card = old_home / "library" / "made_98" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "method": "Dense"}))
    for sparsity in (0.9, 0.0):
        made = record(sparsity=sparsity)
        Records(old_home).write(replace(made, result={**made.result, "method": "Dense"}))
    measurements.write(old_home, backbone_record("m", method="Dense"))
    return old_home


def test_every_page_opens_where_a_sparse_network_is_called_dense(home_of_sparse_dense, no_worker):
    for page in (each.name for each in PAGES):
        app = open_app(page, architecture="EfficientNet-Lite0")
        assert not app.error, page
        if page == "tasks":
            assert table(app)["Network"].tolist() == ["Dense, your runs", "Unknown 90 %, your runs"]


def test_every_verb_answers_where_a_sparse_network_is_called_dense(home_of_sparse_dense, tmp_path, capsys):
    verbs = [
        "summary",
        "summary --per-task",
        "backbones",
        "datasets",
        "runs",
        "rebuild",
        f"export {tmp_path / 'all.csv'}",
    ]
    for verb in verbs:
        assert main([*verb.split(), "--json"]) == 0, verb
        found = json.loads(capsys.readouterr().out)
        if verb in ("runs", "backbones"):
            assert {row["sparsity"] for row in found if row["method"] == "Dense"} == {0}


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


def test_jobs_are_separate(used, new, no_worker):
    before = [status.job_id for status in queue.recent(used)]
    submitted = queue.submit(new, Job("probe", ProbeSpec("efficientnet_lite0", "digits"), (0,)))
    assert [status.job_id for status in queue.recent(new)] == [submitted]
    assert [status.job_id for status in queue.recent(used)] == before != []


def test_measurements_of_speed_are_separate(used, new):
    before = measurements.read_all(used)
    measurements.write(new, speed_record("b"))
    assert [found["id"] for found in measurements.read_all(new)] == ["b"]
    assert measurements.read_all(used) == before != []
