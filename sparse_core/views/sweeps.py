"""Sweeps: their runs in words and as tables, and the results of their transfers beside dense."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sparse_core.catalog import PRECISIONS, asked_dataset, task_label
from sparse_core.jobs.sweeps import SweepStatus, TaskStatus
from sparse_core.results import measures
from sparse_core.specs.identity import protocol_of
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.sweep import Spec, Task
from sparse_core.views.labels import counted, method_label
from sparse_core.views.sparsified import run_label

KINDS = {"sparsify": "Sparsify", "probe": "Probe", "finetune": "Finetune", "finetune_detector": "Finetune"}
# The first of these states that a cell's runs have is shown.
MARKS = {"failed": "✗", "running": "▶", "waiting": "…", "blocked": "⊘", "done": "✓"}
LEGEND = "✓ done, ▶ running, … waiting, ⊘ waits for what failed, ✗ failed; the number of runs, one for each seed."
RUN_COLUMNS = ["work", "network_name", "dataset", "seed", "state", "seconds_estimated"]
RESULT_COLUMNS = ["method", "sparsity", "network_name", "dataset", "accuracy_mean", "accuracy_std", "seeds"]
RESULT_COLUMNS += ["difference", "difference_low", "difference_high", "relative_error_increase"]


def number(tasks: Iterable[Task]) -> str:
    """How much there is to do, such as "6 networks" or "4 networks and 20 runs"; a run is a transfer with one seed."""
    networks = transfers = 0
    for task in tasks:
        if task.kind == "sparsify":
            networks += len(task.seeds)
        else:
            transfers += len(task.seeds)
    parts = [counted(networks, "network")] if networks or not transfers else []
    return " and ".join([*parts, *([counted(transfers, "run")] if transfers else [])])


def names(tasks: Iterable[Task], backbones: Mapping[str, str]) -> dict[str, str]:
    """Names for the backbones of a sweep: ``backbones`` are those of the library, name to label; a network that it makes is
    called by what it is."""
    made = {task.key: network_label(task) for task in tasks if isinstance(task.spec, SparsifySpec)}
    return {**backbones, **made}


def network_label(task: Task) -> str:
    """A network that is made: its name where it was given one, else its method, sparsity and seed."""
    assert isinstance(task.spec, SparsifySpec)
    return task.spec.name or run_label(task.spec.label, task.spec.sparsity, task.seeds[0])


def describe(task: Task, named: Mapping[str, str]) -> str:
    """A task in one line, such as "Probe of AC/DC 90 %, seed 0 on Digits"; ``named`` is from ``names``."""
    if isinstance(task.spec, SparsifySpec):
        return network_label(task)
    seeds = f", seed {task.seeds[0]}" if len(task.seeds) == 1 else f", {counted(len(task.seeds), 'seed')}"
    data = task_label(asked_dataset(task.spec.dataset))
    return f"{KINDS[task.kind]} of {named.get(task.spec.backbone, task.spec.backbone)} on {data}{seeds}"


def runs_table(runs: Sequence[Mapping[str, Any]], named: Mapping[str, str]) -> pd.DataFrame:
    """The runs of ``sweep_seconds.outline``, columns ``RUN_COLUMNS``; seconds are NaN where nothing was measured."""
    rows = [
        {
            "work": KINDS[run["kind"]],
            "network_name": _network(run, named),
            "dataset": asked_dataset(run["dataset"]),
            "seed": run["seed"],
            "state": run["state"],
            "seconds_estimated": float("nan") if run["seconds"] is None else run["seconds"],
        }
        for run in runs
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def _network(run: Mapping[str, Any], named: Mapping[str, str]) -> str:
    if run["kind"] != "sparsify":
        return named.get(run["backbone"], run["backbone"])
    return run["name"] or method_label(run["method"], run["sparsity"])


def results(
    rows: pd.DataFrame,
    tasks: Iterable[Task],
    made: Mapping[str, str],
    own_sizes: Mapping[str, int],
    accuracy: str = "best",
) -> pd.DataFrame:
    """What the transfers of a sweep gave, each network on each task beside dense, columns of ``measures.difference_to_dense``.

    ``rows`` are the user's runs, ``made`` the names of the networks that the sweep made, by task, ``own_sizes`` the pixels that
    backbones' images have, by name. Dense runs of other sweeps count in the baseline too.
    """
    keys = [
        key for task in tasks if not isinstance(task.spec, SparsifySpec) for key in _asked(task.spec, made, own_sizes)
    ]
    asked = pd.DataFrame(keys, columns=["backbone", "dataset", "transfer", "protocol"]).drop_duplicates()
    own = rows.merge(asked)
    comparable = rows.merge(own[measures.BASELINE_KEY].drop_duplicates())
    table = measures.difference_to_dense(comparable, accuracy)
    return table.merge(own[["network", *measures.BASELINE_KEY]].drop_duplicates())


def _asked(spec: Spec, made: Mapping[str, str], own_sizes: Mapping[str, int]) -> Iterable[tuple[str, str, str, str]]:
    """The rows of a transfer, by backbone, dataset, transfer and protocol, in whichever precision it is trained."""
    assert not isinstance(spec, SparsifySpec)
    backbone = made.get(spec.backbone, spec.backbone)
    for precision in PRECISIONS if spec.precision == "auto" else (spec.precision,):
        same = dataclasses.replace(spec.as_run(own_sizes.get(backbone, 0)), precision=precision)
        yield backbone, asked_dataset(spec.dataset), spec.transfer, protocol_of(same)


def state_table(status: SweepStatus, named: Mapping[str, str]) -> pd.DataFrame:
    """What the runs of a sweep do: a row for each network, a column for making it and for each task and transfer, cells such as
    "✓ 5" or "▶ 2 of 5" (``LEGEND``)."""
    cells: dict[tuple[str, str], list[TaskStatus]] = {}
    for each in status.tasks:
        spec = each.task.spec
        made = isinstance(spec, SparsifySpec)
        row = network_label(each.task) if made else named.get(spec.backbone, spec.backbone)
        column = "Made" if made else f"{task_label(asked_dataset(spec.dataset))}, {KINDS[each.task.kind].lower()}"
        cells.setdefault((row, column), []).append(each)
    rows: dict[str, dict[str, str]] = {row: {} for row, _ in cells}
    for (row, column), tasks in cells.items():
        rows[row][column] = _cell(tasks)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("Network").fillna("")


def _cell(tasks: Sequence[TaskStatus]) -> str:
    """The state that matters most, and how many of the runs are done."""
    runs = sum(len(each.task.seeds) for each in tasks)
    done = sum(len(each.task.seeds) for each in tasks if each.state == "done")
    states = {each.state for each in tasks}
    state = next(state for state in MARKS if state in states)
    return f"{MARKS[state]} {runs}" if done == runs else f"{MARKS[state]} {done} of {runs}"
