"""Names for display: numbers, stored values, backbones, series of results, and points in charts."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pandas as pd

from sparse_core.catalog import MAP, METHODS, METRICS, STRICT_MAP, TASKS, UNKNOWN, architecture_label, task_label
from sparse_core.networks.library import BackboneCard
from sparse_core.views.series import distinguished

SERIES_KEY = ["source", "upstream", "protocol"]

SOURCES = {"published": "Paper results", "shipped": "Shipped results", "measured": "Your runs"}
OWN = "your runs"  # a series of the user's own results, in names of points and lines
TRANSFERRED, ON_TASK = "transferred", "task"  # how networks for a task were pruned
ROUTES = {TRANSFERRED: "pruned upstream, then transferred", ON_TASK: "pruned on the task itself"}
SERIES = {"published": "", "shipped": "shipped", "measured": OWN}
TRANSFER_NAMES = {"linear": "Linear", "full": "Full"}
MODES = {"inference": "Inference", "training": "Online training"}
# A stored "slower" has its 95 % interval below 1; "no gain" has one that includes 1.
GAINS = {"faster": "faster", "slower": "not faster", "no gain": "inconclusive"}


@dataclass(frozen=True)
class Size:
    """A measure of a network's size: name, display unit, what is counted, and how much one unit is."""

    label: str
    unit: str
    detail: str
    scale: float = 1e6

    @property
    def title(self) -> str:
        """The name with its unit, as an axis shows it."""
        return f"{self.label} ({self.unit})"

    @property
    def description(self) -> str:
        """What an axis of the measure counts."""
        return f"{self.label} in {self.unit}{self.detail}, without the new classifier"


# By column of the results store.
SIZES = {
    "nonzero_parameters": Size("Nonzero parameters", "million", ""),
    "multiply_adds": Size("Multiply-adds of the nonzero weights", "million", ", for one image"),
    "file_size": Size("File size", "MB", " when only nonzero weights are stored"),
}


def percent(fraction: float, *, signed: bool = False) -> str:
    """A fraction of 1 as percent with three significant digits, without the percent sign; a dash for NaN."""
    if math.isnan(fraction):
        return "–"
    size = abs(100 * fraction)
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
    sign = "−" if fraction < 0 else "+" if signed else ""
    return f"{sign}{size:.{digits}f}"


def metric_name(metrics: Iterable[str]) -> str:
    """What accuracies of these metrics are called: "accuracy", or of detectors their mAP."""
    found = set(metrics)
    return found.pop() if len(found) == 1 and found <= {MAP, STRICT_MAP} else "accuracy"


def metric_title(metric: str) -> str:
    """A ``metric_name`` where a title begins with it."""
    return metric[:1].upper() + metric[1:] if metric == "accuracy" else metric


def sparsity_label(sparsity: float) -> str:
    """A sparsity (0..1) such as 90 % or 97.5 %."""
    return f"{100 * sparsity:.3g} %"


def samples(row: Any) -> str:
    """The n of a mean: the seeds, and the runs where some seed has several, such as "5 seeds, 6 runs"; of joined networks,
    their number."""
    if row.networks > 1:
        return f"{counted(int(row.networks), 'network')}, {counted(int(row.runs), 'run')}"
    seeds = counted(int(row.seeds), "seed")
    return seeds if row.runs == row.seeds else f"{seeds}, {counted(int(row.runs), 'run')}"


def difference_interval(row: Any) -> str:
    """The interval of a difference to dense, with its method; empty where there is none."""
    if not isinstance(row.interval, str) or not row.interval:
        return ""
    ends = f"{100 * row.difference_low:+.1f} to {100 * row.difference_high:+.1f}"
    return f"95 % interval of the difference: {ends} points ({row.interval})"


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 task, 12 tasks."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A time with about two digits: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{seconds / 3600:,.0f} h"


def time_left(seconds: float | None) -> str:
    """The remaining time, to follow a progress description; empty while it is unknown."""
    return "" if seconds is None else f", about {duration(seconds)} left"


def file_size(size_bytes: int) -> str:
    """A file size such as 1.1 MB."""
    megabytes = size_bytes / 1e6
    return f"{megabytes:.1f} MB" if megabytes < 100 else f"{megabytes:,.0f} MB"


def part_of(part: float, whole: float) -> str:
    """A count and the total it is part of, in the total's unit: "1.69 of 3.37 million"."""
    units = ((" billion", 1e9), (" million", 1e6), (" thousand", 1e3), ("", 1))
    unit, scale = next((unit for unit in units if whole >= unit[1]), units[-1])
    return f"{part / scale:.3g} of {whole / scale:.3g}{unit}"


def backbone_label(card: BackboneCard) -> str:
    """Architecture, method and sparsity of a backbone; in front of them the name of one from the library or the zoo."""
    if card.kind == "architecture":
        return f"{architecture_label(card.architecture)}, new weights"
    method = "unknown method" if card.method == UNKNOWN else card.method
    method = method if any(letter.isupper() for letter in method[1:]) else method.lower()
    pruned = method if card.method == "Dense" else f"{method} {sparsity_label(card.sparsity)}"
    label = f"{architecture_label(card.architecture)}, {pruned}"
    return f"{card.name}: {label}" if card.kind in ("library", "zoo") else label


def method_label(method: str, sparsity: float) -> str:
    """A method with its sparsity, such as AC/DC 90 %; Dense alone."""
    return method if method == "Dense" else f"{method} {sparsity_label(sparsity)}"


def level_labels(rows: pd.DataFrame) -> list[str]:
    """The sparsity of each row, "dense" for a dense network."""
    return ["dense" if row.method == "Dense" else sparsity_label(row.sparsity) for row in rows.itertuples()]


def series_names(frame: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """A name for each (source, upstream, protocol) of the rows, to follow the method: empty for the paper's results.

    The user's are "your runs", those that come with the product "shipped"; where a source has several under one transfer, which
    are never averaged together, what sets them apart follows: "your runs, lr 0.1".
    """
    key = ["source", *(["transfer"] if "transfer" in frame else []), "upstream", "protocol"]
    groups: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for *group, upstream, protocol in set(zip(*(frame[name].tolist() for name in key), strict=True)):
        groups.setdefault(tuple(group), set()).add((upstream, protocol))
    names: dict[tuple[str, str, str], str] = {}
    for (source, *_), pairs in sorted(groups.items()):
        for pair, apart in distinguished(sorted(pairs)).items():
            series = SERIES.get(source, source)  # an imported source has the name that its user gave it
            names[source, *pair] = ", ".join(filter(None, [series, apart])) if series else ""
    return names


def marked_series_names(frame: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """As ``series_names``, but with a mark in place of what sets them apart, such as "your runs 3f2a": for links, never for the
    screen. It is a hash of upstream and protocol, so a link keeps its meaning whatever else is measured later."""
    keys = sorted(set(_series(frame)))
    marks = {key: hashlib.sha256("\n".join(("measured", *key[1:])).encode()).hexdigest()[:4] for key in keys}
    names = {key: SERIES.get(key[0], key[0]) for key in keys}
    return {key: f"{names[key]} {marks[key]}" if names[key] else "" for key in keys}


def network_names(frame: pd.DataFrame) -> dict[str, str]:
    """The name of each network (by content hash) of the user's rows; numbered where several have one name."""
    first = dict(zip(reversed(frame["network"].tolist()), reversed(frame["network_name"].tolist()), strict=True))
    numbers: dict[str, Iterator[int]] = {name: count(1) for name, times in Counter(first.values()).items() if times > 1}
    return {
        network: f"{name} ({next(numbers[name])})" if name in numbers else name
        for network, name in sorted(first.items())
    }


def network_label(row: Any) -> str:
    """A row's network by name and the start of its content hash; empty for the paper's."""
    return f"network {row.network_name}, {row.network[:8]}" if row.network else ""


def recipe_names(frame: pd.DataFrame) -> list[str]:
    """What sets each row's recipe apart, to follow the method; empty where its method has one recipe in its series, or where it
    is the most frequent one of the series (of equals, the first by name)."""
    rows = list(zip(frame["method"], frame["recipe"], _series(frame), strict=True))
    of_method: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    of_series: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for method, recipe, series in rows:
        of_method[method, series].add(recipe)
        of_series[series][recipe] += 1
    usual = {series: min(counts, key=lambda recipe: (-counts[recipe], recipe)) for series, counts in of_series.items()}
    return [
        ", ".join(part for part in recipe.split(", ") if part not in usual[series].split(", "))
        if len(of_method[method, series]) > 1
        else ""
        for method, recipe, series in rows
    ]


def name_networks(frame: pd.DataFrame) -> list[str]:
    """A name for each row's network, such as "AC/DC 90 %" or "Magnitude 50 %, your runs".

    Where several networks of one series have the same method, recipe and sparsity, their own names follow: "AC/DC 90 %, net5".
    """
    return _with_networks(frame, _method_labels(frame), _shared(frame))


def name_lines(frame: pd.DataFrame) -> list[str]:
    """A name for each row's line in a chart: as ``name_networks``, without the sparsity.

    A line joins the networks of one method, recipe and series, unless two of them have the same sparsity: then each is a line.
    """
    lines = list(zip(frame["method"], frame["recipe"], _series(frame), strict=True))
    divided = {line for line, shared in zip(lines, _shared(frame), strict=True) if shared}
    return _with_networks(frame, frame["method"], [line in divided for line in lines])


def _method_labels(frame: pd.DataFrame) -> list[str]:
    return list(map(method_label, frame["method"], frame["sparsity"]))


def _shared(frame: pd.DataFrame) -> list[bool]:
    """True for rows whose method, recipe, sparsity (as shown) and series several networks share."""
    places = list(zip(_method_labels(frame), frame["recipe"], _series(frame), strict=True))
    networks: dict[tuple[str, str, tuple[str, ...]], set[str]] = defaultdict(set)
    for place, network in zip(places, frame["network"], strict=True):
        networks[place].add(network)
    return [len(networks[place]) > 1 for place in places]


def _with_networks(frame: pd.DataFrame, heads: Iterable[str], distinguished: Sequence[bool]) -> list[str]:
    """Each row's head with what sets its recipe apart, the name of its network where that is ``distinguished``, and that of its
    series; "your runs" goes without saying where the network is named."""
    names, series = network_names(frame), series_names(frame)
    rows = zip(heads, recipe_names(frame), frame["network"], distinguished, _series(frame), strict=True)
    return [
        ", ".join(filter(None, [head, recipe, names[network], series[key].removeprefix(OWN).removeprefix(", ")]))
        if apart
        else ", ".join(filter(None, [head, recipe, series[key]]))
        for head, recipe, network, apart, key in rows
    ]


def _series(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(*(frame[name] for name in SERIES_KEY), strict=True))


def link_names(frame: pd.DataFrame) -> list[str]:
    """A name for each row's network that keeps its meaning in a link whatever is measured later, such as
    "AC/DC 90 %, your runs 3f2a, net5 (1b2c3d)"."""
    series = marked_series_names(frame)
    rows = zip(frame["method"], frame["sparsity"], _link_networks(frame), _series(frame), strict=True)
    return [", ".join(filter(None, [method_label(*row[:2]), series[row[3]]])) + row[2] for row in rows]


def _link_networks(frame: pd.DataFrame) -> list[str]:
    pairs = zip(frame["network"], frame["network_name"], strict=True)
    return [f", {name} ({network[:6]})" if network else "" for network, name in pairs]


def name_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with each row's transfer and network, in the column ``point`` as links name them, in ``shown`` as texts do, and
    with its ``series_name``."""
    shown = _with_transfers(frame, name_networks(frame))
    return frame.assign(point=point_names(frame), shown=shown, series_name=name_series(frame))


def name_series(frame: pd.DataFrame) -> list[str]:
    """The name of each row's series: see ``series_names``."""
    names = series_names(frame)
    return [names[key] for key in _series(frame)]


def point_names(frame: pd.DataFrame) -> list[str]:
    """Each row's transfer and network as links name them, such as "Full: STR 90 %"."""
    return _with_transfers(frame, link_names(frame))


def _with_transfers(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [f"{TRANSFER_NAMES[transfer]}: {name}" for transfer, name in zip(frame["transfer"], names, strict=True)]


def cell_names(frame: pd.DataFrame) -> list[str]:
    """Each row's network and task as links name them, such as "STR 90 % on CIFAR-10"."""
    return [f"{name} on {task}" for name, task in zip(link_names(frame), marked_task_names(frame), strict=True)]


def former_points(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The points of the frame under the names that links of earlier versions give them, which are without the network."""
    found: dict[str, list[str]] = {}
    for point, network in zip(frame["point"], _link_networks(frame), strict=True):
        if network:
            found.setdefault(point.replace(network, "", 1), []).append(point)
    return found


def current_point(name: str) -> str:
    """The present name of a point or cell in an older link, in which the user's runs are called "measured"."""
    return re.sub(r", measured (?=[0-9a-f]{4}\b)", ", your runs ", name)


def name_tasks(table: pd.DataFrame) -> list[str]:
    """Each row's task; where several datasets have one name, with the start of the content hash, and where one is measured in
    several metrics, with the metric."""
    measured = table[table["source"] != "published"]
    contents = measured.groupby("dataset")["dataset_hash"].nunique()
    several = table["dataset"].map(contents).gt(1)
    names = table["dataset"].map(task_label).where(~several, marked_task_names(table))
    metrics = table.groupby(["source", "dataset", "dataset_hash"])["metric"].transform("nunique")
    return names.where(
        metrics == 1, names + ", " + table["metric"].map(lambda metric: METRICS.get(metric, metric))
    ).tolist()


def marked_task_names(table: pd.DataFrame) -> list[str]:
    """Each row's task with the start of its content hash where that is known, so that a link keeps its meaning."""
    pairs = zip(table["dataset"].map(task_label), table["dataset_hash"], strict=True)
    return [f"{task} ({content[:6]})" if content else task for task, content in pairs]


def method_order(methods: Iterable[str]) -> list[str]:
    """The methods in the catalog's order, others after them."""
    rank = {name: number for number, name in enumerate(METHODS)}
    return sorted(methods, key=lambda method: (rank.get(method, len(rank)), method))


def task_choices(datasets: Iterable[str]) -> list[str]:
    """The paper's tasks first, then the user's own, each by name."""
    return sorted(datasets, key=lambda task: (task not in TASKS, task_label(task)))


def distinct(values: pd.Series) -> list[str]:
    """The different values in order of appearance; of a categorical, in the order of its categories."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.remove_unused_categories().cat.categories.tolist()
    return list(dict.fromkeys(values))
