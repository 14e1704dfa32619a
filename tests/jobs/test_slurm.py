"""Sweeps on a real one-node SLURM, against the same sweep on this machine; and what is refused before anything is submitted."""

import contextlib
import dataclasses
import os
import shutil
import signal
import time

import pytest
import torch

from sparse_core.cli import main
from sparse_core.errors import InputError
from sparse_core.jobs import kinds, queue, slurm, sweep_files, sweep_packs, sweeps
from sparse_core.jobs.sweeps import SweepStatus
from sparse_core.results.records import Records
from sparse_core.specs.slurm import SlurmSpec
from sparse_core.specs.sweep import Task, plan
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from tests.support import slurm as cluster
from tests.support.images import image_folder
from tests.support.refusals import refused

SMALL = SlurmSpec(cpus=1, memory=1, time=0.5)
SWEEP = """
defaults:
  sparsify: {{backbone: resnet20, dataset: "{images}", epochs: 1, batch_size: 8, precision: fp32}}
runs:
  - {{kind: sparsify, method: Dense, seeds: 1, name: "dense_s{{seed}}"}}
  - {{kind: sparsify, method: Magnitude, sparsity: 0.5, backbone: "dense_s{{seed}}", name: "magnitude_s{{seed}}"}}
  - {{kind: probe, backbones: made, dataset: "{images}", epochs: 2, seeds: 2}}
"""

on_slurm = pytest.mark.skipif(bool(cluster.REASON), reason=cluster.REASON)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with contextlib.ExitStack() as daemons:
        try:
            daemons.enter_context(cluster.one_node(tmp_path_factory.mktemp("slurm") / "node"))
        except cluster.NotStarted as reason:
            pytest.skip(str(reason))
        yield


@pytest.fixture
def asked(tmp_path):
    images = image_folder(tmp_path / "tiny", {"dark": 16, "light": 16})
    return plan(SWEEP.format(images=images), "small")


def followed(home, sweep_id, until, seconds=300) -> SweepStatus:
    """The sweep once ``until`` holds of its status."""
    deadline = time.monotonic() + seconds
    while True:
        status = sweeps.status(home, sweep_id)
        if until(status):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def ended(status):
    return status.state == "ended"


def results(home) -> dict[str, tuple[float, float]]:
    kept = Records(home)
    return {
        record.run_id: (record.result["accuracy_best"], record.result["accuracy_final"])
        for record in kept.read_many(kept.ids())
    }


def done_here(home, asked) -> None:
    """The sweep's tasks one after another in this process, with as many threads as SLURM's tasks have: sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(SMALL.cpus)
    for task in asked.tasks:
        kinds.run(home, kinds.Job(task.kind, task.spec, task.seeds), lambda _: None)
    torch.set_num_threads(threads)


@on_slurm
def test_a_sweep_gives_on_slurm_what_it_gives_here(node, home, asked, tmp_path):
    sweep_id = sweep_packs.submit(home, asked, SMALL)
    assert "runs on SLURM already" in refused(sweep_packs.submit, home, asked, SMALL)
    assert "runs on SLURM" in refused(sweeps.submit, home, asked)
    status = followed(home, sweep_id, ended)
    assert (status.count("done"), status.total, status.failures) == (6, 6, [])
    assert not sweep_files.active(home)  # this machine's workers leave it alone
    done_here(tmp_path / "here", asked)
    assert results(home) == results(tmp_path / "here") and len(results(home)) == 4
    assert sweep_packs.submit(home, asked, SMALL) == sweep_id  # nothing is missing
    assert ended(sweeps.status(home, sweep_id)) and all(each.found for each in sweeps.status(home, sweep_id).tasks)


@on_slurm
def test_requeues_kills_and_cancelled_tasks_lose_and_double_nothing(
    node, home, images, sparse_backbone, monkeypatch, tmp_path
):
    """One of four trainings is preempted, one requeued, one killed and one cancelled; the latter two take a retry."""
    monkeypatch.setattr(sweep_packs, "PACK_SECONDS", 1.0)
    text = f"runs: [{{kind: finetune, backbone: '{sparse_backbone}', dataset: '{images}', epochs: 12, batch_size: 2, seeds: 4}}]"
    asked = plan(text, "disturbed")
    sweep_id = sweep_packs.submit(home, asked, SMALL, parallel=4)
    disturbances = iter([preempt, requeue, kill, cancel])
    disturbed = set()
    deadline = time.monotonic() + 300
    while len(disturbed) < 4:
        assert time.monotonic() < deadline
        for each in sweeps.status(home, sweep_id).tasks:
            if each.state == "running" and each.progress.done and each.task.key not in disturbed:
                disturbed.add(each.task.key)
                next(disturbances)(home, sweep_files.read(home, sweep_id)[1].tasks[each.task.key].slurm, each.job_id)
        time.sleep(0.05)
    status = followed(home, sweep_id, ended)
    assert status.count("done") in (2, 3) and status.total == 4  # a task that SLURM asks to end may be just in time
    assert all("ended without a result" in failure.message for failure in status.failures)
    sweep_packs.submit(home, asked, SMALL, retry=True)
    status = followed(home, sweep_id, ended)
    assert (status.count("done"), status.total) == (4, 4)
    done_here(tmp_path / "here", asked)
    assert results(home) == results(tmp_path / "here") and len(results(home)) == 4


def process_of(home, job_id):
    return next(event["started"] for event in queue.events(home, job_id) if "started" in event)


def preempt(home, job, job_id):
    os.kill(process_of(home, job_id), signal.SIGUSR2)  # as SLURM does before it takes the node away


def requeue(home, job, job_id):
    slurm._ask("scontrol", "requeue", job)


def kill(home, job, job_id):
    os.kill(process_of(home, job_id), signal.SIGKILL)


def cancel(home, job, job_id):
    slurm.cancel([job])


@on_slurm
def test_a_cancelled_sweep_leaves_slurm_and_goes_on_anew(node, home, images, sparse_backbone):
    text = f"runs: [{{kind: finetune, backbone: '{sparse_backbone}', dataset: '{images}', epochs: 400, batch_size: 2}}]"
    sweep_id = sweep_packs.submit(home, plan(text, "long"), SMALL)
    ids = {each.slurm for each in sweep_files.read(home, sweep_id)[1].tasks.values()}
    followed(home, sweep_id, lambda status: status.count("running"))
    sweeps.cancel(home, sweep_id)
    assert sweeps.status(home, sweep_id).state == "cancelled"
    deadline = time.monotonic() + 60
    while slurm.present(ids):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    sweep_packs.resume(home, sweep_id)
    assert sweeps.status(home, sweep_id).state == "running"
    _, state = sweep_files.read(home, sweep_id)
    assert state.executor == "slurm" and state.slurm == dataclasses.asdict(SMALL)
    sweeps.cancel(home, sweep_id)


@on_slurm
def test_features_in_shards_are_those_of_one_task(node, home, images, sparse_backbone, tmp_path):
    text = f"runs: [{{kind: probe, backbone: '{sparse_backbone}', dataset: '{images}', epochs: 2, engine: torch, seeds: 1}}]"
    asked = plan(text, "sharded")
    sweep_id = sweep_packs.submit(home, asked, dataclasses.replace(SMALL, shards=2))
    status = followed(home, sweep_id, ended)
    assert (status.count("done"), status.failures) == (1, [])
    logs = [file.name for file in (sweep_files.folder(home, sweep_id) / "slurm").glob("*_log.out")]
    assert len(logs) == 4  # the check of the home folder, two shards, the probe
    assert not list((home / "features").glob(".*"))
    done_here(tmp_path / "here", asked)
    made, expected = (next((place / "features").iterdir()) for place in (home, tmp_path / "here"))
    for name in ("train.npy", "test.npy"):
        assert (made / name).read_bytes() == (expected / name).read_bytes()
    assert results(home) == results(tmp_path / "here")


def test_long_extractions_are_cut_into_as_many_shards_as_they_have_ten_minutes(monkeypatch, home):
    tasks = [
        Task("short", "probe", ProbeSpec("one", "digits"), (0,)),
        Task("long", "probe", ProbeSpec("two", "digits"), (0,)),
        Task("same", "probe", ProbeSpec("two", "digits"), (1,)),
    ]
    seconds = {"short": 599.0, "long": 1201.0, "same": 1201.0}
    estimates = sweep_packs.Seconds(home, plan("runs: [{kind: probe, backbone: one, dataset: digits}]", "x"))
    monkeypatch.setattr(sweep_packs.Seconds, "of_features", lambda self, task: seconds[task.key])
    small, large = sweep_packs._arrays(tasks, estimates, SMALL, 8)
    assert small == ("1-probe", tasks[:1], [])
    shards = [("same", 0, 3), ("same", 1, 3), ("same", 2, 3)]
    assert large == ("1-probe-large", tasks[1:], shards)
    (one,) = sweep_packs._arrays(tasks, estimates, SMALL, 1)  # nothing runs side by side
    assert one == ("1-probe", tasks, [])


@on_slurm
def test_what_slurm_cannot_do_is_refused_in_one_line(node, home, images, sparse_backbone):
    asked = plan(f"runs: [{{kind: probe, backbone: '{sparse_backbone}', dataset: '{images}', epochs: 1}}]", "refused")
    other = SlurmSpec(partition="wrok", cpus=1, memory=1)
    assert "Unknown partition 'wrok'. Did you mean work?" in refused(sweep_packs.submit, home, asked, other)
    large = SlurmSpec(memory=10**6, cpus=1)
    assert "SLURM refused the job: " in refused(sweep_packs.submit, home, asked, large)
    unseen = SlurmSpec(cpus=1, memory=1, setup="exit 1")  # as a node that cannot reach the folder ends
    message = refused(sweep_packs.submit, home, asked, unseen)
    assert "could not read and write the home folder" in message and str(home) in message
    assert sweeps.status(home, asked.id).count("done", "running") == 0


def test_without_slurm_the_verb_says_so(home, tmp_path, images, sparse_backbone, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    file = tmp_path / "one.yaml"
    file.write_text(f"executor: slurm\nruns: [{{kind: probe, backbone: '{sparse_backbone}', dataset: '{images}'}}]")
    assert main(["sweep", str(file), "--json"]) == 2
    said = capsys.readouterr().err
    assert "sbatch is not on this machine" in said and said.count("\n") == 1
    assert not (home / "sweeps").exists()


def test_a_probe_longer_than_the_limit_is_refused(monkeypatch, home, images, sparse_backbone):
    monkeypatch.setattr(slurm, "require_available", lambda spec: None)
    monkeypatch.setattr(sweep_packs.Seconds, "of", lambda self, task: 7200.0)
    asked = plan(f"runs: [{{kind: probe, backbone: '{sparse_backbone}', dataset: '{images}'}}]", "long")
    with pytest.raises(InputError, match=r"--time 0.5 hours are too short for the probe of .* about 2 hours"):
        sweep_packs.submit(home, asked, SMALL)


def test_a_finetuning_of_which_no_epoch_fits_is_refused(monkeypatch, home, images, sparse_backbone):
    monkeypatch.setattr(slurm, "require_available", lambda spec: None)
    monkeypatch.setattr(sweep_packs.Seconds, "of", lambda self, task: 1e6)  # which goes on in the next task
    asked = plan(f"runs: [{{kind: finetune, backbone: '{sparse_backbone}', dataset: '{images}'}}]", "long")
    monkeypatch.setattr(sweep_packs.Seconds, "of_epoch", lambda self, task: 5400.0)
    message = refused(sweep_packs.submit, home, asked, SMALL)
    assert "--time 0.5 hours are too short for the epoch of" in message and "about 1.5 hours" in message


def test_short_tasks_share_a_slurm_task_and_those_of_one_backbone_and_dataset_do_always():
    def task(key, backbone, dataset="digits"):
        return Task(key, "probe", ProbeSpec(backbone, dataset), (0,))

    tasks = [task("a", "one"), task("b", "two"), task("c", "one"), task("d", "three", "pets")]
    lengths = {"a": 200.0, "b": 150.0, "c": 100.0, "d": 400.0}
    of = lambda each: lengths[each.key]  # noqa: E731
    assert sweep_packs.packed(tasks, of, 1) == [("d",), ("a", "c", "b")]  # 850 s are two of at most 600
    assert sweep_packs.packed(tasks, of, 3) == [("d",), ("a", "c"), ("b",)]  # three can run at once
    assert sweep_packs.packed(tasks, of, 9) == [("d",), ("a", "c"), ("b",)]
    lengths["a"] = 550.0
    assert sweep_packs.packed(tasks, of, 1) == [("a", "c"), ("d", "b")]  # 650 s stand alone


def test_probes_of_unknown_length_are_packed_and_other_tasks_are_not():
    probes = [Task(str(number), "probe", ProbeSpec(str(number), "digits"), (0,)) for number in range(40)]
    packs = sweep_packs.packed(probes, lambda each: None, 2)  # taken for 60 s each
    assert [len(keys) for keys in packs] == [10, 10, 10, 10]
    assert sorted(key for keys in packs for key in keys) == sorted(task.key for task in probes)
    finetunings = [Task(key, "finetune", FinetuneSpec("one", "digits"), (0,)) for key in "ab"]
    assert sorted(sweep_packs.packed(finetunings, lambda each: None, 1)) == [("a",), ("b",)]
