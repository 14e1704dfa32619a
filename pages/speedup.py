"""Speedup: how much faster sparse backbones run on this machine, in which engine, and what accuracy that speed has."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.parts import frame, parts, transfer_controls
from pages.parts.frame import home
from sparse_core.catalog import ARCHITECTURES, ENGINES, METRICS, architecture_label, task_label
from sparse_core.engines import availability, machine
from sparse_core.errors import InputError
from sparse_core.jobs import queue
from sparse_core.jobs.kinds import Job
from sparse_core.networks import library
from sparse_core.results.store import Store
from sparse_core.specs import options
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed import measurements
from sparse_core.views import labels, speed_tables
from sparse_core.views.charts import captions
from sparse_core.views.charts import speed as speed_charts

TABS = ["By batch size", "Accuracy and speed", "Online training", "Time by layer", "All measurements"]
COLUMNS = ["created_at", "network", "mode", "engine_words", "batch_size", "threads", "ratio", "ratio_low", "ratio_high"]
COLUMNS += ["gain", "reliable", "milliseconds_per_image", "dense_milliseconds_per_image", "timing_only"]
PARETO_COLUMNS = ["architecture", "method", "sparsity", "accuracy_mean", "accuracy_std", "runs", "engine_words"]
PARETO_COLUMNS += ["milliseconds_per_image", "images_per_second", "front"]
TRAINING_COLUMNS = ["network", "engine_words", "dataset", "ratio", "ratio_low", "ratio_high", "difference"]
TRAINING_COLUMNS += ["accuracy_mean", "accuracy_std", "runs", "baseline_accuracy", "protocol"]

WHAT = {"backbone": "A sparse backbone", "architecture": "An architecture, timing only"}
DISTRIBUTION_NAMES = {"uniform": "Uniform over layers", "erk": "Erdős–Rényi-Kernel"}
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FASTEST = "Fastest of each"
SPLIT_SHOWN = 6

TIMING_WORDS = (
    "Zeros are put into a network with random weights, so its speed can be told before there is a trained one. "
    "It has no accuracy and is marked “timing only” everywhere."
)
STUDY_WORDS = (
    "The study's own times have no published rows. Its text says that sparse backbones made online linear training 2 to 4 "
    "times faster at 80 to 95 % sparsity, and inference more than 3 times at 90 %, in DeepSparse."
)


@dataclass(frozen=True)
class Controls:
    """Which measurements are shown: those of one machine, one architecture and one number of threads."""

    machine: str
    architecture: str
    mode: str
    engines: list[str]
    batch_size: int | None
    threads: int

    def pick(self, rows: pd.DataFrame, *, any_batch: bool = False) -> pd.DataFrame:
        """The newest rows that fit; ``any_batch`` leaves the batch size open."""
        keep = (rows["machine"] == self.machine) & (rows["threads"] == self.threads)
        keep &= (rows["architecture"] == self.architecture) & (rows["mode"] == self.mode)
        if self.engines:
            keep &= rows["engine"].isin(self.engines)
        if self.batch_size and not any_batch:
            keep &= rows["batch_size"] == self.batch_size
        return speed_tables.latest(rows[keep])


def main() -> None:
    """The form that measures, the answer so far, and what stands behind it."""
    store = parts.store()
    st.markdown(
        "**How much faster does a sparse backbone run than the dense one, on this machine?** Both run in turn in the same "
        "engine; a ratio is kept only where the engine's output agrees with PyTorch's."
    )
    queue.ensure_worker(home(), "long")  # so that torch is loaded by the time the button is pressed
    network_labels = {card.name: labels.backbone_label(card) for card in library.available(home())}
    records, rows, damaged = _measurements(home(), measurements.fingerprint(home()), network_labels)
    for words in damaged:
        st.warning(words)
    _measure(rows, network_labels)
    _offer_undo()
    if rows.empty:
        st.info(
            "Nothing was measured yet. Press Measure above: an architecture with a mask for timing only needs neither "
            "network nor data, a ResNet18 takes about a minute."
        )
        st.caption(STUDY_WORDS)
        return
    controls = _controls(rows)
    _chart(controls, rows)
    batch, accuracy, training, layers, all_ = st.tabs(TABS, key="part", on_change="rerun", bind="query-params")
    if batch.open:
        with batch:
            _by_batch_size(controls, rows)
    if accuracy.open:
        with accuracy:
            _against_accuracy(store, controls, rows)
    if training.open:
        with training:
            _online_training(store, controls, records, rows, network_labels)
    if layers.open:
        with layers:
            _time_by_layer(controls, records, rows)
    if all_.open:
        with all_:
            _all_measurements(records, rows)


@st.cache_resource(show_spinner=False, max_entries=4)
def _measurements(
    folder: Path, version: tuple[int, int], network_labels: dict[str, str]
) -> tuple[list[dict[str, Any]], pd.DataFrame, list[str]]:
    """Every measurement, their lines as a table, and a word on each file that is none; kept, and never changed."""
    records = measurements.read_all(home())
    return records, speed_tables.table(home(), records, network_labels), measurements.invalid_files(home())


def _measure(rows: pd.DataFrame, network_labels: dict[str, str]) -> None:
    """The form, and how far the measurement is that the link names."""
    status = transfer_controls.asked_for("speedup")
    status = status if status and status.job.kind == "speedup" else None
    form = st.expander(
        "Measure this machine",
        expanded=rows.empty or status is not None,
        key="measure",
        icon=":material/timer:",
        on_change="rerun",
        bind="query-params",
    )
    if form.open:
        with form:
            _start(_form(), rows)
    if status is None:
        return
    st.subheader(speed_tables.spec_label(status.job.spec, network_labels), divider="gray")
    if not status.ended:
        transfer_controls.progress(status.job_id)
    elif status.state == "done":
        _result(status.result, network_labels)
    elif status.state == "failed":
        st.error(frame.plain(status.message))
    else:
        st.info(f"{frame.plain(status.message)} Press Measure to start again.")


def _start(spec: SpeedupSpec | None, rows: pd.DataFrame) -> None:
    """The button that measures what the form says, and about how long that takes."""
    if spec is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Measure", type="primary", icon=":material/play_arrow:"):
            st.query_params["job"] = queue.submit(home(), Job("speedup", spec))
            st.rerun()
        parts.share(options.command("speedup", spec), key="share_form")
        st.caption(_how_long(spec, rows))


def _form() -> SpeedupSpec | None:
    what = parts.choice("What", "what", WHAT, TIMING_WORDS)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        network = _backbone() if what == "backbone" else _architecture()
        mode = st.segmented_control(
            "Time",
            list(labels.MODES),
            default="inference",
            required=True,
            format_func=labels.MODES.__getitem__,
            key="time",
            bind="query-params",
            help="Inference: the backbone alone. Online training (the study's section 3.6): images are decoded and "
            "augmented, go through the backbone, and train a linear classifier, in batches of 64.",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = _engines(mode)
        how = _inference_options() if mode == "inference" else _training_options()
        threads = st.number_input(
            "Threads", 1, machine.cores(), machine.cores(), key="use_threads", bind="query-params", width=110
        )
    for name in ENGINES:
        if availability.missing(name):
            st.caption(f"{ENGINES[name]} is not offered: {availability.missing(name)}")
    if not (network and chosen and how):
        return None
    all_cores = threads == machine.cores()
    try:
        return SpeedupSpec(**network, engines=chosen, threads=0 if all_cores else int(threads), mode=mode, **how)
    except InputError as error:
        st.error(frame.plain(str(error)))
        return None


def _backbone() -> dict[str, Any] | None:
    cards = {card.name: card for card in library.available(home()) if card.sparsity and card.ready}
    sparsest = max(range(len(cards)), key=lambda at: list(cards.values())[at].sparsity)
    name = parts.selectbox(
        "Backbone",
        list(cards),
        index=sparsest,
        format_func=lambda name: labels.backbone_label(cards[name]),
        key="backbone",
        width=400,
        help="The sparse ones on this machine. Networks of yours come in on the Library page.",
    )
    return {"backbone": name}


def _architecture() -> dict[str, Any] | None:
    architecture = st.selectbox(
        "Architecture",
        list(ARCHITECTURES),
        format_func=architecture_label,
        key="of_architecture",
        bind="query-params",
        width=200,
    )
    alike = {
        card.name: f"As in {labels.backbone_label(card)}"
        for card in library.available(home())
        if card.architecture == architecture and card.sparsity and card.ready
    }
    zeros = {**DISTRIBUTION_NAMES, **alike}
    distribution = st.selectbox(
        "Zeros",
        list(zeros),
        format_func=zeros.__getitem__,
        key="distribution",
        bind="query-params",
        width=260,
        help="Uniform: each convolution but the first alike. Erdős–Rényi-Kernel: small layers keep more of their weights, "
        "as in RigL. As in a backbone: each layer is as sparse as that of the backbone.",
    )
    if distribution in alike:
        return {"architecture": architecture, "densities_of": distribution}
    sparsity = st.number_input(
        "Sparsity (%)", 1.0, 99.9, 90.0, 1.0, format="%g", key="to_sparsity", bind="query-params", width=130
    )
    return {"architecture": architecture, "sparsity": round(float(sparsity) / 100, 5), "distribution": distribution}


def _engines(mode: str) -> tuple[str, ...]:
    there = [name for name in ENGINES if not availability.missing(name)]
    if mode == "training":
        engine = st.selectbox(
            "Engine", there, format_func=ENGINES.__getitem__, key="engine", bind="query-params", width=180
        )
        return (engine,)
    chosen = st.multiselect(
        "Engines",
        there,
        default=there,
        format_func=ENGINES.__getitem__,
        key="engines",
        bind="query-params",
        width=400,
        help="DeepSparse makes use of zeros. The others compute them, too: they are the control.",
    )
    if not chosen:
        st.info("Choose an engine.")
    return tuple(chosen)


def _inference_options() -> dict[str, Any] | None:
    sizes = st.multiselect(
        "Batch sizes", BATCH_SIZES, default=(1, 64), format_func=str, key="sizes", bind="query-params", width=230
    )
    rounds = st.number_input(
        "Rounds", 3, 200, 10, key="rounds", bind="query-params", width=110, help="Times of dense and sparse, in turn."
    )
    if not sizes:
        st.info("Choose a batch size.")
        return None
    return {"batch_sizes": tuple(sorted(sizes)), "rounds": int(rounds)}


def _training_options() -> dict[str, Any] | None:
    choice = transfer_controls.dataset_choice()
    epochs = st.number_input("Epochs", 1, 100, 1, key="times_epochs", bind="query-params", width=110)
    dataset = transfer_controls.named_dataset(choice)
    return {"dataset": dataset, "epochs": int(epochs)} if dataset else None


def _how_long(spec: SpeedupSpec, rows: pd.DataFrame) -> str:
    architecture = spec.architecture
    if spec.backbone:
        architecture = next(card.architecture for card in library.available(home()) if card.name == spec.backbone)
    seconds = speed_tables.estimated_seconds(spec, architecture, rows[rows["machine"] == _this_machine()])
    if seconds is None:
        return "How long it takes is told while it runs: nothing like it was measured here yet."
    return f"About {labels.duration(seconds)} on this machine. Let it rest meanwhile: other work makes times spread."


def _this_machine() -> str:
    told = machine.machine()
    return speed_tables.machine_label(told["processor"], told["cores"])


def _result(record: dict[str, Any], network_labels: dict[str, str]) -> None:
    """What came out, in words."""
    rows = speed_tables.table(home(), [record], network_labels)
    _lines(record, rows)
    if record["timing_only"]:
        st.caption("Timing only: the mask was put into a network with random weights. It says nothing of accuracy.")


def _lines(record: dict[str, Any], rows: pd.DataFrame) -> None:
    """Each line of a measurement as a sentence, what could not be measured, what is doubtful, and the machine."""
    icons = {"faster": ":material/speed:", "no gain": ":material/remove:", "slower": ":material/trending_down:"}
    st.markdown("\n".join(f"- {icons[row.gain]} {speed_tables.sentence(row)}" for row in rows.itertuples()))
    for row in rows.dropna(subset=["accuracy"]).itertuples():
        st.caption(f"Top-1 accuracy on the test images after this training: {labels.percent(row.accuracy)} %.")
    for problem in record.get("problems") or ():
        st.warning(problem)
    doubts = speed_tables.reliability_warnings(rows)
    if doubts:
        st.warning(f"Unreliable. {' '.join(doubts)} Measure again when the machine rests.")
    st.caption(f"Measured on {speed_tables.machine_description(record)}")


def _controls(rows: pd.DataFrame) -> Controls:
    machines = list(dict.fromkeys(rows["machine"].iloc[::-1]))
    here = _this_machine()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Machine",
            machines,
            index=machines.index(here) if here in machines else 0,
            format_func=lambda name: f"This one: {name}" if name == here else name,
            key="machine",
            bind="query-params",
            width=330,
            help="Times of different machines do not compare, so only one is shown.",
        )
        of_machine = rows[rows["machine"] == chosen]
        architectures = list(dict.fromkeys(of_machine["architecture"].iloc[::-1]))
        architecture = st.selectbox(
            "Architecture",
            architectures,
            format_func=architecture_label,
            key="timed_architecture",
            bind="query-params",
            width=190,
            help="Those that were measured, the newest first.",
        )
        there = of_machine[of_machine["architecture"] == architecture]
        modes = [mode for mode in labels.MODES if mode in set(there["mode"])]
        mode = modes[0]
        if len(modes) > 1:
            words = "Inference: the backbone alone. Online training: decoding, backbone and a classifier's steps."
            mode = parts.choice("Speed of", "mode", {name: labels.MODES[name] for name in modes}, words)
        there = there[there["mode"] == mode]
        wanted = st.multiselect(
            "Engines",
            [name for name in ENGINES if name in set(there["engine"])],
            placeholder="All",
            format_func=ENGINES.__getitem__,
            key="only_engines",
            bind="query-params",
            width=260,
        )
        threads = _most_used("Threads", there, "threads", "threads")
        size = _most_used("Batch size", there, "batch_size", "batch_size") if mode == "inference" else None
    if len(machines) > 1:
        others = labels.counted(len(machines) - 1, "other machine")
        st.caption(f"Measurements of {others} are left out of the charts: choose above.")
    return Controls(chosen, architecture, mode, wanted, size, threads)


def _most_used(label: str, rows: pd.DataFrame, column: str, key: str) -> int:
    """The control for one of a column's numbers, at first the one with the most sparsities; none where there is one only."""
    sparsities = rows.groupby(column)["sparsity"].nunique()
    options = [int(value) for value in sparsities.index]
    if len(options) == 1:
        return options[0]
    most = max(range(len(options)), key=lambda at: (sparsities.iloc[at], options[at]))
    return st.selectbox(label, options, index=most, format_func=str, key=key, bind="query-params", width=110)


def _chart(controls: Controls, rows: pd.DataFrame) -> None:
    """The answer: the best that was measured, the speed against sparsity, and where there was nothing to gain."""
    shown = controls.pick(rows)
    if shown.empty:
        st.info("No measurement fits these choices. Choose other engines, or measure what is missing above.")
        return
    _headline(shown)
    what = labels.MODES[controls.mode].lower()
    batch = f"batch {controls.batch_size or 64}, {labels.counted(controls.threads, 'thread')}"
    parts.show_chart(
        captions.with_caption(
            speed_charts.speedup(shown, "sparsity"),
            "How much faster, at which sparsity?",
            f"{architecture_label(controls.architecture)} · {what}, {batch} · dense median over sparse median with its "
            "95 % interval · higher is better, above 1 is faster than dense in the same engine",
            _caption(controls, shown),
        ),
        key="speedup",
        name=f"speedup-{controls.architecture}",
        alt="How many times as fast as dense, against sparsity, a line an engine",
        table=speed_tables.by_sparsity(shown),
        beside=parts.share,
    )
    st.caption("  \n".join([*speed_tables.not_faster(shown), STUDY_WORDS]))


def _headline(shown: pd.DataFrame) -> None:
    faster = shown[shown["gain"] == "faster"]
    if faster.empty:
        st.markdown("**No gain here.** No interval of these measurements lies above 1.")
        return
    trusted = faster[faster["reliable"].astype(bool)]
    best = (faster if trusted.empty else trusted).sort_values("ratio_low").tail(1)
    (row,) = best.itertuples()
    st.markdown(f"Best here: **{speed_tables.sentence(row)}**.")


def _caption(controls: Controls, shown: pd.DataFrame) -> str:
    """What must be said of these rows: machine, dates, what is timing only, what is unreliable."""
    days = sorted({f"{made:%Y-%m-%d}" for made in shown["created_at"]})
    words = [f"Measured on {controls.machine}, {' to '.join(dict.fromkeys((days[0], days[-1])))}"]
    if shown["timing_only"].any():
        words.append("Timing only (dotted): a mask in a network with random weights, which has no accuracy")
    if not shown["reliable"].all():
        words.append(f"Hollow markers are {speed_tables.UNRELIABLE}")
    words.append("The newest measurement of each counts")
    return ". ".join([*words, f"Sparse Transfer Lab, {date.today():%Y-%m-%d}"]) + "."


def _by_batch_size(controls: Controls, rows: pd.DataFrame) -> None:
    shown = controls.pick(rows, any_batch=True)
    if controls.mode != "inference":
        st.info("Online training runs in batches of 64, as in the study. Choose the speed of inference above.")
        return
    if shown.empty:
        return  # said above
    sizes = shown.groupby("network", sort=False)["batch_size"].nunique()
    network = parts.selectbox(
        "Network",
        list(sizes.index),
        index=int(sizes.argmax()),
        key="network",
        width=420,
    )
    shown = shown[shown["network"] == network]
    parts.show_chart(
        captions.with_caption(
            speed_charts.speedup(shown, "batch_size"),
            "How much faster, at which batch size?",
            f"{network} · inference, {labels.counted(controls.threads, 'thread')} · dense median over sparse median with its "
            "95 % interval · higher is better, above 1 is faster than dense in the same engine",
            _caption(controls, shown),
        ),
        key="batches",
        name=f"speedup-batch-{controls.architecture}",
        alt="How many times as fast as dense, against batch size, a line an engine",
        table=shown[["engine_words", "batch_size", "ratio", "ratio_low", "ratio_high", "gain", "reliable"]],
    )
    if len(sizes) and shown["batch_size"].nunique() == 1:
        st.caption("Only one batch size was measured of it. Measure others above to see how it changes.")


def _against_accuracy(store: Store, controls: Controls, rows: pd.DataFrame) -> None:
    timed = rows[(rows["machine"] == controls.machine) & (rows["mode"] == "inference")]
    timed = timed[~timed["timing_only"].astype(bool)]
    runs = store.results(source="measured").dropna(subset=["accuracy_best"])
    if timed.empty or runs.empty:
        missing = "the speed of no backbone was measured (masks for timing only have no accuracy)"
        st.info(
            f"Nothing to show yet: {missing if timed.empty else 'no backbone was transferred to a task on this machine'}. "
            "This chart needs both, speed and accuracy, of the same backbone."
        )
        if not timed.empty:
            parts.backbone_links(timed["backbone"].iloc[-1])
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picked, task = parts.measured_task(runs)
        engine = st.selectbox(
            "Engine",
            [FASTEST, *dict.fromkeys(timed["engine"])],
            format_func=lambda name: ENGINES.get(name, name),
            key="front_engine",
            bind="query-params",
            width=190,
        )
        timed = timed if engine == FASTEST else timed[timed["engine"] == engine]
        threads = _most_used("Threads", timed, "threads", "front_threads")
        timed = timed[timed["threads"] == threads]
        size = _most_used("Batch size", timed, "batch_size", "front_batch")
        axis = parts.choice("Speed as", "speed_axis", speed_charts.SPEED_AXES, "The same, told in two ways.")
    timed = speed_tables.latest(timed[timed["batch_size"] == size])
    table = speed_tables.speed_and_accuracy(timed, picked)
    if table.empty:
        st.info(
            f"No backbone that was timed at batch {size} was transferred to this task. Choose another, or probe one:"
        )
        parts.backbone_links(timed["backbone"].iloc[-1])
        return
    better = "left" if axis == "milliseconds_per_image" else "right"
    metric = METRICS.get(picked["metric"].iloc[0], "accuracy")
    single = " n = 1 where no interval is drawn upright." if (table["runs"] == 1).any() else ""
    parts.show_chart(
        captions.with_caption(
            speed_charts.accuracy_against_speed(table, axis),
            "Which backbones give the most accuracy for their time?",
            f"{task} · {metric}, mean ± standard deviation over {labels.counted(int(table['runs'].sum()), 'run')}; median "
            f"time with quartiles, batch {size}, {labels.counted(threads, 'thread')} · up and to the {better} is better, "
            "nothing beats the grey line in both",
            f"{_caption(controls, timed)} Best over a run's epochs on test data (optimistic). Dense: timed beside the sparse "
            f"ones.{single}",
        ),
        key="front",
        name="accuracy-speed",
        alt="Accuracy against speed of each backbone, with the Pareto front",
    )
    parts.show_table(
        table.drop(columns="backbone_hash"),
        key="front_table",
        name="accuracy-speed",
        columns=PARETO_COLUMNS,
        column_config=_formats(),
    )


def _online_training(
    store: Store, controls: Controls, records: list[dict[str, Any]], rows: pd.DataFrame, network_labels: dict[str, str]
) -> None:
    of_machine = rows[rows["machine"] == controls.machine]
    training = speed_tables.latest(of_machine[of_machine["mode"] == "training"])
    if training.empty:
        st.info("No online training was timed on this machine yet. Choose Online training under Measure this machine.")
        return
    _training_against_accuracy(store, controls, training)
    st.markdown("**How much faster does training become, by sparsity?** Ratio with its 95 % interval.")
    by_sparsity = speed_tables.by_sparsity(training)
    parts.show_table(by_sparsity, key="by_sparsity", name="training-speedup")
    _epoch_split(controls, records, training, network_labels)


def _training_against_accuracy(store: Store, controls: Controls, training: pd.DataFrame) -> None:
    compared = speed_tables.training_with_accuracy(training, store.results(source="measured"))
    lonely = speed_tables.missing_accuracy(compared)
    known = compared.dropna(subset=["difference"])
    if known.empty:
        why = "; ".join(lonely) or "only masks for timing were trained, which have no accuracy"
        st.info(
            f"The chart of training speed against accuracy has nothing to show yet: {why}. It needs linear probes of the "
            "sparse and of the dense backbone on the same task."
        )
        st.page_link("pages/probe.py", label="Launch a probe", icon=":material/science:")
        return
    parts.show_chart(
        captions.with_caption(
            speed_charts.training_against_accuracy(known),
            "What does the speed of training cost in accuracy?",
            "Online linear training over dense, with its 95 % interval · accuracy of linear transfer over dense, ± standard "
            "deviation over seeds · up and to the right is better",
            f"{_caption(controls, training[~training['timing_only'].astype(bool)])} Accuracy: best over epochs of linear "
            f"probes of the same backbones on the same tasks. {'; '.join(known['protocol'].unique())}.",
        ),
        key="training",
        name="training-accuracy",
        alt="Accuracy difference to dense against the speedup of online training",
        table=known[TRAINING_COLUMNS],
    )
    if lonely:
        st.caption(f"Not in the chart: {'; '.join(lonely)}.")


def _epoch_split(
    controls: Controls, records: list[dict[str, Any]], training: pd.DataFrame, network_labels: dict[str, str]
) -> None:
    newest = list(dict.fromkeys(training["measurement"].iloc[::-1]))
    by_id = {record["id"]: record for record in records}
    table = speed_tables.epoch_split(home(), [by_id[name] for name in newest[:SPLIT_SHOWN]], network_labels)
    if table.empty:
        return
    more = f" The newest {SPLIT_SHOWN} of {len(newest)} are shown." if len(newest) > SPLIT_SHOWN else ""
    datasets = ", ".join(dict.fromkeys(map(task_label, table["dataset"])))
    parts.show_chart(
        captions.with_caption(
            speed_charts.epoch_split(table),
            "Where does the time of an epoch go?",
            f"Online training on {datasets} · mean seconds an epoch, dense and sparse in the same pipeline · shorter is better",
            "Images are decoded and augmented beside the rest, so decoding is no part of a bar: the mark shows how long it "
            f"takes alone, and what is waited for it is in the bar.{more} {_caption(controls, training)}",
        ),
        key="split",
        name="training-split",
        alt="Seconds of an epoch by part, dense and sparse",
        table=table.drop(columns=["measurement", "architecture", "sparsity"]),
    )


def _time_by_layer(controls: Controls, records: list[dict[str, Any]], rows: pd.DataFrame) -> None:
    here = rows[(rows["machine"] == controls.machine) & (rows["architecture"] == controls.architecture)]
    by_id = {record["id"]: record for record in records}
    told: dict[str, pd.DataFrame] = {}
    for name, group in here.iloc[::-1].groupby("measurement", sort=False):
        for words, layers in speed_tables.layer_shares(by_id[name]).items():
            told.setdefault(f"{group['network'].iloc[0]}: {words}", layers)
    if not told:
        st.info(
            "No measurement of this architecture tells the time of each layer. Only those of inference in DeepSparse do."
        )
        return
    chosen = st.selectbox("Measurement", list(told), key="layers_of", bind="query-params", width=520)
    layers = told[chosen]
    parts.show_chart(
        captions.with_caption(
            speed_charts.layer_shares(layers),
            "Which layers take the time?",
            f"{chosen} · share of the sparse network's time, {labels.counted(len(layers), 'layer')} as the engine counts them",
            f"Measured apart from the ratio, on {controls.machine}. “other” is what belongs to no layer.",
        ),
        key="layers",
        name=f"time-by-layer-{controls.architecture}",
        alt="Share of the time that each layer takes",
        table=layers,
    )


def _all_measurements(records: list[dict[str, Any]], rows: pd.DataFrame) -> None:
    columns = [*COLUMNS, *(["machine"] if rows["machine"].nunique() > 1 else [])]
    newest = rows.iloc[::-1].reset_index(drop=True)
    parts.show_table(newest, key="measurements", name="speeds", columns=columns, column_config=_formats())
    first = newest.drop_duplicates("measurement")
    names = {
        f"{row.network}, {labels.MODES[row.mode].lower()} ({row.created_at:%d %b %H:%M}, {row.measurement[-4:]})": (
            row.measurement
        )
        for row in first.itertuples()
    }
    chosen = st.selectbox(
        "Look at",
        list(names),
        index=None,
        placeholder="Choose a measurement to see, download or delete it",
        key="look",
        bind="query-params",
        width=520,
    )
    if chosen is not None:
        record = next(record for record in records if record["id"] == names[chosen])
        _one(record, chosen, rows[rows["measurement"] == record["id"]])


def _one(record: dict[str, Any], words: str, lines: pd.DataFrame) -> None:
    """One measurement in words, its record, and the way to delete it."""
    with st.container(border=True):
        _lines(record, lines)
        with st.container(horizontal=True):
            st.download_button(
                "Record (JSON)",
                json.dumps(record, indent=1),
                f"speed-{record['id']}.json",
                "application/json",
                on_click="ignore",
                icon=":material/download:",
                help="Everything that is known of it: all samples, machine, versions, settings.",
            )
            if st.button("Delete …", icon=":material/delete:"):
                _ask_to_delete(record["id"], words)


@st.dialog("Delete this measurement?")
@frame.faults_in_words()
def _ask_to_delete(measurement: str, words: str) -> None:
    st.write(f"{words} disappears from this page. You can undo it afterwards.")
    if st.button("Delete", type="primary"):
        measurements.delete(home(), measurement)
        st.session_state["deleted_speed"] = measurement
        st.session_state["look"] = None
        st.rerun()


def _offer_undo() -> None:
    measurement = st.session_state.get("deleted_speed")
    if not measurement:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info("The measurement was deleted.")
        if st.button("Undo", icon=":material/undo:"):
            measurements.restore(home(), measurement)
            del st.session_state["deleted_speed"]
            st.rerun()


def _formats() -> dict[str, Any]:
    """How the numbers of the table are shown: three digits are enough for times and ratios."""
    decimals = ["ratio", "ratio_low", "ratio_high", "milliseconds_per_image", "dense_milliseconds_per_image"]
    decimals += ["images_per_second", "seconds_to_compile", "load_before", "load_after"]
    formats = {name: st.column_config.NumberColumn(parts.heading(name), format="%.2f") for name in decimals}
    made = st.column_config.DatetimeColumn(parts.heading("created_at"), format="YYYY-MM-DD HH:mm")
    return {**formats, "created_at": made}


main()
