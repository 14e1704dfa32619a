"""One filter of runs that can hold on all pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pandas as pd

from sparse_core.results.annotations import Annotation


@dataclass(frozen=True)
class RunFilter:
    """The values that are kept of each column, and the tags of which a run must have one; empty means all."""

    architecture: tuple[str, ...] = ()
    transfer: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    keep_dense: bool = True  # whatever its method and tags: it is the baseline of the others

    @property
    def count(self) -> int:
        """How many of its parts keep less than all."""
        return sum(bool(getattr(self, name)) for name in PARTS)

    def within(self, part: str, chosen: Sequence[str] = ()) -> list[str]:
        """Those of the ``chosen`` values of a part (empty: all) that are kept; empty means all."""
        kept = getattr(self, part)
        return [value for value in chosen if value in kept] if chosen and kept else list(chosen or kept)

    def apply(self, rows: pd.DataFrame, annotations: Mapping[str, Annotation]) -> pd.DataFrame:
        """The rows, as ``Store.results`` returns them, that are kept."""
        return rows[self.keeps(rows, annotations)].reset_index(drop=True)

    def keeps(self, rows: pd.DataFrame, annotations: Mapping[str, Annotation]) -> pd.Series:
        """Whether each row is kept."""
        keep = pd.Series(True, index=rows.index)
        dense = (rows["method"] == "Dense") if self.keep_dense else pd.Series(False, index=rows.index)
        for name in ("architecture", "transfer", "dataset", "source"):
            if getattr(self, name):
                keep &= rows[name].isin(getattr(self, name))
        if self.method:
            keep &= dense | rows["method"].isin(self.method)
        if self.tags:
            tagged = [run_id for run_id, each in annotations.items() if set(each.tags) & set(self.tags)]
            keep &= dense | rows["run_id"].isin(tagged)
        return keep

    def keeps_network(self, architecture: str, method: str) -> bool:
        """Whether a network passes, by what is known of it without a run; one without a method is none of any."""
        kept = not self.architecture or architecture in self.architecture
        return kept and (not self.method or method in self.method or (self.keep_dense and method == "Dense"))


PARTS = tuple(field.name for field in fields(RunFilter) if field.name != "keep_dense")
