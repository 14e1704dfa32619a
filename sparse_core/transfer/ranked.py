"""Backbones ranked on one dataset by their cached features, before any is trained, and how well probes agree."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_core.datasets import catalogue
from sparse_core.errors import InputError
from sparse_core.networks import backbones, library
from sparse_core.paths import finite
from sparse_core.results.records import Records
from sparse_core.results.store import Store
from sparse_core.specs.checks import require_known
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.ranking import RankSpec
from sparse_core.transfer import features
from sparse_core.transfer.ranking import MEASURES, Sample, agreement


@dataclass(frozen=True)
class Ranked:
    """Rows {backbone, measure, score, seconds, chosen, path}, best first; ``seconds`` are those of the measure, without the
    features. ``tau`` and ``p`` are Kendall's agreement with the mean accuracies of the ``probes`` there are, NaN below three."""

    rows: list[dict[str, Any]]
    tau: float
    p: float
    probes: int


def run_rank(home: Path, spec: RankSpec, seeds: tuple[int, ...], report: Report) -> dict[str, Any]:
    """``rank`` as a job: the fields of ``Ranked``, with None for an unknown tau."""
    found = rank(home, spec.backbones, spec.dataset, spec.measure, report, seeds[0])
    return finite(dataclasses.asdict(found))


def rank(home: Path, names: Sequence[str], dataset_name: str, measure: str, report: Report, seed: int = 0) -> Ranked:
    """Rank backbones by one of ``MEASURES``; none named: all that are ready without a download. Features come from the cache,
    or are extracted. Raises InputError for an unknown name, and where there is no backbone."""
    require_known("measure", measure, MEASURES)
    chosen = list(names) or [
        card.name for card in library.classifying(home) if card.ready and card.kind != "architecture"
    ]
    if not chosen:
        raise InputError("There is no backbone to rank. Import one, or name one with --backbones.")
    dataset = catalogue.load(home, dataset_name)
    rows: list[dict[str, Any]] = []
    hashes: dict[str, str] = {}
    scores: dict[str, float] = {}
    for number, name in enumerate(chosen):
        report(Progress(f"{name} ({number + 1} of {len(chosen)})"))
        backbone = backbones.load_classifying(home, name)
        extracted = features.extract(home, backbone, dataset, on_progress=report)
        train, test = (extracted.train, extracted.train_labels), (extracted.test, extracted.test_labels)
        started = time.perf_counter()
        score = MEASURES[measure](Sample(*train, *test, len(dataset.class_names)), seed)
        seconds = time.perf_counter() - started
        scores[name] = score.value
        row: dict[str, Any] = {"backbone": name, "measure": measure, "score": score.value, "seconds": seconds}
        rows.append({**row, "chosen": score.chosen, "path": dict(score.path)})
        hashes[name] = backbone.hash
    rows.sort(key=lambda row: -scores[row["backbone"]])
    tau, p, probes = agreement(scores, _probed(home, hashes, dataset.hash))
    return Ranked(rows, tau, p, probes)


def _probed(home: Path, hashes: dict[str, str], dataset_hash: str) -> dict[str, float]:
    """The mean accuracy of the linear probes of each backbone on this dataset, of the protocol with most runs."""
    probes = Store(Records(home)).results(transfer="linear")
    probes = probes[(probes["dataset_hash"] == dataset_hash) & probes["network"].isin(list(hashes.values()))]
    if probes.empty:
        return {}
    usual = probes[probes["protocol"] == probes["protocol"].value_counts().index[0]]
    means = usual.groupby("network")["accuracy_best"].mean()
    return {name: float(means[value]) for name, value in hashes.items() if value in means.index}
