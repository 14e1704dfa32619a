"""The verb ``sweep``: what it prints, what it refuses, and a whole small sweep done by a worker process."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from sparse_core.cli import main
from sparse_core.jobs import queue, sweep_files, sweeps
from sparse_core.networks import library
from sparse_core.paths import REPOSITORY
from sparse_core.results.records import Records
from sparse_core.specs.sweep import plan
from sparse_core.sweep_verb import read_file
from tests.support import boxes
from tests.support.images import image_folder

SMALL = """
variables: {images: null}
defaults:
  sparsify: {backbone: resnet20, dataset: "${images}", epochs: 1, batch_size: 8, precision: fp32}
runs:
  - {kind: sparsify, method: Dense, seeds: 1, name: "dense_s{seed}"}
  - {kind: sparsify, method: Magnitude, sparsity: 0.5, backbone: "dense_s{seed}", name: "magnitude_s{seed}"}
  - {kind: probe, backbones: made, dataset: "${images}", epochs: 2, seeds: 2}
"""


@pytest.fixture
def sweep(tmp_path, capsys):
    """A function that runs ``sweep`` on a file with this text: exit code, document and words."""

    def run(*arguments, text=SMALL):
        (tmp_path / "small.yaml").write_text(text)
        code = main(["sweep", str(tmp_path / "small.yaml"), *arguments, "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return run


@pytest.fixture
def tiny(tmp_path):
    return f"images={image_folder(tmp_path / 'tiny', {'dark': 10, 'light': 10})}"


def end_workers(home) -> None:
    for process in psutil.process_iter(["cmdline"]):
        if {"sparse_core.jobs.worker", str(home)} <= set(process.info["cmdline"] or ()):
            process.kill()


def test_a_sweep_from_dry_run_to_end_survives_kill_9(home, sweep, tiny, tmp_path, monkeypatch):
    """The foreground and the worker are killed; started again, the sweep ends with each run there once."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more gain nothing on a network this small
    code, dry, _ = sweep("--set", tiny, "--dry-run")
    assert code == 0 and (dry["total"], dry["new"]) == (6, 6)
    assert [run["name"] for run in dry["runs"]] == ["dense_s0", "magnitude_s0", "", "", "", ""]
    assert dry["seconds"] > 0 and all(run["seconds"] >= 0 and run["state"] == "new" for run in dry["runs"])
    assert dry["seconds"] == pytest.approx(sum(run["seconds"] for run in dry["runs"]))
    _, planned, _ = sweep("--set", tiny, "--dry-run", "--nodes", "2")
    assert (planned["parallel"], planned["new"]) == (2, 6) and planned["seconds"] < dry["seconds"]
    assert library.cards(home) == [] and not (home / "sweeps").exists()
    command = [sys.executable, "-m", "sparse_core", "sweep", str(tmp_path / "small.yaml"), "--set", tiny]
    front = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not any(event for name in queue.queued(home) for event in queue.events(home, name)):
            assert time.monotonic() < deadline and front.poll() is None
            time.sleep(0.05)
        front.kill()
        end_workers(home)
        (sweep_id,) = sweep_files.active(home)
        code, answer, said = sweep("--set", tiny)
        assert code == 0, said
        assert (answer["id"], answer["state"], answer["done"], answer["failed"]) == (sweep_id, "ended", 6, 0)
        assert "6 of 6 runs done" in said
        assert sorted(card.name for card in library.cards(home)) == ["dense_s0", "magnitude_s0"]
        assert len(Records(home).ids()) == 4
        code, dry, _ = sweep("--set", tiny, "--dry-run")
        assert (dry["new"], dry["seconds"], {run["state"] for run in dry["runs"]}) == (0, 0.0, {"there"})
    finally:
        front.kill()
        end_workers(home)


def test_ctrl_c_pauses_and_the_verbs_pause_and_cancel(home, sweep, tiny, monkeypatch):
    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("sparse_core.sweep_verb._wait", interrupt)
    code, _, said = sweep("--set", tiny)
    assert code == 130 and "Paused. The same command goes on." in said
    (status,) = sweeps.recent(home)
    assert status.state == "paused" and not sweep_files.active(home)
    for verb, state in (("--pause", "paused"), ("--cancel", "cancelled")):
        sweeps.resume(home, status.sweep_id)
        code, answer, _ = sweep("--set", tiny, verb)
        assert (code, answer["state"], answer["waiting"]) == (0, state, 6)


def test_failures_are_listed_and_the_exit_code_says_so(home, sweep, tiny, monkeypatch):
    def lose():
        for name in queue.queued(home):
            queue.end(home, name, "failed", "No luck.")
        for sweep_id in sweep_files.active(home):
            sweeps.advance(home, sweep_id)

    monkeypatch.setattr(queue, "ensure_worker", lambda *_: None)
    monkeypatch.setattr("sparse_core.sweep_verb._wait", lose)
    code, answer, said = sweep("--set", tiny)
    assert code == 2 and (answer["failed"], answer["blocked"]) == (1, 5)
    assert answer["failures"] == [{"run": "sparsify dense_s0", "seeds": [0], "message": "No luck."}]
    assert "Failed: sparsify dense_s0: No luck." in said and "5 waiting for runs that failed" in said
    assert sweep("--set", tiny, "--retry")[1]["failed"] == 1


def test_the_zoos_sweep_makes_the_networks_that_are_shipped():
    asked = read_file(REPOSITORY / "data" / "zoo" / "zoo.yaml", ["dataset=digits"])
    assert {task.key for task in asked.tasks} == {
        file.stem for file in (REPOSITORY / "data" / "zoo").glob("*.safetensors")
    }
    at_90 = {task.spec.method for task in asked.tasks if task.spec.sparsity == 0.9}
    assert len(at_90) == 10


def test_the_readmes_sweep_is_one():
    text = (REPOSITORY / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    kinds = [task.kind for task in plan(text, "readme", {"upstream": "digits"}).tasks]
    assert {kind: kinds.count(kind) for kind in kinds} == {"sparsify": 6, "probe": 14, "finetune": 1}


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["--parallel", "0"], SMALL, "--parallel takes the number of runs side by side, at least 1; got 0."),
        (
            ["--dry-run", "--nodes", "0"],
            SMALL,
            "--nodes takes a number of machines, at least 1, and needs --dry-run; got 0.",
        ),
        (["--nodes", "4"], SMALL, "--nodes takes a number of machines, at least 1, and needs --dry-run; got 4."),
        (["--set", "images"], SMALL, "--set takes NAME=VALUE"),
        ([], SMALL, "Give it a value with --set images=VALUE."),
        (["--set", "images=/none"], SMALL, "There is no folder or file at /none"),
        (["--dry-run"], "runs: [", "This is no YAML"),
        (["--dry-run", "--retry"], SMALL, "not allowed with argument"),
        (["--set", "images=digits", "--pause"], SMALL, "Unknown sweep"),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_line(home, sweep, arguments, text, message):
    code, answer, said = sweep(*arguments, text=text)
    assert (code, answer) == (2, None) and message in said and said.count("\n") == 1
    assert not (home / "sweeps").exists()


def test_files_that_are_none_are_refused(tmp_path, capsys):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long.yaml").write_bytes(b"#" * 1_000_001)
    for name, message in (
        ("none.yaml", "There is no file"),
        ("binary.yaml", "in UTF-8"),
        ("long.yaml", "larger than 1 MB"),
    ):
        assert main(["sweep", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{kind: finetune, backbone: yolov3_tiny, dataset: digits}", "its kind of transfer is finetune_detector"),
        ("{kind: probe, backbone: yolov3_tiny, dataset: digits}", "its kind of transfer is finetune_detector"),
        (
            "{kind: finetune_detector, backbone: yolov3_tiny, dataset: digits}",
            "takes images with boxes; 'digits' has none",
        ),
        ("{kind: finetune_detector, backbone: efficientnet_lite0, dataset: voc}", "classifies images"),
        ("{kind: finetune_detector, backbone: yolov3_tiny, dataset: voc, image_size: 100}", "a multiple of 32"),
        ("{kind: finetune_detector, backbone: yolov3_tiny, dataset: voc, optimizer: adamw}", "option"),
        (
            "{kind: sparsify, method: GMP, sparsity: 0.5, backbone: yolov3_tiny, dataset: voc}",
            "Give them: learning_rate 0.01",
        ),
        (
            "{kind: sparsify, method: GMP, sparsity: 0.5, backbone: yolov3_tiny, dataset: voc, nesterov: true}",
            "no nesterov",
        ),
        ("{kind: sparsify, method: GMP, sparsity: 0.5, backbone: yolov3_tiny, dataset: digits}", "images with boxes"),
        ("{kind: sparsify, method: GMP, sparsity: 0.5, backbone: yolov3_tiny}", "sparsify needs a dataset."),
        (
            "{kind: sparsify, method: Magnitude, sparsity: 0.5, backbone: efficientnet_lite0}",
            "only detectors are pruned without one",
        ),
    ],
)
def test_what_a_sweep_cannot_do_with_a_detector_is_refused(sweep, entry, message):
    code, _, said = sweep("--dry-run", text=f"runs:\n  - {entry}\n")
    assert code == 2 and message in said and said.count("\n") == 1


def test_a_sweep_prunes_a_detector_without_data(sweep):
    code, dry, _ = sweep(
        "--dry-run",
        text="runs:\n  - {kind: sparsify, method: Magnitude, sparsities: [0.5, 0.8], backbone: yolov3_tiny}\n",
    )
    assert code == 0 and dry["new"] == 2


def test_a_sweep_prunes_detectors_and_finetunes_them(sweep, tmp_path):
    folder = boxes.voc(tmp_path / "voc", 4, 2)
    text = f"""runs:
  - {{kind: sparsify, method: Magnitude, sparsities: [0.5, 0.8], backbone: yolov3_tiny}}
  - {{kind: finetune_detector, backbones: [yolov3_tiny, made], dataset: {folder}, seeds: 2, epochs: 3, image_size: 64}}
"""
    code, dry, _ = sweep("--dry-run", text=text)
    runs = [run for run in dry["runs"] if run["kind"] == "finetune_detector"]
    assert code == 0 and (dry["new"], len(runs)) == (8, 6)
    assert dry["seconds"] > 0  # timed on new weights of the architecture: nothing is downloaded
