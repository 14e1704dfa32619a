"""What the page Compare says of networks side by side: names, sentences, tables."""

import numpy as np
import pandas as pd

from sparse_core.results import comparison, resampling
from sparse_core.results.measures import NETWORK_KEY
from sparse_core.results.side_by_side import Comparison, Pair, short_names
from sparse_core.views.charts.comparison import interval_text
from sparse_core.views.labels import counted, name_networks, percent, series_names

INTERVALS = {"t": "t, over tasks", "new": "Bootstrap over tasks", "these": "Bootstrap over seeds"}
POPULATION = {
    "t": "The interval speaks of new tasks like these.",
    "new": "The interval speaks of new tasks like these.",
    "these": "The interval speaks of these very tasks: only seeds (and networks, from six on) vary.",
}
MEAN_COLUMNS = ["row", "mean", "low", "high", "interval", "tasks", "runs", "won", "drawn", "lost", "unknown"]
PAIR_COLUMNS = [
    "first",
    "second",
    "difference",
    "low",
    "high",
    "tasks",
    "p",
    "p_holm",
    "won",
    "drawn",
    "lost",
    "unknown",
]


def named(networks: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``side_by_side.networks`` with ``point``, their name in a link, and ``name``, that on the screen: without the
    name of their series, which is one for all."""
    series = series_names(networks)
    keys = networks[["source", "upstream", "protocol"]].itertuples(index=False, name=None)
    names = [
        name.removesuffix(series[key]).removesuffix(", ")
        for name, key in zip(name_networks(networks), keys, strict=True)
    ]
    return networks.assign(point=short_names(networks), name=names)


def keys(networks: pd.DataFrame) -> dict[tuple[object, ...], str]:
    """The screen's name of each network of ``named`` by its values of ``NETWORK_KEY``."""
    return dict(zip(networks[NETWORK_KEY].itertuples(index=False, name=None), networks["name"], strict=True))


def answer(found: Comparison) -> tuple[str, str]:
    """Which network makes the fewest errors; and by how much, and from which others it cannot be told apart."""
    best = found.means.iloc[0]
    of_best = found.pairs[(found.pairs["first"] == best["name"]) | (found.pairs["second"] == best["name"])]
    tested = of_best["p_holm"].notna().all()
    apart = of_best["p_holm"] < comparison.LEVEL if tested else (of_best["low"] > 0) | (of_best["high"] < 0)
    others = of_best["second"].where(of_best["first"] == best["name"], of_best["first"])
    tied = others[~apart].tolist()
    rule = "Wilcoxon, Holm" if tested else "95 % intervals of the differences, not corrected"
    end = f"not told apart from {', '.join(tied)}" if tied else "told apart from all others"
    detail = f"{percent(best['mean'], signed=True)} % over dense ({interval_text(best['low'], best['high'])}); {end} ({rule})."
    equal = int(np.isclose(found.means["mean"], best["mean"], rtol=0, atol=1e-12).sum())
    who = f"{best['name']} makes the fewest errors"
    if equal > 1:
        everyone = "Both" if equal == 2 else f"All {equal}"
        who = f"{everyone if equal == len(found.means) else equal} networks make equally few errors"
    return f"{who} on {counted(len(found.grid), 'shared task')}", detail


def power_sentence(found: Pair) -> str:
    """How many tasks or seeds would tell two networks apart."""
    if found.mean.known and (found.mean.low > 0 or found.mean.high < 0):
        return "The interval of the mean difference excludes 0: these tasks tell the two apart, uncorrected."
    have = found.mean.n
    parts = []
    if found.tasks_needed is None:
        parts.append(f"more than {resampling.MOST} tasks, or an unknown number,")
    elif found.tasks_needed > have:
        parts.append(f"{found.tasks_needed} tasks ({found.tasks_needed - have} more)")
    else:
        parts.append(f"about as many tasks as there are ({have})")
    text = f"To tell the two apart with a power of {100 * resampling.POWER:.0f} %, if they differ as observed, it would take "
    text += f"{parts[0]} like these."
    if found.seeds_needed is not None:
        text += f" On these very tasks, it would take {counted(found.seeds_needed, 'seed')} for each task and network."
    return f"{text} By simulation."
