"""Jobs end one way or another, whatever happens to the worker; the command line gives what it promises."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sparse_core import cli
from sparse_core.errors import InputError, as_input_error
from sparse_core.jobs import file_locks, kinds, queue, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import architectures, backbones, classifier, finetuned, masks
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.serve import require_free
from sparse_core.specs import identity
from sparse_core.specs.identity import run_id
from sparse_core.specs.training import Hyperparameters, full_learning_rate
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.transfer import durations

QUICK = Hyperparameters(epochs=3, batch_size=8)


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for index in range(10):
            values = generator.integers(120 * label, 120 * label + 80, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "p" / name / f"{index}.png")
    return str(tmp_path / "p")


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)


def probe_job(dataset: str, seeds: tuple[int, ...] = (0, 1), kind: str = "probe") -> Job:
    return Job(kind, ProbeSpec("efficientnet_lite0", dataset, settings=QUICK), seeds)


def test_specs_survive_json_and_keep_their_name():
    asked = ProbeSpec("net", "d", settings=QUICK, sweep_lr=(0.1, 0.2), replicate=2)
    assert identity.parse(ProbeSpec, json.loads(identity.to_json(asked))) == asked
    assert identity.recorded(identity.record_document(asked, 3)) == asked
    assert kinds.job_from_json(json.loads(identity.to_json(Job("probe", asked, (1, 2))))) == Job("probe", asked, (1, 2))
    assert run_id(asked, 0) == run_id(asked, 0) != run_id(asked, 1)
    resolved = ProbeSpec("net", "d", backbone_hash="h", dataset_hash="k")
    renamed = ProbeSpec("other", "e", backbone_hash="h", dataset_hash="k")
    assert run_id(resolved, 0) == run_id(renamed, 0)
    with pytest.raises(InputError, match="Not a ProbeSpec"):
        identity.parse(ProbeSpec, {"backbone": "a", "dataset": "b", "colour": 1})
    with pytest.raises(InputError, match="learning_rate must be finite and above 0; got -1"):
        Hyperparameters(learning_rate=-1)
    with pytest.raises(InputError, match="different whole numbers"):
        Job("probe", asked, (1, 1))


def test_a_job_gives_runs_that_the_store_holds(home, images, no_worker):
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
    again = queue.submit(home, probe_job(images, seeds=(1, 2)))
    worker.work(home, again)
    assert len(queue.status(home, again).result["found"]) == 1
    assert len(Records(home).ids()) == 3


def test_a_job_that_cannot_be_done_says_why_in_one_line(home, no_worker):
    job_id = queue.submit(home, probe_job("/nowhere/at/all"))
    worker.work(home, job_id)
    status = queue.status(home, job_id)
    assert status.state == "failed"
    assert status.message.startswith("There is no folder or file at /nowhere/at/all")


def test_a_job_on_a_full_disk_says_so_in_one_line(home, no_worker, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    monkeypatch.setattr(kinds, "run", full)
    job_id = queue.submit(home, probe_job("digits"))
    worker.work(home, job_id)
    assert queue.status(home, job_id).message.startswith(
        "Expected free disk space for /data/x, but the disk is full. Free some"
    )


def test_a_job_whose_end_cannot_be_written_waits_for_room(no_worker, home, monkeypatch):
    ends = []

    def end_at_last(home, job_id, state, message="", result=None):
        ends.append(state)
        if len(ends) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        end(home, job_id, state, message, result)

    end = queue.end
    monkeypatch.setattr(queue, "end", end_at_last)
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.3)
    job_id = queue.submit(home, probe_job("/nowhere/at/all"))
    worker._serve(home, "interactive")
    assert ends == ["failed", "failed"]
    assert queue.status(home, job_id).state == "failed"


def test_an_event_that_a_full_disk_cut_off_is_left_out(no_worker, home):
    job_id = queue.submit(home, probe_job("digits"))
    with open(home / "jobs" / job_id / "events.jsonl", "a") as file:
        file.write('{"stage": "Ope')
    queue.append_event(home, job_id, {"stage": "Lost with the one before"})
    queue.append_event(home, job_id, {"stage": "Training"})
    assert queue.status(home, job_id).progress.stage == "Training"


def test_a_job_that_advances_between_kills_is_not_given_up():
    def attempt(*epochs: int) -> list[dict]:
        steps = ({"stage": f"step {step} of 9", "done": epoch, "total": 8} for epoch in epochs for step in range(9))
        return [{"started": 1}, {"stage": "Features", "done": 500, "total": 500}, *steps]

    advancing = [*attempt(1, 2), *attempt(3), *attempt(4), *attempt(5)]
    assert worker.starts_without_progress(advancing) == 0
    assert worker.starts_without_progress([*advancing, *attempt(5), *attempt(4, 5), *attempt()]) == queue.ATTEMPTS
    assert worker.starts_without_progress([*attempt(), *attempt(), *attempt()]) == 2  # the first made the features


def test_a_queued_job_is_cancelled_at_once(home, images, no_worker):
    job_id = queue.submit(home, probe_job(images))
    queue.cancel(home, job_id)
    assert queue.status(home, job_id).state == "cancelled"
    assert queue.queued(home) == []


def test_a_job_that_kills_its_worker_is_given_up(home, images, no_worker):
    job_id = queue.submit(home, probe_job(images))
    for _ in range(queue.ATTEMPTS):
        queue.append_event(home, job_id, {"started": 1})
    worker.work(home, job_id)
    assert queue.status(home, job_id).message.startswith("The worker died 3 times")


@pytest.fixture
def sparse_backbone(tmp_path):
    """A small network pruned to one half, as a file: what a user names as ARCHITECTURE:PATH."""
    torch.manual_seed(0)
    body = architectures.build("resnet20")
    masks.apply(body, masks.magnitude(body, 0.5))
    classifier = {"linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}
    torch.save({**body.state_dict(), **classifier}, tmp_path / "net.pth")
    return f"resnet20:{tmp_path / 'net.pth'}"


def finetune_job(backbone: str, dataset: str) -> Job:
    settings = Hyperparameters(epochs=2, batch_size=8, learning_rate=0.01)
    return Job("finetune", FinetuneSpec(backbone, dataset, settings=settings))


def test_finetuning_gives_a_run_and_a_network_that_keeps_its_mask(
    home, sparse_backbone, images, no_worker, tmp_path, capsys
):
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

    assert cli.main(["export", str(tmp_path / "net.onnx"), "--run", name, "--json"]) == 0
    assert cli.main(["export", str(tmp_path / "net.safetensors"), "--run", name, "--json"]) == 0
    capsys.readouterr()
    assert (tmp_path / "net.safetensors").read_bytes() == saved.read_bytes()
    assert cli.main(["export", str(tmp_path / "net.txt"), "--run", name]) == 2
    assert "ending in .safetensors or .onnx" in capsys.readouterr().err


def test_finetune_gives_the_promised_fields(home, sparse_backbone, images, capsys):
    words = ["finetune", "--backbone", sparse_backbone, "--dataset", images, "--epochs", "1"]
    assert cli.main([*words, "--batch-size", "8", "--learning-rate", "0.02", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mask_violations"] == 0
    assert told["sparsity_before"] == told["sparsity_after"] == pytest.approx(0.5, abs=1e-5)
    assert told["checkpoint"] == str(finetuned.file(home, told["runs"][0]["run_id"]))
    assert told["runs"][0]["learning_rate"] == 0.02
    assert {"metric", "accuracy_mean", "accuracy_std"} <= set(told)


def test_the_learning_rate_of_full_transfer_is_the_studys():
    assert [full_learning_rate(name) for name in ("cars", "aircraft", "pets", "/my/folder")] == [
        0.01,
        0.01,
        0.001,
        0.001,
    ]


def test_an_estimate_of_finetuning(home, sparse_backbone, images, no_worker):
    asked = finetune_job(sparse_backbone, images)
    job_id = queue.submit(home, Job("estimate_finetune", asked.spec))
    worker.work(home, job_id)
    assert queue.status(home, job_id).result["seconds_per_epoch"] > 0


def test_a_finetuning_killed_between_epochs_goes_on_to_the_same_network(sparse_backbone, images, home, monkeypatch):
    """kill -9 after the first epoch, then the same command again: the very bits of a run that was left alone."""
    words = ["finetune", "--backbone", sparse_backbone, "--dataset", images, "--epochs", "20"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more gain nothing on a network this small
    command = [sys.executable, "-m", "sparse_core", *words, "--batch-size", "8", "--precision", "fp32", "--json"]
    killed = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list((home / "checkpoints").glob("full-*.pt")) or killed.poll() is not None, 300)
    assert killed.poll() is None, "it ended before it could be killed"
    killed.kill()
    killed.wait()
    assert Records(home).ids() == set()
    resumed = json.loads(subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout)
    assert not list((home / "checkpoints").iterdir())
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(home / "other"))
    whole = json.loads(subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout)
    assert resumed["checkpoint"] != whole["checkpoint"]
    first, second = (load_file(answer["checkpoint"]) for answer in (resumed, whole))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def wait_for(what, seconds: float = 90.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_killed_worker_loses_nothing(home):
    job_id = queue.submit(home, Job("probe", ProbeSpec("efficientnet_lite0", "digits", settings=QUICK), (0,)))
    try:
        wait_for(lambda: any(event.get("done", 0) > 20 for event in queue.events(home, job_id)))
        first = next(event["started"] for event in queue.events(home, job_id) if "started" in event)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: queue.status(home, job_id).state == "queued")
        queue.ensure_worker(home)
        wait_for(lambda: sum("started" in event for event in queue.events(home, job_id)) == 2)
        queue.cancel(home, job_id)
        wait_for(lambda: queue.status(home, job_id).ended)
        assert queue.status(home, job_id).state == "cancelled"
        assert Records(home).ids() == set()
    finally:
        for event in queue.events(home, job_id):
            if "started" in event and _is_ours(event["started"]):
                os.kill(event["started"], signal.SIGKILL)


def test_a_worker_that_is_starting_is_waited_for(home, monkeypatch):
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


def _is_ours(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"sparse_core.jobs.worker" in file.read()
    except FileNotFoundError:
        return False


def run_cli(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "sparse_core", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_summary_is_one_document():
    code, out, _ = run_cli("summary", "--architecture", "resnet50", "--transfer", "linear", "--json")
    found = {(row["method"], row["sparsity"]): row for row in json.loads(out)}
    assert code == 0
    assert round(100 * found["AC/DC", 0.8]["mean_relative_error_increase"], 1) == -3.2
    assert {"architecture", "transfer", "method", "sparsity", "standard_error", "tasks"} <= set(found["AC/DC", 0.8])


def test_probe_and_features_give_the_promised_fields(images, capsys):
    words = ["--backbone", "efficientnet_lite0", "--dataset", images, "--json"]
    assert cli.main(["features", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["train"], told["test"], told["dimensions"], told["cached"]) == (16, 4, 1280, False)
    assert cli.main(["probe", *words, "--seeds", "3", "--epochs", "4"]) == 0
    told = json.loads(capsys.readouterr().out)
    best = [run["accuracy_best"] for run in told["runs"]]
    assert told["metric"] == "top1"
    assert told["accuracy_mean"] == pytest.approx(np.mean(best))
    assert told["accuracy_std"] == pytest.approx(np.std(best, ddof=1))
    assert {"top1_best", "top1_final", "mean_per_class_best", "mean_per_class_final"} <= set(told["runs"][0])
    assert cli.main(["probe", *words, "--seeds", "3", "--epochs", "4", "--rerun"]) == 0
    capsys.readouterr()
    assert cli.main(["runs", "--json"]) == 0
    assert sorted(row["replicate"] for row in json.loads(capsys.readouterr().out)) == [0, 0, 0, 1, 1, 1]
    assert cli.main(["probe", *words, "--seeds", "2", "--epochs", "4", "--sweep-lr", "0.001", "0.1"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["learning_rate"] in (0.001, 0.1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["summary", "--architecture", "resnet5"], "Did you mean resnet56 or resnet50"),
        (["probe", "--backbone", "resnet", "--dataset", "digits"], "Unknown backbone 'resnet'"),
        (["probe", "--backbone", "efficientnet_lite0", "--dataset", "digit"], "Did you mean digits"),
        (["probe", "--backbone", "efficientnet_lite0", "--dataset", "digits", "--seeds", "0"], "at least 1; got 0"),
        (["probe", "--backbone", "efficientnet_lite0", "--dataset", "digits", "--epochs", "0"], "epochs must be"),
        (["nothing"], "invalid choice"),
        (["export", "x.xlsx"], "ending in .parquet or .csv"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(words, told, capsys):
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("words", [["runs", "--json"], ["datasets"], ["rebuild"], ["summary"]])
def test_a_home_that_is_a_file_is_refused(words, home, capsys):
    home.write_text("")
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        f"Error: SPARSE_TRANSFER_HOME takes a folder; got the file {home}. Give a folder, existing or new.\n",
    )


def test_places_that_cannot_be_written_are_refused_and_nothing_is_left(tmp_path, capsys):
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "file").touch()
    for target, told in [
        ("a.csv", "Expected a file, but {}/a.csv is a folder"),
        ("file/b.csv", "Expected a folder, but {}/file is a file"),
        ("file/deep/b.csv", "Expected a folder, but part of the path {}/file/deep is a file"),
        (f"{'long' * 70}.csv", "Expected file names that the disk allows, but one in {} is too long"),
    ]:
        assert cli.main(["export", str(tmp_path / target)]) == 2
        assert f"Error: {told.format(tmp_path)}" in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "file", "home"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/d/.x.csv.k2v"),
            "free disk space for /d, but the disk is full",
        ),
        (duckdb.IOException("IO Error: No space left on device"), "free disk space for the file, but the disk is full"),
        (OSError(errno.EACCES, "Permission denied", "/d/x"), "Expected access to /d/x, but permission is denied"),
        (OSError(errno.EROFS, "Read-only", b"/d/x"), "Expected to write /d/x, but its disk is read-only"),
        (OSError(errno.ENAMETOOLONG, "Too long", "x" * 999), f"but one in {'x' * 200}… is too long"),
    ],
)
def test_what_the_disk_refuses_is_said_in_words(error, told):
    assert told in str(as_input_error(error))


def test_a_fault_of_ours_is_not_taken_for_the_users():
    assert as_input_error(KeyError("x")) is None
    assert as_input_error(OSError("no number")) is None


def test_lists_rebuild_and_export(tmp_path, capsys):
    for verb in ("backbones", "datasets", "runs"):
        assert cli.main([verb, "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["rebuild", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2655
    assert cli.main(["export", str(tmp_path / "x.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2655


def test_a_port_in_use_is_one_line():
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port} is in use"):
            require_free(str(port))
    for words in ("70000", "0", "-5", "abc", "8501x", ""):
        with pytest.raises(InputError, match="from 1 to 65535"):
            require_free(words)
