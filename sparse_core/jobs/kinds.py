"""The registry of kinds of work. A new kind is its spec, its function, one line here, and its page."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_core import stored
from sparse_core.errors import InputError
from sparse_core.results import evaluations
from sparse_core.specs.checkpoints import ExportSpec, ImportSpec, InspectSpec, StructureSpec
from sparse_core.specs.checks import require_known
from sparse_core.specs.evaluation import EvaluateSpec
from sparse_core.specs.identity import AnyRun, parse
from sparse_core.specs.progress import Report
from sparse_core.specs.ranking import RankSpec
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.transfer import DetectionSpec, FinetuneSpec, ProbeSpec
from sparse_core.speed import measurements
from sparse_core.stored import type_problem

LANES = ("interactive", "long")  # a sweep that runs side by side has more: see ``queue.part_lane``


@dataclass(frozen=True)
class Kind:
    """A kind of work. ``function`` is "module:name" of a function (home, spec, seeds, report) → the job's result.

    The lane "long" is for work that takes hours or must run alone (finetuning, timing). ``label`` is the name in lists of
    jobs; kinds without one are submitted by pages, not by users, and are not listed. ``problem`` says why pages cannot show
    a stored result, empty if they can.
    """

    spec: type
    function: str
    lane: str = "interactive"
    label: str = ""
    problem: Callable[[dict[str, Any]], str] = lambda result: ""

    def load(self) -> Callable[[Path, Any, tuple[int, ...], Report], dict[str, Any]]:
        """Import and return the function; only now is torch loaded."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)


_INSPECTED: stored.Kinds = {"formats": list, "architecture": str, "parameters": int, "layers": list}
_INSPECTED = {**_INSPECTED, **dict.fromkeys(("sparsity", "backbone_sparsity", "filters_pruned_share"), stored.NUMBER)}
_STATED: stored.Kinds = {
    "classes": int,
    "notes": list,
    "weights": str,
    "weight_sets": list,
    "alternatives": list,
    **dict.fromkeys(("variant", "method", "dataset", "upstream"), str),
}
_LAYER: stored.Kinds = {"name": str, "shape": list, "sparsity": stored.NUMBER, "filters": int, "filters_pruned": int}


def _runs_problem(result: dict[str, Any]) -> str:
    return type_problem(result, {"runs": list, "found": list})


def _sparsify_problem(result: dict[str, Any]) -> str:
    return type_problem(result, {"backbones": list, "found": list})


def _ranking_problem(result: dict[str, Any]) -> str:
    row: stored.Kinds = {"backbone": str, "score": stored.NUMBER, "seconds": stored.NUMBER, "chosen": str}
    rows = result.get("rows")
    problems = (type_problem(each, row) for each in rows) if isinstance(rows, list) else ()
    return type_problem(result, {"rows": list, "probes": int}) or next(filter(None, problems), "")


def _import_problem(result: dict[str, Any]) -> str:
    return type_problem(result, {"name": str})


def _inspection_problem(result: dict[str, Any]) -> str:
    layers = result.get("layers")
    problems = (type_problem(layer, _LAYER) for layer in layers) if isinstance(layers, list) else ()
    return type_problem(result, _INSPECTED, _STATED) or next(filter(None, problems), "")


KINDS = {
    "probe": Kind(ProbeSpec, "sparse_core.transfer.runs:run_probe", label="Probe", problem=_runs_problem),
    "estimate": Kind(ProbeSpec, "sparse_core.transfer.runs:run_estimate"),
    "finetune": Kind(
        FinetuneSpec, "sparse_core.transfer.runs:run_finetune", "long", label="Finetuning", problem=_runs_problem
    ),
    "finetune_detector": Kind(
        DetectionSpec,
        "sparse_core.transfer.detection_runs:run_finetune",
        "long",
        label="Finetuning",
        problem=_runs_problem,
    ),
    "estimate_finetune": Kind(FinetuneSpec, "sparse_core.transfer.runs:run_estimate", "long"),
    "estimate_finetune_detector": Kind(DetectionSpec, "sparse_core.transfer.detection_runs:run_estimate", "long"),
    "inspect": Kind(InspectSpec, "sparse_core.networks.inspection:run_inspect", problem=_inspection_problem),
    "import": Kind(ImportSpec, "sparse_core.networks.importing:run_import", problem=_import_problem),
    "structure": Kind(StructureSpec, "sparse_core.networks.structure_analysis:run_structure"),
    "export": Kind(ExportSpec, "sparse_core.networks.exporting:run_export"),
    "sparsify": Kind(
        SparsifySpec,
        "sparse_core.sparsify.runs:run_sparsify",
        "long",
        label="Sparsification",
        problem=_sparsify_problem,
    ),
    "estimate_sparsify": Kind(SparsifySpec, "sparse_core.sparsify.runs:run_estimate", "long"),
    "rank": Kind(RankSpec, "sparse_core.transfer.ranked:run_rank", label="Ranking", problem=_ranking_problem),
    "evaluate": Kind(
        EvaluateSpec,
        "sparse_core.transfer.upstream_evaluation:run_evaluate",
        "long",
        label="Evaluation",
        problem=evaluations.problem,
    ),
    "speedup": Kind(
        SpeedupSpec, "sparse_core.speed.speedup:run_speedup", "long", label="Speedup", problem=measurements.problem
    ),
}

# The kinds of work that measure about how long another takes.
ESTIMATES = {
    "probe": "estimate",
    "finetune": "estimate_finetune",
    "finetune_detector": "estimate_finetune_detector",
    "sparsify": "estimate_sparsify",
}


def transfer_kind(spec: AnyRun) -> str:
    """The kind of work that a transfer's spec asks for."""
    return next(name for name, kind in KINDS.items() if kind.label and kind.spec is type(spec))


@dataclass(frozen=True)
class Job:
    """What a user starts: the ``kind`` of work, its spec, and the seeds (for transfers, one run each)."""

    kind: str
    spec: Any
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        require_known("kind of job", self.kind, KINDS)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds takes one or more different whole numbers from 0; got {list(self.seeds)}.")

    @property
    def lane(self) -> str:
        """The lane whose worker does this job."""
        return KINDS[self.kind].lane

    @property
    def label(self) -> str:
        """The name in lists of jobs; empty where a page submitted it by itself."""
        return KINDS[self.kind].label

    @property
    def is_estimate(self) -> bool:
        """Whether it measures how long another job would take."""
        return self.kind in ESTIMATES.values()


def job_from_json(document: dict[str, Any]) -> Job:
    """The job that ``specs.identity.to_json`` wrote. Raises InputError for an unknown kind or field."""
    require_known("kind of job", document["kind"], KINDS)
    return Job(document["kind"], parse(KINDS[document["kind"]].spec, document["spec"]), tuple(document["seeds"]))


def run(home: Path, job: Job, report: Report) -> dict[str, Any]:
    """Do the job in this process and return its result: for transfers ``{"runs": [names], "found": [names]}``."""
    return KINDS[job.kind].load()(home, job.spec, job.seeds, report)
