"""Networks pruned on a task itself beside those pruned upstream and then transferred to it, as rows that compare."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sparse_core.catalog import TASKS, architecture_label, asked_dataset, built_in_dataset, task_label
from sparse_core.datasets.boxes import METRIC
from sparse_core.networks.library import BackboneCard, Provenance
from sparse_core.results import measures
from sparse_core.results.statistics import welch_interval
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.specs.transfer import exact
from sparse_core.views.labels import ON_TASK, ROUTES, TRANSFERRED, counted, method_label, percent

TASK_KEY = ["architecture", "dataset_hash"]
ABOUT = ["route", "start", "epochs"]
PAPER_NOTE = (
    "The paper (section 3.1) sets pruning on the task aside, and its public rows have no such runs: it expects training from "
    "scratch to fall behind transfer, and transfer to spare tuning the pruning for each task"
)


def rows(runs: pd.DataFrame, made: Sequence[BackboneCard]) -> pd.DataFrame:
    """One row for each finetuning of the store's measured ``runs`` and each network of ``made``, with ``route``, ``start`` and
    ``epochs`` on the task beside the store's columns.

    ``made`` are this product's networks; those without an accuracy on their task are left out. A finetuning of a network that was
    pruned on the same task belongs to neither route.
    """
    full = runs[(runs["transfer"] == "full") & (runs["source"] == "measured")]
    provenances = {card.hash: card.provenance for card in made if card.provenance}
    metrics = dict(zip(full["dataset_hash"], full["metric"], strict=True))
    transferred = [_transferred(run, provenances.get(run["network"])) for run in full.to_dict("records")]
    pruned = [_on_task(card, card.provenance, metrics) for card in made if card.provenance]
    pruned = [row for row in pruned if row["accuracy_final"] is not None]
    columns = [*measures.CONFIGURATION_KEY, "seed", *measures.ACCURACIES.values(), "asked", *ABOUT]
    return pd.DataFrame([*filter(None, transferred), *pruned], columns=columns)


def has_both_routes(runs: pd.DataFrame, made: Sequence[BackboneCard]) -> bool:
    """Whether there is a task with networks of ``rows`` on both routes."""
    pruned = {card.provenance.options.get("dataset_hash") for card in made if card.provenance}
    if not pruned & set(runs["dataset_hash"]):
        return False
    sparse = rows(runs, made).query("method != 'Dense'")
    return bool((sparse.groupby(TASK_KEY)["route"].nunique() > 1).any())


def tasks(found: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The architectures and tasks (``TASK_KEY``) of ``rows`` by label, those with most to compare first."""
    sparse = found[found["method"] != "Dense"]
    groups = sparse.groupby(TASK_KEY).agg(routes=("route", "nunique"), networks=("network", "nunique")).reset_index()
    groups = groups.sort_values(["routes", "networks"], ascending=False, kind="stable")
    pairs = [(row.architecture, row.dataset_hash) for row in groups.itertuples()]
    names = {pair: _task_name(found, pair) for pair in pairs}
    several = pd.Series(list(names.values())).duplicated(keep=False)
    return {
        f"{name} ({pair[1][:6]})" if double else name: pair
        for (pair, name), double in zip(names.items(), several, strict=True)
    }


def of_task(found: pd.DataFrame, task: tuple[str, str]) -> pd.DataFrame:
    """The rows of one architecture and task."""
    return found[(found["architecture"] == task[0]) & (found["dataset_hash"] == task[1])]


def points(found: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    """``measures.per_configuration`` of the rows, networks that were trained alike joined, with ``ABOUT`` and ``line``, the name
    in a chart."""
    joined = measures.joined(found)
    about = joined.drop_duplicates(measures.CONFIGURATION_KEY)[[*measures.CONFIGURATION_KEY, *ABOUT]]
    table = measures.per_configuration(joined, accuracy).merge(about, on=measures.CONFIGURATION_KEY)
    return table.assign(line=_lines(table))


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Pruned on the task minus transferred, for each method and sparsity that both routes have once: ``difference`` with its
    95 % interval (Welch's t over networks, NaN with fewer than three on a side), and both sides' means and n."""
    sides = {
        route: table[(table["route"] == route) & (table["method"] != "Dense")].drop_duplicates(
            ["method", "sparsity"], keep=False
        )
        for route in ROUTES
    }
    both = sides[ON_TASK].merge(sides[TRANSFERRED], on=["method", "sparsity"], suffixes=("_task", "_transferred"))
    both["difference"] = both["accuracy_mean_task"] - both["accuracy_mean_transferred"]
    spreads = [(both[f"accuracy_std_{side}"], both[f"networks_{side}"]) for side in ("task", "transferred")]
    low, high = welch_interval(both["difference"], *spreads)
    return both.assign(difference_low=low, difference_high=high)


def sentence(row: Any) -> str:
    """One of ``differences`` in words."""
    sides = f"{percent(row.accuracy_mean_task)} % pruned on the task (n = {row.networks_task}), "
    sides += f"{percent(row.accuracy_mean_transferred)} % transferred (n = {row.networks_transferred})"
    interval = "no interval with so few networks"
    if not math.isnan(row.difference_low):
        interval = f"95 % interval {100 * row.difference_low:+.1f} to {100 * row.difference_high:+.1f}, Welch's t over networks"
    return f"{method_label(row.method, row.sparsity)}: {sides}, difference {100 * row.difference:+.1f} points ({interval})."


def epochs_note(table: pd.DataFrame) -> str:
    """Whether both routes trained for as long on the task."""
    lengths = {
        route: sorted({int(number) for number in table.loc[table["route"] == route, "epochs"]}) for route in ROUTES
    }
    named = {route: " and ".join(f"{number:,}" for number in numbers) for route, numbers in lengths.items()}
    if not all(lengths.values()):
        return f"{next(filter(None, named.values()))} epochs on the task"
    if lengths[TRANSFERRED] == lengths[ON_TASK]:
        return f"Both routes: {named[ON_TASK]} epochs on the task"
    return f"Epochs on the task differ: {named[TRANSFERRED]} after the transfer, {named[ON_TASK]} where it was pruned on the task"


def counts_note(found: pd.DataFrame) -> str:
    """How many runs and networks stand behind each route."""
    transferred, pruned = (found[found["route"] == route] for route in ROUTES)
    runs, networks = counted(len(transferred), "finetuning"), counted(transferred["network"].nunique(), "network")
    return f"Your runs: {runs} of {networks}; {counted(pruned['network'].nunique(), 'network')} pruned on the task"


def _transferred(run: dict[str, Any], made: Provenance | None) -> dict[str, Any] | None:
    same_name = run["upstream"].split(" → ")[-1] == task_label(run["dataset"])
    if same_name or (made and made.options.get("dataset_hash") == run["dataset_hash"]):
        return None
    spec = json.loads(run["spec"])
    dense = run["method"] == "Dense"
    return {
        **run,
        "route": TRANSFERRED,
        "asked": spec.get("dataset", ""),
        "start": f"{'trained' if dense else 'pruned'} on {run['upstream']}",
        "epochs": spec["settings"]["epochs"],
    }


def _on_task(card: BackboneCard, made: Provenance, metrics: dict[str, str]) -> dict[str, Any]:
    options = made.options
    asked = str(options.get("dataset", ""))
    content = str(options.get("dataset_hash", ""))
    task = TASKS.get(built_in_dataset(asked))
    metric = METRIC if card.is_detector else metrics.get(content, task.metric if task else "top1")
    best, final = _accuracies(made, "map50" if card.is_detector else metric)
    return {
        "source": "measured",
        "architecture": card.architecture,
        "upstream": card.upstream,
        "transfer": "full",
        "protocol": _protocol(options),
        "dataset": asked_dataset(asked),
        "dataset_hash": content,
        "metric": metric,
        "method": card.method,
        "sparsity": card.sparsity,
        "network": card.hash,
        "network_name": card.name,
        "seed": made.seed,
        "accuracy_best": best,
        "accuracy_final": final,
        "asked": asked,
        "route": ON_TASK,
        "start": "dense weights" if made.parents else "new weights",
        "epochs": made.epochs,
        "recipe": made.recipe,
    }


def _accuracies(made: Provenance, metric: str) -> tuple[float | None, float | None]:
    """Best over the epochs in which the network was as sparse as in the end, and final; None where it was not measured. Those
    before do not count: AC/DC's dense phases, for example, are no sparse network."""
    curves = made.details.get("curves") or []
    last = curves[-1].get("sparsity", 0.0) if curves else 0.0
    sparse = [epoch for epoch in curves if epoch.get("sparsity", 0.0) >= last - 1e-6]
    values = [epoch[metric] for epoch in sparse if isinstance(epoch.get(metric), int | float)]
    final = made.upstream_accuracy if metric in ("top1", "map50") or not values else values[-1]
    return (None, None) if final is None else (max([final, *values]), final)


def _protocol(options: dict[str, Any]) -> str:
    """The training settings that every method has, as text; options of later versions do not count."""
    usual = SparsifySpec("Dense", "", "")
    rate = options.get("learning_rate")
    parts = [
        f"SGD lr {exact(float(rate))}" if rate else "SGD lr of the method",
        str(options.get("rate_schedule", usual.rate_schedule)),
        f"momentum {options.get('momentum', usual.momentum):g}{', Nesterov' if options.get('nesterov') else ''}",
        f"weight decay {options.get('weight_decay', usual.weight_decay):g}",
        f"batch {options.get('batch_size', usual.batch_size)}",
        "augmented" if options.get("augment", True) else "not augmented",
        f"{options.get('precision', usual.precision)} training",
    ]
    return ", ".join(parts)


def _task_name(found: pd.DataFrame, pair: tuple[str, str]) -> str:
    return f"{architecture_label(pair[0])} on {task_label(of_task(found, pair)['dataset'].iloc[0])}"


def _lines(table: pd.DataFrame) -> list[str]:
    """Method and route; where several rows share them at one sparsity, also start, epochs and network."""
    heads = [f"{row.method}, {_done(row)}" for row in table.itertuples()]
    several = table.assign(head=heads).groupby(["head", "sparsity"])["epochs"].transform("size") > 1
    apart = {head for head, double in zip(heads, several, strict=True) if double}
    return [
        f"{head}, {row.start}, {row.epochs} epochs, {row.network_name}" if head in apart else head
        for head, row in zip(heads, table.itertuples(), strict=True)
    ]


def _done(row: Any) -> str:
    if row.route == TRANSFERRED:
        return "transferred"
    return "trained on the task" if row.method == "Dense" else "pruned on the task"
