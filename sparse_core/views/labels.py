"""What a view of the results needs besides its measures: names of points, means that compare, words for captions."""

import hashlib
import html
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.catalog import CITATION, METHODS, TASKS, UNKNOWN, architecture_label, task_label
from sparse_core.networks.cards import BackboneCard
from sparse_core.results.measures import BASELINE_KEY, SUMMARY_KEY, difference_to_dense, difficulty
from sparse_core.results.statistics import pareto_optimal

SERIES_KEY = ["source", "upstream", "protocol"]
TRANSFER_WORDS = {"linear": "Linear", "full": "Full"}

# Display names of stored values.
SOURCES = {"published": "Paper results", "shipped": "Shipped results", "measured": "Your runs"}
MODES = {"inference": "Inference", "training": "Online training"}
GAINS = {"faster": "faster", "slower": "not faster", "no gain": "inconclusive"}

# What a network's size is measured in: the column of the store, its name, its unit, and how many make one of it.
SIZES = {
    "nonzero_parameters": ("Nonzero parameters", "million", 1e6),
    "multiply_adds": ("Multiply-adds of the nonzero weights", "million", 1e6),
    "file_size": ("File size", "MB", 1e6),
}
SIZES_IN_WORDS = {
    "nonzero_parameters": "Nonzero parameters in million, the new classifier's left out",
    "multiply_adds": "Multiply-adds of the nonzero weights in million, for one image, the new classifier's left out",
    "file_size": "File size in MB, where a file stores only what is not 0, the new classifier left out",
}

RIGL_NOTE = (
    "RigL, full transfer: the study's text and its public rows disagree, cause unknown; the rows are shown "
    "(the text has RigL 1x level with AC/DC and 5x nearly level with WoodFisher)."
)


def sparsity_label(sparsity: float) -> str:
    """A sparsity (0..1) as people write it, such as 90 % or 97.5 %."""
    return f"{100 * sparsity:.3g} %"


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 task, 12 tasks."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A time as people say it, with about two digits: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{seconds / 3600:,.0f} h"


def time_left(seconds: float | None) -> str:
    """What is added to a progress in words: how long it will still take, nothing while that cannot be told."""
    return "" if seconds is None else f", about {duration(seconds)} left"


def file_size(size_bytes: int) -> str:
    """A file's size as people read it, such as 1.1 MB."""
    megabytes = size_bytes / 1e6
    return f"{megabytes:.1f} MB" if megabytes < 100 else f"{megabytes:,.0f} MB"


def backbone_label(card: BackboneCard) -> str:
    """A backbone as people tell it from the others; one of the library by the name its user gave."""
    method = "unknown method" if card.method == UNKNOWN else card.method
    method = method if any(letter.isupper() for letter in method[1:]) else method.lower()
    sparse = method if card.method == "Dense" else f"{method} {sparsity_label(card.sparsity)}"
    words = f"{architecture_label(card.architecture)}, {sparse}"
    return f"{card.name}: {words}" if card.kind == "library" else words


def series_names(frame: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """What the rows of each (source, upstream, protocol) are called besides their method.

    Published ones need no word. Measured ones are "measured", with their own mark where several protocols or upstreams
    are shown, for those are never averaged together.
    """
    names = marked_series_names(frame)
    several = sum(map(bool, names.values())) > 1
    return names if several else {key: name and "measured" for key, name in names.items()}


def marked_series_names(frame: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """As ``series_names``, but a measured series always bears its mark, such as "measured 3f2a".

    The mark follows from upstream and protocol alone: a link means the same whatever else is measured later.
    """
    keys = sorted(frame[SERIES_KEY].drop_duplicates().itertuples(index=False, name=None))
    marks = {key: hashlib.sha256("\n".join(key).encode()).hexdigest()[:4] for key in keys}
    return {key: f"measured {marks[key]}" if key[0] == "measured" else "" for key in keys}


def name_backbones(frame: pd.DataFrame, names: dict[tuple[str, str, str], str]) -> list[str]:
    """A name for each row's sparse backbone, such as "AC/DC 90 %" or "Magnitude 50 %, measured"."""
    columns = ["method", "sparsity", *SERIES_KEY]
    return [
        ", ".join(
            filter(None, [method if method == "Dense" else f"{method} {sparsity_label(sparsity)}", names[tuple(key)]])
        )
        for method, sparsity, *key in frame[columns].itertuples(index=False, name=None)
    ]


def name_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column ``point``: each row's transfer and backbone in words, which are also its link."""
    transfers = frame["transfer"].map(TRANSFER_WORDS)
    backbones = name_backbones(frame, marked_series_names(frame))
    points = [f"{transfer}: {name}" for transfer, name in zip(transfers, backbones, strict=True)]
    return frame.assign(point=points)


def over_same_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of each backbone over the tasks that all backbones of its series have, so that means compare.

    ``table`` is that of ``measures.per_configuration``. Returns a row a backbone with ``accuracy_mean``,
    ``standard_error`` of that mean over seeds (√(Σ std²/n) over the number of tasks; NaN where a task has one run),
    ``tasks`` and ``runs``.
    """
    series = [name for name in SUMMARY_KEY if name not in ("method", "sparsity")]
    backbone, task = ["method", "sparsity"], ["dataset", "dataset_hash", "metric"]
    parts = []
    for _, group in table.groupby(series, sort=True):
        backbones = group.groupby(backbone).ngroups
        shared = group.groupby(task)["method"].transform("size") == backbones
        means = group[shared].assign(variance=lambda rows: rows["accuracy_std"] ** 2 / rows["runs"])
        grouped = means.groupby([*series, *backbone])
        part = grouped.agg(
            accuracy_mean=("accuracy_mean", "mean"), tasks=("dataset", "size"), runs=("runs", "sum")
        ).reset_index()
        variance = grouped["variance"].sum(min_count=1).to_numpy()
        complete = grouped["variance"].count().to_numpy() == part["tasks"].to_numpy()
        part["standard_error"] = np.where(complete, np.sqrt(variance) / part["tasks"], np.nan)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def with_sizes(means: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The frame, a row a backbone, with the columns of ``SIZES``: the mean over its runs, NaN where none is known.

    Published runs have none, for the study's networks did not come with them. ``rows`` are the runs.
    """
    sizes = rows.groupby(SUMMARY_KEY)[list(SIZES)].mean()
    return means.join(sizes, on=SUMMARY_KEY)


def with_front(table: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The frame with ``front``: no other backbone of the same series and transfer is as good in both and better in one.

    Both are ``accuracy_mean`` and ``axis``, which is ``sparsity`` (larger is better) or one of ``SIZES`` (smaller is).
    """
    series = [name for name in SUMMARY_KEY if name not in ("method", "sparsity")]
    ranked = table.assign(saved=table[axis] if axis == "sparsity" else -table[axis])
    fronts = [pareto_optimal(group, "saved", "accuracy_mean") for _, group in ranked.groupby(series)]
    return table.assign(front=pd.concat(fronts))


def size_in_words(axis: str, left_out: int) -> list[str]:
    """What a caption says of an axis of ``SIZES``: what is counted, and how many runs it leaves out; nothing of sparsity."""
    if axis == "sparsity":
        return []
    unknown = f"{counted(left_out, 'published run')} left out, for the study's networks do not come with them"
    return [f"{SIZES_IN_WORDS[axis]}, on a logarithmic scale", *([unknown] if left_out else [])]


def ordered_tasks(results: pd.DataFrame, order: str = "difficulty") -> dict[str, float]:
    """The tasks of these rows with their difficulty (NaN where unknown), easiest first; ``order`` may be ``name``.

    Where several sources tell a task's difficulty the published one counts. Tasks of unknown difficulty come last.
    """
    known = difficulty(results).sort_values("source").groupby("dataset")["difficulty"].last()
    tasks = {task: float(known.get(task, np.nan)) for task in sorted(results["dataset"].unique(), key=task_label)}
    if order == "name":
        return tasks
    return dict(sorted(tasks.items(), key=lambda item: (np.isnan(item[1]), item[1])))


def absent_methods(methods: Iterable[str], published: Iterable[str]) -> dict[str, str]:
    """What the legend says of each of ``methods`` that no published row exists for."""
    there = set(published)
    return {method: "no published rows" for method in methods if method not in there}


def caption(rows: pd.DataFrame, filters: Sequence[str], notes: Sequence[str], accuracy: str, today: date) -> str:
    """What a figure must say to be understood without its link: source, filters, number of runs, notes, date."""
    sources = set(rows["source"])
    said = []
    if "published" in sources:
        said.append(f"Published: {CITATION}")
    if "measured" in sources:
        said.append("Measured: on the user's own machine, never averaged with published runs")
    over = "best over a run's epochs on test data (optimistic)" if accuracy == "best" else "of the last epoch"
    parts = [
        *said,
        f"{counted(len(rows), 'run')}; accuracy {over}",
        *filters,
        *(note.rstrip(".") for note in notes),
        f"Sparse Transfer Lab, {today:%Y-%m-%d}",
    ]
    return ". ".join(part for part in parts if part) + "."


def filters_in_words(methods: Sequence[str], tasks: Sequence[str], sparsity: tuple[float, float]) -> list[str]:
    """The filters that are set, in words; an empty list or the whole range means none."""
    words = []
    if methods:
        words.append(f"Only the methods {', '.join(methods)}")
    if tasks:
        words.append(f"Only the tasks {', '.join(task_label(task) for task in tasks)}")
    if sparsity != (0.0, 1.0):
        words.append(f"Only sparsity {sparsity_label(sparsity[0])} to {sparsity_label(sparsity[1])}")
    return words


def notes_on(rows: pd.DataFrame) -> list[str]:
    """What must be said wherever these rows are shown."""
    notes = [RIGL_NOTE] if has_disputed_rows(rows) else []
    for (source, upstream, protocol), words in marked_series_names(rows).items():
        if source == "measured":
            baseline = "compared with the dense run of the same backbone, data and protocol"
            notes.append(f"{words.capitalize()}: pretrained on {upstream}, {protocol}; {baseline}")
    return notes


def has_disputed_rows(rows: pd.DataFrame) -> bool:
    """True where rows are shown of which the study's text says otherwise: published RigL under full transfer."""
    rigl = rows["method"].str.startswith("RigL") & (rows["transfer"] == "full") & (rows["source"] == "published")
    return bool(rigl.any())


def method_order(methods: Iterable[str]) -> list[str]:
    """The methods in the catalog's order, others after them."""
    rank = {name: number for number, name in enumerate(METHODS)}
    return sorted(methods, key=lambda method: (rank.get(method, len(rank)), method))


def task_choices(datasets: Iterable[str]) -> list[str]:
    """The study's tasks first, then the user's own, each by name."""
    return sorted(datasets, key=lambda task: (task not in TASKS, task_label(task)))


def is_hidden_lottery_ticket(rows: pd.DataFrame) -> pd.Series:
    """True for LTH-T under linear transfer, which the study leaves out of its figures."""
    return (rows["method"] == "LTH-T") & (rows["transfer"] == "linear")


def lottery_note(hidden: pd.DataFrame) -> list[str]:
    """A note on the rows of a summary that are left out."""
    increase = hidden["mean_relative_error_increase"].dropna()
    if hidden.empty:
        return []
    reach = f" ({100 * increase.min():+.0f} to {100 * increase.max():+.0f} %)" if len(increase) else ""
    return [f"LTH-T under linear transfer is left out, as in the study{reach}"]


def single_task_notes(means: pd.DataFrame) -> list[str]:
    """A note on the points that rest on one task and so have no standard error."""
    single = means.loc[means["tasks"] == 1, "method"]
    return [f"One task only, so no error bar: {', '.join(method_order(single.unique()))}"] if len(single) else []


def task_count(means: pd.DataFrame) -> str:
    """Over how many tasks these means are, such as "12 tasks" or "1 to 12 tasks"."""
    low, high = int(means["tasks"].min()), int(means["tasks"].max())
    return counted(high, "task") if low == high else f"{low} to {high} tasks"


def present(transfers: Iterable[str], rows: pd.DataFrame) -> list[str]:
    """Those of the transfers that there are rows for."""
    there = set(rows["transfer"])
    return [transfer for transfer in transfers if transfer in there]


def behind(rows: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """The runs behind some rows of a summary or of a task table, and the dense runs that they are compared with."""
    baseline = [name for name in BASELINE_KEY if name in means]
    key = [*baseline, "method", "sparsity"]
    runs = rows.merge(means[key].drop_duplicates(), on=key)
    dense = rows[rows["method"] == "Dense"].merge(means[baseline].drop_duplicates(), on=baseline)
    return pd.concat([runs, dense]).drop_duplicates("run_id")


def task_table(rows: pd.DataFrame, accuracy: str, difficulties: dict[str, float]) -> pd.DataFrame:
    """``measures.difference_to_dense`` with names for a heat map: backbones in the catalog's order, tasks as given.

    Adds ``row`` (the backbone in words), ``task`` (told apart by its content where several bear one name),
    ``difficulty``, ``point`` (both in words) and ``hover`` (all there is to say about the cell).
    """
    table = difference_to_dense(rows, accuracy)
    order = {task: number for number, task in enumerate(difficulties)}
    ranks = {method: number for number, method in enumerate(method_order(table["method"].unique()))}
    table = table.assign(
        difficulty=table["dataset"].map(difficulties),
        place=table["dataset"].map(order),
        published=table["source"] != "published",
        rank=table["method"].map(ranks),
    )
    table = table.sort_values(["published", "rank", "sparsity", "protocol", "place"], kind="stable")
    table = table.drop(columns=["place", "published", "rank"]).reset_index(drop=True)
    table["row"] = name_backbones(table, series_names(table))
    table["task"] = _task_names(table)
    linked = zip(name_backbones(table, marked_series_names(table)), _marked_task_names(table), strict=True)
    table["point"] = [f"{backbone} on {task}" for backbone, task in linked]
    table["hover"] = [_cell_in_words(cell) for cell in table.itertuples()]
    by_place = {task: order[dataset] for task, dataset in zip(table["task"], table["dataset"], strict=True)}
    table["task"] = pd.Categorical(
        table["task"], sorted(by_place, key=lambda task: (by_place[task], task)), ordered=True
    )
    return table


def as_in_the_study(table: pd.DataFrame) -> pd.DataFrame:
    """A ``task_table`` as the study's tables C.1 and C.2: a row a backbone, "mean ± std (n)" in percent a task."""
    deviations = ["" if np.isnan(deviation) else f" ± {100 * deviation:.1f}" for deviation in table["accuracy_std"]]
    parts = zip(table["accuracy_mean"], deviations, table["runs"], strict=True)
    cells = [f"{100 * mean:04.1f}{deviation} ({runs})" for mean, deviation, runs in parts]
    wide = table.assign(cell=cells).pivot(index="row", columns="task", values="cell")
    return wide.reindex(distinct(table["row"])).rename_axis("Network").rename_axis(columns=None).reset_index()


def distinct(values: pd.Series) -> list[str]:
    """The different values in order of appearance; of a categorical, in the order of its categories."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.remove_unused_categories().cat.categories.tolist()
    return list(dict.fromkeys(values))


def single_run_notes(table: pd.DataFrame) -> list[str]:
    """A note on the numbers that rest on one run and so have no standard deviation."""
    single = int((table["runs"] == 1).sum())
    if not single:
        return []
    which = "Every number rests" if single == len(table) else f"{counted(single, 'number')} of {len(table)} rest"
    return [f"{which} on one run, so without a standard deviation"]


def _task_names(table: pd.DataFrame) -> list[str]:
    """Each row's task; where several contents bear one name, with the start of its content's hash."""
    measured = table[table["source"] == "measured"]
    contents = measured.groupby("dataset")["dataset_hash"].nunique()
    several = [contents.get(dataset, 0) > 1 for dataset in table["dataset"]]
    plain = table["dataset"].map(task_label)
    return np.where(several, _marked_task_names(table), plain).tolist()


def _marked_task_names(table: pd.DataFrame) -> list[str]:
    """Each row's task with the start of its content's hash where that is known, so that it stays the same in a link."""
    pairs = zip(table["dataset"].map(task_label), table["dataset_hash"], strict=True)
    return [f"{task} ({content[:6]})" if content else task for task, content in pairs]


def _cell_in_words(cell: Any) -> str:
    around = "" if np.isnan(cell.accuracy_std) else f" ± {100 * cell.accuracy_std:.2f}"
    lines = [
        f"<b>{html.escape(cell.row)}</b> on {html.escape(cell.task)}",
        f"{100 * cell.accuracy_mean:.1f}{around} % ({counted(cell.runs, 'run')})",
    ]
    if cell.method != "Dense" and not np.isnan(cell.difference):
        lines.append(f"dense {100 * cell.baseline_accuracy:.1f} %, difference {100 * cell.difference:+.1f} points")
    if not np.isnan(cell.difficulty):
        lines.append(f"difficulty: dense gains {100 * cell.difficulty:.1f} points from full over linear transfer")
    return "<br>".join(lines)
