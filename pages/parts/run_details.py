"""Runs on a page: the table of runs, and the curves, per-class accuracy and confusion matrix of a few of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, frame
from pages.parts.results import show_chart, show_table, titles
from sparse_core.catalog import METRICS, TRANSFERS, architecture_label, task_label
from sparse_core.results import measures
from sparse_core.results.records import Record
from sparse_core.results.statistics import per_class
from sparse_core.results.store import Store
from sparse_core.views import detections, footnotes, labels, runs, tables, times
from sparse_core.views.charts import training

NETWORK_COLUMNS = ["source", "architecture", "method", "sparsity"]
SAMPLE_COLUMNS = ["transfer", "dataset", "seed", "accuracy_best", "accuracy_final"]
OWN_RUN_COLUMNS = [*NETWORK_COLUMNS, "network_name", "network", *SAMPLE_COLUMNS]
CURVE_TITLES = {
    "accuracy": ("Test accuracy per epoch", "after each epoch, higher is better"),
    "mAP@0.5": ("Test mAP@0.5 per epoch", "after each epoch, higher is better"),
    "mAP@[.5:.95]": ("Test mAP@[.5:.95] per epoch", "after each epoch, higher is better"),
    "loss": ("Training loss per epoch", "mean over the epoch, lower is better"),
}


def run_table(rows: pd.DataFrame, *, key: str) -> None:
    """The table of single runs, as the store returns them, and the note on disputed rows."""
    annotations = [name for name in ("note", "tags") if name in rows and (rows[name] != "").any()]
    usual = [*NETWORK_COLUMNS, *tables.network_columns(rows), *SAMPLE_COLUMNS, *repeated(rows)]
    title = titles(labels.metric_name(rows["metric"].unique()))
    shown = rows.drop(columns=["spec", measures.CELL], errors="ignore")
    show_table(shown, key=key, name="runs", shown_columns=[*usual, *annotations], title=title)
    for note in footnotes.result_notes(rows):
        st.caption(frame.plain(f"{note.rstrip('.')}."))


def repeated(rows: pd.DataFrame) -> list[str]:
    """The column that flags runs which repeat a seed, if there are any."""
    return ["replicate"] if (rows["replicate"] > 0).any() else []


def show_run_details(store: Store, records: Sequence[Record], where: str = "on this machine") -> None:
    """Learning curves, per-class accuracy and confusion matrix of the runs of one configuration, the latter two beside the dense
    network's if it was run; captions say ``where`` they were made."""
    backbone, network, caption, name = described(records, where)
    _curves(records, network, caption, name)
    if detections.is_detection(records[0]):
        return  # what else there is to show of them is in ``detection_details``
    dense = runs.dense_baselines(store, records)
    _by_class(records, dense, backbone, network, caption, name)
    _confusion(records, dense, backbone, network, caption, name)


def described(records: Sequence[Record], where: str) -> tuple[str, str, str, str]:
    """The network's method and sparsity, what was transferred to what, a caption, and a name for files."""
    result = records[0].result
    backbone = labels.method_label(result["method"], result["sparsity"])
    transfer = TRANSFERS[records[0].spec["transfer"]].lower()
    network = (
        f"{architecture_label(result['architecture'])} ({backbone}) on {task_label(result['dataset_name'])}, {transfer}"
    )
    caption = f"{labels.counted(len(records), 'run')} {where}, {times.day(result['created_at'])}. {result['protocol']}."
    return backbone, network, caption, f"{result['architecture']}-{result['dataset_name']}"


def _curves(records: Sequence[Record], network: str, caption: str, name: str) -> None:
    table = runs.curves(records)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        value = choices.curve_choice("curve", records[0].result["metric"])
        mean, log = line_choices(len(records), "curve")
    title, better = CURVE_TITLES[value if value in CURVE_TITLES else "accuracy"]
    over = f" · mean ± standard deviation over {labels.counted(len(records), 'seed')}" if mean else ""
    show_chart(
        training.learning_curves(table, value, mean=mean, log=log),
        title,
        f"{network} · {better}{over}",
        caption,
        key="curves",
        name=f"curves-{name}",
        alt=f"{title}, {'the mean over seeds' if mean else 'one line per seed'}",
        table=table,
    )


def _by_class(
    records: Sequence[Record], dense: Sequence[Record], backbone: str, network: str, caption: str, name: str
) -> None:
    class_names, counts = records[0].result["class_names"], runs.confusion(records)
    table = per_class(counts, class_names)
    beside = None
    if dense:
        beside = (backbone, "Dense", runs.confusion(dense))
        others = per_class(beside[2], class_names).assign(network="Dense")
        table = pd.concat([table.assign(network=backbone), others], ignore_index=True)
    show_chart(
        training.per_class_accuracy(counts, class_names, beside),
        "Per-class accuracy",
        f"{network} · {_summed(records, dense)}",
        caption,
        key="classes",
        name=f"classes-{name}",
        alt="Accuracy of each class, lowest first",
        table=table,
    )


def _confusion(
    records: Sequence[Record], dense: Sequence[Record], backbone: str, network: str, caption: str, name: str
) -> None:
    class_names, counts = records[0].result["class_names"], runs.confusion(records)
    beside = (backbone, "Dense", runs.confusion(dense)) if dense else None
    named = runs.wrong_cells(records) if any("predicted" in record.result for record in records) else {}
    note = " Click a cell off the diagonal to see its images below." if named else ""
    show_chart(
        training.confusion_matrix(counts, class_names, beside, named),
        "Confusion matrix",
        f"{network} · {_summed(records, dense)}",
        caption,
        key="confusion",
        name=f"confusion-{name}",
        alt=f"Confusion matrix: true classes against predicted classes.{note}",
        select_into="look_cells" if named else "",
        opens="look_after",
        table=pd.DataFrame(counts, index=class_names, columns=class_names).rename_axis("true class").reset_index(),
    )
    if note:
        st.caption(note.strip())


def _summed(records: Sequence[Record], dense: Sequence[Record]) -> str:
    """Over which runs the counts of a chart are summed."""
    beside = f", dense over {labels.counted(len(dense), 'seed')}" if dense else ""
    return f"sum over {labels.counted(len(records), 'seed')}{beside}, last epoch"


def accuracy_metrics(records: Sequence[Record]) -> None:
    """Final and best accuracy over the runs, as metrics."""
    metric = METRICS[records[0].result["metric"]]
    final, best = ([record.result[f"accuracy_{which}"] for record in records] for which in ("final", "best"))
    st.metric(f"Final {metric}", _mean_and_std(final), help="After the last epoch.")
    help_text = "Best epoch (selected on test data: optimistic), the paper's convention."
    st.metric(f"Best {metric}", _mean_and_std(best), help=help_text)


def strict_map_metric(records: Sequence[Record]) -> None:
    """Final mAP@[.5:.95] over the runs of a detector, as a metric."""
    final = [record.result["map_final"] for record in records]
    st.metric(
        "Final mAP@[.5:.95]", _mean_and_std(final), help="After the last epoch: the mean over ten bounds of the IoU."
    )


def _mean_and_std(accuracies: Sequence[float]) -> str:
    percent = 100 * pd.Series(accuracies)
    deviation = "" if len(percent) == 1 else f" ± {percent.std():.1f}"
    return f"{percent.mean():.1f}{deviation} % (n = {len(percent)})"


def learning_rate_metric(result: Mapping[str, Any]) -> None:
    """The learning rate that a sweep chose, as a metric, with the validation accuracy of each in its help."""
    tried = result["validation"]
    help_text = f"The best of {len(tried)} on validation data: {validation_text(result)}."
    st.metric("Learning rate chosen", f"{result['learning_rate']:g}", help=frame.plain(help_text))


def validation_text(result: Mapping[str, Any]) -> str:
    """The validation accuracy of each learning rate that a sweep tried."""
    return "; ".join(f"{rate}: {labels.percent(value)} %" for rate, value in result["validation"].items())


def line_choices(runs: int, key: str) -> tuple[bool, bool]:
    """The controls that draw the mean of several runs in place of each, and a logarithmic axis."""
    mean = False
    if runs > 1:
        options = {"mean": "Mean ± SD", "each": "Each seed"}
        mean = choices.choice("Lines", f"{key}_lines", options, persist=None) == "mean"
    log = choices.choice("Scale", f"{key}_scale", {"linear": "Linear", "log": "Logarithmic"}, persist=None) == "log"
    return mean, log
