"""The networks that this product made: as a table, each with its provenance in words, and their trainings by epoch."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from sparse_core.catalog import asked_dataset, task_label
from sparse_core.networks.library import BackboneCard, Provenance
from sparse_core.specs.sparsify import SparsifySpec
from sparse_core.views.labels import backbone_label, duration, method_label, percent

COLUMNS = ["network_name", "network", "architecture", "method", "sparsity", "measured_sparsity", "upstream_data"]
COLUMNS += ["upstream_accuracy", "own_upstream_map", "epochs", "seed", "seconds", "seconds_with_parents", "imported_at"]
CURVES = ["run", "epoch", "sparsity", "loss", "accuracy"]
_IDENTITY = (
    "method",
    "backbone",
    "dataset",
    "sparsity",
    "name",
    "backbone_hash",
    "dataset_hash",
    "replicate",
    "precision",
)


def made_here(cards: Iterable[BackboneCard]) -> list[BackboneCard]:
    """The backbones that this product made, newest first."""
    return sorted((card for card in cards if card.provenance), key=lambda card: card.imported_at, reverse=True)


def table(cards: Iterable[BackboneCard]) -> pd.DataFrame:
    """A row for each backbone that this product made, newest first; sparsities, accuracy and a detector's mAP@0.5 0..1, times in
    seconds."""
    return pd.DataFrame([_row(card, card.provenance) for card in made_here(cards) if card.provenance], columns=COLUMNS)


def _row(card: BackboneCard, made: Provenance) -> dict[str, Any]:
    return {
        "network_name": card.name,
        "network": card.hash,
        **{name: getattr(card, name) for name in ("architecture", "method", "sparsity", "measured_sparsity")},
        "upstream_data": upstream_data(made),
        "upstream_accuracy": None if card.is_detector else made.upstream_accuracy,
        "own_upstream_map": made.upstream_accuracy if card.is_detector else None,
        **{name: getattr(made, name) for name in ("epochs", "seed")},
        **{name: getattr(made, name) for name in ("seconds", "seconds_with_parents")},
        "imported_at": pd.Timestamp(card.imported_at),
    }


def upstream_data(made: Provenance) -> str:
    """The data that a network was trained and pruned on, as results list it."""
    return task_label(asked_dataset(str(made.options.get("dataset", ""))))


def provenance(card: BackboneCard, cards: Iterable[BackboneCard]) -> pd.DataFrame:
    """How a network was made, in rows of ``what`` and ``value``; ``cards`` name its parents."""
    made = card.provenance
    if made is None:
        return pd.DataFrame(columns=["what", "value"])
    options, details = made.options, made.details
    names = {other.hash: backbone_label(other) for other in cards if other.hash}
    parents = [f"{names.get(parent, options.get('backbone', ''))} ({parent[:8]})" for parent in made.parents]
    rows = {
        "Method": f"{method_label(card.method, card.sparsity)}, seed {made.seed}",
        "Started from": "; ".join(parents) or f"new weights of {options.get('backbone', card.architecture)}",
        "Upstream data": f"{upstream_data(made)} ({str(options.get('dataset_hash', ''))[:8]})",
        "Training": f"{made.epochs} epochs in {options.get('precision', '?')}",
        "Options that differ from the defaults": _changed(options) or "none",
        **_recorded(details),
        "Time": f"{duration(made.seconds)}; with parents {duration(made.seconds_with_parents)}",
        "Content hash": card.hash,
        "Made": f"{card.imported_at[:16].replace('T', ' ')} UTC, version {made.product_version}",
    }
    return pd.DataFrame({"what": list(rows), "value": [str(value) for value in rows.values()]})


def _changed(options: dict[str, Any]) -> str:
    usual = {name: field.default for name, field in SparsifySpec.__dataclass_fields__.items()}
    found = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in options.items()
        if name in usual and name not in _IDENTITY and value != usual[name]
    ]
    return ", ".join(found)


def _recorded(details: dict[str, Any]) -> dict[str, str]:
    """What the method recorded, in words; lists of numbers (curves, pilots) are left out."""
    names = {
        "tuning_images": "Images that tuned BatchNorm",
        "pruned_accuracy": "Accuracy of the pruned network behind the mask",
        "strength": "STR strength",
        "learnt_sparsity": "Sparsity before the last trim",
        "trimmed": "Weights trimmed to the target",
        "revived": "Weights kept although under their threshold",
        "damping": "Damping",
        "updates": "Mask updates",
    }
    shares = ("pruned_accuracy", "learnt_sparsity")
    found = {name: details[name] for name in names if isinstance(details.get(name), int | float)}
    return {names[name]: f"{percent(value)} %" if name in shares else f"{value:,.6g}" for name, value in found.items()}


def curves(cards: Iterable[BackboneCard]) -> pd.DataFrame:
    """A row for each network and epoch, columns ``CURVES``: ``run`` is a label, ``sparsity`` and ``accuracy``, top-1 or a
    detector's mAP@0.5, are 0..1."""
    rows = [
        {"run": run_label(card.method, card.sparsity, card.provenance.seed), **_with_accuracy(epoch)}
        for card in cards
        if card.provenance
        for epoch in card.provenance.details.get("curves", ())
    ]
    return pd.DataFrame(rows, columns=CURVES)


def live_curves(runs: Sequence[tuple[str, list[dict[str, Any]]]]) -> pd.DataFrame:
    """The same of trainings that are not over: pairs of label and epochs. A resumed training repeats an epoch."""
    rows = [{"run": name, **_with_accuracy(epoch)} for name, epochs in runs for epoch in epochs]
    found = pd.DataFrame(rows, columns=CURVES).dropna()
    return found.drop_duplicates(["run", "epoch"], keep="last").sort_values(["run", "epoch"], kind="stable")


def _with_accuracy(epoch: dict[str, Any]) -> dict[str, Any]:
    return {**epoch, "accuracy": epoch.get("map50", epoch.get("top1"))}


def run_label(method: str, sparsity: float, seed: int) -> str:
    """A network that is made, among those of one request."""
    return f"{method_label(method, sparsity)}, seed {seed}"
