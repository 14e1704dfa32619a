"""The row that starts a sweep: its button, the command, and how many runs are new and how long they will take."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import form_settings, frame, links, progress
from pages.parts.frame import home
from sparse_core.catalog import asked_dataset
from sparse_core.datasets import catalogue
from sparse_core.errors import InputError
from sparse_core.jobs import sweeps
from sparse_core.jobs.sweep_checks import dataset_hash, missing
from sparse_core.jobs.sweep_seconds import Seconds, outline
from sparse_core.networks import library
from sparse_core.results.store import Store
from sparse_core.specs.sweep import Plan, Task
from sparse_core.views import columns, labels
from sparse_core.views import sweeps as views


def start_here(plan: Plan) -> str:
    """Start the sweep on this machine, or go on with it, what failed included; returns its id."""
    sweep_id = sweeps.submit(home(), plan)
    sweeps.retry(home(), sweep_id)
    return sweep_id


def start_row(
    store: Store, button: str, plan: Plan | None, command: str = "", start: Callable[[Plan], str] = start_here
) -> None:
    """The button, disabled without a plan, the link with the command, and the dry run of the plan. ``start`` returns the id."""
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(button, type="primary", icon=":material/play_arrow:", disabled=plan is None)
        if plan is None:
            return
        if pressed:
            _start(plan, start)
        links.share(command)
        _dry_run(store, plan)


def _start(plan: Plan, start: Callable[[Plan], str]) -> None:
    """Start the sweep and put it into the link."""
    try:
        sweep_id = start(plan)
    except InputError as error:
        st.error(frame.plain(str(error)))
        return
    st.query_params["sweep_id"] = sweep_id
    form_settings.keep_as_it_is(sweep_id)
    if "job" in st.query_params:
        del st.query_params["job"]
    st.rerun()  # from the top, where what runs is shown


@st.fragment(run_every=1.0)
@frame.errors_as_messages()
def _dry_run(store: Store, plan: Plan) -> None:
    """How many runs are new, and about how long they take. What decides the time is measured once on this machine."""
    new = _new(store, plan)
    seconds = Seconds(home(), plan)
    found = outline(plan, new, seconds, plan.parallel)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{_count(plan, new)} {_time(found, new)}", width="content")
        job = next(seconds.measurements([task for task in new if _is_ready(task)]), None)
        if job:
            progress.measure_estimate((job.kind, str(job.spec)), job)
        if found["total"] > 1:
            _list(views.runs_table(found["runs"], views.names(plan.tasks, _labels())))


def _list(table: pd.DataFrame) -> None:
    with st.popover("List of runs", icon=":material/list:"):
        st.dataframe(
            columns.for_display(table).rename(columns={name: columns.column(name).title for name in table}),
            hide_index=True,
            width=620,
            column_config={columns.column("seconds_estimated").title: st.column_config.NumberColumn(format="%.0f")},
        )


def _count(plan: Plan, new: list[Task]) -> str:
    whole, left = views.number(plan.tasks), views.number(new)
    if len({task.kind == "sparsify" for task in plan.tasks}) == 1:
        left = left.partition(" ")[0]  # the unit is clear
    if sum(len(task.seeds) for task in new) == sum(len(task.seeds) for task in plan.tasks):
        return f"**{whole}**, {'new' if sum(len(task.seeds) for task in new) == 1 else 'all new'}."
    return f"**{whole}**, {left} new." if new else f"**{whole}**, there already."


def _time(found: Mapping[str, Any], new: list[Task]) -> str:
    """How long ``outline`` says that it takes, and what it leaves on disk."""
    if not new:
        return "Nothing will run again."
    if found["seconds"] is None:
        return "" if all(map(_is_ready, new)) else progress.NOT_READY
    side, parallel = "", min(found["parallel"], len(new))
    if len(new) > 1:
        work = labels.duration(found["machine_seconds"])
        side = f", {parallel} at a time, {work} of work" if parallel > 1 else ", one after another"
    disk = f" Leaves {labels.file_size(found['bytes'])} on disk." if found["bytes"] else ""
    return f"About {labels.duration(found['seconds'])} on {'machines like this' if parallel > 1 else 'this machine'}{side}.{disk}"


def _is_ready(task: Task) -> bool:
    """Whether its time can be measured without a download."""
    ready = {card.name: card.ready for card in library.available(home())}
    ready |= {card.id: card.ready for card in (*catalogue.available(home()), *catalogue.with_boxes(home()))}
    return ready.get(task.spec.backbone, True) and ready.get(task.spec.dataset, True)


def _new(store: Store, plan: Plan) -> list[Task]:
    """The tasks of which something is missing. Nothing is loaded for it: names stand for what their last run had."""
    networks, datasets = _known(store, store.version)
    made = {
        asked_dataset(str(card.provenance.options.get("dataset", "")))
        for card in library.cards(home())
        if card.provenance
    }
    data_hash = functools.partial(_data_hash, datasets | made)
    return missing(home(), plan, lambda name: networks.get(name, ""), data_hash)


def _data_hash(used: set[str], name: str) -> str:
    """That of a dataset that was used here before: opening another one for the first time may take minutes."""
    return dataset_hash(home(), name) if asked_dataset(name) in used else ""


@st.cache_data(show_spinner=False, max_entries=5)
def _known(_store: Store, version: tuple[int, ...]) -> tuple[dict[str, str], set[str]]:
    """The content hash that each backbone had in its last run, and the datasets of all runs."""
    rows = _store.results(source="measured").sort_values("created_at", kind="stable")
    return dict(zip(rows["backbone"], rows["network"], strict=True)), set(rows["dataset"])


def _labels() -> dict[str, str]:
    return {card.name: labels.backbone_label(card) for card in library.available(home())}
