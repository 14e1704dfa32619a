"""Sweeps: only what is missing runs, in order and once, through kills, failures and pauses."""

import dataclasses
import os
import signal
import threading
import time

import pytest

from sparse_core.errors import InputError
from sparse_core.jobs import kinds, queue, sweep_checks, sweep_files, sweeps, worker
from sparse_core.jobs.kinds import Job
from sparse_core.jobs.worker import Worker
from sparse_core.networks import library
from sparse_core.specs.progress import Progress
from sparse_core.specs.sweep import plan
from sparse_core.specs.transfer import ProbeSpec
from tests.support.sweeps import (
    RUNS,
    begun,
    chain,
    ended,
    label,
    made_up,
    make_card,
    step,
    work_to_the_end,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    monkeypatch.setattr(kinds, "run", made_up())
    monkeypatch.setattr(sweep_checks, "dataset_hash", lambda home, name: "")
    monkeypatch.setattr(worker, "ADVANCE_SECONDS", 0.0)


def test_a_sweep_does_each_run_once_in_order(home):
    sweep_id = sweeps.submit(home, chain())
    assert sweeps.status(home, sweep_id).counts == {
        "done": 0,
        "running": 0,
        "waiting": 11,
        "failed": 0,
        "blocked": 0,
        "total": 11,
    }
    work_to_the_end(home, sweep_id)
    assert sorted(ended(home)) == sorted(RUNS)
    order = ended(home)
    assert order.index("sparsify dense_s0") < order.index("sparsify gmp") < order.index("probe gmp")
    status = sweeps.status(home, sweep_id)
    assert status.state == "ended" and status.count("done") == status.total == 11 and status.seconds_left == 0.0
    assert not os.listdir(home / "queue" / "sweeps") and not os.listdir(home / "queue" / "long")
    assert [each.sweep_id for each in sweeps.recent(home)] == [sweep_id]


def test_only_what_is_missing_runs(home, monkeypatch):
    """Networks are known by what was asked for, whatever their name; another seed or option is another network."""
    dense = {task.key: task for task in chain().tasks}["dense_s0"]
    (home / "library").mkdir(parents=True)
    other = dataclasses.replace(dense.spec, name="elsewhere")
    make_card(home, Job("sparsify", other, (0,)), dataset_hash="")
    sweep_id = sweeps.submit(home, chain())
    assert {task.key for task in sweep_checks.missing(home, chain())} == {task.key for task in chain().tasks} - {
        "dense_s0"
    }
    work_to_the_end(home, sweep_id)
    assert sorted(ended(home)) == sorted(set(RUNS) - {"sparsify dense_s0"})
    found = {each.task.key for each in sweeps.status(home, sweep_id).tasks if each.found}
    assert found == {"dense_s0"}
    assert library.find(home, "gmp").provenance.options["backbone"] == "elsewhere"
    before = ended(home)
    assert sweeps.submit(home, chain()) == sweep_id
    work_to_the_end(home, sweep_id)
    again = ended(home)[len(before) :]
    assert not [run for run in again if run.startswith("sparsify")]  # the made-up transfers leave no records


def test_transfers_are_known_by_their_records(home, monkeypatch):
    monkeypatch.setattr(sweep_checks, "dataset_hash", lambda home, name: "data")
    (home / "library").mkdir(parents=True)
    dense = {task.key: task for task in chain().tasks}["dense_s1"]
    make_card(home, Job("sparsify", dense.spec, (1,)), dataset_hash="data")
    known = ProbeSpec("dense_s1", "digits", backbone_hash="dense_s1", dataset_hash="data")
    runs = {sweep_checks.run_id(known, seed) for seed in range(3)}
    monkeypatch.setattr(sweep_checks.Records, "ids", lambda self: set(runs))
    new = [label(Job(task.kind, task.spec, task.seeds)) for task in sweep_checks.missing(home, chain())]
    assert sorted(new) == sorted(set(RUNS) - {"sparsify dense_s1", "probe dense_s1"})
    runs.pop()
    new = [label(Job(task.kind, task.spec, task.seeds)) for task in sweep_checks.missing(home, chain())]
    assert "probe dense_s1" in new  # one of its three seeds is missing


def test_killed_at_each_run_a_sweep_goes_on_and_does_each_once(home, monkeypatch):
    """A fork does the work, and is killed in the middle of the run that it began last, until none is left."""
    sweep_id = sweeps.submit(home, chain())

    def killed(home, job, report):
        if begun(home).count(label(job)) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(kinds, "run", made_up(killed))
    for _ in range(len(RUNS) + 1):
        process = os.fork()
        if process == 0:
            work_to_the_end(home, sweep_id)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code == 0
    assert sorted(ended(home)) == sorted(RUNS)
    assert sorted(begun(home)) == sorted(2 * RUNS)
    assert sweeps.status(home, sweep_id).state == "ended"


def test_a_kill_between_writing_the_state_and_submitting_loses_no_run(home, monkeypatch):
    sweep_id = sweeps.submit(home, chain())
    submit = queue.submit
    monkeypatch.setattr(queue, "submit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sweeps.advance(home, sweep_id)
    assert not (home / "jobs").exists()
    monkeypatch.setattr(queue, "submit", submit)
    work_to_the_end(home, sweep_id)
    assert sorted(ended(home)) == sorted(RUNS)


def test_a_failure_is_listed_holds_back_what_needs_it_and_is_retried_on_demand(home, monkeypatch):
    def fail(home, job, report):
        if label(job) == "sparsify gmp":
            raise InputError("Training diverged: the loss is no longer finite.")

    monkeypatch.setattr(kinds, "run", made_up(fail))
    sweep_id = sweeps.submit(home, chain())
    work_to_the_end(home, sweep_id)
    status = sweeps.status(home, sweep_id)
    assert status.counts == {"done": 6, "running": 0, "waiting": 4, "failed": 1, "blocked": 4, "total": 11}
    ((failure),) = status.failures
    assert (failure.task.key, failure.message) == ("gmp", "Training diverged: the loss is no longer finite.")
    monkeypatch.setattr(kinds, "run", made_up())
    sweeps.submit(home, chain())
    work_to_the_end(home, sweep_id)
    assert "sparsify gmp" not in ended(home)  # only on demand
    sweeps.retry(home, sweep_id)
    work_to_the_end(home, sweep_id)
    assert sweeps.status(home, sweep_id).count("done") == 11
    assert {"sparsify gmp", "probe gmp", "finetune gmp"} <= set(ended(home))


def test_a_paused_sweep_stops_within_a_run_and_goes_on(home, monkeypatch):
    sweep_id = sweeps.submit(home, chain())

    def pause_once(home, job, report):
        if label(job) == "sparsify dense_s1" and begun(home).count(label(job)) < 6:
            sweeps.pause(home, sweep_id)
            report(Progress("at work", 2, 2))

    monkeypatch.setattr(kinds, "run", made_up(pause_once))
    for number in range(1, 6):  # more often than a job may be started without progress
        work_to_the_end(home, sweep_id)
        assert sweeps.status(home, sweep_id).state == "paused"
        assert ended(home) == ["sparsify dense_s0"] and begun(home).count("sparsify dense_s1") == number
        assert Worker(home, "long")._next_job() is None
        sweeps.advance(home, sweep_id)
        assert len(queue.queued(home)) == 1
        sweeps.resume(home, sweep_id)
    work_to_the_end(home, sweep_id)
    assert sorted(ended(home)) == sorted(RUNS)


def test_a_cancelled_sweep_gives_up_what_runs_and_can_be_started_again(home):
    sweep_id = sweeps.submit(home, chain())
    step(home, Worker(home, "long"))
    sweeps.advance(home, sweep_id)
    (job_id,) = queue.queued(home)
    sweeps.cancel(home, sweep_id)
    assert queue.status(home, job_id).state == "cancelled" and queue.queued(home) == []
    status = sweeps.status(home, sweep_id)
    assert (status.state, status.count("done"), status.count("waiting")) == ("cancelled", 1, 10)
    sweeps.resume(home, sweep_id)
    work_to_the_end(home, sweep_id)
    assert sorted(ended(home)) == sorted(RUNS)


def test_a_job_that_the_user_cancels_is_a_failure_with_its_reason(home):
    sweep_id = sweeps.submit(home, chain())
    sweeps.advance(home, sweep_id)
    queue.cancel(home, queue.queued(home)[0])
    work_to_the_end(home, sweep_id)
    assert [each.message for each in sweeps.status(home, sweep_id).failures] == ["Cancelled before it started."]


def test_two_run_side_by_side_and_no_more(home, monkeypatch):
    running, most, lock = set(), [], threading.Lock()

    def together(home, job, report):
        with lock:
            running.add(label(job))
            most.append(set(running))
        time.sleep(0.1)
        with lock:
            running.remove(label(job))

    monkeypatch.setattr(kinds, "run", made_up(together))
    sweep_id = sweeps.submit(home, chain(), parallel=2)
    lanes = [queue.part_lane(number, 2) for number in range(2)]
    workers = [
        threading.Thread(target=work_to_the_end, args=(home, sweep_id), kwargs={"lanes": (lane,)}) for lane in lanes
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert sorted(ended(home)) == sorted(RUNS)
    assert max(map(len, most)) == 2
    assert queue.queued(home) == []


def test_workers_side_by_side_share_the_cores(home, monkeypatch):
    started = []
    monkeypatch.undo()
    monkeypatch.setattr(queue.linux, "usable_cores", lambda: 16)
    monkeypatch.setattr(queue.subprocess, "Popen", lambda command, env, **_: started.append((command[-1], env)))
    for lane in (queue.part_lane(11, 12), "long"):
        queue.ensure_worker(home, lane)
    (part, shared), (long, alone) = started
    assert (part, shared["OMP_NUM_THREADS"]) == ("part-12-of-12", "1")
    assert long == "long" and alone.get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")


def test_a_worker_takes_sweeps_further_by_itself_and_stays_while_one_goes_on(home, monkeypatch):
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.2)
    sweep_id = sweeps.submit(home, chain())
    Worker(home, "interactive").serve()  # it leaves sweeps alone
    assert ended(home) == []
    Worker(home, "long").serve()
    assert sorted(ended(home)) == sorted(RUNS)
    assert sweeps.status(home, sweep_id).state == "ended"


def test_a_sweeps_first_run_comes_before_an_estimate(home, monkeypatch):
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(worker, "ESTIMATE_AFTER_SECONDS", 0.0)
    queue.submit(home, Job("estimate_finetune", chain().tasks[-1].spec))
    sweep_id = sweeps.submit(home, chain())
    Worker(home, "long").serve()
    assert begun(home)[0] == "sparsify dense_s0" and begun(home)[-1] == "estimate_finetune gmp"
    assert sweeps.status(home, sweep_id).state == "ended"


def test_other_work_comes_in_between(home):
    sweep_id = sweeps.submit(home, chain())
    sweeps.advance(home, sweep_id)
    other = queue.submit(home, Job("finetune", chain().tasks[-1].spec))
    long = Worker(home, "long")
    step(home, long)
    assert queue.status(home, other).state == "queued"
    sweeps.advance(home, sweep_id)
    step(home, long)
    assert queue.status(home, other).state == "done"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "runs: [{kind: probe, backbone: resnet19, dataset: digits}]",
            "Unknown backbone 'resnet19'. Did you mean resnet18",
        ),
        ("runs: [{kind: probe, backbone: resnet20, dataset: digits}]", "Unknown backbone 'resnet20'"),
        (
            "runs: [{kind: probe, backbone: 'resnet20:/none.pth', dataset: digits}]",
            "Unknown backbone 'resnet20:/none.pth'",
        ),
        ("runs: [{kind: probe, backbone: resnet18, dataset: digit}]", "Unknown dataset 'digit'. Did you mean digits"),
        ("runs: [{kind: probe, backbone: resnet18, dataset: /none}]", "There is no folder or file at /none"),
        (
            "runs: [{kind: sparsify, method: Dense, backbone: resnet20, dataset: digits, name: Taken}]",
            "The library has another network named 'taken'.",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(home, text, message):
    other = plan(
        "runs: [{kind: sparsify, method: Dense, backbone: resnet20, dataset: digits, name: taken, epochs: 9}]", "x"
    )
    (home / "library").mkdir(parents=True)
    make_card(home, Job("sparsify", other.tasks[0].spec, (0,)))
    with pytest.raises(InputError, match=message.partition("'")[0]) as refused:
        sweeps.submit(home, plan(text, "x"))
    assert message in str(refused.value)
    assert not (home / "sweeps").exists()


def test_unknown_and_damaged_sweeps(home, caplog):
    with pytest.raises(InputError, match="Unknown sweep 'a'"):
        sweeps.pause(home, "a")
    first, second = sweeps.submit(home, chain()), sweeps.submit(home, dataclasses.replace(chain(), name="second"))
    (home / "sweeps" / first / "state.json").write_text('{"state": "asleep", "parallel": 1}')
    assert [each.sweep_id for each in sweeps.recent(home)] == [second]
    with pytest.raises(InputError, match="cannot be read; it is damaged or of another version"):
        sweeps.status(home, first)
    assert len([entry for entry in caplog.records if first in entry.getMessage()]) == 1
    work_to_the_end(home, second)
    assert sorted(ended(home)) == sorted(RUNS)
    assert sweep_files.active(home) == []


def test_a_damaged_job_of_a_sweep_is_a_failure_that_can_be_retried(home):
    sweep_id = sweeps.submit(home, chain())
    sweeps.advance(home, sweep_id)
    (job_id,) = queue.queued(home)
    (home / "jobs" / job_id / "job.json").write_text("{")
    work_to_the_end(home, sweep_id)
    assert [each.message for each in sweeps.status(home, sweep_id).failures] == [
        "Its job cannot be read; it is damaged."
    ]
    sweeps.retry(home, sweep_id)
    work_to_the_end(home, sweep_id)
    assert sorted(ended(home)) == sorted(RUNS)
