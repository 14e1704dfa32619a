"""Tables of what goes with a transfer's errors: task difficulty, what pruning left of a network, upstream accuracy."""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparse_core.catalog import TASKS, architecture_label
from sparse_core.paths import PUBLISHED
from sparse_core.results import difficulty, measures
from sparse_core.results.difficulty import Regression
from sparse_core.results.measures import BASELINE_KEY, SERIES_KEY, SUMMARY_KEY
from sparse_core.speed import network_facts
from sparse_core.views.labels import name_lines, name_tasks, percent, sparsity_label

# What pruning left of a network, by column: title of the axis.
TRAITS = dict(
    zip(
        network_facts.TRAITS,
        (
            "Fully pruned filters, mean over layers (%)",
            "Removable filters, mean over layers (%)",
            "Removable input channels, mean over layers (%)",
            "Spread of layer sparsities (standard deviation, points)",
            "Sparsity of the first layer (%)",
        ),
        strict=True,
    )
)


def levels(sparsities: Sequence[float]) -> dict[float, float]:
    """Each sparsity with the one that stands for it: of those nearer to each other than ``measures.NEAR``, the largest."""
    found: dict[float, float] = {}
    group: list[float] = []
    for value in sorted(set(sparsities)):
        if group and value - group[-1] > measures.NEAR:
            group = []
        group.append(value)
        found |= dict.fromkeys(group, value)
    return found


def difficulty_points(rows: pd.DataFrame, dense: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    """``difficulty.points`` of the rows, with the difficulties of ``dense`` runs of both transfers, and ``level``, ``line``,
    ``task``, ``kind`` and ``hover`` for a chart."""
    found = difficulty.points(rows, accuracy, dense)
    if found.empty:
        return found
    found = found.assign(
        level=found["sparsity"].map(levels(found["sparsity"])),
        line=name_lines(found),
        task=name_tasks(found),
        kind=[TASKS[name].kind if name in TASKS else "of unknown kind" for name in found["dataset"]],
    )
    return found.assign(
        hover=[
            f"<b>{html.escape(row.line)}</b> at {sparsity_label(row.sparsity)} on {html.escape(row.task)} ({row.kind})<br>"
            f"{percent(row.relative_error_increase, signed=True)} % relative error increase, difficulty "
            f"{percent(row.difficulty)} points"
            for row in found.itertuples()
        ]
    )


def regressions(points: pd.DataFrame) -> dict[tuple[float, str], Regression]:
    """The line through the points of each ``level`` and ``line``."""
    return {
        (level, name): difficulty.regression(part["difficulty"].to_numpy(), part["relative_error_increase"].to_numpy())
        for (level, name), part in points.groupby(["level", "line"])
    }


def regression_table(lines: dict[tuple[float, str], Regression]) -> pd.DataFrame:
    """A row for each of ``regressions``: slope (increase in percent per point of difficulty) and rho with 95 % intervals."""
    rows = []
    for (level, name), line in lines.items():
        low, high = difficulty.rho_interval(line.rho, line.n)
        slope = {"slope": line.slope, "slope_low": line.slope_low, "slope_high": line.slope_high}
        rho = {"rho": line.rho, "rho_low": low, "rho_high": high, "rho_p": line.p}
        rows.append({"sparsity": level, "row": name, "tasks": line.n, **slope, **rho})
    return pd.DataFrame(rows)


def with_structure(rows: pd.DataFrame, known: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    """A row for each single network whose structure is ``known``: its mean relative error increase ``y`` over the tasks that
    most networks have, ``tasks``, ``TRAITS``, ``line`` and ``hover``."""
    names = known.set_index("network")["name"]

    def single(networks: pd.DataFrame) -> pd.DataFrame:
        """Those that were analysed, each for itself, and the other dense ones."""
        analysed = networks["member"].isin(names.index)
        found = networks[analysed]
        found = found.assign(network=found["member"], network_name=found["member"].map(names))
        return pd.concat([found, networks[~analysed & (networks["method"] == "Dense")]])

    table = measures.difference_to_dense(rows, accuracy, single)
    table = table[table["method"] != "Dense"].dropna(subset=["relative_error_increase"])
    if table.empty:
        return table
    networks = table.groupby(BASELINE_KEY)["network"].transform("nunique")
    most = networks.groupby([table[name] for name in SERIES_KEY]).transform("max")
    kept = table[networks == most]
    found = kept.groupby(SUMMARY_KEY, as_index=False).agg(
        y=("relative_error_increase", "mean"), tasks=("dataset", "size"), task=("dataset", "first")
    )
    found = found.merge(known.drop(columns="name"), on="network")
    return found.assign(
        line=name_lines(found.assign(network="", network_name="")),
        hover=[
            f"<b>{html.escape(row.network_name)}</b>: {html.escape(row.method)} at {sparsity_label(row.sparsity)}<br>"
            f"{percent(row.y, signed=True)} % relative error increase"
            for row in found.itertuples()
        ],
    )


def ranks(summary: pd.DataFrame, sparsity: float) -> pd.DataFrame:
    """The networks at one sparsity (± ``measures.NEAR``) with a mean relative error increase under both transfers, of the source
    that has most: their ranks ``linear`` and ``full`` (1: fewest errors) among these, with ``name`` and ``hover``."""
    key = ["source", "architecture", "upstream", *measures.NETWORK_KEY]
    at = summary[(summary["sparsity"] - sparsity).abs() < measures.NEAR].dropna(subset=["mean_relative_error_increase"])
    sides = {
        transfer: at[at["transfer"] == transfer].drop_duplicates(key)[
            [*key, "mean_relative_error_increase", "protocol"]
        ]
        for transfer in ("linear", "full")
    }
    both = sides["linear"].merge(sides["full"], on=key, suffixes=("_linear", "_full"))
    if both.empty:
        return both
    most = both["source"].mode().iloc[0]
    both = both[both["source"] == most].reset_index(drop=True)
    names = name_lines(both.assign(protocol="")) if len(both) else []
    means = {side: both[f"mean_relative_error_increase_{side}"] for side in ("linear", "full")}
    both = both.assign(name=names, **{side: values.rank(method="min") for side, values in means.items()})
    return both.assign(
        hover=[
            f"<b>{html.escape(row.name)}</b><br>linear {percent(one, signed=True)} %, rank {row.linear:.0f}<br>"
            f"full {percent(other, signed=True)} %, rank {row.full:.0f}"
            for row, one, other in zip(both.itertuples(), means["linear"], means["full"], strict=True)
        ]
    )


def rank_agreement(found: pd.DataFrame) -> str:
    """Kendall's tau of the two columns of ``ranks``, with p."""
    if len(found) < 3 or found["linear"].nunique() == 1 or found["full"].nunique() == 1:
        return "too few networks for a rank correlation"
    from scipy.stats import kendalltau

    tau = kendalltau(found["linear"], found["full"])
    return f"Kendall's τ = {tau.statistic:.2f} (p = {tau.pvalue:.2g}, n = {len(found)})".replace("-", "−")


def published_upstream() -> pd.DataFrame:
    """ImageNet top-1 (0..1) as the methods' own projects publish it: ``architecture``, ``method``, ``sparsity`` (nominal),
    ``upstream_accuracy``, ``upstream_origin``."""
    rows = pd.read_csv(PUBLISHED / "upstream_accuracy.csv")
    rows = rows.rename(columns={"imagenet_top1": "upstream_accuracy", "source": "upstream_origin"})
    rows = rows.assign(sparsity=rows["nominal_sparsity"])
    return rows[["architecture", "method", "sparsity", "upstream_accuracy", "upstream_origin"]]


def detector_map() -> pd.DataFrame:
    """``network_facts.published_maps`` with ``hover``."""
    found = network_facts.published_maps()
    return found.assign(
        hover=[
            f"<b>{architecture_label(row.architecture)}</b>, {html.escape(row.method)}"
            f"{'' if np.isnan(row.sparsity) or not row.sparsity else f' at {sparsity_label(row.sparsity)}'}<br>mAP@0.5: COCO "
            f"{percent(row.upstream_map)} %, VOC {percent(row.transfer_map)} % ({html.escape(row.reading)})<br>SparseML, not the "
            "paper's table"
            for row in found.itertuples()
        ]
    )


def with_upstream(rows: pd.DataFrame, published: pd.DataFrame, own: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    """A row for each network with an upstream accuracy: the paper's by architecture, method and nominal sparsity, others by
    hash. ``y`` is the mean accuracy over the tasks that all networks of the series with one have."""

    def matched(networks: pd.DataFrame) -> pd.DataFrame:
        paper = networks[networks["source"] == "published"].merge(published, on=["architecture", "method", "sparsity"])
        single = networks[networks["source"] != "published"].merge(own, on="network")
        return pd.concat([part for part in (paper, single) if len(part)] or [paper])

    def single(networks: pd.DataFrame) -> pd.DataFrame:
        own_name = networks["network"].where(networks["source"] == "published", networks["member"])
        return matched(networks.assign(network=own_name)).drop_duplicates("number")

    table = measures.per_configuration(rows, accuracy, single)
    if table.empty:
        return table
    means = measures.over_same_tasks(table)
    about = matched(means).drop_duplicates(SUMMARY_KEY)[[*SUMMARY_KEY, "upstream_accuracy", "upstream_origin"]]
    means = means.merge(about, on=SUMMARY_KEY)
    return means.assign(
        y=means["accuracy_mean"],
        line=name_lines(means.assign(network="", network_name="")),
        hover=[
            f"<b>{html.escape(row.method)}</b> {'' if row.sparsity == 0 else sparsity_label(row.sparsity)}<br>upstream "
            f"{percent(row.upstream_accuracy)} % ({html.escape(row.upstream_origin)}), transfer {percent(row.accuracy_mean)} %"
            for row in means.itertuples()
        ],
    )


def correlations(points: pd.DataFrame, x: str, transfers: Sequence[str]) -> dict[str, Regression]:
    """Spearman's rho of ``x`` and ``y`` (and the line) under each transfer."""
    parts = {transfer: points[points["transfer"] == transfer].dropna(subset=[x, "y"]) for transfer in transfers}
    return {
        name: difficulty.regression(part[x].to_numpy(float), part["y"].to_numpy(float)) for name, part in parts.items()
    }


def correlation_text(found: dict[str, Regression]) -> str:
    """Rho with its interval, under each transfer."""
    parts = []
    for transfer, line in found.items():
        if np.isnan(line.rho):
            parts.append(f"{transfer}: too few networks for a rank correlation (n = {line.n})")
            continue
        low, high = difficulty.rho_interval(line.rho, line.n)
        ends = "no interval below 10 networks" if np.isnan(low) else f"95 % interval {low:.2f} to {high:.2f}"
        parts.append(f"{transfer}: Spearman's ρ = {line.rho:.2f} ({ends}, n = {line.n})".replace("-", "−"))
    return "; ".join(parts)
