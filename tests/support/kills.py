"""What a kill at each change to the home folder leaves on disk, what another worker makes of it, and whether that is right.

    python -m tests.support.kills FOLDER probe|finetune

prints one JSON line: see ``main``. One worker does a job; before each change that it makes to a file or folder, the home
folder is copied. A copy is what a SIGKILL at that moment leaves: memory, threads and locks are gone. A new worker then
goes on from each copy. Workers are forks of this process, in which torch is loaded and the backbone open; it uses one
thread, since forks lose the others.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sparse_core import paths
from sparse_core.jobs import kinds, queue
from sparse_core.jobs import worker as workers
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Records
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.transfer import finetune, linear_training, training
from sparse_core.transfer.training import no_report
from tests.support.images import image_folder
from tests.support.networks import pruned_file

EPOCHS, SEEDS = 2, (4, 1)
TIMES = ("seconds", "created_at", "images_per_second", "features_cached")


def main(folder: Path, kind: str) -> None:
    """Print ``kills`` (their number), ``failures`` (what differed after which), ``epochs`` (trained without a kill, and the
    most with one), and ``compared`` (what is compared)."""
    _use_one_thread_and_save_every_epoch()
    job = _job(folder, kind)
    home, trained = folder / "home", folder / "trained"
    _make_home(home, job)
    trained.write_bytes(b"")
    failures = _start(home, job, trained, folder / "killed")
    expected, usual, most = _results(home), trained.stat().st_size, 0
    killed = sorted((folder / "killed").iterdir())
    for copy in killed:
        shutil.rmtree(home)
        copy.rename(home)
        before = int((home / "trained").read_text())
        recorded = len(Records(home).ids())
        trained.write_bytes(b"")
        wrong = _start(home, job, trained)
        after = trained.stat().st_size
        most = max(most, before + after)
        if recorded == len(SEEDS) and after:
            wrong.append("recorded runs were trained again")
        got = _results(home)
        wrong += sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        failures += [f"{copy.name}: {what}" for what in wrong]
    print(
        json.dumps({"kills": len(killed), "failures": failures, "epochs": [usual, most], "compared": sorted(expected)})
    )


def _use_one_thread_and_save_every_epoch() -> None:
    torch.set_num_threads(1)
    linear_training.SAVING_SECONDS, linear_training.SAVING_SHARE = 0.0, float("inf")
    training.SECONDS_BETWEEN = 60.0
    workers.IDLE_SECONDS = 0.0


def _job(folder: Path, kind: str) -> Job:
    images = str(image_folder(folder / "images", {"dark": 5, "light": 5}))
    pruned = folder / "network.safetensors"
    save_file(torch.load(pruned_file(folder / "network.pth", 0.5)), pruned)
    settings = Hyperparameters(epochs=EPOCHS, batch_size=8)
    spec = {"probe": ProbeSpec, "finetune": FinetuneSpec}[kind]
    more = {"precision": "fp32"} | ({"engine": "torch"} if kind == "probe" else {})
    return Job(kind, spec(f"resnet20:{pruned}", images, settings=settings, **more), SEEDS)


def _make_home(home: Path, job: Job) -> None:
    """A home folder with the job queued and all that is cached already: features, hashes, the backbone in memory."""
    kinds.run(home, job, no_report)
    for name in ("runs", "networks", "checkpoints"):
        shutil.rmtree(home / name, ignore_errors=True)
    queue.ensure_worker = lambda *_: None
    queue.submit(home, job)


def _start(home: Path, job: Job, trained: Path, killed: Path | None = None) -> list[str]:
    """A worker in a new process, from its start until its queue is empty; returns what went wrong."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            _count_epochs(trained)
            if killed:
                _copy_before_each_change(home, trained, killed)
            paths.remove_leftovers_of_dead_processes(home)
            workers.Worker(home, job.lane).serve()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return [f"the worker ended with {code}"] if code else []


def _count_epochs(trained: Path) -> None:
    descriptor = os.open(trained, os.O_WRONLY | os.O_APPEND)

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            os.write(descriptor, b".")
            return original(*arguments)

        return call

    for owner, name in ((finetune._Training, "run_epoch"), (linear_training.Classifier, "train_epoch")):
        setattr(owner, name, counted(getattr(owner, name)))


def _copy_before_each_change(home: Path, trained: Path, killed: Path) -> None:
    """Copy ``home`` to a numbered folder in ``killed`` before each change to it, with the number of epochs trained so far;
    copies that differ in progress only are made once."""
    seen: set[str] = set()
    copying = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal copying
        if event == "open":
            changing = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)) and not str(arguments[0]).endswith("lock")
        else:
            changing = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
        if copying or not changing or not str(arguments[0]).startswith(str(home)):
            return
        copying = True
        if _content(home) not in seen:
            seen.add(_content(home))
            copy = killed / f"{len(seen):03d} {event} {Path(arguments[0]).name}"
            shutil.copytree(home, copy)
            (copy / "trained").write_text(str(trained.stat().st_size))
        copying = False

    sys.addaudithook(hook)


def _content(home: Path) -> str:
    """A hash of all files but progress; temporary ones count by their folder."""
    digest = hashlib.sha256()
    for file in sorted(home.rglob("*")):
        if file.is_file() and file.name != "progress.json":
            temporary = file.name.startswith(".")
            digest.update(str(file.parent if temporary else file).encode() + b"\0")
            digest.update(b"" if temporary else file.read_bytes())
    return digest.hexdigest()


def _results(home: Path) -> dict[str, Any]:
    """What a job must leave, by file, without times; and what it must not leave."""
    found: dict[str, Any] = {}
    for file in sorted(home.rglob("*")):
        name = str(file.relative_to(home))
        first = file.relative_to(home).parts[0]
        if file.is_dir() or name == "trained":
            continue
        if first in ("checkpoints", "queue") or "/." in f"/{name}":
            found[name] = "left over"
        elif file.name == "result.json":
            document = json.loads(file.read_text())
            found[name] = {key: value for key, value in document.items() if not key.startswith(TIMES)}
        elif file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:  # the order in the file's header is arbitrary
                found[name] = tensors.metadata(), {key: _bytes(tensors.get_tensor(key)) for key in tensors.keys()}  # noqa: SIM118
        elif first == "runs":
            found[name] = file.read_bytes()
        elif file.name == "outcome.json":
            outcome = json.loads(file.read_text())
            found["outcome"] = outcome["state"], outcome["message"], outcome["result"].get("runs")
        elif file.name == "events.jsonl":
            events = map(json.loads, file.read_text().splitlines())
            found["epochs"] = [epoch for event in events for epoch in event.get("epochs", ())]
    return found


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
