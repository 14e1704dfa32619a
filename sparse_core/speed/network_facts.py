"""What is known of networks beside their transfers: structures, upstream accuracies and measured speeds. Needs no torch."""

from pathlib import Path

import numpy as np
import pandas as pd

from sparse_core.catalog import MAP, STRICT_MAP, UNKNOWN
from sparse_core.networks import library, structure
from sparse_core.networks.library import Provenance
from sparse_core.paths import PUBLISHED
from sparse_core.results import evaluations
from sparse_core.results.network_facts import DETECTOR_MAPS, EVALUATED, SPEEDS, NetworkFacts
from sparse_core.speed import measurements
from sparse_core.stored import NUMBER, is_kind

TRAITS = ("filters_pruned", "filters_removable", "channels_removable", "sparsity_spread", "sparsity_first")


def known(home: Path, source: str) -> NetworkFacts:
    """What a source's findings rest on: of the shipped networks or of those of this home folder. The paper's networks are not
    published; of detectors there are the figures of others."""
    if source == "published":
        return NetworkFacts(detectors=published_maps()[DETECTOR_MAPS])
    records = measurements.shipped() if source == "shipped" else measurements.read_all(home)
    speeds = measurements.frame(home, records)
    reliable = speeds[speeds["reliable"].astype(bool)]
    traits = structures(home)[["network", "filters_pruned"]]
    upstream = pd.concat([own_upstream(home, metric) for metric in ("accuracy", MAP)], ignore_index=True)
    upstream = upstream[["network", "upstream_accuracy"]]
    evaluated = pd.DataFrame(evaluations.read_all(home), columns=EVALUATED) if source == "measured" else None
    return NetworkFacts(reliable[SPEEDS], traits, upstream, *([] if evaluated is None else [evaluated]))


def published_maps() -> pd.DataFrame:
    """mAP@0.5 (0..1) on COCO (``upstream_map``) and on VOC (``transfer_map``) of the detectors that SparseML publishes, not those
    of the paper's table 6: ``architecture``, ``method``, ``sparsity`` (NaN where it is not said), ``reading`` of the VOC figure,
    ``upstream_map_origin`` and ``transfer_map_origin`` (the pages)."""
    rows = pd.read_csv(PUBLISHED / "detection.csv")
    key = ["architecture", "method", "sparsity"]
    upstream, downstream = (
        rows[rows["dataset"] == data].rename(columns={"value": side, "source": f"{side}_origin"})
        for data, side in (("COCO", "upstream_map"), ("VOC", "transfer_map"))
    )
    return upstream[[*key, "upstream_map", "upstream_map_origin"]].merge(
        downstream[[*key, "transfer_map", "reading", "transfer_map_origin"]], on=key
    )


def structures(home: Path) -> pd.DataFrame:
    """What pruning left of each network of the library and the zoo that was analysed: its ``network`` hash and ``TRAITS``."""
    rows = []
    for card in library.available(home):
        found = structure.recall_card(home, card)
        if found is None:
            continue
        layers = found.layers
        sparsities = np.array([layer.sparsity for layer in layers])
        rows.append(
            {
                "network": found.hash,
                "name": card.name,
                "filters_pruned": found.mean_layer_filters_pruned_share,
                "filters_removable": float(np.mean([layer.filters_dead / layer.filters for layer in layers])),
                "channels_removable": float(np.mean([layer.channels_dead / layer.channels for layer in layers])),
                "sparsity_spread": float(sparsities.std(ddof=1)) if len(layers) > 1 else np.nan,
                "sparsity_first": float(sparsities[0]),
            }
        )
    return pd.DataFrame(rows, columns=["network", "name", *TRAITS]).drop_duplicates("network")


def own_upstream(home: Path, metric: str = "accuracy") -> pd.DataFrame:
    """The upstream accuracy of each network that this product made, or else evaluated on its upstream data, by ``network`` hash;
    ``upstream_origin`` is its name. With one of the two mAP as ``metric``, that of detectors; else of networks that classify
    images."""
    field = {MAP: "map50", STRICT_MAP: "map"}.get(metric, "top1")
    cards = [card for card in library.available(home) if card.provenance and card.method != UNKNOWN]
    cards = [card for card in cards if card.is_detector == (field != "top1")]
    rows = [(card.hash, _made_with(card.provenance, field), card.name) for card in cards if card.provenance]
    kept = [each for each in evaluations.read_all(home) if evaluations.is_upstream(each)]
    rows += [(each["network"], each.get(field), each["backbone"]) for each in reversed(kept)]  # of several, the latest
    return (
        pd.DataFrame(rows, columns=["network", "upstream_accuracy", "upstream_origin"])
        .dropna()
        .drop_duplicates("network")
    )


def _made_with(made: Provenance, field: str) -> float | None:
    """The upstream accuracy that a network was made with, of a detector mAP@0.5, or mAP@[.5:.95] as ``map``; None where it was
    not measured."""
    if field != "map":
        return made.upstream_accuracy
    value = made.details.get("upstream_map")
    return value if is_kind(value, NUMBER) else None
