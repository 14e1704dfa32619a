"""What one source's rows show: errors and accuracies by network and task, as findings and advice ask for them."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparse_core.results import measures
from sparse_core.results.network_facts import NetworkFacts

SERIES = ["architecture", "upstream", "protocol"]
CELL = [
    "transfer",
    "dataset",
    "method",
    "sparsity",
    "recipe",
    "network",
    "network_name",
    "accuracy_mean",
    "accuracy_std",
]
CELL += ["seeds", "networks", "runs", "relative_error_increase", "difference", "difference_low", "difference_high"]
_USED = [*measures.CONFIGURATION_KEY, "seed", *measures.ACCURACIES.values(), "file_size", measures.CELL]
_COUNTED = ["transfer", "method", "sparsity", "runs"]


class Evidence:
    """The rows of one source, of one series (architecture, upstream, protocol) for each transfer.

    ``architecture`` is taken where the source has it; unless ``only`` is set, the one with most runs stands in for it. Networks
    trained alike are joined; of several recipes of a method and sparsity the one with most runs counts (of equals, the first by
    name). ``cells`` has a row for each network and task, with columns ``CELL`` of
    ``measures.difference_to_dense``. ``facts`` are what else is known of the source.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        architecture: str = "",
        *,
        only: bool = False,
        accuracy: str = "best",
        facts: NetworkFacts | None = None,
    ) -> None:
        has = bool(architecture) and bool((rows["architecture"] == architecture).any())
        if architecture and (has or only):
            rows = measures.selected(rows, rows["architecture"] == architecture)
        rows = rows[[name for name in _USED if name in rows]]
        self.rows = _most_frequent(rows, ["transfer"], SERIES)
        self.accuracy, self.facts = accuracy, facts or NetworkFacts()
        joined = measures.joined(self.rows)
        chosen = _most_frequent(joined, ["transfer", "method", "sparsity"], ["recipe", "network"])
        dense = joined[joined["method"] == "Dense"]
        kept = pd.concat([chosen[chosen["method"] != "Dense"], dense])
        self.cells = measures.difference_to_dense(kept, accuracy)[CELL]

    @property
    def architecture(self) -> str:
        """The architecture of the rows, "" without rows."""
        return str(self.rows["architecture"].iloc[0]) if len(self.rows) else ""

    def of(self, transfer: str, method: str, sparsity: float) -> pd.DataFrame:
        """The cells of one method at one sparsity, by dataset, those with a dense baseline only."""
        return self._networks.get((transfer, method, round(sparsity, 6)), self._none)

    def levels(self, transfer: str, method: str) -> list[float]:
        """The sparsities at which there is such a network."""
        return sorted(level for kind, name, level in self._networks if (kind, name) == (transfer, method))

    def methods(self, transfer: str) -> list[str]:
        """The pruning methods there are, in alphabetical order."""
        return sorted({name for kind, name, _ in self._networks if kind == transfer and name != "Dense"})

    def dense_runs(self, transfer: str) -> dict[str, int]:
        """The number of runs of the dense baseline, by dataset."""
        return self._dense.get(transfer, {})

    def row_count(self, *cells: pd.DataFrame) -> int:
        """The number of runs on which cells rest, those of their dense baselines included, each counted once."""
        runs: dict[tuple[str, ...], int] = {}
        for cell in cells:
            for dataset, transfer, *network, count in zip(cell.index, *(cell[name] for name in _COUNTED), strict=True):
                runs[transfer, dataset, *map(str, network)] = int(count)
                runs[transfer, dataset] = self.dense_runs(transfer).get(dataset, 0)
        return sum(runs.values())

    @functools.cached_property
    def _networks(self) -> dict[tuple[str, str, float], pd.DataFrame]:
        known = self.cells.dropna(subset=["relative_error_increase"])
        groups = known.assign(level=known["sparsity"].round(6)).groupby(["transfer", "method", "level"])
        return {key: part.drop_duplicates("dataset").set_index("dataset") for key, part in groups}

    @functools.cached_property
    def _none(self) -> pd.DataFrame:
        return self.cells.iloc[:0].set_index("dataset")

    @functools.cached_property
    def _dense(self) -> dict[str, dict[str, int]]:
        dense = self.cells[self.cells["method"] == "Dense"]
        return {kind: part.groupby("dataset")["runs"].sum().to_dict() for kind, part in dense.groupby("transfer")}

    @functools.cached_property
    def file_sizes(self) -> dict[tuple[str, float], float]:
        """The mean size in bytes of the networks' files, where known, by method and sparsity."""
        known = self.rows.dropna(subset=["file_size"])
        sizes = known["file_size"].astype(float).groupby([known["method"], known["sparsity"].round(6)]).mean()
        return sizes.to_dict()

    @functools.cached_property
    def difficulty(self) -> pd.Series:
        """Task difficulty by dataset, where the dense network was transferred in both ways."""
        known = measures.difficulty(self.rows, self.accuracy).sort_values("seeds", ascending=False, kind="stable")
        return known.drop_duplicates("dataset").set_index("dataset")["difficulty"]


def _most_frequent(rows: pd.DataFrame, within: Sequence[str], chosen: Sequence[str]) -> pd.DataFrame:
    """The rows of that combination of ``chosen`` which has most rows in each group ``within``; of equals, the first by name."""
    number, kinds = measures.grouped(rows, [*within, *chosen])
    counts = kinds.assign(size=np.bincount(number, minlength=len(kinds)))
    ordered = counts.sort_values(["size", *chosen], ascending=[False, *[True] * len(chosen)], kind="stable")
    kept = kinds.index.isin(ordered.drop_duplicates(list(within)).index)
    return measures.selected(rows, kept[number])
