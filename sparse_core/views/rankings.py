"""Ranks and ties of networks as tables show them, and sentences on which is best."""

from collections.abc import Sequence

import pandas as pd

from sparse_core.results import measures, ties
from sparse_core.views.labels import name_lines, percent, series_names, sparsity_label

USUAL_LEVEL = 0.9


def over_tasks(means: pd.DataFrame, compared: pd.DataFrame, rows: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    """``ties.over_tasks`` of a summary of ``rows`` and what they are ``compared`` to (``measures.compared``); of one task
    ``ties.on_task``, whose interval is over seeds."""
    names = short_names(means)
    found = ties.over_tasks(means, compared, names)
    single = found["tasks"] == 1
    if not single.any():
        return found
    ranked = on_task(measures.with_intervals(compared), rows, accuracy)
    ranked = ranked.merge(found.loc[single, measures.SUMMARY_KEY], on=measures.SUMMARY_KEY)
    ranked = ranked.dropna(subset=["relative_error_increase"]).set_index(measures.SUMMARY_KEY)
    keys = pd.MultiIndex.from_frame(found.loc[single, measures.SUMMARY_KEY])
    mine = ranked.reindex(keys)
    found.loc[single, "rank"], found.loc[single, "tied"] = mine["rank"].to_numpy(), mine["tied"].fillna("").to_numpy()
    return found


def on_task(table: pd.DataFrame, rows: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    """``ties.on_task``, with the networks named by their lines."""
    return ties.on_task(table, rows, short_names(table), accuracy)


def sentence(ranked: pd.DataFrame, transfers: Sequence[str]) -> str:
    """Which method makes the fewest errors under each transfer, and what it is tied with; empty without a baseline.

    At 90 % sparsity if several methods have it, else at the sparsity with most; of the source with most rows.
    """
    known = ranked.dropna(subset=["mean_relative_error_increase"])
    parts = [_best(known[known["transfer"] == transfer], transfer) for transfer in transfers]
    return " ".join(part for part in parts if part)


def _best(rows: pd.DataFrame, transfer: str) -> str:
    if rows.empty:
        return ""
    names = series_names(rows)
    series = rows.groupby(measures.SERIES_KEY).ngroup()
    rows = rows[series == series.mode().iloc[0]]
    level = _level(rows)
    at = rows[(rows["sparsity"] - level).abs() < measures.NEAR].sort_values("mean_relative_error_increase")
    best, name = at.iloc[0], short_names(at)[0]
    key = (best["source"], best["upstream"], best["protocol"])
    among = f" ({names[key]})" if names[key] else ""
    change = percent(best["mean_relative_error_increase"], signed=True)
    tied = f", tied with {best['tied'].replace('; ', ', ')}" if best["tied"] else ", ahead of all others"
    if not best["tied"] and (len(at) == 1 or (pd.isna(best["increase_low"]) and best["tasks"] > 1)):
        tied = ""
    where = f"**{transfer.capitalize()} transfer, {sparsity_label(level)}{among}:**"
    return f"{where} fewest errors with {name} ({change} % over dense){tied}."


def _level(rows: pd.DataFrame) -> float:
    counts = rows.groupby("sparsity")["method"].nunique().sort_index()
    near = counts[abs(counts.index - USUAL_LEVEL) < measures.NEAR]
    return float(near.idxmax() if len(near) and near.max() > 1 else counts.idxmax())


def short_names(rows: pd.DataFrame) -> list[str]:
    """The names of lines without that of their series, which a table of one series need not repeat."""
    names = series_names(rows)
    keys = rows[["source", "upstream", "protocol"]].itertuples(index=False, name=None)
    return [name.removesuffix(names[key]).removesuffix(", ") for name, key in zip(name_lines(rows), keys, strict=True)]
