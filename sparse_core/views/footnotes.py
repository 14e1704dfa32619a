"""The text under a figure: sources, filters, and notes without which its numbers would mislead."""

from collections.abc import Iterable, Sequence
from datetime import date

import pandas as pd

from sparse_core.catalog import CITATION, task_label
from sparse_core.results.measures import BASELINE_KEY, SERIES_KEY, first_runs, grouped, has_disputed_rows
from sparse_core.views.labels import (
    SIZES,
    SOURCES,
    counted,
    method_label,
    method_order,
    metric_name,
    network_names,
    series_names,
    sparsity_label,
)

RIGL_NOTE = (
    "RigL, full transfer: the paper's text and its public rows disagree for an unknown reason; the rows are shown "
    "(in the text RigL 1x is level with AC/DC, and 5x nearly level with WoodFisher)."
)
ORIGINS = {
    "published": CITATION,
    "shipped": "small networks trained and measured by the makers of Sparse Transfer Lab",
    "measured": "measured on the user's own machine",
}


def caption(rows: pd.DataFrame, filters: Sequence[str], notes: Sequence[str], accuracy: str, today: date) -> str:
    """The caption that explains a figure on its own: sources, filters, number of runs, notes, date."""
    which = "of the best epoch (selected on test data: optimistic)" if accuracy == "best" else "of the last epoch"
    metric = metric_name(rows["metric"].unique())
    errors = [] if metric == "accuracy" else [f"Error is 1 − {metric}"]
    parts = [
        *origins(rows),
        f"{counted(len(rows), 'run')}; {metric} {which}",
        *errors,
        *filters,
        *(note.rstrip(".") for note in notes),
        f"Sparse Transfer Lab, {today:%Y-%m-%d}",
    ]
    return ". ".join(part for part in parts if part) + "."


def origins(rows: pd.DataFrame) -> list[str]:
    """The sources of the rows, each with where it comes from."""
    found = [f"{SOURCES[source]}: {origin}" for source, origin in ORIGINS.items() if (rows["source"] == source).any()]
    others = sorted(set(rows["source"].unique()) - set(ORIGINS))
    found += [f"{source}: imported, as its authors report it" for source in others]
    return [*found, *(["Sources are never averaged together"] if len(found) > 1 else [])]


def filter_notes(methods: Sequence[str], tasks: Sequence[str], sparsity: tuple[float, float]) -> list[str]:
    """One note for each filter that is set; an empty list or the whole range means none."""
    notes = []
    if methods:
        notes.append(f"Only the methods {', '.join(methods)}")
    if tasks:
        notes.append(f"Only the tasks {', '.join(task_label(task) for task in tasks)}")
    if sparsity != (0.0, 1.0):
        notes.append(f"Only sparsity {sparsity_label(sparsity[0])} to {sparsity_label(sparsity[1])}")
    return notes


def size_notes(axis: str, left_out: int) -> list[str]:
    """What an axis of ``SIZES`` counts, and how many runs it leaves out; nothing for sparsity."""
    if axis == "sparsity":
        return []
    unknown = f"{counted(left_out, 'paper result')} left out: the paper's networks were not published with them"
    return [f"{SIZES[axis].description}, on a logarithmic scale", *([unknown] if left_out else [])]


def row_notes(rows: pd.DataFrame) -> list[str]:
    """The notes that must accompany these rows wherever they are shown."""
    notes = result_notes(rows)
    _, series = grouped(first_runs(rows), SERIES_KEY)
    for (source, upstream, protocol), name in series_names(series).items():
        if source != "published":
            baseline = "compared with the dense network of the same architecture, upstream data and protocol"
            notes.append(f"{name[:1].upper()}{name[1:]}: pretrained on {upstream}, {protocol}; {baseline}")
    return notes


def result_notes(rows: pd.DataFrame) -> list[str]:
    """The notes on disputed rows, repeated seeds, joined networks and several dense networks."""
    first = first_runs(rows)
    disputed = [RIGL_NOTE] if has_disputed_rows(first) else []
    return [*disputed, *repeated_notes(rows), *joined_notes(first), *baseline_notes(first)]


def joined_notes(rows: pd.DataFrame) -> list[str]:
    """A note where networks are shown as one: see ``measures.joined``."""
    if "member" not in rows or rows["member"].equals(rows["network"]):
        return []
    return [
        "Networks trained alike from different upstream seeds are one point: the mean of their means, n is their number, ± is "
        "between networks"
    ]


def repeated_notes(rows: pd.DataFrame) -> list[str]:
    """A note on the runs that repeat a seed: reruns, and the paper's rows that have one seed twice."""
    repeats = rows[(rows["replicate"] > 0).to_numpy()]
    notes = []
    for source, which in (
        ("published", "published under a seed that has another row"),
        ("shipped", "a rerun of a seed"),
        ("measured", "a rerun of a seed"),
    ):
        found = repeats[repeats["source"] == source]
        if len(found):
            _, kinds = grouped(found, ["method", "sparsity"])
            networks = "; ".join(sorted({method_label(row.method, row.sparsity) for row in kinds.itertuples()}))
            notes.append(
                f"{counted(len(found), 'run')} {'is' if len(found) == 1 else 'are'} {which} ({networks}): averaged into that "
                "seed, n counts seeds"
            )
    return notes


def baseline_notes(rows: pd.DataFrame) -> list[str]:
    """A note where several dense networks are the baseline of the others, or some are not for their recipe."""
    member = "member" if "member" in rows else "network"
    _, networks = grouped(
        rows, list(dict.fromkeys([*BASELINE_KEY, "method", "recipe", "network", "network_name", member]))
    )
    dense = networks[networks["method"] == "Dense"]
    keys, _ = grouped(dense, BASELINE_KEY)
    several = dense[member].groupby(keys).transform("nunique") > 1
    if not several.any():
        return []
    named = network_names(dense)
    joint = set(dense.loc[dense["network"] != dense[member], "network"])
    found = {f"{named[each]}{' trained alike' if each in joint else ''}" for each in dense.loc[several, "network"]}
    names = ", ".join(sorted(found))
    rule = "the baseline is the mean of their means, n is their number"
    if (dense["recipe"].groupby(keys).transform("nunique") > 1).any():
        rule = "those of the most frequent recipe are the baseline: the mean of their means, n is their number"
    return [f"Where there are several dense networks ({names}), {rule}"]


def absent_methods(methods: Iterable[str], published: Iterable[str]) -> list[str]:
    """Those of ``methods`` that have no results in the paper."""
    known = set(published)
    return [method for method in methods if method not in known]


def lottery_note(hidden: pd.DataFrame) -> list[str]:
    """A note on the LTH-T rows of a summary that are left out."""
    if hidden.empty:
        return []
    increase = hidden["mean_relative_error_increase"].dropna()
    extent = f" ({100 * increase.min():+.0f} to {100 * increase.max():+.0f} %)" if len(increase) else ""
    return [f"LTH-T under linear transfer is left out, as in the paper{extent}"]


def single_task_notes(means: pd.DataFrame) -> list[str]:
    """Notes on the means over one task: their spread is over seeds, and they have none where there is one seed."""
    single = means[means["tasks"] == 1]
    seeded = single["seed_error"].notna()
    notes = (
        [f"One task only, so ± is the standard error over seeds: {_methods(single[seeded])}"] if seeded.any() else []
    )
    return notes + (
        [] if seeded.all() else [f"One task without a spread over seeds, so no error bar: {_methods(single[~seeded])}"]
    )


def _methods(rows: pd.DataFrame) -> str:
    return ", ".join(method_order(rows["method"].unique()))


def single_seed_notes(table: pd.DataFrame) -> list[str]:
    """A note on the means over one seed, which have no standard deviation."""
    single = int((table["seeds"] == 1).sum())
    if not single:
        return []
    which = "All numbers are" if single == len(table) else f"{single:,} of {counted(len(table), 'number')} are"
    return [f"{which} from a single seed and have no standard deviation"]


def task_count(means: pd.DataFrame) -> str:
    """The number of tasks behind these means, such as "12 tasks" or "1 to 12 tasks"."""
    low, high = int(means["tasks"].min()), int(means["tasks"].max())
    return counted(high, "task") if low == high else f"{low} to {high} tasks"


def spread_note(means: pd.DataFrame) -> str:
    """What the means of a summary are over, and their ±."""
    if (means["tasks"] == 1).all():
        return "one task ± standard error over seeds"
    return f"mean ± standard error over {task_count(means)}"
