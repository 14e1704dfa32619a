"""A home folder with every kind of file that the product writes, made by the product itself from small inputs."""

import zipfile
from pathlib import Path

import pytest

from sparse_core import file_locks
from sparse_core.jobs import kinds, queue, sweeps, worker
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library, uploads
from sparse_core.results import evaluations, records, saved_views
from sparse_core.results.records import Records
from sparse_core.results.saved_views import SavedView
from sparse_core.results.store import Store, default_database
from sparse_core.specs.checkpoints import ExportSpec, ImportSpec, InspectSpec, StructureSpec
from sparse_core.specs.evaluation import EvaluateSpec
from sparse_core.specs.progress import Progress
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.sweep import plan
from sparse_core.specs.training import Hyperparameters
from sparse_core.specs.transfer import FinetuneSpec, ProbeSpec
from sparse_core.speed import measurements
from tests.support.evaluations import evaluation
from tests.support.images import image_folder, parquet_file
from tests.support.measurements import backbone_record, line, speed_record, training_record
from tests.support.networks import pruned_file

OLD_HOME = Path(__file__).parents[1] / "data" / "home-0.1.0.zip"
SHORT = Hyperparameters(epochs=2)


def work(home: Path, kind: str, spec: object, seeds: tuple[int, ...] = (0,)) -> queue.Status:
    """Submit a job and do it in this process."""
    job_id = queue.submit(home, Job(kind, spec, seeds))
    worker.work(home, job_id)
    status = queue.status(home, job_id)
    assert status.state == "done", status.message
    return status


class Interrupt(Exception):
    """Ends work in the middle, as a kill does."""


def interrupted(home: Path, kind: str, spec: object, seeds: tuple[int, ...] = (0,)) -> None:
    """Do a job up to its first epoch or image."""

    def stop(progress: Progress) -> None:
        if progress.done or progress.epochs:
            raise Interrupt

    with pytest.raises(Interrupt):
        kinds.run(home, Job(kind, spec, seeds), stop)


def rich_home(home: Path, inputs: Path) -> Path:
    """Fill ``home``; images and weights lie in ``inputs``. The caller keeps ``queue.ensure_worker`` from starting one."""
    with zipfile.ZipFile(OLD_HOME) as archive:
        archive.extractall(home)
    inputs.mkdir()
    weights = str(pruned_file(inputs / "net.pth", 0.5))
    folder = str(image_folder(inputs / "p", {"dark": 10, "light": 10}))
    table = str(parquet_file(inputs / "own.parquet", [0, 1] * 10))
    for name in ("own", "spare", "thrown"):
        work(home, "import", ImportSpec(weights, name))
    work(home, "inspect", InspectSpec(weights))
    work(home, "structure", StructureSpec("own"))
    work(home, "export", ExportSpec(backbone="own"))
    _evaluations(home)
    _transfers(home, folder, table)
    _speeds(home)
    _sweep(home, folder)
    library.remove(home, "thrown")
    with open(weights, "rb") as stream:
        uploads.keep(home, stream, "mine.pth", 1000)
    (home / "backbones").mkdir(exist_ok=True)
    pruned_file(home / "backbones" / "resnet34.pth", 0.5)
    with file_locks.hold(queue.worker_lock(home, "interactive")), file_locks.hold(queue.worker_lock(home, "long")):
        (home / "workers" / "log.txt").write_text("started\n")
        (home / "workers" / "long.starting").touch()
    Store(Records(home), default_database(Records(home))).close()
    return home


def _evaluations(home: Path) -> None:
    for number in range(3):
        evaluations.write(home, evaluation(f"{number}" * 64))
    evaluations.delete(home, evaluation("2" * 64)["id"])
    job_id = queue.submit(home, Job("evaluate", EvaluateSpec("own", "imagenet")))
    queue.end(home, job_id, "done", result=evaluation("1" * 64))


def _sweep(home: Path, folder: str) -> None:
    """Two sweeps that go on, one of them with a job that waits."""
    entry = f"{{kind: probe, backbone: own, dataset: {folder}, epochs: 3, seeds: 1}}"
    for name in ("first", "second"):
        sweep_id = sweeps.submit(home, plan(f"runs: [{entry}]", name))
    sweeps.advance(home, sweep_id)


def _speeds(home: Path) -> None:
    """Measurements of every kind, which take too long to be made here; the one in the old home was."""
    made = [backbone_record("20260102-a", lines=[line(), line(batch_size=1, layers=[["conv1", 0.25], ["fc", 0.75]])])]
    made += [speed_record("20260103-b", lines=[line(engine="torch", ratio=0.9)]), training_record("20260104-c")]
    for record in (*made, speed_record("20260105-d")):
        measurements.write(home, record)
    measurements.delete(home, "20260105-d")
    job_id = queue.submit(home, Job("speedup", SpeedupSpec(architecture="resnet50", sparsity=0.9)))
    queue.end(home, job_id, "done", result=made[0])


def _transfers(home: Path, folder: str, table: str) -> None:
    kept = Records(home)
    work(home, "estimate", ProbeSpec("own", folder, settings=SHORT))
    before = kept.ids()
    work(home, "probe", ProbeSpec("own", table, settings=SHORT), (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "COMPACT_ABOVE", 1)
        kept.compact()
    compacted = min(kept.ids() - before)
    kept.annotate(compacted, "compacted", ["old"])
    kept.annotations.archive([compacted])
    saved_views.keep(home, SavedView("Mine", "runs", {"rows": ["Each run"]}))
    saved_views.keep_columns(home, "configurations", ["method", "seeds"])
    probed = work(home, "probe", ProbeSpec("own", folder, settings=SHORT), (0, 1, 2)).result["runs"]
    tuned = work(home, "finetune", FinetuneSpec("own", folder, settings=SHORT), (0, 1)).result["runs"]
    for run in tuned:
        work(home, "export", ExportSpec(run))
    for run in (probed[2], tuned[1]):
        kept.delete(run)
    kept.annotate(probed[0], "seen", ["good"])
    interrupted(home, "finetune", FinetuneSpec("own", folder, settings=SHORT), (7,))
    interrupted(home, "probe", ProbeSpec("own", folder, settings=Hyperparameters(epochs=4000)), (7,))
    queue.submit(home, Job("probe", ProbeSpec("own", folder, settings=SHORT), (0, 1, 3)))
    queue.submit(home, Job("finetune", FinetuneSpec("own", folder, settings=SHORT), (2,)))
    failed = queue.submit(home, Job("probe", ProbeSpec("nobody", folder, settings=SHORT), (0,)))
    queue.end(home, failed, "failed", "Unknown backbone 'nobody'.")
