"""The selected runs of Runs: one in detail, the seeds of one configuration, or several configurations side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import (
    detection_details,
    finetuned_network,
    frame,
    images,
    links,
    run_actions,
    run_details,
    run_ranking,
)
from pages.parts.results import show_chart, show_table, titles
from sparse_core.catalog import METRICS
from sparse_core.results.filters import RunFilter
from sparse_core.results.records import Record
from sparse_core.results.store import SHIPPED_ID, Store
from sparse_core.specs.identity import recorded
from sparse_core.views import configurations, detections, labels, runs, times
from sparse_core.views.charts import training
from sparse_core.views.charts.style import HUES

USUAL_COLUMNS = ["accuracy_final", "accuracy_best", "learning_rate", "sparsity_before", "sparsity_after"]
USUAL_COLUMNS += ["mask_violations", "seconds_training"]


def show(store: Store, chosen: Mapping[str, Sequence[str]], source: str) -> None:
    """What is selected: ``chosen`` are the ids of runs by the label under which they were."""
    run_ids = list(dict.fromkeys(run_id for each in chosen.values() for run_id in each))
    records = store.read(run_ids)
    where = "shipped" if source == "shipped" else "on this machine"
    with st.container(border=True, key="selected_runs"):
        if len(records) == 1:
            _one(records[0], store, where)
        elif records:
            _several(records, store, where)


def _one(record: Record, store: Store, where: str) -> None:
    st.header(frame.plain(runs.label(record, network=True)))
    spec, result = recorded(record.spec), record.result
    with st.container(horizontal=True):
        st.metric(f"Final {METRICS[result['metric']]}", f"{labels.percent(result['accuracy_final'])} %")
        st.metric(
            "Best epoch", f"{labels.percent(result['accuracy_best'])} %", help="Selected on test data: optimistic."
        )
        if spec.transfer == "full":
            finetuned_network.mask_metrics([record])
        else:
            sparsity = f"{labels.percent(result['backbone_sparsity'])} %"
            st.metric("Measured sparsity", sparsity, help="Over convolution weights.")
        st.metric("Images", f"{result['train_images']:,} + {result['test_images']:,}", help="Training + test.")
    st.caption(frame.plain(f"{result['protocol']}. Learning rate used: {result['learning_rate']:g}."))
    if result.get("validation"):
        st.caption(frame.plain(f"Validation accuracy by learning rate: {run_details.validation_text(result)}."))
    own = where != "shipped"
    if spec.transfer == "full" and own:
        finetuned_network.notes([record])
        finetuned_network.offer(record)
    with st.container(horizontal=True, vertical_alignment="center"):
        if own:
            run_actions.rerun_button(record, store.records)
        links.share(runs.command(spec, (record.spec["seed"],)))
        with st.popover("Settings", help="The stored specification of this run"):
            st.json(record.spec)
    if own:
        run_actions.annotation_form([record.run_id], store.records)
    _details(store, [record], where)


def _several(records: Sequence[Record], store: Store, where: str) -> None:
    """Curves, what they gave, and what differs in their settings. Accuracies and mAP are never shown together."""
    if len({labels.metric_name([record.result["metric"]]) for record in records}) > 1:
        st.info("Runs of detectors (mAP) and of classifiers (accuracy) are not compared. Select runs of one kind.")
        return
    names = configurations.names(records)
    groups = list(dict.fromkeys(names))
    if len(groups) == 1:
        st.header(frame.plain(groups[0]))
        _metrics(records)
    else:
        st.header(f"{labels.counted(len(groups), 'configuration')} compared")
    _curves(records, names, where)
    _figures(records, names)
    if len(groups) == 1:
        if where != "shipped":
            run_actions.annotation_form([record.run_id for record in records], store.records)
        detected = detections.is_detection(records[0])
        more = "Precision–recall and predictions" if detected else "Per-class accuracy and confusion matrix"
        if st.toggle(more, key="details_of_seeds", bind="query-params"):
            _details(store, records, where)


def _details(store: Store, records: Sequence[Record], where: str) -> None:
    """What single runs gave, and how they stand among others on the same task."""
    run_details.show_run_details(store, records, where=where)
    if detections.is_detection(records[0]):
        detection_details.show(store, records, where)
    elif where != "shipped":
        images.misclassified(store, records)
    run_ranking.show(store, records[0])


def _metrics(records: Sequence[Record]) -> None:
    metric = METRICS[records[0].result["metric"]]
    with st.container(horizontal=True):
        run_details.accuracy_metrics(records)
        st.metric("Images", f"{records[0].result['train_images']:,} + {records[0].result['test_images']:,}")
    st.caption(frame.plain(f"{records[0].result['protocol']}. {metric.capitalize()}, mean ± SD over seeds."))


def _curves(records: Sequence[Record], names: Sequence[str], where: str) -> None:
    """A mean within ± one standard deviation for each configuration with several seeds, or each seed's line."""
    single = run_labels(records, names)
    lines = pd.concat(
        [
            runs.curves([record]).assign(run=run, group=name)
            for record, run, name in zip(records, single, names, strict=True)
        ]
    )
    several = len(set(names)) < len(names)
    mean = several and st.toggle(
        "Mean ± SD", True, key="mean_curves", bind="query-params", help="Off: one line per seed."
    )
    metrics = {record.result["metric"] for record in records}
    metric = metrics.pop() if len(metrics) == 1 else "top1"
    title, _ = run_details.CURVE_TITLES[labels.metric_name([metric])]
    count = labels.counted(len(records), "run")
    subtitle = f"{count} · {'mean ± SD over seeds' if mean else 'one line per run'} · higher is better"
    show_chart(
        training.learning_curves(lines, metric, mean=mean),
        title,
        subtitle,
        _caption(records, where),
        key="compare",
        name="compared-runs",
        alt=f"{title}, one line per run or configuration",
        table=lines,
        beside=lambda: links.share(_command(records), key="share_comparison"),
    )


def _command(records: Sequence[Record]) -> str:
    shipped = records[0].run_id.startswith(SHIPPED_ID)
    source = "shipped" if shipped else "measured"
    return runs.list_command(source, RunFilter(), [record.run_id for record in records])


def _figures(records: Sequence[Record], names: Sequence[str]) -> None:
    """A row for each run: what it gave, and those settings that differ."""
    table = pd.DataFrame([record.result for record in records]).reindex(columns=USUAL_COLUMNS)
    for name in ("sparsity_before", "sparsity_after"):  # a probe leaves the backbone as it was
        table[name] = table[name].fillna(pd.Series([record.result["backbone_sparsity"] for record in records]))
    groups = list(dict.fromkeys(names))
    colours = [configurations.swatch(HUES[groups.index(name) % len(HUES)]) for name in names]
    single = run_labels(records, names)
    differing = configurations.settings(records)
    seeds: dict[str, Any] = {"seed": [record.spec["seed"] for record in records]}
    table = pd.concat([pd.DataFrame({"colour": colours, "run": single, **seeds}), differing, table], axis=1)
    table = table.dropna(axis=1, how="all")
    metric = labels.metric_name([record.result["metric"] for record in records])
    show_table(table, key="compared", name="compared-runs", title=titles(metric))
    if len(groups) > 1:
        st.caption("Only settings that differ are shown.")


def run_labels(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """A label for each run; the end of its id tells apart those that differ in nothing that it names."""
    single = [f"{name}, seed {record.spec['seed']}" for record, name in zip(records, names, strict=True)]
    again = [f", rerun {record.spec['replicate']}" if record.spec["replicate"] else "" for record in records]
    single = [name + end for name, end in zip(single, again, strict=True)]
    return [
        f"{name} ({record.run_id[-4:]})" if single.count(name) > 1 else name
        for record, name in zip(records, single, strict=True)
    ]


def _caption(records: Sequence[Record], where: str) -> str:
    days = sorted({times.day(record.result["created_at"]) for record in records})
    made = " to ".join(dict.fromkeys((days[0], days[-1])))
    protocols = pd.Series([record.result["protocol"] for record in records]).value_counts(sort=False)
    counts = "; ".join(f"{labels.counted(count, 'run')} with {protocol}" for protocol, count in protocols.items())
    differ = "Protocols differ: " if len(protocols) > 1 else ""
    return f"{labels.counted(len(records), 'run')} {where}, {made}. {differ}{counts}."
