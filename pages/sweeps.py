"""Sweeps: many runs as one piece of work, written by ticks or as a file, started here or on SLURM, and watched."""

import dataclasses
import shlex
from collections.abc import Callable
from typing import Any

import streamlit as st
import yaml

from pages.parts import choices, frame, sweep_progress, sweep_results, sweep_start, sweep_state
from pages.parts.frame import home
from pages.parts.results import open_store
from sparse_core.catalog import TRANSFERS
from sparse_core.jobs import slurm, sweep_packs, sweeps
from sparse_core.networks import library
from sparse_core.results.store import Store
from sparse_core.specs import sweep
from sparse_core.specs.options import PROGRAM
from sparse_core.specs.slurm import SlurmSpec
from sparse_core.specs.sweep import Plan
from sparse_core.views import labels

NAME = "sweep"
WAYS = {"ticks": "By ticks", "file": "As a file"}
EXECUTORS = {"local": "This machine", "slurm": "SLURM"}
KINDS = {"linear": "probe", "full": "finetune"}
EXAMPLE = """name: example
runs:
  - {kind: sparsify, method: Dense, backbone: resnet20, dataset: digits, epochs: 5, seeds: 2, name: "dense_s{seed}"}
  - kind: sparsify
    methods: [GMP, AC/DC]
    sparsities: [0.8, 0.9]
    backbone: dense_s{seed}
    dataset: digits
    epochs: 5
    seeds: 2
    name: "{method}_{sparsity}_s{seed}"
  - {kind: probe, backbones: made, dataset: digits, seeds: 5}
"""
FILE_HELP = (
    "YAML, as the verb `sweep` of the command line takes it: networks that are made, and transfers of these and others."
)


def main() -> None:
    """A form for a new sweep, and what the chosen one does."""
    store = open_store()
    wanted = st.query_params.get("sweep_id")
    known = sweep_state.listed(wanted)
    with st.expander("New sweep", expanded=not known, key="new_sweep"), frame.errors_as_messages():
        _form(store)
    if wanted and wanted not in known:
        st.info(f"The sweep that this link names {sweep_progress.GONE}")
    elif known:
        _watch(store, known, wanted)
    else:
        st.info(
            "No sweep yet. Choose backbones and datasets above and press *Start sweep*, or start a batch on Probe or "
            "Finetune."
        )


def _form(store: Store) -> None:
    way = choices.choice("Write it", "way", WAYS, "A file can also make the networks that it transfers.", persist=None)
    text = _ticked() if way == "ticks" else _written()
    executor, spec, parallel = _executor()
    if not text:
        sweep_start.start_row(store, "Start sweep", None)
        return
    asked = dataclasses.replace(sweep.plan(text, NAME), parallel=parallel)
    start: Callable[[Plan], str] = sweep_start.start_here
    if executor == "slurm":
        start = lambda plan: _submit(plan, spec)  # noqa: E731
    sweep_start.start_row(store, "Start sweep", asked, _command(executor, spec, parallel), start)
    if way == "ticks":
        with st.popover("As a file", icon=":material/description:"):
            st.markdown("The same sweep as a file, for the command line and for others.")
            st.code(text, language="yaml")
            st.download_button("Download", text, f"{NAME}.yaml", "application/yaml", on_click="ignore")


def _ticked() -> str:
    """The text of the sweep that the controls describe; empty while something is missing."""
    cards = {card.name: labels.backbone_label(card) for card in library.classifying(home())}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        settings: dict[str, Any] = {"key": "backbones", "width": 440, "help": choices.IMPORT_HELP}
        backbones = choices.multiselect("Backbones", list(cards), format_func=cards.__getitem__, **settings)
        asked = choices.dataset_choices()
        transfers = choices.multiselect(
            "Transfer",
            list(TRANSFERS),
            default=["linear"],
            format_func=labels.TRANSFER_NAMES.__getitem__,
            key="transfers",
            width=220,
            help=choices.TRANSFER_HELP,
        )
        seeds = st.number_input("Seeds", 1, 50, 5, key="seeds", bind="query-params", width=110)
        epochs = st.number_input(
            "Epochs",
            1,
            10_000,
            None,
            key="epochs",
            bind="query-params",
            width=130,
            placeholder="paper's",
            help="Left empty, the paper's protocol of each dataset.",
        )
    datasets = [choices.resolve_dataset(each) for each in asked]
    if not (backbones and datasets and transfers and all(datasets)):
        st.info("Choose at least one backbone, one dataset and one kind of transfer.")
        return ""
    shared = {
        "backbones": backbones,
        "datasets": datasets,
        "seeds": int(seeds),
        **({"epochs": int(epochs)} if epochs else {}),
    }
    runs = [{"kind": KINDS[transfer], **shared} for transfer in transfers]
    return yaml.safe_dump({"name": NAME, "runs": runs}, sort_keys=False, allow_unicode=True)


def _written() -> str:
    return st.text_area("Sweep file", EXAMPLE, height=200, key="text", help=FILE_HELP).strip()


def _executor() -> tuple[str, SlurmSpec, int]:
    """What does the runs, the options of its SLURM tasks, and how many run side by side."""
    missing = slurm.missing()
    about = "SLURM: tasks on the cluster that this machine is a login node of."
    with st.container(horizontal=True, vertical_alignment="bottom"):
        executor = choices.choice(
            "Run on", "executor", EXECUTORS, missing or about, persist=None, disabled=bool(missing)
        )
        help_text = "Runs side by side. On this machine each gets its share of the cores."
        parallel = st.number_input(
            "At a time", 1, 1000, 1, key="parallel", bind="query-params", width=110, help=help_text
        )
        if executor == "local" or missing:
            return "local", SlurmSpec(), int(parallel)
        usual = SlurmSpec()
        partition = st.text_input("Partition", key="partition", placeholder="the cluster's default", width=190)
        hours = st.number_input(
            "Hours",
            0.1,
            8760.0,
            usual.time,
            key="hours",
            width=100,
            help="Of a task; longer trainings go on in the next",
        )
        cpus = st.number_input("CPUs", 1, 1024, usual.cpus, key="cpus", width=100)
        memory = st.number_input("Memory (GB)", 1, 100_000, usual.memory, key="memory", width=120)
        gpus = st.number_input("GPUs", 0, 64, usual.gpus, key="gpus", width=100)
        setup = st.text_input("Set-up commands", key="setup", placeholder="module load cuda", width=260)
    spec = SlurmSpec(partition or "", hours, int(gpus), int(cpus), int(memory), setup=setup or "")
    return executor, spec, int(parallel)


def _submit(plan: Plan, spec: SlurmSpec) -> str:
    with st.spinner("A node checks that it sees the home folder …"):
        return sweep_packs.submit(home(), plan, spec, plan.parallel, retry=True)


def _command(executor: str, spec: SlurmSpec, parallel: int) -> str:
    options = ["--parallel", str(parallel)] if parallel > 1 else []
    if executor == "slurm":
        changed = {name: value for name, value in vars(spec).items() if value != getattr(SlurmSpec(), name)}
        options += [
            "--executor",
            "slurm",
            *(part for name, value in changed.items() for part in (f"--{name}", str(value))),
        ]
    return shlex.join([*PROGRAM, "sweep", f"{NAME}.yaml", *options])


def _watch(store: Store, known: dict[str, str], wanted: str | None) -> None:
    """The chosen sweep, the newest at first: its progress, a cell for each network and task, logs and results."""
    names = list(known)
    first = names.index(wanted) if wanted else 0
    chosen = st.selectbox("Sweep", names, first, format_func=known.__getitem__, key="shown", width=520)
    if chosen != wanted and wanted:
        st.query_params["sweep_id"] = chosen
    status = sweeps.status(home(), chosen)
    sweep_progress.show(status)
    sweep_state.cells(chosen)
    sweep_state.logs(status)
    sweep_results.show(store, status)


main()
