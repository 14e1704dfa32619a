"""Runs: finished and running work, one run in detail, several side by side."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, deletion, finetuned_network, frame, links
from pages.parts.frame import home
from pages.parts.results import open_store, show_chart, show_table
from pages.parts.run_details import OWN_RUN_COLUMNS, repeated, run_table, show_run_details
from sparse_core.catalog import METRICS, task_label
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.results.records import Record, Records
from sparse_core.results.store import Store
from sparse_core.specs.identity import first_free_replicate, recorded
from sparse_core.views import activity, footnotes, labels, times
from sparse_core.views.charts import training
from sparse_core.views.runs import STATES, command, curves, label, with_states

USUAL_SEEDS = {"linear": 5, "full": 1}
COMPARED_COLUMNS = ["run", "transfer", "accuracy_final", "accuracy_best", "learning_rate", "sparsity_before"]
COMPARED_COLUMNS += ["sparsity_after", "mask_violations", "protocol", "seconds_training"]
COMMAND = "sparse-transfer runs --source {source} --json"


def main() -> None:
    """Running jobs, the selected runs, and the table of runs."""
    store = open_store()
    st.fragment(_follow_jobs, run_every=1.0 if queue.queued(home()) else None)()
    source = choices.choice(
        "Show",
        "runs_source",
        {name: labels.SOURCES[name] for name in _sources(store)},
        "Your runs: made on this machine. Shipped results: runs that come with this product. Paper results: the runs published "
        "with the paper.",
        persist=None,
    )
    deletion.offer_undo("deleted", "The run was deleted.", store.records.restore)
    recent = queue.recent(home())
    if source == "measured":
        _measured(store, recent)
    elif source == "shipped":
        _shipped(store)
    else:
        run_table(store.results(source=source), key="published_runs")  # has other columns, so a choice of its own
    links.share(COMMAND.format(source=source), key="share_list")
    _history(recent)


def _sources(store: Store) -> list[str]:
    """The sources, the user's runs first once there are any."""
    if len(store.results(source="measured")) or store.results(source="shipped").empty:
        return ["measured", "shipped", "published"]
    return ["shipped", "measured", "published"]


def _shipped(store: Store) -> None:
    """The selected runs and the table of those that come with the product."""
    rows = store.results(source="shipped")
    if rows.empty:
        st.info("No results are shipped with this version.")
        return
    records = [store.record(run_id) for run_id in _choose(rows)]
    if len(records) == 1:
        show_run_details(records, where="shipped")
    elif records:
        _compare(records, where="shipped")
    run_table(rows, key="shipped_runs")


def _measured(store: Store, recent: list[queue.Status]) -> None:
    """The selected runs and the table of all, including those that failed or were cancelled."""
    rows = store.results(source="measured")
    if rows.empty:
        choices.report_unknown("Selected runs", "chosen", [])
        st.info("No runs yet. Start a probe: with cached features it takes seconds.")
        st.page_link("pages/probe.py", label="Start a probe", icon=":material/science:")
    else:
        _selected(store, rows)
    annotations = [store.records.annotation(run_id) for run_id in rows["run_id"]]
    rows = rows.assign(note=[note for note, _ in annotations], tags=[" ".join(tags) for _, tags in annotations])
    table = with_states(home(), rows, recent)
    if table.empty:
        return
    annotated = [name for name in ("note", "tags") if (table[name].notna() & (table[name] != "")).any()]
    usual = [name for name in [*OWN_RUN_COLUMNS, *repeated(table)] if name != "source"]
    columns = ["state", *usual, "protocol", *annotated]
    show_table(table.drop(columns="spec"), key="all_runs", name="runs", shown_columns=columns)
    for note in footnotes.repeated_notes(rows):
        st.caption(frame.plain(f"{note}."))


@frame.errors_as_messages()
def _follow_jobs() -> None:
    """Run the page again when a job begins or ends, so that the table shows its state and its runs."""
    states = {status.job_id: status.state for status in queue.waiting(home()) if status.job.label}
    before = st.session_state.get("running_jobs", states)
    st.session_state["running_jobs"] = states
    if states != before:
        st.rerun()


def _selected(store: Store, rows: pd.DataFrame) -> None:
    records = [store.records.read(run_id) for run_id in _choose(rows)]
    if len(records) == 1:
        _details(records[0], store.records)
    elif records:
        _compare(records)


def _choose(rows: pd.DataFrame) -> list[str]:
    """The ids of the runs that the user selects."""
    names = _names(rows, times.local)
    in_utc = zip(_names(rows, pd.Timestamp), names, strict=True)  # as labels of earlier versions had the time
    links.update_names("chosen", {former: [name] for former, name in in_utc}, names)
    chosen = choices.multiselect(
        "Selected runs",
        list(names),
        placeholder="Choose one run to see its details, several to compare them",
        key="chosen",
        help="One run: its settings, curves, confusion matrix, notes, rerun and delete. Several: side by side.",
    )
    return [names[name] for name in chosen if name in names]


def _names(rows: pd.DataFrame, made: Callable[[Any], pd.Timestamp]) -> dict[str, str]:
    """A label for each run, newest first, with its id; the time, as ``made`` gives it, and the end of the id keep labels
    distinct."""
    newest = rows.sort_values("created_at", ascending=False, kind="stable")
    return {
        f"{'Dense' if row.method == 'Dense' else f'{row.method} {labels.sparsity_label(row.sparsity)}'}, "
        f"{task_label(row.dataset)}, {row.transfer}, seed {row.seed}{f', rerun {row.replicate}' if row.replicate else ''} "
        f"({made(row.created_at):%d %b %H:%M}, {row.run_id[-4:]})": row.run_id
        for row in newest.itertuples()
    }


def _details(record: Record, records: Records) -> None:
    spec = recorded(record.spec)
    result = record.result
    with st.container(border=True):
        st.header(frame.plain(label(record, network=True)))
        with st.container(horizontal=True):
            st.metric(f"Final {METRICS[result['metric']]}", labels.percent(result["accuracy_final"]))
            st.metric("Best epoch", labels.percent(result["accuracy_best"]), help="Selected on test data: optimistic.")
            if spec.transfer == "full":
                finetuned_network.mask_metrics([record])
            else:
                st.metric(
                    "Measured sparsity", labels.percent(result["backbone_sparsity"]), help="Over convolution weights."
                )
            st.metric("Images", f"{result['train_images']:,} + {result['test_images']:,}", help="Training + test.")
        st.caption(frame.plain(f"{result['protocol']}. Learning rate used: {result['learning_rate']:g}."))
        if result.get("validation"):
            rates = "; ".join(f"{rate}: {labels.percent(value)}" for rate, value in result["validation"].items())
            st.caption(frame.plain(f"Validation accuracy by learning rate: {rates}."))
        if spec.transfer == "full":
            finetuned_network.notes([record])
            finetuned_network.offer(record)
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Rerun", icon=":material/replay:", help="Trains again as a new replicate. This run is kept."):
                again = first_free_replicate(spec, (record.spec["seed"],), records.ids())
                kind = "probe" if spec.transfer == "linear" else "finetune"
                job_id = queue.submit(home(), Job(kind, again, (record.spec["seed"],)))
                st.switch_page(f"pages/{kind}.py", query_params={"job": job_id})
            if st.button("Delete …", icon=":material/delete:"):
                text = f"{label(record)} will be removed from all pages. You can undo this afterwards."
                state = {"deleted": record.run_id, "chosen": []}
                deletion.confirm("Delete this run?", text, partial(records.delete, record.run_id), state)
            links.share(command(spec, max(record.spec["seed"] + 1, USUAL_SEEDS[spec.transfer])))
            with st.popover("Settings", help="The stored specification of this run"):
                st.json(record.spec)
        _annotate(record.run_id, records)
        show_run_details([record])


def _annotate(run_id: str, records: Records) -> None:
    note, tags = records.annotation(run_id)
    with st.form(f"annotation_{run_id}"):
        new_note = st.text_area("Notes", note, placeholder="Purpose of this run, observations")
        new_tags = st.text_input("Tags", " ".join(tags), placeholder="separated by spaces")
        if st.form_submit_button("Save"):
            records.annotate(run_id, new_note, new_tags.split())
            st.toast("Saved.")


def _compare(records: list[Record], where: str = "on this machine") -> None:
    names = _labels(records)
    table = pd.DataFrame([{"transfer": record.spec["transfer"], **record.result} for record in records])
    table = table.assign(run=names).reindex(columns=COMPARED_COLUMNS)
    for name in ("sparsity_before", "sparsity_after"):  # a probe leaves the backbone as it was
        table[name] = table[name].fillna(pd.Series([record.result["backbone_sparsity"] for record in records]))
    lines = pd.concat([curves([record]).assign(run=name) for record, name in zip(records, names, strict=True)])
    metrics = {record.result["metric"] for record in records}
    show_chart(
        training.learning_curves(lines, metrics.pop() if len(metrics) == 1 else "top1"),
        "Test accuracy per epoch",
        f"{labels.counted(len(records), 'run')} · higher is better",
        _comparison_caption(records, where),
        key="compare",
        name="compared-runs",
        alt="Test accuracy per epoch, one line per run",
        table=lines,
        beside=lambda: links.share(COMMAND.format(source="measured"), key="share_comparison"),
    )
    show_table(table, key="compared", name="compared-runs")


def _labels(records: list[Record]) -> list[str]:
    """A label for each run, with the network's name where several have the same method and sparsity; the end of the run's id
    tells apart those that differ only in settings."""
    networks = {label(record, network=True) for record in records}
    names = [label(record) for record in records]
    if len(networks) > len(set(names)):
        names = [label(record, network=True) for record in records]
    return [
        f"{name} ({record.run_id[-4:]})" if names.count(name) > 1 else name
        for record, name in zip(records, names, strict=True)
    ]


def _comparison_caption(records: list[Record], where: str) -> str:
    days = sorted({times.day(record.result["created_at"]) for record in records})
    made = " to ".join(dict.fromkeys((days[0], days[-1])))
    protocols = Counter(record.result["protocol"] for record in records)
    counts = "; ".join(f"{labels.counted(count, 'run')} with {protocol}" for protocol, count in protocols.items())
    differ = "Protocols differ: " if len(protocols) > 1 else ""
    return f"{labels.counted(len(records), 'run')} {where}, {made}. {differ}{counts}."


def _history(recent: list[queue.Status]) -> None:
    """Why jobs ended without runs."""
    ended = [status for status in recent if status.state in ("failed", "cancelled")]
    if not ended:
        return
    with st.expander(f"Failed and cancelled ({len(ended)})"):
        for status in ended:
            message = status.message or f"{STATES[status.state].capitalize()}."
            st.markdown(f"**{frame.plain(activity.job_label(status.job))}**: {frame.plain(message)}")


main()
