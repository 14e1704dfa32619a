"""Tables of what pruning left of networks: layers, networks side by side, mask overlap, accuracy by size."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sparse_core.networks import packed_masks
from sparse_core.networks.cards import BackboneCard
from sparse_core.networks.packed_masks import Shapes
from sparse_core.networks.structure import Structure
from sparse_core.views.labels import SERIES_KEY, SIZES, backbone_label

SHARES = {
    "mean_layer_filters_pruned_share": "Fully pruned filters, mean over layers",
    "filters_pruned_share": "Fully pruned filters, of all",
    "filters_dead_share": "Removable filters",
}


def layer_table(structure: Structure) -> pd.DataFrame:
    """A row for each convolution, input to output; shapes as text, ``sparsity`` 0..1."""
    return pd.DataFrame(
        [
            {
                "layer": number,
                "name": layer.name,
                "shape": " × ".join(map(str, layer.shape)),
                "output": " × ".join(map(str, layer.output)),
                "sparsity": layer.sparsity,
                "filters": layer.filters,
                "filters_pruned": layer.filters_pruned,
                "filters_removable": layer.filters_dead,
                "channels": layer.channels,
                "channels_pruned": layer.channels_pruned,
                "channels_removable": layer.channels_dead,
                "parameters": layer.parameters,
                "nonzero": layer.nonzero,
                "multiply_adds": layer.multiply_adds,
                "multiply_adds_sparse": layer.multiply_adds_sparse,
                "groups": layer.groups,
            }
            for number, layer in enumerate(structure.layers, start=1)
        ]
    )


def comparison_table(found: Sequence[tuple[BackboneCard, Structure]]) -> pd.DataFrame:
    """A row for each backbone, by measured sparsity: the shares of filters of the paper's table 4, 0..1, and its sizes."""
    return pd.DataFrame(
        [
            {
                "network": backbone_label(card),
                "method": card.method,
                "measured_sparsity": structure.sparsity,
                **{share: getattr(structure, share) for share in SHARES},
                "nonzero_parameters": structure.nonzero,
                "parameters": structure.parameters,
                "multiply_adds_sparse": structure.multiply_adds_sparse,
                "multiply_adds": structure.multiply_adds,
                "file_size": structure.bytes_sparse,
                "parameters_removable": structure.parameters_removable,
                "multiply_adds_removable": structure.multiply_adds_removable,
            }
            for card, structure in sorted(found, key=lambda pair: pair[1].sparsity)
        ]
    )


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


def accuracy_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each measured backbone: its sizes, and mean and standard deviation (NaN for one run) of the best accuracy.

    ``runs`` are the store's rows of one architecture, task, metric and transfer; those whose sizes are unknown are left
    out. Runs of different protocols or upstream data are never averaged together.
    """
    known = runs.dropna(subset=list(SIZES))
    grouped = known.groupby(["method", "sparsity", *SERIES_KEY, "backbone", *SIZES])["accuracy_best"]
    table = grouped.agg(accuracy_mean="mean", accuracy_std="std", runs="size").reset_index()
    return table.sort_values(["sparsity", "method"], ignore_index=True)
