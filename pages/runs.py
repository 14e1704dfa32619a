"""Runs: every run by configuration, newest first; one in detail, several compared; notes, tags, archive and trash."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from pages.parts import choices, deletion, frame, links, results_import, run_actions, run_comparison, run_selection
from pages.parts.frame import home
from pages.parts.results import open_store, show_table, titles
from pages.parts.run_details import OWN_RUN_COLUMNS, repeated, run_table
from sparse_core.catalog import MAP
from sparse_core.jobs import queue
from sparse_core.results.filters import RunFilter
from sparse_core.results.store import Store
from sparse_core.views import activity, configurations, footnotes, labels
from sparse_core.views.runs import STATES, list_command, with_states

ROWS = {"configuration": "By configuration", "run": "Each run"}
ROWS_HELP = "A configuration is all that differs in the seed only. Click one to see its seeds."
RUN_COLUMNS = ["state", "created_at", *(name for name in OWN_RUN_COLUMNS if name != "source"), "seconds_training"]


def main() -> None:
    """The controls, the selected runs, and the table of all."""
    store = open_store("runs")
    st.fragment(_follow_jobs, run_every=1.0 if queue.queued(home()) else None)()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        source = choices.choice(
            "Show",
            "runs_source",
            {name: labels.SOURCES[name] for name in _sources(store)},
            "Your runs: made on this machine. Shipped results: runs that come with this product. Paper results: the runs "
            "published with the paper.",
            persist=None,
        )
        by = _rows() if source != "published" else "run"
        archived = _archive_toggle(store) if source == "measured" else False
    deletion.offer_undo("deleted", "Deleted.", store.records.restore)
    deletion.offer_undo("archived", "Archived: hidden on all pages.", partial(_unarchive, store))
    recent = queue.recent(home())
    if source == "published":
        run_table(store.results(source=source), key="published_runs")  # has other columns, so a choice of its own
    else:
        _own(store, source, by, archived, recent)
    links.share(list_command(source, store.kept), key="share_list")
    _history(recent)
    results_import.form(store)


def _sources(store: Store) -> list[str]:
    """The sources, the user's runs first once there are any."""
    known = store.filtered(RunFilter()).values("source")
    if "measured" in known or "shipped" not in known:
        return ["measured", "shipped", "published"]
    return ["shipped", "measured", "published"]


def _rows() -> str:
    """The control for what a row is; links from before there were configurations name columns or a filter of single runs."""
    single = any(name.startswith(("all_runs_", "shipped_runs_")) for name in st.query_params)
    names = list(ROWS)[::-1] if single and "rows" not in st.session_state else list(ROWS)
    return choices.choice("Rows", "rows", {name: ROWS[name] for name in names}, ROWS_HELP, persist=None)


def _archive_toggle(store: Store) -> bool:
    if not store.records.annotations.archived() and not st.session_state.get("show_archived"):
        return False
    help_text = "Archived runs are on no other page. Select some to restore them."
    return st.toggle("Archived", key="show_archived", bind="query-params", help=help_text)


def _unarchive(store: Store, *run_ids: str) -> None:
    store.records.annotations.archive(run_ids, False)


@frame.errors_as_messages()
def _follow_jobs() -> None:
    """Run the page again when a job begins or ends, so that the table shows its state and its runs."""
    states = {status.job_id: status.state for status in queue.waiting(home()) if status.job.label}
    before = st.session_state.get("running_jobs", states)
    st.session_state["running_jobs"] = states
    if states != before:
        st.rerun()


def _own(store: Store, source: str, by: str, archived: bool, recent: Sequence[queue.Status]) -> None:
    """The table of a source that has records, and below it the selected runs."""
    run_selection.begin()
    rows, table = _tables(store, store.version, home(), source, archived)
    if rows.empty:
        choices.report_unknown("Selected runs", "chosen", [])
        _say_empty(store, source, archived)
    states = with_states(home(), rows, recent) if source == "measured" and not archived else rows
    if by == "configuration":
        _configurations(table, configurations.unfinished(states) if "state" in states else table.head(0), source)
    else:
        _single(states.assign(state=STATES["done"]) if "state" not in states else states, rows, source)
    for note in footnotes.repeated_notes(rows):
        st.caption(frame.plain(f"{note}."))
    chosen = run_selection.choose(rows, table) if len(rows) else {}  # below the table, which so stays where it is
    if chosen:
        selected = dict.fromkeys(
            run_id for each in chosen.values() for run_id in each
        )  # a seed may be chosen twice over
        run_actions.bulk(store.records, list(selected), source, archived)
        run_comparison.show(store, chosen, source)


@st.cache_resource(show_spinner=False, max_entries=10)
def _tables(
    _store: Store, version: tuple[int, ...], folder: Path, source: str, archived: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of a source, newest first, and the configurations; of the measured ones only archived runs, or all others. Cached,
    so never change them."""
    rows = _store.results(source=source, archived=True)
    annotations = _store.records.annotations.all()
    hidden = rows["run_id"].isin([run_id for run_id, each in annotations.items() if each.archived])
    rows = rows[hidden == archived].sort_values("created_at", ascending=False, kind="stable", ignore_index=True)
    rows = configurations.annotated(rows, annotations)
    return rows, configurations.configurations(rows)


def _say_empty(store: Store, source: str, archived: bool) -> None:
    if store.kept.count:
        st.info("No run passes the filters. Remove some under Filters.")
    elif archived:
        st.info("The archive is empty.")
    elif source == "shipped":
        st.info("No results are shipped with this version.")
    else:
        st.info("No runs yet. Start a probe: with cached features it takes seconds.")
        st.page_link("pages/probe.py", label="Start a probe", icon=":material/science:")


def _configurations(table: pd.DataFrame, unfinished: pd.DataFrame, source: str) -> None:
    whole = pd.concat([unfinished.reindex(columns=table.columns), table], ignore_index=True)
    if whole.empty:
        return
    annotated = [name for name in ("tags", "note") if (whole[name] != "").any()]
    hidden = ["run_ids", "begun_at", "recipe"]
    title, mixed = _metric(whole)
    if source == "measured" and run_actions.editing():
        run_actions.edit(whole)
        return
    show_table(
        whole.drop(columns=hidden if mixed else [*hidden, "metric"]),
        key="configurations",
        name="configurations",
        shown_columns=[*mixed, *configurations.COLUMNS, *annotated],
        title=title,
        picking=run_selection.of_configurations(whole),
    )


def _metric(rows: pd.DataFrame) -> tuple[Callable[[str], str], list[str]]:
    """The headings, by what the accuracies in the rows are; and the column that says so where they stand beside mAP."""
    found = set(rows["metric"].dropna()) - {""}
    return titles(labels.metric_name(found)), ["metric"] if MAP in found and len(found) > 1 else []


def _single(table: pd.DataFrame, rows: pd.DataFrame, source: str) -> None:
    if table.empty:
        return
    annotated = [name for name in ("tags", "note") if (table[name].notna() & (table[name] != "")).any()]
    key = "all_runs" if source == "measured" else "shipped_runs"
    title, mixed = _metric(table)
    show_table(
        table.drop(columns="spec"),
        key=key,
        name="runs",
        shown_columns=[*mixed, *RUN_COLUMNS, *repeated(table), "protocol", *annotated],
        title=title,
        picking=run_selection.of_runs(table),
    )


def _history(recent: Sequence[queue.Status]) -> None:
    """Why jobs ended without runs."""
    ended = [status for status in recent if status.state in ("failed", "cancelled")]
    if not ended:
        return
    with st.expander(f"Failed and cancelled ({len(ended)})"):
        for status in ended:
            message = status.message or f"{STATES[status.state].capitalize()}."
            st.markdown(f"**{frame.plain(activity.job_label(status.job))}**: {frame.plain(message)}")


main()
