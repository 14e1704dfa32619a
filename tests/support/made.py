"""Networks that the product made, without making them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from sparse_core.networks import importing, library
from sparse_core.networks.library import BackboneCard, Provenance
from sparse_core.specs.sparsify import SparsifySpec


def provenance(spec: SparsifySpec, accuracy: float = 0.9, seed: int = 0, **changed: Any) -> Provenance:
    """Two epochs, the second at the target sparsity, of 30 seconds; its parents took another 50."""
    curves = [
        {"epoch": 1, "loss": 2.0, "top1": 0.95, "mean_per_class": 0.9, "sparsity": 0.0},
        {"epoch": 2, "loss": 1.0, "top1": accuracy, "mean_per_class": accuracy / 2, "sparsity": spec.sparsity},
    ]
    values = {"id": f"{spec.method} {seed}", "method": spec.method, "options": dataclasses.asdict(spec), "seed": seed}
    values |= {
        "upstream_accuracy": accuracy,
        "parents": () if spec.has_new_weights else ("parent's hash",),
        "epochs": 2,
    }
    values |= {"seconds": 30.0, "seconds_with_parents": 80.0, "product_version": "0.2.0", "details": {"curves": curves}}
    return Provenance(**{**values, **changed})


def made_card(spec: SparsifySpec, accuracy: float = 0.9, seed: int = 0, **changed: Any) -> BackboneCard:
    """The card of such a network, a ResNet20, without its files."""
    name = f"{spec.method}-{spec.sparsity}-{seed}".replace("/", "").replace(" ", "-")
    made = provenance(spec, accuracy, seed)
    values = {"name": name, "architecture": "resnet20", "upstream": "Digits", "method": spec.method, "kind": "library"}
    values |= {"sparsity": spec.sparsity, "note": "", "ready": True, "hash": f"hash of {name}", "provenance": made}
    return BackboneCard(
        **{**values, "measured_sparsity": spec.sparsity, "imported_at": "2026-01-02T03:04:05", **changed}
    )


def add_made(home: Path, file: Path, name: str, spec: SparsifySpec, **changed: Any) -> None:
    """Put the network of a file into the library as one that the product made."""
    importing.add(home, file, name)
    card = next(card for card in library.cards(home) if card.name == name)
    made = dataclasses.replace(
        card, method=spec.method, sparsity=spec.sparsity, upstream="Digits", provenance=provenance(spec, **changed)
    )
    (library.folder(home) / name / "card.json").write_text(json.dumps(dataclasses.asdict(made)))
