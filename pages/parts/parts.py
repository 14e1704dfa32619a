"""What the pages share: the store, charts and tables with their downloads, and the link to a view."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.parts import buttons, frame
from pages.parts.frame import home
from sparse_core.catalog import ENGINES, METRICS, PAPER_ARCHITECTURES, TRANSFERS, architecture_label, task_label
from sparse_core.errors import unknown_name
from sparse_core.networks import library
from sparse_core.results import comparisons
from sparse_core.results.records import Record, Records
from sparse_core.results.store import Store, default_database
from sparse_core.views import footnotes, labels, runs
from sparse_core.views.charts import captions, training
from sparse_core.views.labels import MODES

CURVE_TITLES = {
    "accuracy": ("How did the accuracy grow?", "on the test data after each epoch, higher is better"),
    "loss": ("Did the training settle?", "mean training loss of each epoch, lower is better"),
}
USES = {
    "probe": "Probe it",
    "finetune": "Finetune it",
    "structure": "See its structure",
    "speedup": "Measure its speed",
}

HEADINGS = {
    "sparsity": "Sparsity (%)",
    "measured_sparsity": "Measured sparsity (%)",
    "sparsity_before": "Sparsity before (%)",
    "sparsity_after": "Sparsity after (%)",
    "row": "Network",
    "dataset": "Task",
    "dataset_hash": "Task's content",
    "accuracy_best": "Best accuracy (%)",
    "accuracy_final": "Final accuracy (%)",
    "accuracy": "Accuracy (%)",
    "lowest": "95 % interval from (%)",
    "highest": "95 % interval to (%)",
    "accuracy_mean": "Mean accuracy (%)",
    "accuracy_std": "Standard deviation (points)",
    "baseline_accuracy": "Dense accuracy (%)",
    "baseline_runs": "Dense runs",
    "difference": "Difference to dense (points)",
    "relative_error_increase": "Relative error increase (%)",
    "mean_relative_error_increase": "Mean relative error increase (%)",
    "standard_error": "Standard error (%)",
    "difficulty": "Difficulty (points)",
    "front": "On the front",
    "filters_pruned_share": "Filters pruned, of all (%)",
    "mean_layer_filters_pruned_share": "Filters pruned, mean over layers (%)",
    "filters_dead_share": "Filters that can be removed (%)",
    "parameters_removable": "Parameters that can be removed",
    "filters_removable": "Filters that can be removed",
    "channels_removable": "Channels that can be removed",
    "nonzero": "Nonzero parameters",
    "multiply_adds": "Multiply-adds",
    "multiply_adds_sparse": "Multiply-adds of nonzero weights",
    "multiply_adds_removable": "Multiply-adds that can be removed",
    "file_size": "File size (bytes)",
    "overlap": "In common (%)",
    "overlap_by_chance": "In common by chance (%)",
    "error": "Error (%)",
    "mode": "Timed",
    "origin": "Mask of",
    "engine_words": "Engine",
    "milliseconds_per_image": "Milliseconds an image",
    "dense_milliseconds_per_image": "Milliseconds an image, dense",
    "quartile_low": "Milliseconds an image, lower quartile",
    "quartile_high": "Milliseconds an image, upper quartile",
    "dense_quartile_low": "Milliseconds an image, dense, lower quartile",
    "dense_quartile_high": "Milliseconds an image, dense, upper quartile",
    "ratio": "Times as fast as dense",
    "ratio_low": "95 % interval from",
    "ratio_high": "95 % interval to",
    "gain": "Verdict",
    "images_per_second": "Images a second",
    "seconds_per_epoch": "Seconds an epoch",
    "dense_seconds_per_epoch": "Seconds an epoch, dense",
    "seconds_to_compile": "Seconds to compile",
    "peak_memory_bytes": "Memory of the engine, peak (bytes)",
    "output_difference": "Difference to PyTorch's output",
    "spread": "Spread of times (%)",
    "busy_before": "Other work before (%)",
    "busy_during": "Other work meanwhile (%)",
    "load_before": "Load before",
    "load_after": "Load after",
    "share": "Share of time (%)",
    "rounds": "Pairs of times",
    "run_id": "Run",
    "created_at": "Made at",
}
RUN_COLUMNS = [
    "source",
    "architecture",
    "method",
    "sparsity",
    "transfer",
    "dataset",
    "seed",
    "accuracy_best",
    "accuracy_final",
]
PERCENT = {name for name, heading in HEADINGS.items() if heading.endswith(("(%)", "(points)"))}
COUNTS = set(labels.SIZES)
ROUNDING = 0.005  # a number is found by what the table shows of it
WORDS: dict[str, Callable[[str], str]] = {
    "source": str.capitalize,
    "architecture": architecture_label,
    "transfer": lambda transfer: TRANSFERS.get(transfer, transfer),
    "metric": lambda metric: METRICS.get(metric, metric),
    "dataset": task_label,
    "mode": lambda mode: MODES.get(mode, mode),
    "engine": lambda engine: ENGINES.get(engine, engine),
}


def store() -> Store:
    """The results, with every run that was finished or deleted until now."""
    frame.require_frame()
    handle = _open_store(home())
    handle.refresh()
    return handle


@st.cache_resource(show_spinner="Opening the results …")
def _open_store(folder: Path) -> Store:
    records = Records(folder)
    return Store(records, default_database(records))


def show_chart(
    figure: go.Figure,
    *,
    key: str,
    name: str,
    alt: str,
    on_select: bool | Callable[[], None] = False,
    table: pd.DataFrame | None = None,
    beside: Callable[[], None] | None = None,
) -> Any:
    """Draw a chart with its downloads beneath it, and the table behind it for keyboard and screen reader.

    ``name`` is the downloads' file name without ending, ``alt`` what a screen reader says. With ``on_select`` the
    points can be selected: True reruns the page, a function is called before that. Returns the selection or None.
    ``beside`` draws what else belongs into the row of downloads.
    """
    selectable: Any = on_select if callable(on_select) else "rerun" if on_select else "ignore"
    state = st.plotly_chart(figure, key=key, alt=alt, on_select=selectable, config={"displaylogo": False})
    with st.container(horizontal=True, vertical_alignment="center"):
        buttons.chart_downloads(figure, key=f"{key}_downloads", name=name, alt=alt)
        if table is not None:
            shown = st.popover("Table", key=f"{key}_table", on_change="rerun", help="The numbers behind this chart")
            if shown.open:
                with shown:
                    st.dataframe(_readable(table), hide_index=True, column_config=_column_config(table))
                    with st.container(horizontal=True):
                        _table_downloads(table, key=key, name=name)
        if beside is not None:
            beside()
    return state if on_select else None


def heading(column: str) -> str:
    """A column's name as people read it."""
    words = column.replace("_", " ")
    return HEADINGS.get(column, words[:1].upper() + words[1:])


def show_table(
    frame: pd.DataFrame,
    *,
    key: str,
    name: str,
    column_config: Mapping[str, Any] | None = None,
    columns: list[str] | None = None,
    title: Callable[[str], str] = heading,
) -> None:
    """A table that sorts, filters and downloads, in which the user chooses the columns; the choices are in the link.

    ``columns`` are those shown at first (all by default), ``title`` gives a column's heading. Fractions are shown in
    percent; the downloads hold the rows and columns on the screen, fractions as they are.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.text_input(
            "Filter rows",
            key=f"{key}_filter",
            placeholder="for example WoodFisher 90",
            help="Keeps the rows that contain every word",
            bind="query-params",
            width=260,
        )
        with st.popover("Columns", help="Choose what is shown"):
            chosen = st.multiselect(
                "Columns",
                list(frame.columns),
                default=columns or list(frame.columns),
                format_func=title,
                key=f"{key}_columns",
                bind="query-params",
            )
        rows = _containing(frame[chosen], wanted or "")
        _table_downloads(rows, key=key, name=name)
    if rows.empty:
        st.info(_why_empty(frame, chosen))
        return
    st.dataframe(
        _readable(rows),
        hide_index=True,
        key=f"{key}_rows",
        column_config={**_column_config(rows, title), **(column_config or {})},
        placeholder="–",
    )
    st.caption(f"{len(rows):,} of {len(frame):,} rows. Click a heading to sort.")


def _table_downloads(rows: pd.DataFrame, *, key: str, name: str) -> None:
    file = f"{name}-{date.today():%Y-%m-%d}"
    st.download_button(
        "CSV",
        lambda: rows.to_csv(index=False).encode(),
        f"{file}.csv",
        "text/csv",
        key=f"{key}_csv",
        on_click="ignore",
    )
    st.download_button(
        "Parquet",
        lambda: rows.to_parquet(index=False),
        f"{file}.parquet",
        "application/vnd.apache.parquet",
        key=f"{key}_parquet",
        on_click="ignore",
    )


def _why_empty(frame: pd.DataFrame, chosen: list[str]) -> str:
    if frame.empty:
        return "No rows yet."
    if not chosen:
        return "No column is chosen. Choose some under Columns."
    return "No row contains these words in the columns shown. Clear the filter to see all rows."


def show_runs(rows: pd.DataFrame, *, key: str) -> None:
    """The table of single runs, as the store gives them, with what must be said of them."""
    columns = [*RUN_COLUMNS, *(name for name in ("note", "tags") if name in rows and (rows[name] != "").any())]
    show_table(rows.drop(columns="spec"), key=key, name="runs", columns=columns)
    if comparisons.has_disputed_rows(rows):
        st.caption(footnotes.RIGL_NOTE)


def show_runs_in_depth(records: Sequence[Record]) -> None:
    """Curves, per-class accuracy and confusion matrix of the runs of one job."""
    result = records[0].result
    words = f"{result['method']} {labels.sparsity_label(result['sparsity'])}" if result["sparsity"] else "Dense"
    transfer = TRANSFERS[records[0].spec["transfer"]].lower()
    network = (
        f"{architecture_label(result['architecture'])} ({words}) on {task_label(result['dataset_name'])}, {transfer}"
    )
    caption = f"{labels.counted(len(records), 'run')} of yours, {result['created_at'][:10]}. {result['protocol']}."
    name = f"{result['architecture']}-{result['dataset_name']}"
    table = runs.curves(records)
    value = curve_choice("curve", result["metric"])
    title, better = CURVE_TITLES["loss" if value == "loss" else "accuracy"]
    show_chart(
        captions.with_caption(training.learning_curves(table, value), title, f"{network} · {better}", caption),
        key="curves",
        name=f"curves-{name}",
        alt=f"{title} One line a seed, over the epochs",
        table=table,
    )
    counts = runs.confusion(records)
    class_names = result["class_names"]
    summed = f"sum over {labels.counted(len(records), 'seed')}, last epoch"
    show_chart(
        captions.with_caption(
            training.per_class_accuracy(counts, class_names),
            "Which classes are hard?",
            f"{network} · {summed}",
            caption,
        ),
        key="classes",
        name=f"classes-{name}",
        alt="Accuracy of each class, hardest first",
        table=runs.per_class(counts, class_names),
    )
    show_chart(
        captions.with_caption(
            training.confusion_matrix(counts, class_names), "What is taken for what?", f"{network} · {summed}", caption
        ),
        key="confusion",
        name=f"confusion-{name}",
        alt="Confusion matrix: true classes against predicted ones",
        table=pd.DataFrame(counts, index=class_names, columns=class_names).rename_axis("true class").reset_index(),
    )


def curve_choice(key: str, metric: str) -> str:
    """The control for the curve that is drawn; gives the column of ``metric`` or that of the loss."""
    chosen = st.segmented_control(
        "Curve",
        ["accuracy", "loss"],
        default="accuracy",
        required=True,
        format_func=str.capitalize,
        key=key,
        bind="query-params",
    )
    return "loss" if chosen == "loss" else metric


def backbone_links(name: str) -> None:
    """Links to the pages that use a backbone, with this one chosen."""
    card = next((card for card in library.available(home()) if card.name == name), None)
    if card is None:
        return
    chosen = {"backbone": labels.backbone_label(card)}
    with st.container(horizontal=True):
        for page, _, icon in frame.PAGES:
            if page in USES and (page != "speedup" or card.sparsity):
                form = {"measure": "true"} if page == "speedup" else {}
                st.page_link(f"pages/{page}.py", label=USES[page], icon=icon, query_params={**chosen, **form})


def share(command: str | None = None, key: str = "share_link") -> None:
    """A button that opens the link to exactly this view and, where there is one, the command that gives its figures."""
    with st.popover("Share", icon=":material/share:", help="A link to exactly this view, or the same as a command"):
        st.markdown("**Link.** It opens exactly this view: page, filters and selection.")
        buttons.link_field(key=key)
        if command:
            st.markdown("**Command.** The same figures as JSON, for a script.")
            st.code(command, language="bash", wrap_lines=True)


def selectbox(
    label: str, options: Sequence[Any], *, key: str, format_func: Callable[[Any], str] = str, **more: Any
) -> Any:
    """``st.selectbox`` in the link; says so where the link names an option that there is not."""
    _say_unknown(label, key, map(format_func, options))
    return st.selectbox(label, options, key=key, format_func=format_func, bind="query-params", **more)


def multiselect(
    label: str, options: Sequence[Any], *, key: str, format_func: Callable[[Any], str] = str, **more: Any
) -> list[Any]:
    """``st.multiselect`` in the link; says so where the link names an option that there is not."""
    _say_unknown(label, key, map(format_func, options))
    return st.multiselect(label, options, key=key, format_func=format_func, bind="query-params", **more)


def _say_unknown(label: str, key: str, known: Iterable[str]) -> None:
    """Streamlit would leave such a name out without a word, and show another view than the one that was asked for."""
    if key not in st.query_params:
        return
    names = list(known)
    for name in st.query_params.get_all(key):
        if name not in names:
            unknown = unknown_name(f"choice under {label}", name, names)
            message = frame.plain(f"The link asks for more than there is here. {unknown}")
            st.toast(message, icon=":material/link_off:", duration="infinite")


def architecture_choice(store: Store) -> str:
    """The control that chooses among the architectures of the study and those measured here, ResNet50 first."""
    names = {*PAPER_ARCHITECTURES, *store.values("architecture")}
    return selectbox(
        "Architecture",
        sorted(names, key=lambda name: (name != "resnet50", architecture_label(name))),
        format_func=architecture_label,
        key="architecture",
        persist_state="session",
        width=190,
        help="The network's layout. Sparse networks are compared with the dense one of the same layout.",
    )


def source_choice() -> str:
    """The control for ``all``, ``published`` or ``measured`` results."""
    options = {"all": "Published and measured", "published": "Published", "measured": "Measured"}
    words = "Published: the study's runs. Measured: runs made on this machine. They are never averaged together."
    return choice("Results", "source", options, words)


def accuracy_choice() -> str:
    """The control for the accuracy that counts: ``best`` over epochs, or ``final``."""
    words = (
        "Best epoch is the study's convention and optimistic, for it is chosen on the test data. "
        "The last epoch is known for measured runs only."
    )
    return choice("Accuracy", "accuracy", {"best": "Best epoch", "final": "Last epoch"}, words)


def choice(label: str, key: str, options: Mapping[str, str], words: str) -> str:
    """One of a few options (name to words), the first by default, kept in the link and from page to page."""
    _say_unknown(label, key, options.values())
    return st.segmented_control(
        label,
        list(options),
        default=next(iter(options)),
        required=True,
        format_func=options.__getitem__,
        key=key,
        bind="query-params",
        persist_state="session",
        help=words,
    )


def task_order() -> str:
    """The control that orders tasks: ``difficulty`` or ``name``."""
    words = "A task is difficult where full transfer gives the dense network much more than linear; easiest first."
    return choice("Order of tasks", "order", {"difficulty": "By difficulty", "name": "By name"}, words)


def tasks(architecture: str, order: str) -> dict[str, float]:
    """The tasks of an architecture in that order, with their difficulty: see ``views.ordered_tasks``."""
    handle = store()
    return _tasks(handle, handle.version, architecture, order)


@st.cache_data(show_spinner=False, max_entries=50)
def _tasks(_handle: Store, version: tuple[int, ...], architecture: str, order: str) -> dict[str, float]:
    return comparisons.ordered_tasks(_handle.results(architecture=architecture), order)


def measured_task(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The control for one task and transfer of these measured runs, the one with most backbones first; its runs and name."""
    key = ["dataset", "dataset_hash", "transfer", "metric"]
    counts = runs.groupby(key).agg(backbones=("backbone", "nunique"), runs=("run_id", "size")).reset_index()
    counts = counts.sort_values(["backbones", "runs"], ascending=False)
    options = {_task_name(row, counts): tuple(row[name] for name in key) for _, row in counts.iterrows()}
    chosen = selectbox("Task", list(options), key="task", width=330)
    return runs[(runs[key] == list(options[chosen])).all(axis=1)], chosen


def _task_name(row: pd.Series, rows: pd.DataFrame) -> str:
    """A task and transfer in words, with the start of its content's hash where two tasks share a name."""
    alike = rows[(rows["dataset"] == row["dataset"]) & (rows["transfer"] == row["transfer"])]
    words = f"{task_label(row['dataset'])}, {TRANSFERS[row['transfer']].lower()}"
    return words if len(alike) == 1 else f"{words} ({row['dataset_hash'][:6]}, {METRICS[row['metric']]})"


def show_everything(store: Store, architecture: str, unfiltered: Mapping[str, Any]) -> None:
    """The button out of an empty view: no filter, and another architecture where this one has no rows at all."""
    values = dict(unfiltered)
    if architecture not in store.values("architecture"):
        values["architecture"] = "resnet50"
    st.button("Show everything again", on_click=set_controls, args=(values,), type="primary")


def set_controls(values: Mapping[str, Any]) -> None:
    """Set several controls at once, by key; for a button's ``on_click``."""
    for key, value in values.items():
        st.session_state[key] = value


def _containing(frame: pd.DataFrame, words: str) -> pd.DataFrame:
    """The rows with every word: in the text of a column, or as a number of its own."""
    if not words.strip():
        return frame
    shown = _readable(frame)
    numbers = shown.select_dtypes("number")
    text = shown.drop(columns=numbers.columns).astype(str).agg(" ".join, axis=1).str.lower()
    keep = pd.Series(True, index=frame.index)
    for word in words.lower().split():
        keep &= text.str.contains(word, regex=False) | np.isclose(numbers, _number(word), atol=ROUNDING).any(axis=1)
    return frame[keep]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    shown = frame.copy()
    for name in shown.columns:
        if name in PERCENT:
            shown[name] = shown[name] * 100
        elif name in WORDS:
            shown[name] = shown[name].map(WORDS[name])
    return shown


def _column_config(frame: pd.DataFrame, title: Callable[[str], str] = heading) -> dict[str, Any]:
    config: dict[str, Any] = {name: st.column_config.Column(title(name)) for name in frame.columns}
    for name in PERCENT & set(frame.columns):
        config[name] = st.column_config.NumberColumn(title(name), format=_percent_format(name))
    for name in COUNTS & set(frame.columns):
        config[name] = st.column_config.NumberColumn(title(name), format="localized")
    return config


def _percent_format(column: str) -> str:
    if column == "sparsity":
        return "%.4g"
    return "%.2f" if column in ("accuracy_std", "standard_error") else "%.1f"
