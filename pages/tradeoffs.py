"""Tradeoffs: how much accuracy each way of pruning costs on a new task, against sparsity or the network's size."""

import shlex
from dataclasses import dataclass
from datetime import date

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.parts import parts
from sparse_core.catalog import METHODS, TASKS, TRANSFERS, architecture_label, task_label
from sparse_core.results import comparisons, measures
from sparse_core.results.store import Store
from sparse_core.views import footnotes, labels, task_tables
from sparse_core.views.charts import captions, tradeoffs
from sparse_core.views.charts import tasks as task_charts

BOTH = "both"
TRANSFER_CHOICES = {BOTH: "Both", **labels.TRANSFER_NAMES}
MEASURED_ON = {"linear": "Probe", "full": "Finetune"}
NEAR = 0.011  # M-FAC was run at 89 % where others were at 90 %
AXES = {"sparsity": "Sparsity", **{name: size.label for name, size in labels.SIZES.items()}}
TABS = ["Averages", "Accuracy per task", "Pareto front", "Runs"]
UNFILTERED = {
    "transfer": BOTH,
    "source": "all",
    "accuracy": "best",
    "axis": "sparsity",
    "methods": [],
    "tasks": [],
    "sparsity": (0, 100),
    "points": [],
}

SUMMARY_COLUMNS = ["source", "transfer", "method", "sparsity", "mean_relative_error_increase", "standard_error"]
SUMMARY_COLUMNS += ["tasks", "runs"]
TASK_COLUMNS = ["source", "task", "transfer", "method", "sparsity", "accuracy_mean", "accuracy_std", "runs"]
TASK_COLUMNS += ["difference", "relative_error_increase"]
PARETO_COLUMNS = ["transfer", "method", "sparsity", "accuracy_mean", "standard_error", "front", "tasks", "runs"]


@dataclass(frozen=True)
class Controls:
    """What the user chose to see."""

    architecture: str
    source: str
    transfers: list[str]
    accuracy: str
    methods: list[str]
    tasks: list[str]
    sparsity: tuple[float, float]
    lottery: bool
    axis: str

    @property
    def command(self) -> str:
        """The command line that gives the chart's figures."""
        words = ["python", "-m", "sparse_core", "summary", "--architecture", self.architecture]
        words += ["--transfer", self.transfers[0]] if len(self.transfers) == 1 else []
        words += ["--source", self.source if self.axis == "sparsity" else "measured"]  # only those have sizes
        words += ["--accuracy", self.accuracy] if self.accuracy != "best" else []
        words += ["--methods", *self.methods] if self.methods else []
        words += ["--tasks", *self.tasks] if self.tasks else []
        words += ["--sparsity", *map(str, self.sparsity)] if self.sparsity != (0.0, 1.0) else []
        words += ["--without-lottery"] if "linear" in self.transfers and not self.lottery else []
        return shlex.join([*words, "--json"])


@dataclass(frozen=True)
class View:
    """The runs that the controls leave, their averages with named points, and what has to be said of them."""

    rows: pd.DataFrame
    summary: pd.DataFrame
    filters: list[str]
    notes: list[str]

    def only(self, points: list[str]) -> "View":
        """The view narrowed to some points; all of it where none is given."""
        if not points:
            return self
        summary = self.summary[self.summary["point"].isin(points)]
        rows = comparisons.underlying_runs(self.rows, summary)
        notes = [*footnotes.row_notes(rows), *footnotes.single_task_notes(summary)]
        return View(rows, summary, [*self.filters, f"Only {'; '.join(points)}"], notes)


def main() -> None:
    """Controls, the chart, and what stands behind it."""
    store = parts.store()
    controls = _controls(store)
    view = _view(store, store.version, controls)
    if view.summary.empty:
        _say_empty(store, controls)
        return
    above = st.container()  # the choice of points stands below the chart that shows it
    points = _points(view)
    with above:
        _chart(store, controls, view, points)
        _say_without_baseline(view.summary)
    _behind(controls, view.only(points), points)


@st.cache_resource(show_spinner=False, max_entries=50)
def _view(_store: Store, version: tuple[int, ...], controls: Controls) -> View:
    """What the controls leave; kept, and never changed, so that a click below the chart computes nothing twice."""
    rows = _store.results(
        source=controls.source,
        architecture=controls.architecture,
        methods=controls.methods or None,
        datasets=controls.tasks or None,
        sparsity=controls.sparsity,
    )
    rows = rows[rows["transfer"].isin(controls.transfers)].dropna(subset=[measures.ACCURACIES[controls.accuracy]])
    rows, left_out = rows[rows[controls.axis].notna()], int(rows[controls.axis].isna().sum())
    means = measures.summary(rows, controls.accuracy).sort_values("source", ascending=False, kind="stable")
    notes = footnotes.row_notes(rows)
    if not controls.lottery:
        hidden = comparisons.is_hidden_lottery_ticket(means)
        notes += footnotes.lottery_note(means[hidden])
        means, rows = means[~hidden], rows[~comparisons.is_hidden_lottery_ticket(rows)]
    notes += footnotes.single_task_notes(means)
    if (rows["source"] == "measured").any():
        notes.append("Measured lines are dashed, their markers open")
    filters = footnotes.filter_notes(controls.methods, controls.tasks, controls.sparsity)
    filters += footnotes.size_notes(controls.axis, left_out)
    means = labels.name_points(comparisons.with_sizes(means, rows))
    return View(rows, means, filters, notes)


def _controls(store: Store) -> Controls:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        architecture = parts.architecture_choice(store)
        transfer = parts.choice(
            "Transfer",
            "transfer",
            TRANSFER_CHOICES,
            "Linear: the network is frozen and only a new classifier is trained. "
            "Full: every weight that was not pruned is trained, too.",
        )
        source = parts.source_choice()
        accuracy = parts.accuracy_choice()
    there = _there(store, store.version, architecture)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        methods = parts.multiselect(
            "Methods",
            [method for method in METHODS if method != "Dense"],
            placeholder="All methods",
            key="methods",
            width=280,
            help="\n".join(f"- **{method.name}** {method.summary}" for method in METHODS.values()),
        )
        tasks = parts.multiselect(
            "Tasks",
            labels.task_choices({*TASKS, *there["dataset"]}),
            placeholder="All tasks",
            format_func=task_label,
            key="tasks",
            width=280,
            help="The data sets that the networks are moved to; averages are over these.",
        )
        low, high = st.slider(
            "Sparsity (%)",
            0,
            100,
            (0, 100),
            key="sparsity",
            bind="query-params",
            width=200,
            help="The share of a network's weights that are zero.",
        )
        lottery = st.toggle(
            "LTH-T, linear",
            key="lottery",
            bind="query-params",
            help="Lottery tickets under linear transfer make up to five times the errors of dense, so that nothing "
            "else could be read: the study leaves them out, and so does this page unless you ask.",
        )
        axis = parts.selectbox(
            "Against",
            list(AXES),
            format_func=AXES.__getitem__,
            key="axis",
            width=290,
            help="What the charts hold the accuracy against. Sizes count what is not 0. They are known of the networks "
            "measured on this machine; the study's rows come without its networks.",
        )
    transfers = list(TRANSFERS) if transfer == BOTH else [transfer]
    return Controls(architecture, source, transfers, accuracy, methods, tasks, (low / 100, high / 100), lottery, axis)


@st.cache_data(show_spinner=False, max_entries=20)
def _there(_store: Store, version: tuple[int, ...], architecture: str) -> pd.DataFrame:
    """Which results there are at all for this architecture; ``version`` makes a new run count at once."""
    rows = _store.results(architecture=architecture)
    return rows[["source", "method", "sparsity", "transfer", "dataset"]].drop_duplicates()


def _chart(store: Store, controls: Controls, view: View, points: list[str]) -> None:
    placed = view.summary.dropna(subset=["mean_relative_error_increase"])
    if placed.empty:
        return
    name = architecture_label(controls.architecture)
    parts.show_chart(
        _tradeoff(store, store.version, controls, points, date.today()),
        key="tradeoff",
        name=f"tradeoffs-{controls.architecture}",
        alt=f"Mean relative error increase over dense against {AXES[controls.axis].lower()}, {name}. Lower is better.",
        on_select=_take_selection,
        table=placed[_with_size(SUMMARY_COLUMNS, controls)],
        beside=lambda: parts.share(controls.command),
    )


@st.cache_resource(show_spinner=False, max_entries=50)
def _tradeoff(_store: Store, version: tuple[int, ...], controls: Controls, points: list[str], today: date) -> go.Figure:
    view = _view(_store, version, controls)
    placed = view.summary.dropna(subset=["mean_relative_error_increase"])
    transfers = comparisons.present(controls.transfers, placed)
    there = _there(_store, version, controls.architecture)
    published = there.loc[there["source"] == "published", "method"]
    methods = controls.methods or [method for method in METHODS if method != "Dense"]
    looked_for = len(published) and controls.source != "measured" and controls.axis == "sparsity"
    absent = footnotes.absent_methods(methods, published) if looked_for else {}
    name = architecture_label(controls.architecture)
    notes = [
        f"{TRANSFERS[other]}: no rows with a dense baseline here" for other in set(controls.transfers) - {*transfers}
    ]
    if published.empty:
        notes.append(f"No published rows for {name}")
    return captions.with_caption(
        tradeoffs.tradeoff(placed, transfers, absent, points, controls.axis),
        "How many more errors does a sparse network make on a new task?",
        f"{name} · mean ± standard error over {footnotes.task_count(placed)} · "
        "lower is better, below 0 beats the dense network",
        footnotes.caption(view.rows, view.filters, [*view.notes, *notes], controls.accuracy, today),
    )


def _take_selection() -> None:
    """The points marked in the chart become the choice that the tables below follow and the link carries."""
    marked = st.session_state["tradeoff"]["selection"]["points"]
    st.session_state["points"] = list(dict.fromkeys(point["customdata"] for point in marked if point.get("customdata")))


def _points(view: View) -> list[str]:
    return parts.multiselect(
        "Showing only",
        view.summary["point"].tolist(),
        placeholder="Everything: select points in the chart (click, box or lasso) or choose here",
        key="points",
        help="The tables below show only the runs behind these points. Clear it to see all.",
    )


def _behind(controls: Controls, view: View, points: list[str]) -> None:
    averages, per_task, front, runs = st.tabs(TABS, key="view", on_change="rerun", bind="query-params")
    if averages.open:
        with averages:
            table = view.summary.drop(columns="point")
            columns = _with_size(SUMMARY_COLUMNS, controls)
            parts.show_table(table, key="averages", name="tradeoffs", columns=columns)
    if per_task.open:
        with per_task:
            _per_task(controls, view)
    if front.open:
        with front:
            _pareto(controls, view, points)
    if runs.open:
        with runs:
            parts.show_runs(view.rows, key="behind")


def _per_task(controls: Controls, view: View) -> None:
    rows = view.rows
    levels = sorted(rows.loc[rows["method"] != "Dense", "sparsity"].unique())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        level = parts.selectbox(
            "At sparsity",
            levels,
            index=levels.index(0.9) if 0.9 in levels else len(levels) // 2,
            format_func=labels.sparsity_label,
            key="level",
            persist_state="page",
            width=140,
            help="The chart shows one sparsity, give or take a point; the table has all.",
        )
        order = parts.task_order()
    table = task_tables.task_table(rows, controls.accuracy, parts.tasks(controls.architecture, order))
    at_level, shown = (_near(frame, level) for frame in (table, rows))
    figure = captions.with_caption(
        task_charts.accuracy_per_task(
            at_level, comparisons.present(controls.transfers, at_level), labels.distinct(at_level["task"])
        ),
        "How accurate is each network on each task?",
        f"{architecture_label(controls.architecture)} at {labels.sparsity_label(level)} sparsity (± 1) · mean ± "
        "standard deviation over seeds (none for a single run) · higher is better, the upright line is dense",
        footnotes.caption(shown, view.filters, view.notes, controls.accuracy, date.today()),
    )
    name = f"tasks-{controls.architecture}"
    parts.show_chart(figure, key="per_task_chart", name=name, alt="Accuracy of each method on each task")
    parts.show_table(table.drop(columns=["row", "point", "hover"]), key="per_task", name=name, columns=TASK_COLUMNS)


def _near(frame: pd.DataFrame, level: float) -> pd.DataFrame:
    """The rows at this sparsity, give or take a point, and the dense ones."""
    return frame[((frame["sparsity"] - level).abs() < NEAR) | (frame["method"] == "Dense")]


def _pareto(controls: Controls, view: View, points: list[str]) -> None:
    rows = view.rows
    tasks = labels.task_choices(rows["dataset"].unique())
    task = parts.selectbox(
        "Accuracy on",
        [None, *tasks],
        format_func=lambda name: "All tasks, averaged" if name is None else task_label(name),
        key="pareto_task",
        persist_state="page",
        width=260,
        help="Averages are over the tasks that all networks of a line have, so that they compare.",
    )
    chosen = rows if task is None else rows[rows["dataset"] == task]
    table = comparisons.over_same_tasks(measures.per_configuration(chosen, controls.accuracy))
    if table.empty:
        st.info("No task was run with all of these networks, so their averages do not compare. Choose one task.")
        return
    table = comparisons.with_front(comparisons.with_sizes(table, chosen), controls.axis)
    table = labels.name_points(table)
    saving, side = ("sparsity", "right") if controls.axis == "sparsity" else ("size", "left")
    figure = captions.with_caption(
        tradeoffs.pareto(table, comparisons.present(controls.transfers, table), points, controls.axis),
        f"Which networks give the most accuracy for their {saving}?",
        f"{architecture_label(controls.architecture)} · "
        f"{f'mean over {footnotes.task_count(table)}' if task is None else task_label(task)} ± standard error over seeds · "
        f"up and to the {side} is better, nothing beats the networks on the grey line in both",
        footnotes.caption(chosen, view.filters, view.notes, controls.accuracy, date.today()),
    )
    name = f"pareto-{controls.architecture}"
    alt = f"Accuracy against {AXES[controls.axis].lower()} with the Pareto front"
    parts.show_chart(figure, key="pareto_chart", name=name, alt=alt)
    columns = _with_size(PARETO_COLUMNS, controls)
    parts.show_table(table.drop(columns="point"), key="pareto", name=name, columns=columns)


def _with_size(columns: list[str], controls: Controls) -> list[str]:
    """The columns with that of the charts' axis, which is after the sparsity where it is another."""
    after = columns.index("sparsity") + 1
    return columns if controls.axis == "sparsity" else [*columns[:after], controls.axis, *columns[after:]]


def _say_empty(store: Store, controls: Controls) -> None:
    if controls.axis != "sparsity":
        _say_without_size(store, controls)
        return
    if controls.methods == ["LTH-T"] and controls.transfers == ["linear"] and not controls.lottery:
        st.info("LTH-T under linear transfer is left out unless asked for, as in the study.")
        st.button("Show LTH-T, linear", on_click=parts.set_controls, args=({"lottery": True},), type="primary")
        return
    unpublished = _unpublished(store, controls)
    if unpublished:
        st.info(
            f"No published rows for {unpublished}: the study's public tables have none, and none was measured here. "
            "Bring such a network in on the Library page and measure it on the Probe page."
        )
    elif controls.accuracy == "final" and controls.source != "measured":
        st.info("The published runs have no last-epoch accuracy, and no measured run fits. Choose the best epoch.")
    elif controls.source == "measured":
        st.info(
            f"No measured run of a sparse {architecture_label(controls.architecture)} fits these choices yet. "
            "Measure one on the Probe page, or show the published runs."
        )
    else:
        st.info("No run fits these choices. Widen the filters, or start again from the whole study.")
    parts.show_everything(store, controls.architecture, UNFILTERED)


def _unpublished(store: Store, controls: Controls) -> str:
    """What was asked for that the study published nothing of, in words; empty where it did or was not asked for."""
    if controls.source == "measured":
        return ""
    published = store.results(source="published", architecture=controls.architecture)
    if published.empty:
        return architecture_label(controls.architecture)
    absent = footnotes.absent_methods(controls.methods, published["method"])
    return " and ".join(absent) if len(absent) == len(controls.methods) else ""


def _say_without_size(store: Store, controls: Controls) -> None:
    known = store.results(source="measured").dropna(subset=[controls.axis])["architecture"].unique()
    others = [architecture_label(name) for name in known if name != controls.architecture]
    st.info(
        f"No run that fits these choices tells the network's {AXES[controls.axis].lower()}: the study's rows come without "
        "its networks, so only runs measured on this machine do. "
        + (f"There are some of {', '.join(others)}: choose it above. " if others else "Measure one on the Probe page. ")
    )
    st.button("Back to sparsity", on_click=parts.set_controls, args=({"axis": "sparsity"},), type="primary")


def _say_without_baseline(summary: pd.DataFrame) -> None:
    lonely = summary[summary["tasks"] == 0]
    if len(lonely):
        pages = [MEASURED_ON[transfer] for transfer in comparisons.present(TRANSFERS, lonely)]
        st.warning(
            f"No baseline for {'; '.join(lonely['point'])}: there is no dense run of the same backbone, data and "
            f"protocol to compare with. Run the dense backbone on the {' and the '.join(pages)} page with the same settings. "
            "The accuracies are in the tables below."
        )


main()
