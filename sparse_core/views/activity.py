"""What goes on in a home folder and how it ended, as the indicator on every page shows it: a line for each job or sweep."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sparse_core.catalog import asked_dataset, task_label
from sparse_core.jobs import queue, sweep_files, sweeps
from sparse_core.jobs.kinds import Job
from sparse_core.jobs.sweeps import SweepStatus
from sparse_core.specs.evaluation import EvaluateSpec
from sparse_core.specs.progress import Progress
from sparse_core.specs.ranking import RankSpec
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.views import evaluations
from sparse_core.views.labels import counted, time_left
from sparse_core.views.sparsified import run_label
from sparse_core.views.speed_tables import spec_label
from sparse_core.views.sweeps import describe, number

JOB, SWEEP = "job", "sweep_id"  # the parameters of a page's link that name one
PAGES = {"finetune_detector": "finetune"}  # of kinds of work whose page has another name


@dataclass(frozen=True)
class Activity:
    """A job or a sweep, named by ``parameter`` and ``name`` in the link of ``page``. ``state`` is running, waiting, done, failed
    or cancelled; ``share`` (0..1) is done of the stage, which ``stage`` describes; ``seconds_left`` is None while unknown."""

    parameter: str
    name: str
    page: str
    label: str
    state: str
    share: float = 0.0
    stage: str = ""
    seconds_left: float | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over, in whatever way."""
        return self.state not in ("running", "waiting")

    @property
    def text(self) -> str:
        """The label with the stage and the time left."""
        stage = f": {self.stage}" if self.stage else ""
        return f"{self.label}{stage}{time_left(self.seconds_left)}"


def going_on(home: Path) -> list[Activity]:
    """The jobs that users started and the sweeps, as far as they have not ended: what runs first, then by age."""
    active = [(name, sweep_files.find(home, name)) for name in sweep_files.active(home)]
    known = [sweeps.status(home, name) for name, found in active if found]
    parts = {each.job_id for status in known for each in status.tasks if each.job_id}
    jobs = [status for status in queue.waiting(home) if status.job.label and status.job_id not in parts]
    found = [*map(_sweep, known), *map(_job, jobs)]
    return sorted(found, key=lambda each: each.state != "running")


def ended(home: Path, names: Iterable[tuple[str, str]]) -> list[Activity]:
    """Those of these jobs and sweeps, given by parameter and name, that are over; what is gone is left out."""
    found = [find(home, parameter, name) for parameter, name in names]
    return [each for each in found if each and each.ended]


def find(home: Path, parameter: str, name: str) -> Activity | None:
    """A job or a sweep by its parameter and name; None where it is gone or cannot be read."""
    if parameter == JOB:
        status = queue.find(home, name)
        return _job(status) if status else None
    return _sweep(sweeps.status(home, name)) if sweep_files.find(home, name) else None


def cancel(home: Path, activity: Activity) -> None:
    """Request that a job or a sweep stops."""
    (queue.cancel if activity.parameter == JOB else sweeps.cancel)(home, activity.name)


def job_label(job: Job) -> str:
    """A job in one line, such as "Finetuning of resnet20-pruned on Digits, 1 seed"."""
    spec, seeds = job.spec, counted(len(job.seeds), "seed")
    if job.kind == "speedup":
        return f"Speedup of {spec_label(spec, {})}"
    if isinstance(spec, SparsifySpec):
        return f"{job.label}: {spec.name or run_label(spec.label, spec.sparsity, job.seeds[0])}"
    if isinstance(spec, RankSpec):
        named = counted(len(spec.backbones), "backbone") if spec.backbones else "all backbones"
        return f"{job.label} of {named} on {task_label(asked_dataset(spec.dataset))}"
    if isinstance(spec, EvaluateSpec):
        return f"{job.label} of {spec.backbone} on {evaluations.dataset_label(spec.dataset)}"
    return f"{job.label} of {spec.backbone} on {task_label(asked_dataset(spec.dataset))}, {seeds}"


def _job(status: queue.Status) -> Activity:
    state = "waiting" if status.state == "queued" else status.state
    stage = {"running": "starting …", "waiting": "waiting"}.get(state, "")
    label, progress = job_label(status.job), status.progress
    stage = (progress.description or stage) if state == "running" else stage
    return Activity(
        JOB,
        status.job_id,
        _page(status.job.kind),
        label,
        state,
        progress.share,
        stage,
        _left(state, progress.seconds_left),
    )


def _page(kind: str) -> str:
    return PAGES.get(kind, kind)


def _sweep(status: SweepStatus) -> Activity:
    """A sweep; its share counts the begun runs as far as they are, unlike that of a single job, whose stage it is."""
    tasks = [each.task for each in status.tasks]
    label = describe(tasks[0], {}) if len(tasks) == 1 else f"Batch of {number(tasks)}"
    begun = [each for each in status.tasks if each.state == "running"]
    progress = begun[0].progress if begun else Progress("")
    if len(tasks) == 1:
        share, stage = progress.share, progress.description or "starting …"
    else:
        share = status.count("done", "failed") + sum(each.progress.share * len(each.task.seeds) for each in begun)
        share, stage = share / max(status.total, 1), f"{status.count('done')} of {number(tasks)} done"
    state = _sweep_state(status, bool(begun))
    live = state in ("running", "waiting")
    return Activity(
        SWEEP,
        status.sweep_id,
        _page(tasks[0].kind),
        label,
        state,
        min(share, 1.0) if live else 1.0,
        stage if live else "",
        _left(state, status.seconds_left),
    )


def _sweep_state(status: SweepStatus, begun: bool) -> str:
    if status.state == "ended":
        return "failed" if status.failures else "done"
    if status.state == "running":
        return "running" if begun or status.count("done") else "waiting"
    return "waiting" if status.state == "paused" else "cancelled"


def _left(state: str, seconds: float | None) -> float | None:
    return seconds if state in ("running", "waiting") else None
