"""How long the tasks of a sweep take, by what was measured on this machine. Needs no torch."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sparse_core.jobs.kinds import ESTIMATES, Job
from sparse_core.jobs.schedule import makespan
from sparse_core.networks import library
from sparse_core.sparsify.durations import DENSE, estimate_sparsify
from sparse_core.sparsify.durations import key as sparsify_key
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.sweep import Plan, Spec, Task
from sparse_core.specs.transfer import ProbeSpec
from sparse_core.transfer import durations


class Seconds:
    """Estimates of a plan's tasks. A network that is not made yet takes as long as others of its architecture."""

    def __init__(self, home: Path, plan: Plan) -> None:
        self.home = home
        self._parents = {task.key: task.spec.backbone for task in plan.tasks if task.kind == "sparsify"}
        self._known: dict[tuple[Spec, int], float | None] = {}

    def of(self, task: Task) -> float | None:
        """Seconds of the whole task; None where nothing was measured yet."""
        asked = (self.timed(task), len(task.seeds))
        if asked not in self._known:
            self._known[asked] = self._estimate(*asked)
        return self._known[asked]

    def of_features(self, task: Task) -> float | None:
        """Seconds of the feature extraction of a probe; None where nothing was measured yet."""
        known = self._transfer(task)
        return known.images * known.seconds_per_image if known else None

    def of_epoch(self, task: Task) -> float | None:
        """Seconds of an epoch of a transfer; None where nothing was measured yet."""
        known = self._transfer(task)
        return known.seconds_per_epoch if known else None

    def stored(self, tasks: Iterable[Task]) -> int | None:
        """Bytes that transfers leave on disk: features once for each network and dataset, and the network of each finetuning.
        None where nothing is known of one."""
        sizes: dict[Any, int] = {}
        for task in tasks:
            if isinstance(task.spec, SparsifySpec):
                continue
            known = self._transfer(task)
            if known is None or not known.stored:
                return None
            sizes[features_of(task) if task.kind == "probe" else task.key] = known.stored
        return sum(sizes.values())

    def _transfer(self, task: Task) -> durations.Estimate | None:
        spec = self.timed(task)
        return None if isinstance(spec, SparsifySpec) else durations.recall(self.home, spec)

    def timed(self, task: Task) -> Spec:
        """The task's spec on the network whose time it shares: what its backbone is made from, in the end; for a transfer the
        architecture, where the backbone is not there yet or was not timed itself."""
        name = task.spec.backbone
        while name in self._parents:
            name = self._parents[name]
        if isinstance(task.spec, SparsifySpec):
            return dataclasses.replace(task.spec, backbone=name, name="")
        if task.spec.backbone == name and durations.recall(self.home, task.spec):
            return task.spec
        card = library.find(self.home, name)
        architecture = card.architecture if card else name.partition(":")[0].partition("-")[0]
        return dataclasses.replace(task.spec, backbone=architecture)

    def measurements(self, tasks: list[Task]) -> Iterator[Job]:
        """Jobs that measure what is not known of these tasks, each to be done before the next is asked for; none comes twice."""
        tried = set()
        for task in tasks:
            spec = self.timed(task)
            key = sparsify_key(self.home, spec, DENSE) if isinstance(spec, SparsifySpec) else durations.key(spec)
            if key not in tried and self._estimate(spec, 1) is None:
                tried.add(key)
                yield Job(ESTIMATES[task.kind], spec)
        self._known.clear()

    def _estimate(self, spec: Spec, seeds: int) -> float | None:
        if isinstance(spec, SparsifySpec):
            return estimate_sparsify(self.home, spec, range(seeds))
        return durations.estimate(self.home, spec, seeds, features_cached=False)


def features_of(task: Task) -> tuple[Any, ...]:
    """What decides which features a probe needs."""
    spec = task.spec
    assert isinstance(spec, ProbeSpec)
    return spec.backbone, spec.dataset, spec.image_size, spec.precision, spec.engine


def outline(plan: Plan, new: list[Task], seconds: Seconds, parallel: int) -> dict[str, Any]:
    """What a dry run tells: ``id``; ``runs``, each with its kind, name, method, sparsity, backbone, dataset, seed, state (new or
    there) and seconds; their ``total`` and how many are ``new``; how many run ``parallel``; ``seconds`` until all new ones have
    ended, ``machine_seconds`` of their work, and the ``bytes`` that they leave (None where not known)."""
    missing = {(task.key, seed): task for task in new for seed in task.seeds}
    runs = [_row(task, seed, missing.get((task.key, seed)), seconds) for task in plan.tasks for seed in task.seeds]
    whole = makespan(new, seconds.of, parallel)
    count = sum(len(task.seeds) for task in new)
    told = {"id": plan.id, "runs": runs, "total": len(runs), "new": count, "parallel": parallel, "seconds": whole}
    return {**told, "machine_seconds": makespan(new, seconds.of, 1), "bytes": seconds.stored(new)}


def _row(task: Task, seed: int, new: Task | None, seconds: Seconds) -> dict[str, Any]:
    spec = task.spec
    whole = seconds.of(new) if new else 0.0
    return {
        "kind": task.kind,
        "name": spec.name if isinstance(spec, SparsifySpec) else "",
        "method": spec.method if isinstance(spec, SparsifySpec) else "",
        "sparsity": spec.sparsity if isinstance(spec, SparsifySpec) else None,
        "backbone": spec.backbone,
        "dataset": spec.dataset,
        "seed": seed,
        "state": "new" if new else "there",
        "seconds": None if whole is None else whole / len(new.seeds if new else task.seeds),
    }
