"""Tables of results by task, in the paper's layout too, and of what pruning left: layers, networks, methods, masks, sizes."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparse_core.catalog import architecture_label
from sparse_core.networks import packed_masks
from sparse_core.networks.library import BackboneCard
from sparse_core.networks.packed_masks import Shapes
from sparse_core.networks.structure import Structure
from sparse_core.results.measures import difference_to_dense, per_configuration, with_sizes
from sparse_core.views import labels
from sparse_core.views.labels import SIZES, counted, distinct, percent

SHARES = ("mean_layer_filters_pruned_share", "filters_pruned_share", "filters_dead_share")
# What networks are compared by: column, and field of their structure.
COMPARED = {"measured_sparsity": "sparsity", **{share: share for share in SHARES}, "nonzero_parameters": "nonzero"}
COMPARED |= {name: name for name in ("parameters", "multiply_adds_sparse", "multiply_adds")}
COMPARED |= {"file_size": "bytes_sparse"}
COMPARED |= {name: name for name in ("parameters_removable", "multiply_adds_removable")}
# Shares of a layer: column, and what is divided by what; the sparsity is a share as it is.
LAYER_SHARES = {"sparsity": ("sparsity", ""), "filters_pruned_share": ("filters_pruned", "filters")}
LAYER_SHARES |= {"filters_removable_share": ("filters_removable", "filters")}
LAYER_SHARES |= {"channels_pruned_share": ("channels_pruned", "channels")}
LAYER_SHARES |= {"channels_removable_share": ("channels_removable", "channels")}
LABELS = ["row", "line", "point", "hover"]  # columns of a task table that are for charts and links, not for reading
LAYER_COLUMNS = ["layer", "name", "shape", "output", "sparsity", "filters", "filters_pruned", "filters_removable"]
LAYER_COLUMNS += ["channels", "channels_pruned", "channels_removable", "parameters", "nonzero"]
LAYER_COLUMNS += ["multiply_adds", "multiply_adds_sparse", "groups"]


def task_table(rows: pd.DataFrame, accuracy: str, difficulties: dict[tuple[str, str], float]) -> pd.DataFrame:
    """``measures.difference_to_dense`` with names: networks in the catalog's order, tasks in that of ``difficulties``, which
    are by dataset and content hash (``measures.ordered_tasks``).

    Adds ``row`` and ``line`` (``labels.name_networks``, ``labels.name_lines``), ``task`` (``labels.name_tasks``),
    ``difficulty``, ``point`` (network and task, as links name them) and ``hover`` (a description of the cell, as HTML).
    """
    table = difference_to_dense(rows, accuracy)
    task_rank = {task: number for number, task in enumerate(difficulties)}
    method_rank = {method: number for number, method in enumerate(labels.method_order(table["method"].unique()))}
    tasks = list(zip(table["dataset"], table["dataset_hash"], strict=True))
    order = {
        "difficulty": [difficulties.get(task, math.nan) for task in tasks],
        "task_rank": [task_rank.get(task, len(task_rank)) for task in tasks],
        "own": table["source"] != "published",
        "method_rank": table["method"].map(method_rank),
    }
    by = ["own", "method_rank", "sparsity", "protocol", "network_name", "network", "task_rank"]
    table = table.assign(**order).sort_values(by, kind="stable", ignore_index=True)
    table["row"], table["line"] = labels.name_networks(table), labels.name_lines(table)
    table["task"], table["series_name"] = labels.name_tasks(table), labels.name_series(table)
    table["point"] = labels.cell_names(table)
    table["hover"] = [_hover(cell) for cell in table.itertuples()]
    by_rank = table.sort_values(["task_rank", "task"])["task"].unique()
    table["task"] = pd.Categorical(table["task"], by_rank, ordered=True)
    return table.drop(columns=["task_rank", "own", "method_rank"])


def network_columns(table: pd.DataFrame) -> list[str]:
    """The columns that name each row's network, if any is the user's: the paper's networks have neither name nor hash. Before
    them that of its series, where a source has several, which differ in settings or upstream data."""
    several = "series_name" in table and table["series_name"].nunique() > table["source"].nunique()
    networks = ["network_name", "network"] if (table["network"] != "").any() else []
    return [*(["series_name"] if several else []), *networks]


def paper_layout(table: pd.DataFrame) -> pd.DataFrame:
    """A ``task_table`` as the paper's tables C.1 and C.2: a row for each network, "mean ± std (n)" in percent for each task."""
    deviations = ["" if np.isnan(deviation) else f" ± {100 * deviation:.1f}" for deviation in table["accuracy_std"]]
    parts = zip(table["accuracy_mean"], deviations, table["seeds"], strict=True)
    cells = [f"{100 * mean:4.1f}{deviation} ({seeds})" for mean, deviation, seeds in parts]
    wide = table.assign(cell=cells).pivot(index="row", columns="task", values="cell")
    return wide.reindex(distinct(table["row"])).rename_axis("Network").rename_axis(columns=None).reset_index()


def layer_table(structure: Structure) -> pd.DataFrame:
    """A row for each convolution, input to output; shapes as text, ``sparsity`` 0..1."""
    table = pd.DataFrame([vars(layer) for layer in structure.layers])
    for name in ("shape", "output"):
        table[name] = [" × ".join(map(str, sizes)) for sizes in table[name]]
    table = table.rename(columns={"filters_dead": "filters_removable", "channels_dead": "channels_removable"})
    return table.assign(layer=range(1, len(table) + 1))[LAYER_COLUMNS]


def comparison_table(found: Sequence[tuple[BackboneCard, Structure]]) -> pd.DataFrame:
    """A row for each backbone, by measured sparsity: the shares of filters of the paper's table 4, 0..1, and its sizes."""
    return pd.DataFrame(
        {
            "network": labels.backbone_label(card),
            "method": card.method,
            **{name: getattr(structure, of) for name, of in COMPARED.items()},
        }
        for card, structure in sorted(found, key=lambda pair: pair[1].sparsity)
    )


def layers_by_network(found: Sequence[tuple[BackboneCard, Structure]]) -> pd.DataFrame:
    """A row for each convolution of each backbone, in the order of ``found``: ``series`` (the backbone's name in a chart),
    ``method``, ``layer`` (1, 2, …), ``name``, and the layer's ``LAYER_SHARES``, each in [0, 1]."""
    names = _short_names([card for card, _ in found])
    tables = []
    for (card, structure), name in zip(found, names, strict=True):
        layers = layer_table(structure)
        shares = {share: layers[part] / layers[whole] for share, (part, whole) in LAYER_SHARES.items() if whole}
        shown = layers[["layer", "name", "sparsity"]].assign(series=name, method=card.method, **shares)
        tables.append(shown[["series", "method", "layer", "name", *LAYER_SHARES]])
    return pd.concat(tables, ignore_index=True)


def _short_names(cards: Sequence[BackboneCard]) -> list[str]:
    """Method and sparsity of each backbone, with its own name where several agree, with its architecture where these differ."""
    several = len({card.architecture for card in cards}) > 1
    heads = [
        (f"{architecture_label(card.architecture)}, " if several else "")
        + labels.method_label(card.method, card.sparsity)
        for card in cards
    ]
    return [f"{head} ({card.name})" if heads.count(head) > 1 else head for head, card in zip(heads, cards, strict=True)]


def overlap_table(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], shapes: Shapes) -> pd.DataFrame:
    """A row for each weight of two packed masks of these shapes: ``kept_first``, ``kept_second``, ``kept_in_both``,
    ``kept_in_either``, ``overlap`` (IoU, 0..1) and ``overlap_by_chance``.

    Two masks that keep shares p and q of a layer independently at random have an expected IoU of about pq / (p + q − pq).
    """
    rows = []
    for number, (name, (intersection, union)) in enumerate(packed_masks.overlaps(a, b).items(), start=1):
        first, second, size = packed_masks.count(a[name]), packed_masks.count(b[name]), math.prod(shapes[name])
        chance = first * second / size
        rows.append(
            {
                "layer": number,
                "name": name.removesuffix(".weight"),
                "kept_first": first,
                "kept_second": second,
                "kept_in_both": intersection,
                "kept_in_either": union,
                "overlap": packed_masks.iou([(intersection, union)]),
                "overlap_by_chance": chance / (first + second - chance) if union else 1.0,
            }
        )
    return pd.DataFrame(rows)


def filters_by_method(networks: Sequence[tuple[BackboneCard, Structure]]) -> pd.DataFrame:
    """The paper's table 4: a row for each method and sparsity, with ``share``, the mean over its ``networks`` (their number) of
    the layers' mean share of fully pruned filters (0..1), and ``share_std``, NaN for one."""
    columns = ["method", "sparsity", "share"]
    rows = [(card.method, card.sparsity, found.mean_layer_filters_pruned_share) for card, found in networks]
    grouped = pd.DataFrame(rows, columns=columns).groupby(["method", "sparsity"])["share"]
    table = grouped.agg(share="mean", share_std="std", networks="size").reset_index()
    rank = {method: number for number, method in enumerate(labels.method_order(table["method"].unique()))}
    return table.sort_values(["method", "sparsity"], key=lambda keys: keys.map(rank) if keys.name == "method" else keys)


def filters_layout(table: pd.DataFrame) -> pd.DataFrame:
    """``filters_by_method`` as the paper has it: a row for each method, "mean ± std (n)" in percent for each sparsity."""
    shares = zip(table["share"], table["share_std"], table["networks"], strict=True)
    cells = [f"{_mean_and_deviation(mean, std)} ({networks})" for mean, std, networks in shares]
    wide = table.assign(cell=cells, level=table["sparsity"].map(labels.sparsity_label))
    levels = wide.sort_values("sparsity")["level"].unique()
    wide = wide.pivot(index="method", columns="level", values="cell").reindex(
        index=distinct(table["method"]), columns=levels
    )
    return wide.fillna("").rename_axis("Method").rename_axis(columns=None).reset_index()


def accuracy_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each measured network: its sizes, and mean and standard deviation (NaN for one seed) of the best accuracy.

    ``runs`` are the store's rows of one architecture, task, metric and transfer; those whose sizes are unknown are left
    out. Runs of different protocols or upstream data are never averaged together.
    """
    known = runs.dropna(subset=list(SIZES))
    table = with_sizes(per_configuration(known), known)
    return table.sort_values(["sparsity", "method", "network_name", "network"], ignore_index=True)


def _hover(cell: Any) -> str:
    metric = "" if labels.metric_name([cell.metric]) == "accuracy" else f"{cell.metric} "
    lines = [
        f"<b>{html.escape(cell.row)}</b> on {html.escape(cell.task)}",
        html.escape(labels.network_label(cell)),
        f"{metric}{_mean_and_deviation(cell.accuracy_mean, cell.accuracy_std)} ({labels.samples(cell)})",
    ]
    if cell.method != "Dense" and not np.isnan(cell.difference):
        dense = _mean_and_deviation(cell.baseline_accuracy, cell.baseline_std)
        lines.append(f"dense {dense} ({_baseline_samples(cell)}), difference {100 * cell.difference:+.1f} points")
        lines.append(labels.difference_interval(cell))
    if not np.isnan(cell.difficulty):
        lines.append(f"difficulty: dense gains {100 * cell.difficulty:.1f} points from full over linear transfer")
    return "<br>".join(filter(None, lines))


def _mean_and_deviation(mean: float, deviation: float) -> str:
    return f"{100 * mean:.1f}{'' if np.isnan(deviation) else f' ± {percent(deviation)}'} %"


def _baseline_samples(cell: Any) -> str:
    networks = int(cell.baseline_networks)
    return counted(int(cell.baseline_seeds), "seed") if networks == 1 else counted(networks, "network")
