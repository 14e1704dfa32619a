"""Estimates of how long a sparsification takes on this machine, kept in files; imports no torch, as pages read them. They come
from a short measurement (``runs.run_estimate``) and are replaced by the times of real runs."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sparse_core import stored
from sparse_core.catalog import PRECISIONS
from sparse_core.networks import library
from sparse_core.networks.preprocessing import DEFAULTS, default
from sparse_core.paths import write_text
from sparse_core.specs.sparsify import SECOND_ORDER, SparsifySpec
from sparse_core.transfer.durations import correction, learn_correction

WORK = "sparsify"
UNTRAINED = ("Magnitude",)
DENSE = "Dense"  # whose pace stands for that of a method which has not run yet
WITHOUT_DATA = 2.0  # seconds
STR_STEP, STR_PILOTS = 1.1, 1.3  # a step over the dense one; the whole with three pilots over the whole without
GRADIENT_SHARE = 4.0  # the images of second-order gradients cost so many times what they cost in a training step


@dataclass(frozen=True)
class Pace:
    """``seconds_per_epoch`` of training, test included; ``seconds_besides`` of what the method does besides in a training of
    ``epochs`` epochs (pilots, second-order pruning). ``images`` are those of the training split. ``sampled`` means that a short
    measurement and no real run gave them."""

    images: int
    seconds_per_epoch: float
    seconds_besides: float
    epochs: int
    sampled: bool = False

    def seconds(self, spec: SparsifySpec) -> float:
        """One seed's whole training."""
        if spec.method in UNTRAINED:
            return self.seconds_besides or self.seconds_per_epoch
        longer = (
            spec.total_epochs / self.epochs if spec.method == "STR" else 1.0
        )  # its pilots are shares of the training
        return spec.total_epochs * self.seconds_per_epoch + longer * self.seconds_besides


def estimate_sparsify(home: Path, spec: SparsifySpec, seeds: Sequence[int]) -> float | None:
    """Seconds that ``spec`` takes with these seeds on this machine, one after another; None where nothing was measured yet.

    Where the method itself has not run, the dense pace counts, with an allowance for STR's pilots and second-order gradients.
    """
    if not spec.dataset:  # one-shot pruning of a detector
        return WITHOUT_DATA * len(seeds)
    own = recall(home, spec)
    if own and not own.sampled:
        return own.seconds(spec) * len(seeds)
    dense = own or recall(home, spec, DENSE)
    if dense is None:
        return None
    return _from_dense(dense, spec) * len(seeds) * (correction(home, WORK) if dense.sampled else 1.0)


def recall(home: Path, spec: SparsifySpec, method: str = "") -> Pace | None:
    """The pace of the spec's method, or of another one on the same network and data; None where it was not measured. The
    precision "auto" means bf16 where that was measured, else fp32."""
    precisions = reversed(PRECISIONS) if spec.precision == "auto" else [spec.precision]
    files = (
        _file(home, dataclasses.replace(spec, precision=precision), method or spec.method) for precision in precisions
    )
    return next(filter(None, map(_read, files)), None)


def remember(home: Path, spec: SparsifySpec, images: int, epoch_seconds: Sequence[float], whole: float) -> None:
    """Keep the times of a run: seconds of each epoch, and of the whole. The median epoch is one without second-order pruning."""
    known = recall(home, spec) or recall(home, spec, DENSE)
    if known and known.sampled:
        learn_correction(home, WORK, _from_dense(known, spec), whole)
    epochs = 0 if spec.method in UNTRAINED else min(len(epoch_seconds), spec.total_epochs)
    usual = min(statistics.median(epoch_seconds), whole / epochs) if epochs else 0.0
    pace = Pace(images, usual, whole - epochs * usual, max(1, epochs))
    keep(home, spec, pace)
    if epochs and spec.method != "STR":
        keep(home, spec, dataclasses.replace(pace, seconds_besides=0.0), DENSE)


def keep(home: Path, spec: SparsifySpec, pace: Pace, method: str = "") -> None:
    """Keep a pace for all specs with the same ``key``."""
    write_text(_file(home, spec, method or spec.method), json.dumps(asdict(pace)))


def key(home: Path, spec: SparsifySpec, method: str = "") -> tuple[str, ...]:
    """What decides the time per epoch: specs with the same key share an estimate. Networks of one architecture and image size do,
    so that the estimate is there before the parent is made."""
    card = library.find(home, spec.backbone)
    architecture = card.architecture if card else spec.backbone.partition(":")[0].partition("-")[0]
    usual = default(architecture) if architecture in DEFAULTS else None
    preprocessing = card.preprocessing if card else usual
    side = preprocessing.crop if preprocessing else 0
    values = (architecture, side, spec.dataset, spec.batch_size, spec.precision, spec.augment, method or spec.method)
    return "sparsify", *map(str, values)


def _from_dense(dense: Pace, spec: SparsifySpec) -> float:
    if spec.method == "STR":
        return dense.seconds(spec) * STR_STEP * (1.0 if spec.strength else STR_PILOTS)
    if spec.method in SECOND_ORDER:
        gradients = spec.pruning_steps * spec.gradients * (spec.gradient_batch or 1)
        return dense.seconds(spec) + GRADIENT_SHARE * gradients * dense.seconds_per_epoch / dense.images
    return dense.seconds(spec)


def _read(file: Path) -> Pace | None:
    with stored.reading(file):
        return stored.made(Pace, json.loads(file.read_bytes()))
    return None


def _file(home: Path, spec: SparsifySpec, method: str) -> Path:
    name = hashlib.sha256("\n".join(key(home, spec, method)).encode(errors="surrogatepass")).hexdigest()[:24]
    return home / "estimates" / f"{name}.json"
