"""Compare: two or more networks over the tasks they share, with what the differences rest on."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import pandas as pd
import streamlit as st

from pages.parts import choices, frame, links
from pages.parts.results import column_title, open_store, show_chart, show_table
from pages.parts.run_details import run_table
from sparse_core.catalog import TRANSFERS, architecture_label
from sparse_core.results import measures, side_by_side
from sparse_core.results.side_by_side import Comparison
from sparse_core.results.store import Store
from sparse_core.specs.options import PROGRAM
from sparse_core.views import columns, comparisons, footnotes, labels
from sparse_core.views.charts import comparison as charts

INTERVAL_HELP = (
    "Student's t over tasks and the bootstrap over tasks speak of new tasks like these. The bootstrap over seeds speaks of these "
    "very tasks. 10,000 resamples."
)


@dataclass(frozen=True)
class View:
    """The runs of one series, its chosen networks with their names (``comparisons.named``, and ``asked`` on the command line),
    and their comparison."""

    rows: pd.DataFrame
    networks: pd.DataFrame
    found: Comparison
    accuracy: str
    interval: str
    architecture: str
    transfer: str

    @property
    def methods(self) -> dict[str, str]:
        """The method of each network by name."""
        return dict(zip(self.networks["name"], self.networks["method"], strict=True))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs of the networks and of their baseline on the shared tasks."""
        return measures.underlying_runs(self.rows, self.found.table)

    @cached_property
    def notes(self) -> list[str]:
        """What must be said of these runs."""
        return footnotes.row_notes(self.runs)

    @property
    def tasks(self) -> list[str]:
        """The names of the shared tasks."""
        return labels.name_tasks(self.found.grid.index.to_frame(index=False).assign(source="measured"))


def main() -> None:
    """The networks, the answer in a sentence, the means, and tabs with pairs, ranks and runs."""
    store = open_store("compare")
    view = _choose(store)
    if view is None:
        return
    headline, detail = comparisons.answer(view.found)
    st.header(frame.plain(headline), anchor=False)
    st.markdown(frame.plain(detail))
    for note in view.found.notes:
        st.caption(frame.plain(note))
    _means(view)
    tabs: dict[str, Callable[[], None]] = {
        "Two networks": lambda: _pair(view),
        "All pairs": lambda: _pairs(view),
        "Ranks": lambda: _ranks(view),
        "Means": lambda: _table(_mean_table(view), "means"),
        "By task": lambda: _by_task(view),
        "Runs": lambda: run_table(view.runs, key="behind"),
    }
    choices.tabs("compared", tabs)


def _choose(store: Store) -> View | None:
    """The controls, and what they choose; None, with the next step, where nothing can be compared."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        architecture = choices.architecture_choice(store, "accuracy")
        transfer = choices.choice("Transfer", "compare_transfer", labels.TRANSFER_NAMES, choices.TRANSFER_HELP)
        rows = _rows(store, store.version, architecture, transfer)
        there = set(labels.distinct(rows["source"]))
        sources = {name: label for name, label in choices.sources().items() if name in there}
        source = choices.choice(
            "Results", "compare_source", sources or labels.SOURCES, "Networks of different sources are never compared."
        )
        accuracy = choices.accuracy_choice()
        interval = choices.choice("Interval", "compare_interval", comparisons.INTERVALS, INTERVAL_HELP)
    rows = rows[rows["source"] == source]
    several = side_by_side.series(rows) if len(rows) else []
    series = _series(several) if len(several) > 1 else next(iter(several), ())
    named = _networks(store, store.version, architecture, transfer, accuracy)
    named = _of_series(named, series) if several else named.iloc[:0]
    if len(named) < 2:
        st.info(
            choices.HELD
            if store.kept.count
            else f"There are fewer than two networks of {frame.plain(architecture_label(architecture))} with a dense "
            "baseline that makes errors here. Choose other results, or run the missing ones on Probe or Finetune."
        )
        return None
    chosen = _networks_choice(named.assign(asked=side_by_side.asked_names(named)))
    if len(chosen) < 2:
        st.info("Choose two or more networks.")
        return None
    found = _compared(store, store.version, series, tuple(chosen["point"]), chosen, accuracy, interval)
    return View(_of_series(rows, series), chosen, found, accuracy, interval, architecture, transfer)


def _of_series(rows: pd.DataFrame, series: tuple[str, ...]) -> pd.DataFrame:
    kept = pd.Series(True, index=rows.index)
    for name, value in zip(measures.SERIES_KEY, series, strict=True):
        kept &= rows[name] == value
    return rows[kept]


def _series(there: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The control for the series: networks of different settings have different baselines."""
    frame_of = pd.DataFrame(there, columns=measures.SERIES_KEY)
    names = labels.series_names(frame_of)
    keys = frame_of[labels.SERIES_KEY].itertuples(index=False, name=None)
    by_name = {names[key] or labels.SOURCES["published"]: row for key, row in zip(keys, there, strict=True)}
    return by_name[choices.selectbox("Settings", list(by_name), key="compare_series")]


def _networks_choice(named: pd.DataFrame) -> pd.DataFrame:
    usual = side_by_side.usual(named)["point"].tolist()
    shown = dict(zip(named["point"], named["name"], strict=True))
    points = choices.multiselect(
        "Networks",
        list(shown),
        default=usual,
        key="compare_networks",
        help="Compared on the tasks that all of them have. At first those of the sparsity that most methods have.",
    )
    return named.set_index("point", drop=False).loc[points].reset_index(drop=True)


@st.cache_resource(show_spinner=False, max_entries=20)
def _rows(_store: Store, version: tuple[int, ...], architecture: str, transfer: str) -> pd.DataFrame:
    """The runs of every source, networks joined. Never change them."""
    return measures.joined(_store.results(architecture=architecture, transfer=transfer, coded=True))


@st.cache_resource(show_spinner=False, max_entries=20)
def _differences(
    _store: Store, version: tuple[int, ...], architecture: str, transfer: str, accuracy: str
) -> pd.DataFrame:
    """Every network and dense one on every task, of all series. Never change them."""
    return measures.difference_to_dense(_rows(_store, version, architecture, transfer), accuracy)


@st.cache_resource(show_spinner=False, max_entries=20)
def _networks(_store: Store, version: tuple[int, ...], architecture: str, transfer: str, accuracy: str) -> pd.DataFrame:
    """The networks of every series, named. Never change them."""
    found = side_by_side.networks(_differences(_store, version, architecture, transfer, accuracy))
    parts = [comparisons.named(part) for _, part in found.groupby(measures.SERIES_KEY)]
    return pd.concat(parts, ignore_index=True) if parts else found.assign(point="", name="")


@st.cache_resource(show_spinner=False, max_entries=20)
def _compared(
    _store: Store,
    version: tuple[int, ...],
    series: tuple[str, ...],
    points: tuple[str, ...],
    _chosen: pd.DataFrame,
    accuracy: str,
    interval: str,
) -> Comparison:
    """The networks (``_chosen``, named by ``points``) of a series (``measures.SERIES_KEY``) side by side."""
    names = dict(zip(measures.SERIES_KEY, series, strict=True))
    about = (_store, version, names["architecture"], names["transfer"])
    return side_by_side.compare(
        _of_series(_rows(*about), series),
        comparisons.keys(_chosen),
        accuracy=accuracy,
        interval=interval,
        compared=_of_series(_differences(*about, accuracy), series),
    )


def _subtitle(view: View) -> str:
    return f"{architecture_label(view.architecture)}, {TRANSFERS[view.transfer].lower()}"


def _caption(view: View, *notes: str) -> str:
    return footnotes.caption(view.runs, [], [*notes, *view.notes], view.accuracy, date.today())


def _means(view: View) -> None:
    count = labels.counted(len(view.found.grid), "shared task")
    show_chart(
        charts.means_over_tasks(view.found.means, view.found.grid, view.tasks, view.methods),
        "Mean relative error increase over dense",
        f"{_subtitle(view)} · mean and 95 % interval ({comparisons.INTERVALS[view.interval]}) over {count} · faint points are "
        "tasks · lower is better, left of the line beats the dense network",
        _caption(view, comparisons.POPULATION[view.interval]),
        key="means_chart",
        name=f"compare-{view.architecture}-{view.transfer}",
        alt="Mean relative error increase over dense of each network, with its interval",
        table=_mean_table(view),
        beside=lambda: links.share(_command(view)),
    )


def _pair(view: View) -> None:
    names = list(view.found.grid.columns)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = choices.selectbox("First", names, key="compare_first", width=260)
        second = choices.selectbox("Second", names, index=1, key="compare_second", width=260)
    if first == second:
        st.info("Choose two different networks.")
        return
    pair = side_by_side.pair(view.found, first, second)
    tasks = labels.name_tasks(pair.tasks)
    show_chart(
        charts.differences(pair.tasks, tasks, (pair.mean.mean, pair.mean.low, pair.mean.high), first),
        f"{first} minus {second}, by task",
        f"{_subtitle(view)} · difference of relative error increases · 95 % intervals: of a task over seeds (Welch's t), of the "
        f"mean over tasks (t) · left of the line {first} makes fewer errors",
        _caption(view),
        key="pair_chart",
        name=f"compare-pair-{view.architecture}-{view.transfer}",
        alt=f"Difference of relative error increases of {first} and {second} on each task",
        table=pair.tasks.assign(task=tasks)[["task", "difference", "low", "high"]],
    )
    st.markdown(frame.plain(comparisons.power_sentence(pair)))


def _pairs(view: View) -> None:
    _table(view.found.pairs[comparisons.PAIR_COLUMNS], "pairs")
    st.caption(
        "Difference: first − second, mean over tasks of the relative error increases, with its t interval. "
        "p: Wilcoxon's signed-rank test over tasks, then Holm's correction. Won, drawn, lost: tasks on which the first is "
        "more accurate than the second, not told apart, or less accurate, by Welch's 95 % interval over seeds."
    )


def _ranks(view: View) -> None:
    ranks = view.found.ranks
    if ranks is None:
        st.info(
            "There is nothing to rank: that takes three or more networks on two or more tasks, and some difference."
        )
        return
    show_chart(
        charts.critical_difference(ranks, view.methods),
        "Critical-difference diagram",
        f"{_subtitle(view)} · Friedman's χ² = {ranks.statistic:.3g}, p = {ranks.p:.2g}, over "
        f"{labels.counted(ranks.tasks, 'task')} · a bar joins networks that Nemenyi's test cannot tell apart (5 %)",
        _caption(view),
        key="ranks_chart",
        name=f"ranks-{view.architecture}-{view.transfer}",
        alt="Mean rank of each network, with bars that join those that cannot be told apart",
        table=ranks.ranks.rename_axis("row").reset_index(name="mean_rank"),
    )
    _table(ranks.pairs.map(lambda value: float(f"{value:.3g}")).rename_axis("row").reset_index(), "nemenyi")
    st.caption("p values of Nemenyi's test for each pair.")


def _by_task(view: View) -> None:
    grid = (100 * view.found.grid).round(2).reset_index(drop=True)
    grid.insert(0, "task", view.tasks)
    _table(grid, "by_task")
    st.caption("Relative error increase over dense in percent.")


def _table(table: pd.DataFrame, key: str) -> None:
    show_table(table, key=f"compare_{key}", name=f"compare-{key}", title=_title)


def _title(name: str) -> str:
    """The heading of a column; those of the grid and of Nemenyi's test are named by their networks."""
    if name == "difference":
        return "Difference, first − second (points)"
    return column_title(name) if name in columns.COLUMNS else name


def _mean_table(view: View) -> pd.DataFrame:
    return view.found.means.rename(columns={"name": "row"})[comparisons.MEAN_COLUMNS]


def _command(view: View) -> str:
    first = view.networks.iloc[0]
    names = view.networks["asked"].tolist()
    options = {
        "--architecture": view.architecture,
        "--transfer": view.transfer,
        "--source": first["source"],
        "--interval": view.interval,
    }
    options |= {"--accuracy": view.accuracy} if view.accuracy != "best" else {}
    if first["source"] != "published":  # whose results are one series
        options |= {"--upstream": first["upstream"], "--protocol": first["protocol"]}
    asked = [*PROGRAM, "compare", *(text for pair in options.items() for text in pair), "--networks", *names, "--json"]
    return shlex.join(asked)


main()
