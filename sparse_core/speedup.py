"""How much faster a sparse backbone runs than the dense one of its architecture, in the same engine on this machine.

Dense and sparse take turns, round by round, so that whatever else the machine does meets both. A figure is kept only where
the engine's output agrees with PyTorch in fp32. What is measured is inference here and online training in ``online``.
"""

import copy
import dataclasses
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap

from sparse_core import __version__, engines, masks, models
from sparse_core.errors import InputError, unknown_name
from sparse_core.machine import load, machine
from sparse_core.paths import REPOSITORY
from sparse_core.spec import SpeedupSpec
from sparse_core.speeds import BUSY, SPREAD_LIMIT
from sparse_core.transforms import Transform

ROUND_SECONDS = 0.05  # a shorter round is repeated until it takes this long
CHECKED_PICTURES = 2
RESAMPLES = 2000

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

    An engine that is missing, cannot do the network or differs from PyTorch is a line in the record's ``problems``; where no
    figure is left at all, that line is raised as InputError. ``report`` may raise ``Cancelled``.
    """
    chosen = _engines(spec)
    _require_threads(spec)
    pair = prepare(spec)
    before = load()
    lines: list[dict[str, Any]] = []
    problems: list[str] = []
    if spec.mode == "training":
        from sparse_core import online

        lines.append(online.measure(pair, spec, chosen, report))
    else:
        progress = _Progress(report, len(chosen) * len(spec.batch_sizes), spec.rounds)
        for engine in chosen:
            for batch_size in spec.batch_sizes:
                try:
                    lines.append(_inference(pair, engine, batch_size, spec, progress))
                except InputError as error:
                    problems.append(f"{engines.LABELS[engine]}, batch {batch_size}: {error}")
                progress.next()
    if not lines:
        raise InputError(" ".join(dict.fromkeys(problems)))
    for line in lines:
        line["reliable"] = line["spread"] <= SPREAD_LIMIT and before <= BUSY
    return _record(spec, pair, lines, problems, before)


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


def checked(compiled: engines.Compiled, module: torch.nn.Module) -> float:
    """The engine's largest relative difference to PyTorch in fp32. Raises InputError where it is too large to go on."""
    side = compiled.input_size
    pictures = np.random.default_rng(0).standard_normal((CHECKED_PICTURES, 3, side, side), dtype=np.float32)
    difference = engines.check(compiled, module, pictures)
    if not engines.is_exact(compiled, difference):
        raise InputError(
            f"Its output differs from PyTorch's by {difference:.1e} of the largest value, above "
            f"{engines.TOLERANCE[compiled.precision]:.0e}, so no figure was kept."
        )
    return difference


def precision_of(engine: str) -> str:
    """PyTorch takes its faster precision; the other engines compute in fp32."""
    return "best" if engine == "torch" else "fp32"


def _inference(pair: Pair, engine: str, batch_size: int, spec: SpeedupSpec, progress: "_Progress") -> dict[str, Any]:
    side, precision = pair.transform.crop, precision_of(engine)
    words = f"{engines.LABELS[engine]}, batch {batch_size}"
    progress.say(f"{words}: compiling", 0)
    with (
        engines.compile(engine, pair.dense, side, batch_size, spec.threads, precision) as dense,
        engines.compile(engine, pair.sparse, side, batch_size, spec.threads, precision) as sparse,
    ):
        difference = max(checked(dense, pair.dense), checked(sparse, pair.sparse))
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


def _engines(spec: SpeedupSpec) -> list[str]:
    """Those asked for, or every one that is here; an engine that is asked for and missing is refused with its reason."""
    for name in spec.engines:
        if name not in engines.LABELS:
            raise unknown_name("engine", name, engines.LABELS)
    if spec.engines and all(engines.missing(name) for name in spec.engines):
        raise InputError(" ".join(filter(None, map(engines.missing, spec.engines))))
    return list(spec.engines) or [name for name in engines.names() if not engines.missing(name)]


def _require_threads(spec: SpeedupSpec) -> None:
    if not 0 <= spec.threads <= engines.cores():
        raise InputError(
            f"Expected from 1 to {engines.cores()} threads, the cores of this machine (0 means all); got {spec.threads}."
        )


def _from_backbone(name: str) -> Pair:
    from sparse_core.transfers import load_backbone

    backbone = load_backbone(name)
    if not backbone.sparsity:
        raise InputError(f"{name} has no weight that is 0, so there is nothing to gain. Name a sparse backbone.")
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
        "id": f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
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
