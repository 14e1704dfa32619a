"""The charts of Speedup: against sparsity, batch size and accuracy, of online training, and by layer."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import choices, frame, links
from pages.parts.frame import home
from pages.parts.results import show_chart, show_table
from pages.parts.speedup_filters import Filters, most_measured
from sparse_core.catalog import ENGINES, METRICS, architecture_label, task_label
from sparse_core.results.store import Store
from sparse_core.views import labels, speed_tables
from sparse_core.views.charts import speed as speed_charts

PARETO_COLUMNS = ["architecture", "method", "sparsity", "network_name", "network", "accuracy_mean", "accuracy_std"]
PARETO_COLUMNS += ["seeds", "engine_words", "milliseconds_per_image", "images_per_second", "front"]
TRAINING_COLUMNS = ["network", "engine_words", "dataset", "ratio", "ratio_low", "ratio_high", "difference"]
TRAINING_COLUMNS += ["difference_low", "difference_high", "interval", "accuracy_mean", "accuracy_std", "seeds"]
TRAINING_COLUMNS += ["baseline_accuracy", "baseline_std", "baseline_seeds", "protocol"]
PAPER_TRAINING_COLUMNS = ["method", "sparsity", "engine_words", "ratio", "ratio_low", "ratio_high", "difference"]
PAPER_TRAINING_COLUMNS += [
    "difference_low",
    "difference_high",
    "accuracy_mean",
    "seeds",
    "baseline_accuracy",
    "network",
]
FIGURE_4_TASKS = ("caltech101", "dtd", "flowers", "pets")
PAPER_TASK_HELP = "The task of the paper's accuracies. Its figure 4 has Caltech-101, DTD, Flowers and Pets."
BATCH_COLUMNS = ["engine_words", "batch_size", "ratio", "ratio_low", "ratio_high", "gain", "reliable"]
FASTEST = "Fastest per network"
MOST_SPLITS = 6

PAPER_NOTE = (
    "The paper's own times are not published as rows. Its text reports that sparse backbones made online linear training "
    "2 to 4 times faster at 80 to 95 % sparsity, and inference more than 3 times faster at 90 %, in DeepSparse."
)
SPEEDUP_SUBTITLE = (
    "dense median over sparse median with its 95 % interval · higher is better, above 1 is faster than dense in the same "
    "engine"
)


def speedup_by_sparsity(filters: Filters, rows: pd.DataFrame) -> None:
    """The page's answer: the best measured speedup, the speedup against sparsity, and which networks are not faster."""
    shown = filters.select(rows)
    if shown.empty:
        st.info("No measurement matches these choices. Choose other engines, or measure what is missing above.")
        return
    _headline(shown)
    mode = labels.MODES[filters.mode].lower()
    batch = f"batch {filters.batch_size or 64}, {labels.counted(filters.threads, 'thread')}"
    show_chart(
        speed_charts.speedup(shown, "sparsity"),
        "Speedup over dense by sparsity",
        f"{architecture_label(filters.architecture)} · {mode}, {batch} · {SPEEDUP_SUBTITLE}",
        filters.caption(shown),
        key="speedup",
        name=f"speedup-{filters.architecture}",
        alt="Speedup over dense against sparsity, one line per engine",
        table=speed_tables.by_sparsity(shown),
        beside=links.share,
    )
    st.caption("  \n".join([*map(frame.plain, speed_tables.not_faster(shown)), PAPER_NOTE]))


def _headline(shown: pd.DataFrame) -> None:
    faster = shown[shown["gain"] == "faster"]
    if faster.empty:
        st.markdown(speed_tables.none_faster(shown))
        return
    reliable = faster[faster["reliable"].astype(bool)]
    best = (faster if reliable.empty else reliable).sort_values("ratio_low").tail(1)
    (row,) = best.itertuples()
    st.markdown(f"Best measured: **{frame.plain(speed_tables.sentence(row))}**.")


def speedup_by_batch_size(filters: Filters, rows: pd.DataFrame) -> None:
    """The speedup of one network against batch size."""
    if filters.mode != "inference":
        st.info("Online training uses batches of 64, as in the paper. Choose the mode Inference above.")
        return
    shown = filters.select(rows, any_batch_size=True)
    if shown.empty:
        return  # the chart above says so
    sizes = shown.groupby("network", sort=False)["batch_size"].nunique()
    network = choices.selectbox("Network", list(sizes.index), index=int(sizes.argmax()), key="network", width=420)
    shown = shown[shown["network"] == network]
    show_chart(
        speed_charts.speedup(shown, "batch_size"),
        "Speedup over dense by batch size",
        f"{network} · inference, {labels.counted(filters.threads, 'thread')} · {SPEEDUP_SUBTITLE}",
        filters.caption(shown),
        key="batches",
        name=f"speedup-batch-{filters.architecture}",
        alt="Speedup over dense against batch size, one line per engine",
        table=shown[BATCH_COLUMNS],
    )
    if shown["batch_size"].nunique() == 1:
        st.caption("Only one batch size was measured. Measure others above to see how the speedup changes.")


def _own(store: Store) -> pd.DataFrame:
    """The runs of networks that are at hand: not the paper's."""
    rows = store.results()
    return rows[rows["source"] != "published"]


def accuracy_and_speed(store: Store, filters: Filters, rows: pd.DataFrame) -> None:
    """Which backbones are Pareto-optimal in accuracy on one task and speed on one machine."""
    timed = rows[(rows["machine"] == filters.machine) & (rows["mode"] == "inference")]
    timed = timed[~timed["timing_only"].astype(bool)]
    runs = _own(store).dropna(subset=["accuracy_best"])
    if timed.empty or runs.empty:
        missing = "no backbone was timed (random weights have no accuracy)"
        st.info(
            f"Nothing to show yet: {missing if timed.empty else 'no backbone was transferred to a task on this machine'}. "
            "This chart needs speed and accuracy of the same backbone."
        )
        if not timed.empty:
            links.backbone_links(timed["backbone"].iloc[-1])
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picked, task = choices.measured_task(runs)
        shown = _one_setting(timed)
        axis = choices.choice("Unit", "speed_axis", speed_charts.SPEED_AXES, "Time per image, or images per second.")
    table = speed_tables.speed_and_accuracy(shown, picked)
    if table.empty:
        st.info("None of the timed backbones was transferred to this task. Choose another task, or probe one:")
        links.backbone_links(shown["backbone"].iloc[-1])
        return
    _accuracy_and_speed_chart(
        filters, shown, table, f"{task} · {METRICS.get(picked['metric'].iloc[0], 'accuracy')}", axis
    )


def _one_setting(timed: pd.DataFrame) -> pd.DataFrame:
    """The controls for engine, threads and batch size; returns the newest rows timed like that."""
    names = {FASTEST: FASTEST, **{name: ENGINES.get(name, name) for name in dict.fromkeys(timed["engine"])}}
    engine = st.selectbox(
        "Engine", list(names), format_func=names.__getitem__, key="front_engine", bind="query-params", width=190
    )
    timed = timed if engine == FASTEST else timed[timed["engine"] == engine]
    timed = timed[timed["threads"] == most_measured("Threads", timed, "threads", "front_threads")]
    return speed_tables.latest(
        timed[timed["batch_size"] == most_measured("Batch size", timed, "batch_size", "front_batch")]
    )


def _accuracy_and_speed_chart(
    filters: Filters, timed: pd.DataFrame, table: pd.DataFrame, metric: str, axis: str
) -> None:
    better = "left" if axis == "milliseconds_per_image" else "right"
    setting = f"batch {timed['batch_size'].iloc[0]:.0f}, {labels.counted(int(timed['threads'].iloc[0]), 'thread')}"
    single = " n = 1 where there is no vertical error bar." if (table["seeds"] == 1).any() else ""
    show_chart(
        speed_charts.accuracy_against_speed(table, axis),
        "Accuracy against speed",
        f"{metric}, mean ± standard deviation over {labels.counted(int(table['runs'].sum()), 'run')}; median "
        f"time with quartiles, {setting} · up and to the {better} is better, backbones on the grey line are "
        "Pareto-optimal",
        f"{filters.caption(timed, 'points')} Best epoch of each run (selected on test data: optimistic). Dense: timed together "
        f"with the sparse networks.{single}",
        key="front",
        name="accuracy-speed",
        alt="Accuracy against speed of each backbone, with the Pareto front",
    )
    show_table(table, key="front_table", name="accuracy-speed", shown_columns=PARETO_COLUMNS)


def online_training(
    store: Store, filters: Filters, records: list[dict[str, Any]], rows: pd.DataFrame, backbone_labels: dict[str, str]
) -> None:
    """Online training on this machine: speedup against accuracy, speedup by sparsity, and the parts of an epoch."""
    training = speed_tables.latest(rows[(rows["machine"] == filters.machine) & (rows["mode"] == "training")])
    if training.empty:
        st.info("No online training was timed on this machine yet. Choose the mode Online training in the form above.")
        return
    if not training["timing_only"].all():
        _training_against_accuracy(store, filters, training)
    if training["timing_only"].any():
        _training_against_paper_accuracy(store, filters, training[training["timing_only"].astype(bool)])
    st.markdown("**Speedup of online training by sparsity** (the paper's table 5). Ratio with its 95 % interval.")
    show_table(speed_tables.by_sparsity(training), key="by_sparsity", name="training-speedup")
    _epoch_split(filters, records, training, backbone_labels)


def _training_against_accuracy(store: Store, filters: Filters, training: pd.DataFrame) -> None:
    compared = speed_tables.training_with_accuracy(training, _own(store))
    missing = speed_tables.missing_accuracy(compared)
    known = compared.dropna(subset=["difference"])
    if known.empty:
        st.info(
            f"The chart of training speedup against accuracy has nothing to show yet: {frame.plain('; '.join(missing))}. "
            "It needs linear probes of the sparse and of the dense backbone on the same task."
        )
        st.page_link("pages/probe.py", label="Start a probe", icon=":material/science:")
        return
    show_chart(
        speed_charts.training_against_accuracy(known),
        "Training speedup against accuracy",
        "Speedup of online linear training over dense, with its 95 % interval · accuracy of linear transfer minus "
        "dense, with its 95 % interval (t) where both have two seeds · up and to the right is better",
        f"{filters.caption(training[~training['timing_only'].astype(bool)], 'points')} Accuracy: best epoch (selected on test "
        "data: optimistic) of linear probes of the same backbones on the same tasks. "
        f"{'; '.join(known['protocol'].unique())}.",
        key="training",
        name="training-accuracy",
        alt="Accuracy difference to dense against the speedup of online training",
        table=known[TRAINING_COLUMNS],
    )
    if missing:
        st.caption(frame.plain(f"Not in the chart: {'; '.join(missing)}."))


def _training_against_paper_accuracy(store: Store, filters: Filters, masks: pd.DataFrame) -> None:
    """The paper's figure 4: its accuracies, with the measured speed of timing-only masks of the same sparsity."""
    timed = masks["architecture"].unique()
    architecture = filters.architecture if filters.architecture in timed else timed[0]
    published = store.results(source="published", architecture=architecture, transfer="linear")
    if published.empty:
        st.info(
            f"{architecture_label(architecture)} is not in the paper's public rows, so these timing-only masks have no accuracy "
            "to stand beside their speed. Time a ResNet50, or a backbone that was probed."
        )
        return
    tasks = sorted(published["dataset"].unique(), key=lambda name: (name not in FIGURE_4_TASKS, name))
    task = st.selectbox(
        "Accuracy on",
        tasks,
        format_func=task_label,
        key="paper_task",
        bind="query-params",
        width=240,
        help=PAPER_TASK_HELP,
    )
    compared = speed_tables.training_with_paper_accuracy(masks, published[published["dataset"] == task])
    if compared.empty:
        st.info("The paper has no networks of these sparsities. Time masks of 80, 90, 95 or 98 %.")
        return
    timed_on = ", ".join(dict.fromkeys(map(task_label, compared["timed_on"])))
    show_chart(
        speed_charts.training_against_accuracy(compared),
        "Training speedup against accuracy",
        f"Accuracy: the paper's {architecture_label(architecture)} by linear transfer to {task_label(task)}, minus dense, with "
        f"the 95 % interval (t) · speedup: timing-only masks of the same sparsity on {filters.machine}, online training on "
        f"{timed_on} · up and to the right is better",
        f"{filters.caption(masks, 'points')} Paper results: best epoch (selected on test data: optimistic). A mask on random "
        "weights has the sparsity of the paper's networks, not their layers' densities.",
        key="paper_training",
        name="training-paper-accuracy",
        alt="The paper's accuracy difference to dense against the measured speedup of online training at the same sparsity",
        table=compared[PAPER_TRAINING_COLUMNS],
    )


def _epoch_split(
    filters: Filters, records: list[dict[str, Any]], training: pd.DataFrame, backbone_labels: dict[str, str]
) -> None:
    newest = list(dict.fromkeys(training["measurement"].iloc[::-1]))
    by_id = {record["id"]: record for record in records}
    table = speed_tables.epoch_split(home(), [by_id[name] for name in newest[:MOST_SPLITS]], backbone_labels)
    if table.empty:
        return
    more = f" The newest {MOST_SPLITS} of {len(newest)} are shown." if len(newest) > MOST_SPLITS else ""
    datasets = ", ".join(dict.fromkeys(map(task_label, table["dataset"])))
    show_chart(
        speed_charts.epoch_split(table),
        "Time of an epoch by part",
        f"Online training on {datasets} · mean seconds per epoch, dense and sparse in the same pipeline · shorter is "
        "better",
        "Images are decoded and augmented in parallel, so decoding is not part of a bar: the mark shows how long it "
        f"takes alone, and the bar contains the time spent waiting for it.{more} {filters.caption(training, 'bars')}",
        key="split",
        name="training-split",
        alt="Seconds of an epoch by part, dense and sparse",
        table=table.drop(columns=["measurement", "architecture", "sparsity"]),
    )


def time_by_layer(filters: Filters, records: list[dict[str, Any]], rows: pd.DataFrame) -> None:
    """The share of time of each layer, for one measurement that has it."""
    shown = rows[(rows["machine"] == filters.machine) & (rows["architecture"] == filters.architecture)]
    by_id = {record["id"]: record for record in records}
    measured: dict[str, pd.DataFrame] = {}
    for name, group in shown.iloc[::-1].groupby("measurement", sort=False):
        for setting, layers in speed_tables.layer_shares(by_id[name]).items():
            measured.setdefault(f"{group['network'].iloc[0]}: {setting}", layers)
    if not measured:
        st.info(
            "No measurement of this architecture has times of single layers. Only inference in DeepSparse gives them."
        )
        return
    chosen = st.selectbox("Measurement", list(measured), key="layers_of", bind="query-params", width=520)
    layers = measured[chosen]
    show_chart(
        speed_charts.layer_shares(layers),
        "Time by layer",
        f"{chosen} · share of the sparse network's time, {labels.counted(len(layers), 'layer')} as the engine counts them",
        f"Measured separately from the speedup, on {filters.machine}. “other” is time that belongs to no layer.",
        key="layers",
        name=f"time-by-layer-{filters.architecture}",
        alt="Share of the time that each layer takes",
        table=layers,
    )
