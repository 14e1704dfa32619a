"""Jobs end one way or another, whatever happens to the worker; the command line gives what it promises."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from sparse_core import cli, jobs, spec, worker
from sparse_core.errors import InputError
from sparse_core.paths import REPOSITORY
from sparse_core.records import Records
from sparse_core.serve import require_free
from sparse_core.spec import Hyperparameters, Job, ProbeSpec, run_id
from sparse_core.store import Store

QUICK = Hyperparameters(epochs=3, batch_size=8)


@pytest.fixture
def pictures(tmp_path):
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for index in range(10):
            values = generator.integers(120 * label, 120 * label + 80, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "p" / name / f"{index}.png")
    return str(tmp_path / "p")


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda *_: None)


def probe_job(dataset: str, seeds: tuple[int, ...] = (0, 1), kind: str = "probe") -> Job:
    return Job(kind, ProbeSpec("efficientnet_lite0", dataset, settings=QUICK), seeds)


def test_specs_survive_json_and_keep_their_name():
    asked = ProbeSpec("net", "d", settings=QUICK, sweep_lr=(0.1, 0.2), replicate=2)
    assert spec.parse("probe", json.loads(spec.to_json(asked))) == asked
    assert spec.recorded(spec.record_document(asked, 3)) == asked
    assert spec.job(json.loads(spec.to_json(Job("probe", asked, (1, 2))))) == Job("probe", asked, (1, 2))
    assert run_id(asked, 0) == run_id(asked, 0) != run_id(asked, 1)
    resolved = ProbeSpec("net", "d", backbone_hash="h", dataset_hash="k")
    renamed = ProbeSpec("other", "e", backbone_hash="h", dataset_hash="k")
    assert run_id(resolved, 0) == run_id(renamed, 0)
    with pytest.raises(InputError, match="Not the spec of a probe"):
        spec.parse("probe", {"backbone": "a", "dataset": "b", "colour": 1})
    with pytest.raises(InputError, match="learning_rate must be above 0; got -1"):
        Hyperparameters(learning_rate=-1)
    with pytest.raises(InputError, match="different whole numbers"):
        Job("probe", asked, (1, 1))


def test_a_job_gives_runs_that_the_store_holds(pictures, no_worker):
    job_id = jobs.submit(probe_job(pictures))
    assert jobs.status(job_id).state == "queued"
    worker.work(job_id)
    status = jobs.status(job_id)
    assert status.state == "done", status.message
    assert jobs.queued() == []
    rows = Store().results(source="measured")
    assert sorted(rows["run_id"]) == sorted(status.result["runs"])
    assert rows["seed"].tolist() == [0, 1]
    assert any(event.get("stage") == "Training the classifiers" for event in jobs.events(job_id))
    again = jobs.submit(probe_job(pictures, seeds=(1, 2)))
    worker.work(again)
    assert len(jobs.status(again).result["found"]) == 1
    assert len(Records().ids()) == 3


def test_a_job_that_cannot_be_done_says_why_in_one_line(no_worker):
    job_id = jobs.submit(probe_job("/nowhere/at/all"))
    worker.work(job_id)
    status = jobs.status(job_id)
    assert status.state == "failed"
    assert status.message.startswith("There is no folder or file at /nowhere/at/all")


def test_a_queued_job_is_cancelled_at_once(pictures, no_worker):
    job_id = jobs.submit(probe_job(pictures))
    jobs.cancel(job_id)
    assert jobs.status(job_id).state == "cancelled"
    assert jobs.queued() == []


def test_a_job_that_kills_its_worker_is_given_up(pictures, no_worker):
    job_id = jobs.submit(probe_job(pictures))
    for _ in range(jobs.ATTEMPTS):
        jobs.append_event(job_id, {"started": 1})
    worker.work(job_id)
    assert jobs.status(job_id).message.startswith("The worker died 3 times")


def wait_for(what, seconds: float = 90.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_killed_worker_loses_nothing(home):
    job_id = jobs.submit(Job("probe", ProbeSpec("efficientnet_lite0", "digits", settings=QUICK), (0,)))
    try:
        wait_for(lambda: any(event.get("done", 0) > 20 for event in jobs.events(job_id)))
        first = next(event["started"] for event in jobs.events(job_id) if "started" in event)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: jobs.status(job_id).state == "queued")
        jobs.ensure_worker()
        wait_for(lambda: sum("started" in event for event in jobs.events(job_id)) == 2)
        jobs.cancel(job_id)
        wait_for(lambda: jobs.status(job_id).ended)
        assert jobs.status(job_id).state == "cancelled"
        assert Records().ids() == set()
    finally:
        for event in jobs.events(job_id):
            if "started" in event and _is_ours(event["started"]):
                os.kill(event["started"], signal.SIGKILL)


def _is_ours(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"sparse_core.worker" in file.read()
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


def test_probe_and_features_give_the_promised_fields(pictures, capsys):
    words = ["--backbone", "efficientnet_lite0", "--dataset", pictures, "--json"]
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
        (["summary", "--architecture", "resnet5"], "Did you mean resnet50"),
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
            require_free(port)
    with pytest.raises(InputError, match="from 1 to 65535"):
        require_free(70000)
