"""What a job reports: small to read however long it runs, and whether it advances between kills."""

import pytest

from sparse_core.jobs import queue, reports
from sparse_core.jobs.kinds import Job
from sparse_core.jobs.reports import Reports, starts_without_progress
from sparse_core.specs.progress import Progress
from sparse_core.specs.transfer import ProbeSpec


@pytest.fixture
def job_id(home, monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    return queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits")))


def epoch(number: int, seed: int = 0) -> dict[str, float]:
    return {"seed": seed, "epoch": number, "loss": 1.0, "top1": 0.5, "mean_per_class": 0.5}


def start(home, job_id, *progress: Progress) -> int:
    """One start of the job that reports these; returns the starts without progress after it."""
    run = queue.open_reports(home, job_id)
    run.start()
    for each in progress:
        run.report(each)
    return starts_without_progress(queue.events(home, job_id))


def test_a_job_that_saves_something_between_kills_is_restarted_without_limit(home, job_id):
    saved = Progress("Training", 1, 8, saved=True)
    for _ in range(5):  # the same epoch of the same stage each time, as of one seed after another
        assert start(home, job_id, Progress("Training", 1, 8), saved, saved) == 0
    assert [start(home, job_id, Progress("Training", 5, 8)) for _ in range(3)] == [1, 2, queue.ATTEMPTS]
    assert start(home, job_id, saved) == 0


def test_reports_take_no_more_room_the_longer_a_job_runs(home, job_id):
    folder = home / "jobs" / job_id
    run = queue.open_reports(home, job_id)
    run.start()
    sizes = []
    for step in range(500):
        run.report(Progress("Training", step, 500, saved=step % 10 == 5))
        sizes.append((folder / "events.jsonl").stat().st_size)
    assert sizes[-1] == sizes[20]
    assert (folder / "progress.json").stat().st_size < 500
    assert queue.status(home, job_id).progress.done == 499


def test_the_state_of_a_job_is_known_without_reading_its_history(home, job_id, monkeypatch):
    queue.open_reports(home, job_id).report(Progress("Training", 3, 9))
    (home / "jobs" / job_id / "events.jsonl").unlink()
    status = queue.status(home, job_id)
    assert (status.state, status.progress.description) == ("queued", "Training 3 of 9")


def test_epochs_are_read_once(home, job_id, monkeypatch):
    run = queue.open_reports(home, job_id)
    run.report(Progress("Training", 1, 3, epochs=(epoch(1, 0), epoch(1, 1))))
    assert queue.epochs(home, job_id) == [epoch(1, 0), epoch(1, 1)]
    parsed = []
    monkeypatch.setattr(
        reports, "_parsed", lambda text, original=reports._parsed: parsed.append(text) or original(text)
    )
    run.report(Progress("Training", 2, 3, epochs=(epoch(2),)))
    assert queue.epochs(home, job_id) == [epoch(1, 0), epoch(1, 1), epoch(2)]
    assert queue.epochs(home, job_id) == [epoch(1, 0), epoch(1, 1), epoch(2)]
    assert [text.count(b"epochs") for text in parsed] == [1, 0]


def test_a_resumed_training_does_not_repeat_its_epochs(home, job_id):
    for _ in range(3):
        start(home, job_id, Progress("Training", 2, 3, epochs=(epoch(1), epoch(2))))
    assert queue.epochs(home, job_id) == [epoch(1), epoch(2)]


def test_progress_of_another_version_is_read_as_far_as_it_is_known(home, job_id):
    folder = home / "jobs" / job_id
    for text, stage in (
        ('{"stage": "Training", "done": 1, "colour": "red"}', "Training"),
        ('{"done": 1}', ""),
        ("[1]", ""),
        ('{"stage": "Trai', ""),
        ("", ""),
    ):
        (folder / "progress.json").write_text(text)
        assert queue.status(home, job_id).progress.stage == stage
    (folder / "events.jsonl").write_text('[1]\n{"epochs": 5}\n{"epochs": [7]}\n{}\n\xff\n')
    assert queue.epochs(home, job_id) == []
    assert Reports(folder).report(Progress("Training")) is None
