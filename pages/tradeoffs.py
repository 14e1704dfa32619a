"""Tradeoffs: how much accuracy each pruning method costs on a new task, against sparsity or the network's size."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.parts import choices, frame, links, prune_downstream, tradeoff_questions, tradeoff_relations
from pages.parts.frame import home
from pages.parts.results import open_store, show_chart, show_table, titles
from pages.parts.run_details import run_table
from pages.parts.tradeoff_controls import AXES, UNFILTERED, Controls, available, choose_controls
from sparse_core.catalog import MAP, METHODS, TRANSFERS, architecture_label, task_label
from sparse_core.networks import library
from sparse_core.results import measures, questions
from sparse_core.results.questions import Question
from sparse_core.results.store import Store
from sparse_core.views import downstream, footnotes, labels, rankings, sparsified, tables
from sparse_core.views.charts import tasks as task_charts
from sparse_core.views.charts import tradeoffs

QUICKLY: dict[str | type, Callable[..., str]] = {Controls: repr}  # field by field takes Streamlit a millisecond

MEASURED_ON = {"linear": "Probe", "full": "Finetune"}

SUMMARY_COLUMNS = ["source", "transfer", "method", "sparsity", "mean_relative_error_increase", "standard_error"]
SUMMARY_COLUMNS += ["increase_low", "increase_high", "rank", "tied", "tasks", "runs"]
CHART_COLUMNS = [name for name in SUMMARY_COLUMNS if name not in ("increase_low", "increase_high", "rank", "tied")]
TASK_COLUMNS = ["source", "task", "transfer", "method", "sparsity", "accuracy_mean", "accuracy_std", "seeds"]
TASK_COLUMNS += [
    "difference",
    "difference_low",
    "difference_high",
    "interval",
    "rank",
    "tied",
    "relative_error_increase",
]
PARETO_COLUMNS = ["transfer", "method", "sparsity", "accuracy_mean", "standard_error", "front", "tasks", "runs"]


@dataclass(frozen=True)
class View:
    """The runs that match the controls, compared with dense task by task, their averages with named points, and the filters and
    notes of the caption."""

    rows: pd.DataFrame
    compared: pd.DataFrame
    summary: pd.DataFrame
    filters: list[str]
    notes: list[str]

    def only(self, points: list[str]) -> "View":
        """The view of some points only; the whole view if ``points`` is empty."""
        if not points:
            return self
        summary = self.summary[self.summary["point"].isin(points)]
        rows = measures.underlying_runs(self.rows, summary)
        notes = [*footnotes.row_notes(rows), *footnotes.single_task_notes(summary)]
        return View(rows, self.compared, summary, [*self.filters, f"Only {'; '.join(summary['shown'])}"], notes)


def main() -> None:
    """What the rows show, the chart, and the tabs with more."""
    store = open_store("tradeoffs")
    controls = choose_controls(store)
    view = _view(store, store.version, controls)
    if view.summary.empty:
        _explain_empty(store, controls)
        if controls.metric != "accuracy":
            tradeoff_relations.published_map()
        return
    finding = st.empty()  # filled after the chart: its intervals take longer
    above = st.container()  # the control for points is below the chart that they select from
    links.update_names("points", labels.former_points(view.summary), view.summary["point"])
    points = choices.multiselect(
        "Selected points",
        view.summary["point"].tolist(),
        placeholder="All points. Select some in the chart (click, box or lasso) or choose here",
        key="points",
        help="The tabs below show only these points and their runs. Clear the selection to see all.",
    )
    with above:
        _chart(store, controls, view, points)
        _warn_without_baseline(view.summary)
    ranked = _ranked(store, store.version, controls)
    if statement := _finding(store, store.version, controls):
        finding.markdown(frame.plain(statement).replace("\\*\\*", "**"))
    only = view.only(points)
    averages = ranked[ranked["point"].isin(only.summary["point"])].drop(columns=["point", "shown"])
    columns = _shown(SUMMARY_COLUMNS, controls, averages)
    tabs: dict[str, Callable[[], None]] = {
        "Averages": lambda: show_table(averages, key="averages", name="tradeoffs", shown_columns=columns),
        f"{labels.metric_title(controls.metric)} per task": lambda: _per_task(store, controls, only, points),
        "Pareto front": lambda: _pareto(controls, only, points),
        **_relations(store, controls, only),
        **{
            question.title: partial(tradeoff_questions.show, question, controls, only.rows)
            for question in _questions(store, store.version, controls.architecture)
        },
        **_prune_downstream(store, controls),
        "Runs": lambda: run_table(only.rows, key="behind"),
    }
    choices.tabs("view", tabs)


def _relations(store: Store, controls: Controls, view: View) -> dict[str, Callable[[], None]]:
    """The tabs on why methods differ; detectors have no linear transfer, and so no difficulty."""
    tabs: dict[str, Callable[[], None]] = {
        "Difficulty": lambda: tradeoff_relations.difficulty(store, controls, view.rows),
        "Why": lambda: tradeoff_relations.why(controls, view.rows, view.summary),
        "Upstream and downstream": lambda: tradeoff_relations.upstream(controls, view.rows),
    }
    if controls.metric == "accuracy":
        return tabs
    return {"Upstream and downstream": lambda: tradeoff_relations.upstream_of_detectors(controls, view.rows)}


@st.cache_resource(show_spinner=False, max_entries=50)
def _questions(_store: Store, version: tuple[int, ...], architecture: str) -> list[Question]:
    """Those that the architecture's rows can answer, whatever the controls leave of them: the tabs stay where they are."""
    columns = [*questions.GROUP_KEY, measures.CELL]
    return questions.asked(_store.results(architecture=architecture, coded=True, columns=columns))


def _prune_downstream(store: Store, controls: Controls) -> dict[str, Callable[[], None]]:
    """The tab on pruning on the task itself, where a network of the architecture was."""
    if controls.metric != "accuracy":
        return {}
    full = store.results(source="measured", architecture=controls.architecture, transfer="full", coded=True)
    made = sparsified.made_here(library.cards(home())) if len(full) else []
    if not downstream.has_both_routes(full, made):
        return {}
    return {"Prune downstream": lambda: prune_downstream.comparison(store, made, controls.accuracy)}


@st.cache_data(show_spinner=False, max_entries=50, hash_funcs=QUICKLY)
def _finding(_store: Store, version: tuple[int, ...], controls: Controls) -> str:
    return rankings.sentence(_ranked(_store, version, controls), controls.transfers)


@st.cache_resource(show_spinner=False, max_entries=50, hash_funcs=QUICKLY)
def _ranked(_store: Store, version: tuple[int, ...], controls: Controls) -> pd.DataFrame:
    """The averages of the view with intervals, ranks and ties; of one task best first within each sparsity. Never change it."""
    view = _view(_store, version, controls)
    ranked = rankings.over_tasks(view.summary, view.compared, view.rows, controls.accuracy)
    if len(controls.tasks) != 1:
        return ranked
    order = ["source", "transfer", "sparsity", "rank", "mean_relative_error_increase"]
    return ranked.sort_values(order, ascending=[False, False, True, True, True], kind="stable")


@st.cache_resource(show_spinner=False, max_entries=50, hash_funcs=QUICKLY)
def _view(_store: Store, version: tuple[int, ...], controls: Controls) -> View:
    """The view for these controls; cached so that a click below the chart computes nothing twice. Never change it."""
    methods, tasks, sparsity = controls.methods or None, controls.tasks or None, controls.sparsity
    rows = _store.results(
        source=controls.source,
        architecture=controls.architecture,
        methods=methods,
        datasets=tasks,
        sparsity=sparsity,
        coded=True,
    )
    rows = measures.measured_in(rows, controls.metric)
    asked = rows["transfer"].isin(controls.transfers) & rows[measures.ACCURACIES[controls.accuracy]].notna()
    placed = rows[controls.axis].notna()
    rows, left_out = rows[asked & placed], int((asked & ~placed).sum())
    rows = measures.joined(rows) if controls.join else rows
    compared = measures.compared(rows, controls.accuracy)
    means = measures.over_tasks(compared).sort_values("source", ascending=False, kind="stable")
    notes = footnotes.row_notes(rows)
    if not controls.lottery:
        hidden = measures.is_hidden_lottery_ticket(means)
        notes += footnotes.lottery_note(means[hidden])
        means, rows = means[~hidden], rows[~measures.is_hidden_lottery_ticket(rows)] if hidden.any() else rows
    notes += footnotes.single_task_notes(means)
    if rows["source"].nunique() > 1:
        notes.append("Results that are not the paper's are dashed, with open markers")
    filters = footnotes.filter_notes(controls.methods, controls.tasks, controls.sparsity)
    filters += footnotes.size_notes(controls.axis, left_out)
    means = labels.name_points(measures.with_sizes(means, rows))
    return View(rows, compared, means, filters, notes)


def _chart(store: Store, controls: Controls, view: View, points: list[str]) -> None:
    placed = view.summary.dropna(subset=["mean_relative_error_increase"])
    if placed.empty:
        return
    name = architecture_label(controls.architecture)
    show_chart(
        _tradeoff(store, store.version, controls, points, date.today()),
        key="tradeoff",
        name=f"tradeoffs-{controls.architecture}",
        alt=f"Mean relative error increase over dense against {AXES[controls.axis].lower()}, {name}. Lower is better.",
        select_into="points",
        table=placed[_shown(CHART_COLUMNS, controls, placed)],
        beside=lambda: links.share(controls.command(store.kept, points)),
    )


@st.cache_resource(show_spinner=False, max_entries=50, hash_funcs=QUICKLY)
def _tradeoff(_store: Store, version: tuple[int, ...], controls: Controls, points: list[str], today: date) -> go.Figure:
    view = _view(_store, version, controls)
    placed = view.summary.dropna(subset=["mean_relative_error_increase"])
    transfers = measures.present(controls.transfers, placed)
    known = available(_store, version, controls.architecture, controls.metric)
    published = known.loc[known["source"] == "published", "method"]
    methods = controls.methods or [method for method in METHODS if method != "Dense"]
    shows_paper = len(published) and controls.source in ("all", "published") and controls.axis == "sparsity"
    absent = footnotes.absent_methods(methods, published) if shows_paper else []
    name = architecture_label(controls.architecture)
    notes = [
        f"{TRANSFERS[other]}: no results with a dense baseline" for other in set(controls.transfers) - {*transfers}
    ]
    if absent:
        notes.append(f"Not in the paper's public rows: {', '.join(absent)}")
    if controls.metric != "accuracy":
        notes.append("The paper's table 6, mAP of YOLOv3 and YOLOv5, is not in its public rows")
    elif published.empty:
        notes.append(f"{name} is not in the paper's published results")
    error = "" if controls.metric == "accuracy" else f" · error is 1 − {controls.metric}"
    texts = (
        "Relative error increase over dense",
        f"{name}{error} · {footnotes.spread_note(placed)} · lower is better, {_beats(controls, transfers)}",
        footnotes.caption(view.rows, view.filters, [*view.notes, *notes], controls.accuracy, today),
    )
    return tradeoffs.tradeoff(placed, transfers, points, controls.axis, controls.scale, texts)


def _beats(controls: Controls, transfers: list[str]) -> str:
    beats = "below 1 beats the dense network" if controls.scale.log else "below 0 beats the dense network"
    own = len(transfers) > 1 and not controls.scale.same
    return f"{beats} · each panel has its own y axis" if own else beats


@st.cache_resource(show_spinner=False, max_entries=50, hash_funcs=QUICKLY)
def _task_table(
    _store: Store, version: tuple[int, ...], controls: Controls, points: list[str], order: str
) -> pd.DataFrame:
    """Networks and tasks of these points, with ranks and ties on each task. Never change it."""
    rows = _view(_store, version, controls).only(points).rows
    tasks = choices.ordered_tasks(_store, controls.architecture, order)
    return rankings.on_task(tables.task_table(rows, controls.accuracy, tasks), rows, controls.accuracy)


def _per_task(store: Store, controls: Controls, view: View, points: list[str]) -> None:
    rows = view.rows
    levels = sorted(rows.loc[rows["method"] != "Dense", "sparsity"].unique())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        level = choices.selectbox(
            "At sparsity",
            levels,
            index=levels.index(0.9) if 0.9 in levels else len(levels) // 2,
            format_func=labels.sparsity_label,
            key="level",
            persist_state="page",
            width=140,
            help="The chart shows one sparsity, ± 1 percentage point; the table has all.",
        )
        order = choices.task_order()
    table = _task_table(store, store.version, controls, points, order)
    at_level, shown = (  # the rows at this sparsity ± 1 percentage point, and the dense ones
        frame[((frame["sparsity"] - level).abs() < measures.NEAR) | (frame["method"] == "Dense")]
        for frame in (table, rows)
    )
    name, metric = f"tasks-{controls.architecture}", labels.metric_title(controls.metric)
    show_chart(
        task_charts.accuracy_per_task(
            at_level, measures.present(controls.transfers, at_level), labels.distinct(at_level["task"])
        ),
        f"{metric} of each network on each task",
        f"{architecture_label(controls.architecture)} at {labels.sparsity_label(level)} sparsity (± 1) · mean ± "
        "standard deviation over seeds (none for a single seed) · higher is better, the vertical line is dense",
        footnotes.caption(shown, view.filters, view.notes, controls.accuracy, date.today()),
        key="per_task_chart",
        name=name,
        alt=f"{metric} of each method on each task",
    )
    columns = [*TASK_COLUMNS[:5], *tables.network_columns(table), *TASK_COLUMNS[5:]]
    title = titles(controls.metric)
    show_table(table.drop(columns=tables.LABELS), key="per_task", name=name, shown_columns=columns, title=title)


def _pareto(controls: Controls, view: View, points: list[str]) -> None:
    rows = view.rows
    tasks = labels.task_choices(rows["dataset"].unique())
    metric = labels.metric_title(controls.metric)
    task = choices.selectbox(
        f"{metric} on",
        [None, *tasks],
        format_func=lambda name: "All tasks, averaged" if name is None else task_label(name),
        key="pareto_task",
        persist_state="page",
        width=260,
        help="Averages are over the tasks for which all networks of a line have results, so that they are comparable.",
    )
    chosen = rows if task is None else rows[rows["dataset"] == task]
    table = measures.over_same_tasks(measures.per_configuration(chosen, controls.accuracy))
    if table.empty:
        st.info("No task has results of all these networks, so their averages are not comparable. Choose one task.")
        return
    table = labels.name_points(measures.with_front(measures.with_sizes(table, chosen), controls.axis))
    table = table.assign(metric=controls.metric)
    saving, side = ("sparsity", "right") if controls.axis == "sparsity" else ("size", "left")
    name = f"pareto-{controls.architecture}"
    show_chart(
        tradeoffs.pareto(table, measures.present(controls.transfers, table), points, controls.axis, controls.metric),
        f"{metric} against {saving}",
        f"{architecture_label(controls.architecture)} · "
        f"{f'mean over {footnotes.task_count(table)}' if task is None else task_label(task)} ± standard error over seeds · "
        f"up and to the {side} is better, networks on the grey line are Pareto-optimal",
        footnotes.caption(chosen, view.filters, view.notes, controls.accuracy, date.today()),
        key="pareto_chart",
        name=name,
        alt=f"{metric} against {AXES[controls.axis].lower()} with the Pareto front",
    )
    columns = _shown(PARETO_COLUMNS, controls, table)
    shown = table.drop(columns=["point", "shown", "metric"])
    show_table(shown, key="pareto", name=name, shown_columns=columns, title=titles(controls.metric))


def _shown(columns: list[str], controls: Controls, table: pd.DataFrame) -> list[str]:
    """The columns and, after the sparsity, those of the user's networks and that of the charts' x axis if it is another."""
    after = columns.index("sparsity") + 1
    size = [] if controls.axis == "sparsity" else [controls.axis]
    shown = [*columns[:after], *tables.network_columns(table), *size, *columns[after:]]
    if "seed_error" in table and (table["tasks"] == 1).any():
        shown.insert(shown.index("standard_error") + 1, "seed_error")
    return shown


def _explain_empty(store: Store, controls: Controls) -> None:
    if store.kept.count:
        st.info(choices.HELD)
        choices.reset_button(store, controls.architecture, UNFILTERED)
        return None
    if controls.metric != "accuracy" and not (store.results(coded=True)["metric"] == MAP).any():
        st.info(
            "You have no runs of detectors yet, and the paper's table 6 is not in its public rows. Finetune a detector on images "
            "with boxes on the Finetune page: its mAP is then shown here."
        )
        return None
    if controls.axis != "sparsity":
        return _explain_missing_sizes(store, controls)
    if controls.methods == ["LTH-T"] and controls.transfers == ["linear"] and not controls.lottery:
        st.info("LTH-T under linear transfer is left out by default, as in the paper.")
        st.button("Show LTH-T, linear", on_click=st.session_state.update, args=({"lottery": True},), type="primary")
        return
    unpublished = _unpublished(store, controls)
    if unpublished:
        st.info(
            f"{frame.plain(unpublished)} not in the paper's published results, and there are no other runs of it. Import such a "
            "network on the Library page and start a probe on the Probe page."
        )
    elif controls.accuracy == "final" and controls.source in ("all", "published"):
        st.info("The paper's results have no last-epoch accuracy, and none of your runs matches. Choose Best epoch.")
    elif controls.source == "measured":
        st.info(
            f"None of your runs of a sparse {frame.plain(architecture_label(controls.architecture))} matches these choices. "
            "Start one on the Probe page, or show the paper's results."
        )
    elif controls.source == "shipped":
        st.info(_not_shipped(store, controls.architecture))
    else:
        st.info("No run matches these choices. Widen or reset the filters.")
    choices.reset_button(store, controls.architecture, UNFILTERED)


def _unpublished(store: Store, controls: Controls) -> str:
    """The architecture or methods asked for that the paper has no results of, with the verb; empty if there are any."""
    if controls.source in ("shipped", "measured"):
        return ""
    published = store.results(source="published", architecture=controls.architecture, coded=True)
    if published.empty:
        return f"{architecture_label(controls.architecture)} is"
    absent = footnotes.absent_methods(controls.methods, published["method"])
    if len(absent) < len(controls.methods):
        return ""
    return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'}" if absent else ""


def _not_shipped(store: Store, architecture: str) -> str:
    shipped = store.results(source="shipped", coded=True)["architecture"].unique()
    if architecture in shipped:
        return "No shipped run matches these choices. Widen or reset the filters."
    names = ", ".join(architecture_label(name) for name in shipped)
    return f"No results of {frame.plain(architecture_label(architecture))} are shipped. " + (
        f"There are some of {names}: choose it above." if names else "Start a probe on the Probe page to make your own."
    )


def _explain_missing_sizes(store: Store, controls: Controls) -> None:
    known = store.results(coded=True).dropna(subset=[controls.axis])["architecture"].unique()
    others = [architecture_label(name) for name in known if name != controls.architecture]
    st.info(
        f"No matching run has a known {AXES[controls.axis].lower()}: the paper's networks are not published with its "
        "results, so only shipped results and your own runs have sizes. "
        + (
            f"There are some of {frame.plain(', '.join(others))}: choose one above."
            if others
            else "Start one on the Probe page."
        )
    )
    st.button("Back to sparsity", on_click=st.session_state.update, args=({"axis": "sparsity"},), type="primary")


def _warn_without_baseline(summary: pd.DataFrame) -> None:
    uncompared = summary[summary["tasks"] == 0]
    if len(uncompared):
        pages = [MEASURED_ON[transfer] for transfer in measures.present(TRANSFERS, uncompared)]
        st.warning(
            f"No baseline for {frame.plain('; '.join(uncompared['shown']))}: there is no dense run of the same "
            "architecture, upstream data, task and protocol to compare with, or it makes no errors. Run the dense backbone "
            f"on the {' and the '.join(pages)} page with the same settings. The accuracies are in the tables below."
        )


main()
