"""How much faster a sparse backbone runs than the dense one of its architecture, in the same engine on this machine.

Dense and sparse take turns, round by round, so that whatever else the machine does meets both. A figure is kept only where
the engine's output agrees with PyTorch in fp32. What is measured is inference here and online training in ``online``.
"""

import copy
import dataclasses
import itertools
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap

from sparse_core import __version__, engines, masks, models, speeds
from sparse_core.errors import InputError
from sparse_core.machine import load, machine
from sparse_core.paths import REPOSITORY
from sparse_core.spec import SpeedupSpec
from sparse_core.speeds import BUSY, SPREAD_LIMIT
from sparse_core.transforms import Transform

ROUND_SECONDS = 0.05  # a shorter round is repeated until it takes this long
LEAST_SPARSITY = 0.005  # a dense network has a few zeros, too
RESAMPLES = 10_000

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ratio:
    """How many times faster: dense median over sparse median, with its 95 % interval; above 1 is faster.

    ``spread`` is the larger interquartile range over median of the two.
    """

    ratio: float
    low: float
    high: float
    spread: float

    @property
    def gain(self) -> str:
        """Faster or slower where the interval lies on one side of 1, else no gain."""
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "no gain"


@dataclass(frozen=True)
class Pair:
    """A sparse network and its dense counterpart, both in evaluation mode, with what a record says of them.

    The dense one has the same layers with random weights: an engine's time depends on zeros, not on values.
    """

    dense: torch.nn.Module
    sparse: torch.nn.Module
    transform: Transform
    description: dict[str, Any]


def ratio_of(dense: Sequence[float], sparse: Sequence[float]) -> Ratio:
    """The ratio of paired samples (seconds or any unit), one pair a round.

    The interval is the percentile bootstrap's (Efron 1979) of the ratio of medians, drawing whole rounds, by
    scipy.stats.bootstrap with a fixed seed. Raises InputError for fewer than three rounds or times that are not positive.
    """
    pairs = np.asarray([dense, sparse], dtype=float)
    if pairs.shape[1] < 3 or not (pairs > 0).all():
        raise InputError(f"A ratio needs three rounds or more of times above 0; got {pairs.shape[1]} rounds.")

    def statistic(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.median(a, axis=axis) / np.median(b, axis=axis)

    interval = bootstrap(
        tuple(pairs), statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    quartiles = np.percentile(pairs, [25, 50, 75], axis=1)
    spread = float(((quartiles[2] - quartiles[0]) / quartiles[1]).max())
    return Ratio(float(statistic(*pairs)), float(interval.low), float(interval.high), spread)


def prepare(spec: SpeedupSpec) -> Pair:
    """The networks that a spec asks for: a backbone and its dense counterpart, or an architecture with a mask for timing only.

    Raises InputError for unknown names and for a backbone that has nothing pruned.
    """
    if spec.backbone:
        return _from_backbone(spec.backbone)
    architecture, variant = models.split_name(spec.architecture)
    torch.manual_seed(0)
    dense = models.build(architecture, variant).eval()
    sparse = copy.deepcopy(dense)
    masks.apply(sparse, masks.top_k(sparse, spec.sparsity, spec.distribution, dense_first=True))
    transform = models.ARCHITECTURES[architecture].variants[models.resolve_variant(architecture, variant)]
    return Pair(
        dense,
        sparse,
        transform,
        {
            "timing_only": True,
            "backbone": "",
            "backbone_hash": "",
            "architecture": architecture,
            "method": "",
            "sparsity": spec.sparsity,
            "distribution": spec.distribution,
            "measured_sparsity": masks.sparsity(sparse).total,
        },
    )


def measure(spec: SpeedupSpec, report: Report) -> dict[str, Any]:
    """Measure what the spec asks for and return the record: see ``sparse_core.speeds`` for its fields.

    Where the spec names no engine, inference is measured in all there are, online training in the first.
    An engine that is missing, cannot do the network or differs from PyTorch is a line in the record's ``problems``; where no
    figure is left at all, that line is raised as InputError. ``report`` may raise ``Cancelled``.
    """
    chosen, problems = _engines(spec)
    _require_threads(spec)
    pair = prepare(spec)
    before = load()
    lines: list[dict[str, Any]] = []
    for words, work in _parts(spec, pair, chosen, report):
        try:
            lines.append(work())
        except InputError as error:
            problems.append(f"{words}: {error}")
    if not lines:
        raise InputError(" ".join(problems))
    for line in lines:
        line["reliable"] = line["spread"] <= SPREAD_LIMIT and before <= BUSY
    return _record(spec, pair, lines, problems, before)


def _parts(
    spec: SpeedupSpec, pair: Pair, chosen: Sequence[str], report: Report
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is measured one after the other: in words, and what gives its line."""
    if spec.mode == "training":
        from sparse_core import online

        dataset = online.open_dataset(spec)
        for engine in chosen if spec.engines else chosen[:1]:
            yield engines.LABELS[engine], partial(online.measure, pair, spec, engine, dataset, report)
        return
    progress = _Progress(report, len(chosen) * len(spec.batch_sizes), spec.rounds)
    for engine, batch_size in itertools.product(chosen, spec.batch_sizes):
        words = f"{engines.LABELS[engine]}, batch {batch_size}"
        yield words, partial(_inference, pair, engine, batch_size, spec, progress, words)
        progress.next()


def line_of(compiled: engines.Compiled, pair: Pair, dense: Sequence[float], sparse: Sequence[float]) -> dict[str, Any]:
    """What every line of a record holds; samples are milliseconds an image, one a round."""
    ratio = ratio_of(dense, sparse)
    median = float(np.median(sparse))
    return {
        "engine": compiled.engine,
        "engine_version": compiled.version,
        "precision": compiled.precision,
        "batch_size": compiled.batch_size,
        "threads": compiled.threads,
        "sparsity": pair.description["sparsity"],
        "milliseconds_per_image": median,
        "dense_milliseconds_per_image": float(np.median(dense)),
        "quartiles": [float(value) for value in np.percentile(sparse, [25, 75])],
        "ratio": ratio.ratio,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "gain": ratio.gain,
        "spread": ratio.spread,
        "images_per_second": 1000 / median,
        "samples": {"dense": [float(value) for value in dense], "sparse": [float(value) for value in sparse]},
    }


@contextmanager
def both(
    pair: Pair, engine: str, batch_size: int, threads: int
) -> Iterator[tuple[engines.Compiled, engines.Compiled, float]]:
    """The dense and the sparse network in one engine, with the larger of their relative differences to PyTorch in fp32.

    PyTorch takes the precision that the dense one is faster in, bf16 only where both are exact enough in it; the other
    engines compute in fp32. Raises InputError where the engine cannot do a network and where its output differs too much.
    """
    side, precision = pair.transform.crop, "best" if engine == "torch" and _bf16_is_exact(pair) else "fp32"
    with (
        engines.compile(engine, pair.dense, side, batch_size, threads, precision) as dense,
        engines.compile(engine, pair.sparse, side, batch_size, threads, dense.precision) as sparse,
    ):
        yield dense, sparse, max(engines.require_exact(dense, pair.dense), engines.require_exact(sparse, pair.sparse))


def _bf16_is_exact(pair: Pair) -> bool:
    for module in (pair.dense, pair.sparse):
        with engines.compile("torch", module, pair.transform.crop, engines.CHECKED_PICTURES, 0, "bf16") as compiled:
            if not engines.is_exact(
                compiled, engines.check(compiled, module, engines.noise(engines.CHECKED_PICTURES, pair.transform.crop))
            ):
                return False
    return True


def _inference(
    pair: Pair, engine: str, batch_size: int, spec: SpeedupSpec, progress: "_Progress", words: str
) -> dict[str, Any]:
    progress.say(f"{words}: compiling", 0)
    with both(pair, engine, batch_size, spec.threads) as (dense, sparse, difference):
        side = pair.transform.crop
        pictures = np.random.default_rng(1).standard_normal((batch_size, 3, side, side), dtype=np.float32)
        repeats = {name: _repeats(compiled, pictures) for name, compiled in (("dense", dense), ("sparse", sparse))}
        samples: dict[str, list[float]] = {"dense": [], "sparse": []}
        for number in range(spec.rounds):
            progress.say(words, number)
            turns = [("dense", dense), ("sparse", sparse)]
            for name, compiled in turns if number % 2 else reversed(turns):
                seconds = _seconds(compiled, pictures, repeats[name])
                samples[name].append(1000 * seconds / batch_size)
        return {
            **line_of(sparse, pair, samples["dense"], samples["sparse"]),
            "seconds_to_compile": sparse.seconds_to_compile,
            "peak_memory_bytes": sparse.peak_memory_bytes(),
            "difference": difference,
            "layers": _layers(sparse),
        }


def _layers(compiled: engines.Compiled) -> list[tuple[str, float]] | None:
    shares = compiled.layer_shares()
    return list(shares.items()) if shares else None


def _repeats(compiled: engines.Compiled, pictures: np.ndarray) -> int:
    """How often a batch is run for one sample, from one run after one to warm up."""
    compiled.run(pictures)
    return max(1, round(ROUND_SECONDS / _seconds(compiled, pictures, 1)))


def _seconds(compiled: engines.Compiled, pictures: np.ndarray, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        compiled.run(pictures)
    return (time.perf_counter() - started) / repeats


class _Progress:
    """Reports how many of all rounds are done, and the time left at the pace so far."""

    def __init__(self, report: Report, parts: int, rounds: int) -> None:
        self.report, self.rounds, self.total = report, rounds, parts * rounds
        self.before = 0
        self.started = time.perf_counter()

    def say(self, words: str, round_: int) -> None:
        done = self.before + round_
        left = (time.perf_counter() - self.started) / done * (self.total - done) if done else None
        self.report({"stage": words, "done": done, "total": self.total, "seconds_left": left})

    def next(self) -> None:
        self.before += self.rounds


def _engines(spec: SpeedupSpec) -> tuple[list[str], list[str]]:
    """Those asked for, or all, as far as they are here, and a line for each that is asked for and missing.

    Raises InputError with these lines where none is left, and for a name that is no engine's.
    """
    absent = {name: engines.missing(name) for name in spec.engines or engines.names()}
    chosen = [name for name, reason in absent.items() if reason is None]
    problems = [reason for reason in absent.values() if reason] if spec.engines else []
    if not chosen:
        raise InputError(" ".join(problems))
    return chosen, problems


def _require_threads(spec: SpeedupSpec) -> None:
    if not 0 <= spec.threads <= engines.cores():
        raise InputError(
            f"Expected from 1 to {engines.cores()} threads, the cores of this machine (0 means all); got {spec.threads}."
        )


def _from_backbone(name: str) -> Pair:
    from sparse_core.transfers import load_backbone

    backbone = load_backbone(name)
    if backbone.sparsity < LEAST_SPARSITY:
        raise InputError(
            f"{name} is dense, with {backbone.sparsity:.1%} of its weights 0, so there is nothing to gain. Name a sparse one."
        )
    torch.manual_seed(0)
    card = backbone.card
    return Pair(
        models.build(card.architecture, backbone.variant).eval(),
        backbone.module,
        backbone.transform,
        {
            "timing_only": False,
            "backbone": name,
            "backbone_hash": backbone.hash,
            "architecture": card.architecture,
            "method": card.method,
            "sparsity": card.sparsity,
            "distribution": "",
            "measured_sparsity": backbone.sparsity,
        },
    )


def _record(
    spec: SpeedupSpec, pair: Pair, lines: list[dict[str, Any]], problems: list[str], load_before: float
) -> dict[str, Any]:
    now = datetime.now(UTC).replace(tzinfo=None)
    return {
        "id": speeds.new_id(),
        "created_at": now.isoformat(timespec="seconds"),
        "mode": spec.mode,
        **pair.description,
        "spec": dataclasses.asdict(spec),
        "machine": machine(),
        "load_before": load_before,
        "load_after": load(),
        "product_version": __version__,
        "commit": _commit(),
        "lines": lines,
        "problems": problems,
    }


def _commit() -> str:
    """The commit that the product runs from, where it runs from a repository."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
