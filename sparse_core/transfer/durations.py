"""Estimates of how long a transfer takes on this machine, kept in files; imports no torch, as pages read them. They
come from short measurements (``runs.run_estimate``) and are replaced by the times of real runs."""

import dataclasses
import hashlib
import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from sparse_core import stored
from sparse_core.catalog import PRECISIONS
from sparse_core.paths import write_text
from sparse_core.specs.identity import AnyRun
from sparse_core.specs.training import VALIDATION_SHARE
from sparse_core.specs.transfer import TASK, DetectionSpec, ProbeSpec

RECENT = 5  # runs of one kind whose median counts, so that one beside other work does not decide
CORRECTIONS = 10  # jobs by which samples are corrected
LARGEST = 20.0  # a correction, up or down
Times = tuple[float, float, float]


@dataclass(frozen=True)
class Estimate:
    """``images`` of the dataset, both splits; ``seconds_per_image`` of feature extraction, decoding included (0 under full
    transfer, which has none); ``seconds_per_epoch`` of one seed; ``seconds_besides`` of a job (under full transfer, of each seed)
    for all else. ``stored`` bytes are left: the features under linear transfer, under full the network of each seed. ``sampled``
    means that a short measurement and no real run gave them; else they are medians of ``recent`` runs, each its three times in
    this order."""

    images: int
    seconds_per_image: float
    seconds_per_epoch: float
    seconds_besides: float = 0.0
    sampled: bool = False
    recent: tuple[Times, ...] = ()
    stored: int = 0

    def seconds(self, spec: AnyRun, seeds: int, features_cached: bool) -> float:
        """The whole transfer: features unless they are cached, the learning-rate sweep if there is one, then training."""
        extraction = 0.0 if features_cached else self.images * self.seconds_per_image
        rates = len(spec.sweep_lr) if isinstance(spec, ProbeSpec) else 0
        epochs = spec.settings.epochs * (seeds + rates * spec.usual_seeds * (1 - VALIDATION_SHARE))
        besides = self.seconds_besides * (1 if isinstance(spec, ProbeSpec) else seeds)
        return extraction + epochs * self.seconds_per_epoch + besides


@dataclass(frozen=True)
class Timed:
    """A real run: ``seconds`` of all its ``seeds``, from the job's start, and what ``Estimate`` takes apart.
    ``images_per_second`` is the pace of the feature extraction, None under full transfer, 0 where cached features were never
    timed. ``stored`` as in ``Estimate``."""

    seconds: float
    seeds: int
    images: int
    seconds_per_epoch: float
    images_per_second: float | None = None
    features_cached: bool = False
    stored: int = 0


def estimate(home: Path, spec: AnyRun, seeds: int, features_cached: bool, architecture: str = "") -> float | None:
    """Seconds of the whole transfer, by what this machine did before; None where nothing was measured yet.

    Real runs of another network of the ``architecture`` go before a sample of this one. Samples are corrected by how long jobs
    took whose estimates came from samples.
    """
    own = recall(home, spec)
    if architecture and (own is None or own.sampled):
        other = recall(home, dataclasses.replace(spec, backbone=architecture))
        own = other if other and (own is None or not other.sampled) else own
    if own is None:
        return None
    return own.seconds(spec, seeds, features_cached) * (correction(home, _work(spec)) if own.sampled else 1.0)


def key(spec: AnyRun) -> tuple[str | int, ...]:
    """What decides the time per image and per epoch: specs with the same key share an estimate."""
    size = [spec.image_size] if spec.image_size else []
    return spec.transfer, spec.backbone, spec.dataset, spec.settings.batch_size, spec.precision, *size


def recall(home: Path, spec: AnyRun) -> Estimate | None:
    """The estimate for this transfer; None where nothing was measured yet. The precision "auto" means bf16 where that
    was measured (it is chosen only where it is faster), else fp32."""
    precisions = reversed(PRECISIONS) if spec.precision == "auto" else [spec.precision]
    files = (_file(home, dataclasses.replace(spec, precision=precision)) for precision in precisions)
    return next(filter(None, map(_read, files)), None)


def remember(home: Path, spec: AnyRun, run: Timed) -> None:
    """Learn from a real run. Nothing is kept of one with cached features whose pace nothing is known of."""
    known = recall(home, spec)
    if known and known.sampled:
        learn_correction(home, _work(spec), known.seconds(spec, run.seeds, run.features_cached), run.seconds)
    pace = 1 / run.images_per_second if run.images_per_second else 0.0
    if run.images_per_second == 0:
        if known is None:
            return
        pace = known.seconds_per_image
    parts = Estimate(run.images, pace, run.seconds_per_epoch)
    left = max(0.0, run.seconds - parts.seconds(spec, run.seeds, run.features_cached))
    times = (pace, run.seconds_per_epoch, left / (1 if isinstance(spec, ProbeSpec) else run.seeds))
    recent = (*(known.recent if known else ()), times)[-RECENT:]
    pace, epoch, besides = (statistics.median(values) for values in zip(*recent, strict=True))
    keep(home, spec, Estimate(run.images, pace, epoch, besides, recent=recent, stored=run.stored))


def correction(home: Path, work: str) -> float:
    """What estimates from samples are multiplied by on this machine, for a kind of work such as "linear"; 1 at first."""
    ratios = _ratios(home, work)
    return math.exp(statistics.median(map(math.log, ratios))) if ratios else 1.0


def learn_correction(home: Path, work: str, estimated: float, seconds: float) -> None:
    """A job took ``seconds`` that a sample had ``estimated``."""
    if estimated > 0 and seconds > 0:
        ratio = min(max(seconds / estimated, 1 / LARGEST), LARGEST)
        write_text(_corrections(home, work), json.dumps({"ratios": [*_ratios(home, work), ratio][-CORRECTIONS:]}))


def keep(home: Path, spec: AnyRun, estimate: Estimate) -> None:
    """Keep an estimate for all specs with the same ``key``."""
    write_text(_file(home, spec), json.dumps(asdict(estimate)))


def _read(file: Path) -> Estimate | None:
    with stored.reading(file):
        return stored.made(Estimate, json.loads(file.read_bytes()))
    return None


def _work(spec: AnyRun) -> str:
    """The kind of work whose samples are corrected alike."""
    return TASK if isinstance(spec, DetectionSpec) else spec.transfer


def _ratios(home: Path, work: str) -> list[float]:
    found = stored.read_json(_corrections(home, work), {"ratios": list}) or {"ratios": []}
    numbers = [float(each) for each in found["ratios"] if stored.is_kind(each, stored.NUMBER)]
    return [each for each in numbers if 1 / LARGEST <= each <= LARGEST]


def _corrections(home: Path, work: str) -> Path:
    return home / "estimates" / f"corrections-{work}.json"


def _file(home: Path, spec: AnyRun) -> Path:
    name = hashlib.sha256("\n".join(map(str, key(spec))).encode(errors="surrogatepass")).hexdigest()[:24]
    return home / "estimates" / f"{name}.json"
