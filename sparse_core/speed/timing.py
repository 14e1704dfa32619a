"""A sparse network and its dense counterpart in one engine, and the ratio of their times: what every measurement shares."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.stats import bootstrap

from sparse_core.datasets.transforms import Transform
from sparse_core.engines import compiling, exactness
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import InputError
from sparse_core.networks import architectures, backbones, masks
from sparse_core.networks.backbones import Backbone
from sparse_core.specs.speedup import SpeedupSpec

LEAST_SPARSITY = 0.005  # a dense network has a few zeros, too
RESAMPLES = 10_000

Found = TypeVar("Found")


@dataclass(frozen=True)
class Pair:
    """A sparse network and its dense counterpart, both in evaluation mode, with what a record says of them.

    The dense one has the same layers with random weights: an engine's time depends on zeros, not on values.
    """

    dense: torch.nn.Module
    sparse: torch.nn.Module
    transform: Transform
    description: dict[str, Any]


def prepare(home: Path, spec: SpeedupSpec) -> Pair:
    """The networks that a spec asks for: a backbone and its dense counterpart, or an architecture with a mask for timing only.

    Raises InputError for unknown names and for a backbone that has nothing pruned.
    """
    if spec.backbone:
        return _from_backbone(home, spec.backbone)
    architecture, variant = architectures.split_name(spec.architecture)
    torch.manual_seed(0)
    dense = architectures.build(architecture, variant).eval()
    sparse = copy.deepcopy(dense)
    masks.apply(sparse, _timing_mask(home, sparse, spec))
    measured = masks.sparsity(sparse).total
    transform = architectures.ARCHITECTURES[architecture].variants[architectures.resolve_variant(architecture, variant)]
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
            "sparsity": spec.sparsity or round(measured, 4),
            "distribution": f"as in {spec.densities_of}" if spec.densities_of else spec.distribution,
            "measured_sparsity": measured,
        },
    )


@contextmanager
def both(pair: Pair, engine: str, batch_size: int, threads: int) -> Iterator[tuple[Compiled, Compiled, float]]:
    """The dense and the sparse network in one engine, with the larger of their relative differences to PyTorch in fp32.

    PyTorch takes the precision that the dense one is faster in, bf16 only where both are exact enough in it; the other
    engines compute in fp32. The memory that the sparse one takes is measured on the way. Raises InputError where the engine
    cannot do a network and where its output differs too much.
    """
    side, precision = pair.transform.crop, "best" if engine == "torch" and _bf16_is_exact(pair) else "fp32"
    with (
        compiling.compile(engine, pair.dense, side, batch_size, threads, precision) as dense,
        compiling.compile(engine, pair.sparse, side, batch_size, threads, dense.precision) as sparse,
    ):
        sparse.measure_memory()
        yield (
            dense,
            sparse,
            max(exactness.require_exact(dense, pair.dense), exactness.require_exact(sparse, pair.sparse)),
        )


def undisturbed(networks: Sequence[Compiled], work: Callable[[], Found]) -> Found:
    """What ``work`` returns, which times these networks; done again where an engine's process was started again meanwhile."""
    while True:
        before = sum(network.restarts for network in networks)
        found = work()
        if sum(network.restarts for network in networks) == before:
            return found


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


def line_of(compiled: Compiled, pair: Pair, dense: Sequence[float], sparse: Sequence[float]) -> dict[str, Any]:
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


def _bf16_is_exact(pair: Pair) -> bool:
    side, count = pair.transform.crop, exactness.CHECKED_IMAGES
    for module in (pair.dense, pair.sparse):
        with compiling.compile("torch", module, side, count, 0, "bf16") as compiled:
            if not exactness.is_exact(compiled, exactness.difference(compiled, module)):
                return False
    return True


def _timing_mask(home: Path, module: torch.nn.Module, spec: SpeedupSpec) -> masks.Mask:
    if not spec.densities_of:
        return masks.top_k(module, spec.sparsity, spec.distribution, dense_first=True)
    layers = masks.sparsity(_sparse_backbone(home, spec.densities_of).mask).layers
    return masks.with_densities(module, {name: 1 - layer for name, layer in layers.items()})


def _sparse_backbone(home: Path, name: str) -> Backbone:
    backbone = backbones.load_cached(home, name)
    if backbone.sparsity < LEAST_SPARSITY:
        raise InputError(
            f"{name} is dense, with {backbone.sparsity:.1%} of its weights 0, so there is nothing to gain. Name a sparse one."
        )
    return backbone


def _from_backbone(home: Path, name: str) -> Pair:
    backbone = _sparse_backbone(home, name)
    torch.manual_seed(0)
    card = backbone.card
    return Pair(
        architectures.build(card.architecture, backbone.variant).eval(),
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
