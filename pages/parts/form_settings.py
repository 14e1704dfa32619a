"""A form as a job or a sweep was asked for: a link that names one opens the form with its settings and so with its duration."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from pages.parts import box_data, choices, sparsify_form
from pages.parts.frame import home
from sparse_core.datasets import catalogue
from sparse_core.jobs import queue, sweep_files
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.paths import printable
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.specs.sweep import Task
from sparse_core.specs.transfer import DetectionSpec, FinetuneSpec, ProbeSpec, TransferSpec

NAMED_BY = ("job", "sweep_id")
TAKEN = "form_of"  # in the session: what the form was taken from
SCHEDULE = {"epochs": "epochs", "batch_size": "batch", "weight_decay": "decay", "momentum": "momentum"}
SCHEDULE |= {"step_epochs": "step", "step_factor": "factor"}  # fields of the settings by their control
OF_FINETUNING = {"optimizer": "optimizer", "precision": "training_precision", "label_smoothing": "smoothing"}
OF_FINETUNING |= {"augment": "augment", "from_scratch": "scratch", "freeze_batch_norm": "frozen"}


def take_from_link(*kinds: str) -> None:
    """Fill the form of the page from the job or sweep of these kinds that the link names, once; a link that sets controls itself
    keeps them. Call it before the controls are drawn."""
    names = [name for each in NAMED_BY for name in st.query_params.get_all(each)]
    if not names or st.session_state.get(TAKEN) == names[0]:
        return
    keep_as_it_is(names[0])
    if set(st.query_params) - set(NAMED_BY):
        return
    batch = "sweep_id" in st.query_params
    jobs = [status.job for status in ([] if batch else map(partial(queue.find, home()), names)) if status]
    if any(isinstance(job.spec, SpeedupSpec) for job in jobs):
        st.session_state.update(_speedup(jobs[0].spec) if "speedup" in kinds else {})
        return
    tasks = [task for task in (_of_sweep(names[0]) if batch else _of_jobs(jobs)) if task.kind in kinds]
    if tasks:
        st.session_state.update(_values(tasks, batch))


def keep_as_it_is(name: str) -> None:
    """The form needs not be taken from this job or sweep: it was started from it."""
    st.session_state[TAKEN] = name


def _of_sweep(name: str) -> Sequence[Task]:
    found = sweep_files.find(home(), name)
    return found[0].tasks if found else ()


def _of_jobs(jobs: Sequence[Job]) -> Sequence[Task]:
    known = (job for job in jobs if isinstance(job.spec, (ProbeSpec, FinetuneSpec, DetectionSpec, SparsifySpec)))
    return [Task("", job.kind, job.spec, job.seeds) for job in known]


def _values(tasks: Sequence[Task], batch: bool) -> dict[str, Any]:
    """The values of the controls, by key."""
    spec = tasks[-1].spec
    seeds = 1 + max(seed for task in tasks for seed in task.seeds)  # forms count them from 0
    if isinstance(spec, SparsifySpec):
        made = [task.spec for task in tasks if isinstance(task.spec, SparsifySpec)]
        return {**_sparsify(made), "seeds": seeds}
    if isinstance(spec, DetectionSpec):
        return {"seeds": seeds, **_of_detector(spec), **(_batch_of_detectors(tasks) if batch else {})}
    return {"seeds": seeds, **_backbones_and_datasets(tasks, batch), **_training(spec, tasks)}


def _backbones_and_datasets(tasks: Sequence[Task], batch: bool) -> dict[str, Any]:
    known = {card.name for card in library.available(home())}
    backbones = [name for name in dict.fromkeys(task.spec.backbone for task in tasks) if name in known]
    datasets = [_dataset(name) for name in dict.fromkeys(task.spec.dataset for task in tasks)]
    values: dict[str, Any] = {name: value for each in datasets for name, value in each.items() if name == "path"}
    if batch:
        return values | {"several": True, "backbones": backbones, "datasets": [each["dataset"] for each in datasets]}
    values |= datasets[0] | {"several": False}
    return values | ({"backbone": backbones[0]} if backbones else {})


def _dataset(name: str, key: str = "dataset", path_key: str = "path") -> dict[str, str]:
    """A dataset, given by name or path, as the control and the field for a path have it."""
    if name in {card.id for card in catalogue.available(home())}:
        return {key: name}
    return {key: choices.OWN_DATASET, path_key: printable(name)}  # no browser can be sent bytes that are no UTF-8


def _of_detector(spec: DetectionSpec) -> dict[str, Any]:
    usual = spec.usual_settings(spec.dataset)
    values: dict[str, Any] = {"several": False, "training_precision": spec.precision, "box_augment": spec.augment}
    for field, key in SCHEDULE.items():
        if hasattr(usual, field):
            values[f"box_{key}"] = type(getattr(usual, field))(getattr(spec.settings, field))
    same = spec.settings.learning_rate == usual.learning_rate
    values |= {"box_lr": None if same else float(spec.settings.learning_rate), "box_size": spec.image_size or None}
    if spec.backbone in {card.name for card in library.available(home())}:
        values["backbone"] = spec.backbone
    return values | box_data.of_dataset(printable(spec.dataset))


def _batch_of_detectors(tasks: Sequence[Task]) -> dict[str, Any]:
    known = {card.name for card in library.available(home())}
    backbones = [name for name in dict.fromkeys(task.spec.backbone for task in tasks) if name in known]
    datasets = [printable(name) for name in dict.fromkeys(task.spec.dataset for task in tasks)]
    return {"several": True, "backbones": backbones, **box_data.of_datasets(datasets)}


def _training(spec: TransferSpec, tasks: Sequence[Task]) -> dict[str, Any]:
    settings = spec.settings
    usual = spec.usual_settings(spec.dataset)
    values: dict[str, Any] = {}
    for field, key in SCHEDULE.items():
        values[key] = type(getattr(usual, field))(getattr(settings, field))
    same = settings.learning_rate == usual.learning_rate
    values |= {"lr": None if same else float(settings.learning_rate)}
    values |= {"size": spec.image_size or None}
    if isinstance(spec, ProbeSpec):
        rates = " ".join(f"{rate:g}" for rate in spec.sweep_lr)
        return values | {"sweep": rates, "precision": spec.precision, "feature_engine": spec.engine}
    return values | {key: getattr(spec, field) for field, key in OF_FINETUNING.items()}


def _sparsify(specs: Sequence[SparsifySpec]) -> dict[str, Any]:
    """Those of the first network that is not dense; a dense one is chosen only where no other needs it."""
    asked = [spec for spec in specs if spec.method != "Dense"] or list(specs)
    first = asked[0]
    parents = dict.fromkeys(spec.backbone for spec in specs if spec.method == "Dense" or spec.has_new_weights)
    detector = library.is_detector(home(), first.backbone)
    fields = [*sparsify_form.settings_fields(detector), *sparsify_form.OF_METHODS]
    values: dict[str, Any] = {}
    for field in fields:
        value = getattr(first, field.name)
        empty = value is None or (field.own and value == getattr(SparsifySpec, field.name))
        values[field.key] = None if empty else type(field.smallest)(value)
    percents = sorted({round(100 * spec.sparsity, 6) for spec in asked if spec.sparsity})
    if percents:
        values["sparsities"] = " ".join(f"{percent:g}" for percent in percents)
    names = {card.name for card in library.available(home())} | set(library.WITHOUT_WEIGHTS)
    parent = next(iter(parents), first.backbone)
    values |= {"parent": parent} if parent in names else {}
    values |= {"method": list(dict.fromkeys(spec.method for spec in asked)), "epochs": first.epochs}
    values |= {"schedule": first.rate_schedule, "distribution": first.distribution or sparsify_form.OWN}
    values |= {name: getattr(first, name) for name in ("precision", "augment", "nesterov", "prune_first")}
    values |= {"name": first.name if len(specs) == 1 else ""}
    if detector:
        return values | box_data.of_dataset(printable(first.dataset), *sparsify_form.BOX_KEYS)
    return values | _dataset(first.dataset, "upstream", "upstream_path")


def _speedup(spec: SpeedupSpec) -> dict[str, Any]:
    values: dict[str, Any] = {"time": spec.mode, "rounds": spec.rounds, "times_epochs": spec.epochs}
    values |= {"what": "backbone", "backbone": spec.backbone} if spec.backbone else {"what": "architecture"}
    if spec.architecture:
        values |= {"of_architecture": spec.architecture, "distribution": spec.densities_of or spec.distribution}
        values |= {} if spec.densities_of else {"to_sparsity": round(100 * spec.sparsity, 3)}
    if spec.engines:
        values |= {"engine": spec.engines[0]} if spec.mode == "training" else {"engines": list(spec.engines)}
    if spec.mode == "inference":
        values |= {"sizes": list(spec.batch_sizes), "timed_size": spec.image_size or None}
    values |= {"use_threads": spec.threads} if spec.threads else {}
    return values | (_dataset(spec.dataset) if spec.dataset else {})
