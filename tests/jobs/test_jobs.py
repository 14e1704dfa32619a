"""Jobs: submitted, done by a worker, cancelled, and resumed when the worker dies."""

import errno
import json
import os
import signal
import subprocess
import time

import psutil
import pytest
import torch

from sparse_core import file_locks
from sparse_core.errors import Cancelled, InputError
from sparse_core.jobs import kinds, queue, reports, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import backbones, classifier, finetuned
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs import identity
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.transfer import durations, linear_training
from tests.support.imports import loaded

QUICK = Hyperparameters(epochs=3, batch_size=8)


def probe_job(dataset: str, seeds: tuple[int, ...] = (0, 1), kind: str = "probe") -> Job:
    return Job(kind, ProbeSpec("efficientnet_lite0", dataset, settings=QUICK), seeds)


def finetune_job(backbone: str, dataset: str) -> Job:
    settings = Hyperparameters(epochs=2, batch_size=8, learning_rate=0.01)
    return Job("finetune", FinetuneSpec(backbone, dataset, settings=settings))


def worked(home, job: Job) -> queue.Status:
    """The status of a job after its work."""
    job_id = queue.submit(home, job)
    worker.work(home, job_id)
    return queue.status(home, job_id)


def test_a_job_survives_json_and_refuses_repeated_seeds():
    job = probe_job("d", (1, 2))
    assert kinds.job_from_json(json.loads(identity.to_json(job))) == job
    with pytest.raises(InputError, match="different whole numbers"):
        probe_job("d", (1, 1))


def test_a_job_writes_runs_that_the_store_reads(home, images, no_worker):
    job_id = queue.submit(home, probe_job(images))
    assert queue.status(home, job_id).state == "queued"
    worker.work(home, job_id)
    status = queue.status(home, job_id)
    assert status.state == "done", status.message
    assert queue.queued(home) == []
    rows = Store(Records(home)).results(source="measured")
    assert sorted(rows["run_id"]) == sorted(status.result["runs"])
    assert rows["seed"].tolist() == [0, 1]
    assert [epoch["seed"] for epoch in queue.epochs(home, job_id) if epoch["epoch"] == 1] == [0, 1]
    assert len(worked(home, probe_job(images, seeds=(1, 2))).result["found"]) == 1
    assert len(Records(home).ids()) == 3


def test_a_job_cancelled_after_its_sweep_leaves_no_state(home, images, no_worker, monkeypatch):
    monkeypatch.setattr(linear_training, "SAVING_SECONDS", 0.0)
    monkeypatch.setattr(linear_training, "SAVING_SHARE", float("inf"))
    seen = set()

    def cancel_in_training(home, job_id, progress, reports):
        seen.update(file.name.partition("-")[0] for file in (home / "checkpoints").glob("*-sweep.pt"))
        if progress.saved and progress.stage.startswith("Training"):
            raise Cancelled

    monkeypatch.setattr(worker, "_report", cancel_in_training)
    spec = ProbeSpec("efficientnet_lite0", images, settings=QUICK, sweep_lr=(0.01, 0.1))
    assert worked(home, Job("probe", spec, (0,))).state == "cancelled"
    assert seen == {"linear"}
    assert not list((home / "checkpoints").iterdir())


def test_a_job_with_bad_input_fails_with_one_line(home, no_worker):
    status = worked(home, probe_job("/nowhere/at/all"))
    assert status.state == "failed"
    assert status.message.startswith("There is no folder or file at /nowhere/at/all")


def test_a_job_on_a_full_disk_fails_with_one_line(home, no_worker, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    monkeypatch.setattr(kinds, "run", full)
    message = worked(home, probe_job("digits")).message
    assert message.startswith("Expected free disk space for /data/x, but the disk is full. Free some")


def test_an_outcome_that_cannot_be_written_is_retried(no_worker, home, monkeypatch):
    ends = []

    def end_unless_first(home, job_id, state, message="", result=None):
        ends.append(state)
        if len(ends) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        end(home, job_id, state, message, result)

    end = queue.end
    monkeypatch.setattr(queue, "end", end_unless_first)
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.3)
    job_id = queue.submit(home, probe_job("/nowhere/at/all"))
    worker.Worker(home, "interactive").serve()
    assert ends == ["failed", "failed"]
    assert queue.status(home, job_id).state == "failed"


def test_a_worker_that_has_nothing_to_do_loads_what_a_later_job_may_need(home, no_worker, monkeypatch):
    warmed_up = []
    monkeypatch.setattr(worker, "_warm_up", lambda: warmed_up.append(queue.queued(home)))
    monkeypatch.setattr(worker, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.3)
    queue.submit(home, probe_job("/nowhere/at/all"))
    worker.Worker(home, "interactive").serve()
    assert warmed_up and not any(warmed_up)


def test_a_first_probe_loads_neither_torchvision_nor_the_compiler_of_torch():
    """Each takes as long as torch itself."""
    script = (
        "import sparse_core.jobs.worker, sparse_core.transfer.runs\n"
        "from sparse_core.networks import architectures, structure_analysis\n"
        "structure_analysis.analyse(architectures.build('efficientnet_lite0').eval(), 64)"
    )
    modules = loaded(script)
    assert "torch" in modules
    assert not modules & {"torchvision", "torch._dynamo", "sklearn"}


def test_a_truncated_event_is_skipped(no_worker, home):
    job_id = queue.submit(home, probe_job("digits"))
    with open(home / "jobs" / job_id / "events.jsonl", "a") as file:
        file.write('{"stage": "Ope')
    epochs = [{"seed": 0, "epoch": number} for number in (1, 2)]
    reports.append(home / "jobs" / job_id, {"epochs": epochs[:1]})  # joined to the truncated line
    reports.append(home / "jobs" / job_id, {"epochs": epochs[1:]})
    assert queue.epochs(home, job_id) == epochs[1:]


def test_a_queued_job_is_cancelled_at_once(home, images, no_worker):
    job_id = queue.submit(home, probe_job(images))
    queue.cancel(home, job_id)
    assert queue.status(home, job_id).state == "cancelled"
    assert queue.queued(home) == []


def test_a_job_that_kills_its_worker_fails_after_three_starts(home, images, no_worker):
    job_id = queue.submit(home, probe_job(images))
    for _ in range(queue.ATTEMPTS):
        reports.append(home / "jobs" / job_id, {"started": 1})
    worker.work(home, job_id)
    assert queue.status(home, job_id).message.startswith("The worker died 3 times")


def test_finetuning_gives_a_run_and_a_network_that_keeps_its_mask(home, sparse_backbone, images, no_worker, tmp_path):
    job_id = queue.submit(home, finetune_job(sparse_backbone, images))
    assert queue.queued(home, "long") == [job_id]
    worker.work(home, job_id)
    status = queue.status(home, job_id)
    assert status.state == "done", status.message
    (name,) = status.result["runs"]
    record = Records(home).read(name)
    assert record.spec["transfer"] == "full"
    assert record.result["mask_violations"] == 0
    assert record.result["sparsity_before"] == record.result["sparsity_after"] == pytest.approx(0.5, abs=1e-5)
    assert [event["epoch"] for event in record.events] == [1, 2]
    (row,) = Store(Records(home)).results(source="measured").to_dict("records")
    assert row["transfer"] == "full"
    assert 0 < row["nonzero_parameters"] < row["file_size"] / 4 < 272_000
    assert [epoch["epoch"] for epoch in queue.epochs(home, job_id)] == [1, 2]
    assert not list((home / "checkpoints").iterdir())
    assert durations.recall(home, finetune_job(sparse_backbone, images).spec).seconds_per_epoch > 0

    saved = finetuned.file(home, name)
    mask = backbones.load_cached(home, sparse_backbone).mask
    assert classifier.violations(saved, mask) == 0
    network, metadata = classifier.load(saved)
    assert metadata["class_names"] == ["dark", "light"]
    with torch.no_grad():
        network.body.conv1.weight.fill_(1.0)
    classifier.save(network, backbones.load_cached(home, sparse_backbone), ["dark", "light"], tmp_path / "x", "images")
    assert classifier.violations(tmp_path / "x", mask) > 0


def test_an_estimate_lets_a_job_go_first_that_is_started_at_once(home, images, no_worker):
    interactive = worker.Worker(home, "interactive")
    estimate = queue.submit(home, probe_job(images, kind="estimate"))
    assert interactive._next_job() is None
    job_file = home / "jobs" / estimate / "job.json"
    os.utime(job_file, (job_file.stat().st_atime, job_file.stat().st_mtime - worker.ESTIMATE_AFTER_SECONDS))
    assert interactive._next_job() == estimate
    probe = queue.submit(home, probe_job(images))
    assert interactive._next_job() == probe


def test_an_estimate_of_finetuning(home, sparse_backbone, images, no_worker):
    job = Job("estimate_finetune", finetune_job(sparse_backbone, images).spec)
    assert worked(home, job).result["seconds_per_epoch"] > 0


def wait_for(what, seconds: float = 300.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "Waited too long."
        time.sleep(0.05)


def test_a_killed_worker_is_replaced_and_its_job_resumes(home):
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits", settings=QUICK), (0,)))
    try:
        wait_for(lambda: queue.status(home, job_id).progress.done > 20)
        first = next(event["started"] for event in queue.events(home, job_id) if "started" in event)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: queue.status(home, job_id).state == "queued")
        wait_for(lambda: is_started_again(home, job_id))
        queue.cancel(home, job_id)
        wait_for(lambda: queue.status(home, job_id).ended)
        assert queue.status(home, job_id).state == "cancelled"
        assert Records(home).ids() == set()
    finally:
        for process in psutil.process_iter(["cmdline"]):
            if {"sparse_core.jobs.worker", str(home)} <= set(process.info["cmdline"] or ()):
                process.kill()


def test_no_second_worker_is_started_while_one_is_starting(home, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command[-1]))
    for _ in range(3):
        queue.ensure_worker(home, "long")
    queue.ensure_worker(home, "interactive")
    assert started == ["long", "interactive"]
    with file_locks.hold(queue.worker_lock(home, "long")):
        queue.mark_started(home, "long")
        queue.ensure_worker(home, "long")
    assert started == ["long", "interactive"]
    queue.ensure_worker(home, "long")  # it died
    assert started == ["long", "interactive", "long"]
    monkeypatch.setattr(queue, "START_SECONDS", 0.0)
    queue.ensure_worker(home, "long")  # it never came up
    assert started == ["long", "interactive", "long", "long"]


def is_started_again(home, job_id) -> bool:
    """Called repeatedly, as pages do: the lock of a killed worker may outlive its job's for an instant."""
    queue.ensure_worker(home)
    return sum("started" in event for event in queue.events(home, job_id)) == 2
