"""Estimates of how long a transfer takes on this machine, kept in files; imports no torch, as pages read them. They
come from short measurements (``runs.run_estimate``) and are replaced by the times of real runs."""

import dataclasses
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sparse_core import stored
from sparse_core.catalog import PRECISIONS
from sparse_core.paths import write_text
from sparse_core.specs.training import VALIDATION_SHARE
from sparse_core.specs.transfer import ProbeSpec, TransferSpec


@dataclass(frozen=True)
class Estimate:
    """``images`` of the dataset, both splits; ``seconds_per_image`` of feature extraction, decoding included (0 under full
    transfer, which has none); ``seconds_per_epoch`` of one seed."""

    images: int
    seconds_per_image: float
    seconds_per_epoch: float

    def seconds(self, spec: TransferSpec, seeds: int, features_cached: bool) -> float:
        """The whole transfer: features unless they are cached, the learning-rate sweep if there is one, then training."""
        extraction = 0.0 if features_cached else self.images * self.seconds_per_image
        rates = len(spec.sweep_lr) if isinstance(spec, ProbeSpec) else 0
        epochs = spec.settings.epochs * (seeds + rates * spec.usual_seeds * (1 - VALIDATION_SHARE))
        return extraction + epochs * self.seconds_per_epoch


def key(spec: TransferSpec) -> tuple[str | int, ...]:
    """What decides the time per image and per epoch: specs with the same key share an estimate."""
    size = [spec.image_size] if spec.image_size else []
    return spec.transfer, spec.backbone, spec.dataset, spec.settings.batch_size, spec.precision, *size


def recall(home: Path, spec: TransferSpec) -> Estimate | None:
    """The estimate for this transfer; None where nothing was measured yet. The precision "auto" means bf16 where that
    was measured (it is chosen only where it is faster), else fp32."""
    precisions = reversed(PRECISIONS) if spec.precision == "auto" else [spec.precision]
    files = (_file(home, dataclasses.replace(spec, precision=precision)) for precision in precisions)
    return next(filter(None, map(_read, files)), None)


def remember(
    home: Path, spec: TransferSpec, images: int, seconds_per_epoch: float, images_per_second: float | None = None
) -> None:
    """Keep the times of a run. ``images_per_second`` is the pace of its feature extraction, None under full transfer. A
    pace of 0 means cached features that were never timed: then nothing is kept."""
    if images_per_second != 0:
        keep(home, spec, Estimate(images, 1 / images_per_second if images_per_second else 0.0, seconds_per_epoch))


def keep(home: Path, spec: TransferSpec, estimate: Estimate) -> None:
    """Keep an estimate for all specs with the same ``key``."""
    write_text(_file(home, spec), json.dumps(asdict(estimate)))


def _read(file: Path) -> Estimate | None:
    with stored.reading(file):
        return stored.made(Estimate, json.loads(file.read_bytes()))
    return None


def _file(home: Path, spec: TransferSpec) -> Path:
    name = hashlib.sha256("\n".join(map(str, key(spec))).encode(errors="surrogatepass")).hexdigest()[:24]
    return home / "estimates" / f"{name}.json"
