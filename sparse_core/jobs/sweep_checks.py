"""What a sweep finds in the home folder: whether it can be done, and which of its runs are there already. Needs no torch."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

from sparse_core.catalog import ARCHITECTURES, BOX_TASKS, DETECTORS, PRECISIONS, TASKS
from sparse_core.datasets import catalogue, voc
from sparse_core.datasets.tasks import task_folder
from sparse_core.errors import InputError, unknown_name
from sparse_core.networks import library
from sparse_core.networks.library import BackboneCard
from sparse_core.results.records import Records
from sparse_core.specs.identity import run_id
from sparse_core.specs.sparsify import DETECTOR_SETTINGS, SparsifySpec, needs_data, require_for_detector
from sparse_core.specs.sweep import Plan, Spec, Task
from sparse_core.specs.transfer import DetectionSpec, FinetuneSpec, ProbeSpec

_NOT_COMPARED = ("name", "backbone", "dataset", "backbone_hash", "dataset_hash", "precision")


class Finished:
    """The finished runs and networks of a home folder, as they are when this is made.

    ``hash_of`` gives the content hash of a backbone that is not in the library, which has to be loaded for it; without it, the
    runs of such a backbone are not known to be there, and the job that is asked for them finds them. ``data_hash`` gives that of
    a dataset, which is opened for it by default.
    """

    def __init__(
        self, home: Path, hash_of: Callable[[str], str] | None = None, data_hash: Callable[[str], str] | None = None
    ) -> None:
        self.home, self.hash_of = home, hash_of
        self.data_hash = data_hash or functools.partial(dataset_hash, home)
        self._runs = Records(home).ids()
        self._cards = library.available(home)

    def find(self, task: Task, spec: Spec) -> str | None:
        """None unless all runs of the task are there; for a network the name that it has in the library, else "". ``spec`` is the
        task's, with the name that its backbone has."""
        if isinstance(spec, SparsifySpec):
            found = (card.name for card in self._cards if self._is_made_by(card, spec, task.seeds[0]))
            return next(found, None)
        return "" if not self.missing_seeds(task, spec) else None

    def missing_seeds(self, task: Task, spec: Spec) -> tuple[int, ...]:
        """The seeds of a transfer that have no run yet."""
        return tuple(seed for seed in task.seeds if not self._has_run(spec, seed))

    def _has_run(self, spec: Spec, seed: int) -> bool:
        backbone, dataset = self._backbone_hash(spec.backbone), self.data_hash(spec.dataset)
        if not backbone or not dataset:
            return False
        assert not isinstance(spec, SparsifySpec)
        card = library.find(self.home, spec.backbone)
        own_size = card.preprocessing.crop if card and card.preprocessing else 0
        known = dataclasses.replace(spec.as_run(own_size), backbone_hash=backbone, dataset_hash=dataset)
        precisions = PRECISIONS if spec.precision == "auto" else (spec.precision,)
        return any(
            run_id(dataclasses.replace(known, precision=precision), seed) in self._runs for precision in precisions
        )

    def _is_made_by(self, card: BackboneCard, spec: SparsifySpec, seed: int) -> bool:
        """Whether a network was made for this very request, of the same parent and data."""
        made = card.provenance
        if made is None or made.seed != seed:
            return False
        asked = {name: value for name, value in dataclasses.asdict(spec).items() if name not in _NOT_COMPARED}
        if any(made.options.get(name) != value for name, value in asked.items()):
            return False
        if spec.precision not in ("auto", made.options.get("precision")):
            return False
        parent = library.find(self.home, spec.backbone)
        same = (
            made.options.get("backbone_hash") == parent.hash
            if parent and parent.hash
            else made.options.get("backbone") == spec.backbone
        )
        return same and made.options.get("dataset_hash") == self.data_hash(spec.dataset)

    def _backbone_hash(self, name: str) -> str:
        card = library.find(self.home, name)
        if card and card.hash:
            return card.hash
        return self.hash_of(name) if self.hash_of and (card or ":" in name) else ""


def missing(
    home: Path,
    plan: Plan,
    hash_of: Callable[[str], str] | None = None,
    data_hash: Callable[[str], str] | None = None,
) -> list[Task]:
    """The tasks of which not all runs are there, with the seeds that are missing; ``hash_of`` and ``data_hash`` as for
    ``Finished``."""
    finished, names, new = Finished(home, hash_of, data_hash), dict[str, str](), []
    for task in plan.tasks:
        spec = dataclasses.replace(task.spec, backbone=names.get(task.spec.backbone, task.spec.backbone))
        there = all(name in names for name in task.after)
        found = finished.find(task, spec) if there else None
        if found is None:
            left = finished.missing_seeds(task, spec) if there and task.kind != "sparsify" else task.seeds
            new.append(dataclasses.replace(task, seeds=left))
        elif task.kind == "sparsify":
            names[task.key] = found
    return new


def require_possible(home: Path, plan: Plan) -> None:
    """Raise InputError for a backbone or a dataset that does not exist, and for a network's name that belongs to another one."""
    made = {task.key for task in plan.tasks if task.kind == "sparsify"}
    for task in plan.tasks:
        name = task.spec.backbone
        if name not in made and not _exists(home, name, task.spec):
            known = {card.name for card in library.available(home)} | made
            raise unknown_name("backbone", name, known)
    _require_datasets(home, plan)
    taken = {card.name.lower(): card.name for card in library.available(home)}
    named = {task.key: task.spec.name.lower() for task in plan.tasks if isinstance(task.spec, SparsifySpec)}
    for task in missing(home, plan) if set(named.values()) & set(taken) else ():
        clash = taken.get(named.get(task.key, ""))
        if clash:
            raise InputError(
                f"The library has another network named '{clash}'. Name the sweep's otherwise, or remove that one first."
            )


def _require_datasets(home: Path, plan: Plan) -> None:
    """Raise InputError for a dataset that does not exist or does not fit the network."""
    parents = {task.key: task.spec.backbone for task in plan.tasks}
    for task in plan.tasks:
        spec, name = task.spec, task.spec.backbone
        while name in parents:
            name = parents[name]
        if library.is_detector(home, name):
            _require_for_detector(spec, name)
        elif isinstance(spec, DetectionSpec):
            raise InputError(f"{name} classifies images, and finetune_detector takes detectors. Its kind is finetune.")
        elif not spec.dataset:
            raise InputError(f"{name} needs a dataset: only detectors are pruned without one.")
    for dataset in {task.spec.dataset: None for task in plan.tasks}:
        if dataset and dataset not in TASKS and not catalogue.has_boxes(dataset):
            catalogue.describe(home, dataset)


def _require_for_detector(spec: Spec, name: str) -> None:
    if isinstance(spec, ProbeSpec | FinetuneSpec):
        raise InputError(f"{name} is a detector: its kind of transfer is finetune_detector.")
    if spec.dataset and not catalogue.has_boxes(spec.dataset):
        raise InputError(f"{name} is a detector and takes images with boxes; '{spec.dataset}' has none.")
    if isinstance(spec, DetectionSpec):
        return
    require_for_detector(spec)
    if not spec.dataset and needs_data(spec, True):
        raise InputError(f"{spec.method} takes upstream data. Name a dataset.")
    usual = SparsifySpec.__dataclass_fields__
    if spec.method != "Magnitude" and all(getattr(spec, each) == usual[each].default for each in DETECTOR_SETTINGS):
        wanted = ", ".join(f"{each} {value:g}" for each, value in DETECTOR_SETTINGS.items())
        raise InputError(f"{name} is a detector, which is trained with other settings than usual. Give them: {wanted}.")


def dataset_hash(home: Path, name: str) -> str:
    """The content hash of a dataset; empty where it is not on this machine or cannot be used."""
    if (name in BOX_TASKS and not voc.folder(home).is_dir()) or (
        name in TASKS and not task_folder(home, name).is_dir()
    ):
        return ""
    return _dataset_hash(home, name, _stamp(name))


@functools.lru_cache(maxsize=64)
def _dataset_hash(home: Path, name: str, stamp: int) -> str:
    try:
        return (catalogue.load_boxes if catalogue.has_boxes(name) else catalogue.load)(home, name).hash
    except InputError:
        return ""


def _stamp(name: str) -> int:
    try:
        return os.stat(name).st_mtime_ns
    except OSError:
        return 0


def _exists(home: Path, name: str, spec: Spec) -> bool:
    known = {*ARCHITECTURES, *DETECTORS}
    architecture, _, file = name.partition(":")
    if file:
        return architecture.partition("-")[0] in known and os.path.isfile(file)
    new_weights = isinstance(spec, SparsifySpec) and spec.has_new_weights
    return library.find(home, name) is not None or (new_weights and name.partition("-")[0] in known)
