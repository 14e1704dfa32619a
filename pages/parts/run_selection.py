"""The selected runs of Runs: single ones and whole configurations, chosen in the table or by name, and kept in the link."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, links
from pages.parts.results import Picking
from sparse_core.catalog import task_label
from sparse_core.views import configurations, labels, times

NEWEST = 100  # configurations, and runs, that are offered by name
KNOWN = "run_labels"  # in the session: the labels that were chosen, with their runs

Names = dict[str, list[str]]


def choose(rows: pd.DataFrame, table: pd.DataFrame) -> Names:
    """The control for the selected runs; ``rows`` are runs, newest first, and ``table`` their configurations. Returns the runs of
    each label that is chosen."""
    names = _configuration_names(table.head(NEWEST).itertuples()) | _names(rows.head(NEWEST), times.local)
    linked = _selected()
    known = st.session_state.get(KNOWN, {})
    ids = set(rows["run_id"])
    names |= {name: known[name] for name in linked if name in known and ids.intersection(known[name])}
    if any(name not in names for name in linked):  # a link to an older run, or one of an earlier version
        names = _configuration_names(table.itertuples()) | _names(rows, times.local)
        in_utc = zip(_names(rows, pd.Timestamp), _names(rows, times.local), strict=True)
        links.update_names("chosen", {former: [name] for former, name in in_utc}, names)
    if "chosen" in st.session_state:  # what was chosen may have been deleted, archived or filtered out
        st.session_state["chosen"] = [name for name in st.session_state["chosen"] if name in names]
    chosen = choices.multiselect(
        "Selected runs",
        list(names),
        placeholder="Click a row above, tick several to compare them, or choose by name",
        key="chosen",
        help="One run: its settings, curves, confusion matrix, notes, rerun and delete. Several: side by side.",
    )
    return {name: [run_id for run_id in names[name] if run_id in ids] for name in chosen}


def begin() -> None:
    """Take over what an action has left of the selected runs: before the table, which ticks those that are selected."""
    if "chosen_next" in st.session_state:
        st.session_state["chosen"] = st.session_state.pop("chosen_next")


def of_configurations(table: pd.DataFrame) -> Picking:
    """How rows of a table of configurations are selected."""
    return Picking(
        lambda index: list(map(_configuration_name, table.loc[index].itertuples())),
        _selected(),
        partial(take_configurations, table),
    )


def of_runs(table: pd.DataFrame) -> Picking:
    """How rows of a table of runs are selected."""
    return Picking(
        lambda index: [_name(row, times.local) for row in table.loc[index].itertuples()],
        _selected(),
        partial(take_runs, table),
    )


def _selected() -> list[str]:
    """The names that are selected, at first by the link."""
    return st.session_state.get("chosen", st.query_params.get_all("chosen"))


def take_configurations(table: pd.DataFrame, index: pd.Index) -> None:
    """Select these rows of a table of configurations."""
    _take(_configuration_names(table.loc[index].itertuples()))


def take_runs(table: pd.DataFrame, index: pd.Index) -> None:
    """Select these rows of a table of runs."""
    picked = table.loc[index]
    _take(_names(picked[picked["run_id"].notna()], times.local))


def _take(names: Names) -> None:
    st.session_state[KNOWN] = names
    st.session_state["chosen"] = list(names)


def _configuration_names(rows: Iterable[Any]) -> Names:
    """The runs of each configuration by its name."""
    return {_configuration_name(row): row.run_ids for row in rows if row.run_ids}


def _configuration_name(row: Any) -> str:
    """A configuration; the time and the end of the id of its first run keep names distinct. "" for one that has no runs yet."""
    if not row.run_ids:
        return ""
    made = f"{times.local(row.begun_at):%d %b %H:%M}, {sorted(row.run_ids)[0][-4:]}"
    return f"{configurations.name(row)}, {labels.counted(int(row.seeds), 'seed')} ({made})"


def _names(rows: pd.DataFrame, local: Callable[[Any], pd.Timestamp]) -> Names:
    """Each run by its name."""
    return {_name(row, local): [row.run_id] for row in rows.itertuples()}


def _name(row: Any, local: Callable[[Any], pd.Timestamp]) -> str:
    """A run; the time, as ``local`` gives it, and the end of the id keep names distinct. "" for one that is not done."""
    if pd.isna(row.run_id):
        return ""
    method = "Dense" if row.method == "Dense" else f"{row.method} {labels.sparsity_label(row.sparsity)}"
    again = f", rerun {row.replicate}" if row.replicate else ""
    return (
        f"{method}, {task_label(row.dataset)}, {row.transfer}, seed {row.seed}{again} "
        f"({local(row.created_at):%d %b %H:%M}, {row.run_id[-4:]})"
    )
