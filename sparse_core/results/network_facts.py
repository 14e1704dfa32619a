"""What is known of a source's networks beside their transfers, and what it says of the paper's statements.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, sections 3.5 and 3.6, 4 and appendix I.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from sparse_core.catalog import METHODS
from sparse_core.results import measures
from sparse_core.results.comparison import Interval, t_interval

_STRUCTURED = [method.name for method in METHODS.values() if method.family == "structured"]
SPEEDS = ["mode", "architecture", "engine", "sparsity", "ratio", "ratio_low", "ratio_high"]

EVALUATED = ["architecture", "method", "sparsity", "dataset", "top1"]
DETECTOR_MAPS = ["architecture", "upstream_map", "transfer_map"]


def _empty(columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


@dataclass(frozen=True)
class NetworkFacts:
    """``speeds``: reliable measurements, with columns ``SPEEDS``. ``structures``: ``network`` (hash) and ``filters_pruned``, the
    mean share of fully pruned filters over layers. ``upstream``: ``network`` and ``upstream_accuracy``. ``evaluations``: the
    ``top1`` of networks on ``dataset``, one of ``specs.evaluation.EVALUATIONS``. ``detectors``: mAP@0.5 that others publish."""

    speeds: pd.DataFrame = field(default_factory=partial(_empty, SPEEDS))
    structures: pd.DataFrame = field(default_factory=partial(_empty, ["network", "filters_pruned"]))
    upstream: pd.DataFrame = field(default_factory=partial(_empty, ["network", "upstream_accuracy"]))
    evaluations: pd.DataFrame = field(default_factory=partial(_empty, EVALUATED))
    detectors: pd.DataFrame = field(default_factory=partial(_empty, DETECTOR_MAPS))


def speedup(known: NetworkFacts, mode: str, architecture: str, sparsities: tuple[float, float]) -> tuple[Interval, int]:
    """The mean speedup over dense of DeepSparse's measurements between two sparsities, and their number."""
    rows = known.speeds
    rows = rows[(rows["mode"] == mode) & (rows["architecture"] == architecture) & (rows["engine"] == "deepsparse")]
    rows = rows[rows["sparsity"].between(sparsities[0] - measures.NEAR, sparsities[1] + measures.NEAR)]
    if len(rows) != 1:
        return _named(t_interval(rows["ratio"].astype(float)), "measurements"), len(rows)
    one = rows.iloc[0]
    return Interval(one["ratio"], one["ratio_low"], one["ratio_high"], 1, "over the measurement's rounds"), 1


def more_pruned_filters(
    known: NetworkFacts, rows: pd.DataFrame, method: str, sparsities: Sequence[float]
) -> tuple[Interval, int]:
    """The share of fully pruned filters of each of a method's networks minus the mean share of that other unstructured method
    which has most at the same sparsity; and the number of networks."""
    networks = measures.grouped(rows, ["method", "sparsity", "network"])[1].merge(known.structures, on="network")
    networks = networks[_is_unstructured(networks)]
    values: list[float] = []
    used = 0
    for sparsity in sparsities:
        at = networks[(networks["sparsity"] - sparsity).abs() < measures.NEAR]
        own, others = at[at["method"] == method], at[at["method"] != method]
        if len(own) and len(others):
            values += (own["filters_pruned"] - others.groupby("method")["filters_pruned"].mean().max()).tolist()
            used += len(at)
    return _named(t_interval(values), "networks"), used


def structured_at_equal_upstream(known: NetworkFacts, rows: pd.DataFrame, accuracy: str) -> tuple[Interval, int]:
    """The mean accuracy over tasks of each structured network minus that of unstructured ones of its upstream accuracy, by linear
    interpolation between the two nearest; and the number of networks. Those beyond the unstructured ones do not count."""
    if not (rows["method"].isin(_STRUCTURED).any() and len(known.upstream)):
        return _named(t_interval([]), "networks"), 0
    table = measures.over_same_tasks(measures.per_configuration(rows[rows["method"] != "Dense"], accuracy))
    table = table[table["recipe"] != "0 epochs"].merge(known.upstream, on="network")
    others = table[_is_unstructured(table)].groupby("upstream_accuracy")["accuracy_mean"].mean()
    structured = table[table["method"].map(_family) == "structured"]
    inside = structured[structured["upstream_accuracy"].between(others.index.min(), others.index.max())]
    expected = np.interp(inside["upstream_accuracy"], others.index, others) if len(inside) else np.empty(0)
    values = inside["accuracy_mean"].to_numpy() - expected
    return _named(t_interval(values), "networks"), len(inside) + len(others) if len(inside) else 0


def first_upstream(
    known: NetworkFacts, architecture: str, first: Mapping[float, str], datasets: Sequence[str]
) -> tuple[Interval, int]:
    """The mean accuracy on each of the ``datasets`` of the networks of the ``first`` method at each sparsity, minus that of the
    best other method; and the number of evaluations."""
    rows = known.evaluations
    rows = rows[(rows["architecture"] == architecture) & (rows["method"] != "Dense")]
    values, used = [], 0
    for dataset in datasets:
        for sparsity, method in first.items():
            at = rows[(rows["dataset"] == dataset) & ((rows["sparsity"] - sparsity).abs() < measures.NEAR)]
            means = at.groupby("method")["top1"].mean()
            if method in means.index and len(means) > 1:
                values.append(means[method] - means.drop(method).max())
                used += len(at)
    return _named(t_interval(values), "pairs of sparsity and labels"), used


def slope_of_maps(known: NetworkFacts, rows: pd.DataFrame, accuracy: str) -> tuple[Interval, int]:
    """The slope of downstream against upstream mAP within architectures of detectors, with its t interval; and the number of
    figures: those that others publish, else the runs of networks whose upstream mAP is known."""
    if len(known.detectors):
        return _slope(known.detectors), 2 * len(known.detectors)
    table = measures.over_same_tasks(measures.per_configuration(rows, accuracy)).merge(known.upstream, on="network")
    names = {"upstream_accuracy": "upstream_map", "accuracy_mean": "transfer_map"}
    return _slope(table.rename(columns=names)), int(table["runs"].sum())


def _slope(maps: pd.DataFrame) -> Interval:
    """Least squares with an intercept for each architecture; without an interval where too few networks are left."""
    of = maps.groupby("architecture")
    x, y = (maps[name] - of[name].transform("mean") for name in ("upstream_map", "transfer_map"))
    freedom, squares = len(maps) - of.ngroups - 1, float((x**2).sum())
    if freedom < 1 or squares < 1e-12:
        return Interval(np.nan, np.nan, np.nan, len(maps), "none: too few networks")
    from scipy.special import stdtrit

    slope = float((x * y).sum()) / squares
    error = np.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / squares)
    half = float(stdtrit(freedom, 0.975)) * error
    return Interval(slope, slope - half, slope + half, len(maps), "t of the slope, over networks")


def _is_unstructured(table: pd.DataFrame) -> pd.Series:
    return ~table["method"].map(_family).isin(["structured", "reference", ""])


def _family(method: str) -> str:
    return METHODS[method].family if method in METHODS else ""


def _named(interval: Interval, of: str) -> Interval:
    return Interval(interval.mean, interval.low, interval.high, interval.n, interval.method.replace("tasks", of))
