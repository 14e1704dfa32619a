"""The spec of a ranking of backbones on one dataset."""

from dataclasses import dataclass

from sparse_core.specs.checks import require_known

RANKINGS = ("knn", "ridge", "few-shot", "logistic", "logme")


@dataclass(frozen=True)
class RankSpec:
    """Rank ``backbones`` on the features of ``dataset`` by ``measure``; none named: all that are ready without a download."""

    dataset: str
    measure: str = "ridge"
    backbones: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_known("measure", self.measure, RANKINGS)
