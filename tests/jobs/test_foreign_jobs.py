"""Jobs that are damaged, missing or of another version: left out, named once, and never in the way of others."""

import json
import logging
import os
import time

import pytest

from sparse_core.errors import InputError
from sparse_core.jobs import kinds, queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.specs.checkpoints import InspectSpec
from sparse_core.specs.transfer import ProbeSpec
from tests.pages.support import open_app
from tests.support import records

PROBE = Job("probe", ProbeSpec("efficientnet_lite0", "digits"))


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)


def change(home, job_id, **fields) -> None:
    file = home / "jobs" / job_id / "job.json"
    document = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))


def spoilt(home, how: str) -> str:
    """A submitted job with something wrong."""
    job_id = queue.submit(home, PROBE)
    file = home / "jobs" / job_id / "job.json"
    if how == "unknown kind":
        change(home, job_id, kind="rank")
    elif how == "unknown field":
        change(home, job_id, spec={"backbone": "b", "dataset": "d", "colour": "red"})
    elif how == "no seeds":
        change(home, job_id, seeds=None)
    elif how == "no spec":
        change(home, job_id, spec=None)
    elif how == "a list":
        file.write_text("[]")
    elif how == "another type":
        change(home, job_id, spec={"backbone": 5, "dataset": "d", "settings": {"epochs": "many"}})
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:20])
    elif how == "not text":
        file.write_bytes(b"\xff\x00")
    elif how == "no job":
        file.unlink()
    else:
        queue.remove(home / "jobs" / job_id)
        entry = home / "queue" / "interactive" / job_id
        os.utime(entry, (time.time() - 99,) * 2)
    return job_id


HOWS = (
    "unknown kind",
    "unknown field",
    "no seeds",
    "no spec",
    "a list",
    "another type",
    "truncated",
    "not text",
    "no job",
)


@pytest.mark.parametrize("how", [*HOWS, "no folder"])
def test_such_a_job_is_left_out_and_the_next_is_done(home, how, monkeypatch, caplog):
    wrong = spoilt(home, how)
    right = queue.submit(home, PROBE)
    records.write_probes(home)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [status.job_id for status in queue.waiting(home)] == [right]
            assert [status.job_id for status in queue.recent(home)] == [right]
    assert len([entry for entry in caplog.records if wrong in entry.getMessage()]) <= 1
    assert queue.find(home, wrong) is None
    page = open_app("runs")
    assert not page.error
    assert not page.exception
    monkeypatch.setattr(kinds, "run", lambda *_: {"runs": [], "found": []})
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.2)
    worker.Worker(home, "interactive").serve()
    assert queue.status(home, right).state == "done"
    assert queue.queued(home) == []
    if how != "no folder":
        assert json.loads((home / "jobs" / wrong / "outcome.json").read_text())["state"] == "failed"


def test_a_job_being_submitted_is_not_taken_for_one_without_a_folder(home):
    (home / "queue" / "long").mkdir(parents=True)
    (home / "queue" / "long" / "20260101-000000-0-a").touch()
    queue.set_aside(home, "20260101-000000-0-a", "")
    assert queue.queued(home) == ["20260101-000000-0-a"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"state": "unheard of"}', '{"message": "m"}', '{"state": "done", "result": 1}']
)
def test_a_job_with_a_damaged_outcome_has_failed(home, text):
    job_id = queue.submit(home, PROBE)
    (home / "jobs" / job_id / "outcome.json").write_text(text)
    assert queue.status(home, job_id).state == "failed"
    assert "Start it again" in queue.status(home, job_id).message


def test_a_job_without_queue_entry_and_outcome_has_failed(home):
    job_id = queue.submit(home, PROBE)
    (home / "queue" / "interactive" / job_id).unlink()
    assert queue.status(home, job_id).state == "failed"


def test_cancelling_an_unknown_job_makes_none(home):
    with pytest.raises(InputError, match="Unknown job"):
        queue.cancel(home, "20260101-000000-0-a")
    assert not (home / "jobs").exists()


def test_old_jobs_are_deleted(home, monkeypatch):
    monkeypatch.setattr(queue, "KEPT_JOBS", 2)
    listed = [queue.submit(home, PROBE) for _ in range(5)]
    helpers = [queue.submit(home, Job("inspect", InspectSpec("x"))) for _ in range(3)]
    for job_id in (*listed[1:], *helpers[:2]):
        queue.end(home, job_id, "done")
    day_ago = time.time() - queue.KEPT_SECONDS - 1
    os.utime(home / "jobs" / helpers[0] / "outcome.json", (day_ago, day_ago))
    queue.sweep(home)
    assert queue._names(home) == [listed[0], *listed[3:], *helpers[1:]]  # the first and the last are queued
    assert not queue.open_reports(home, listed[1]).folder.exists()
