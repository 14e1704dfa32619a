"""Paired timing: a sparse network and its dense counterpart take turns in one engine, so that whatever else the machine does
affects both."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from sparse_core.catalog import DETECTORS, architecture_label
from sparse_core.datasets.transforms import Transform
from sparse_core.engines import compiling
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import InputError
from sparse_core.networks import architectures, backbones, channel_groups, masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.detector import new_layers
from sparse_core.specs.speedup import SpeedupSpec
from sparse_core.speed.detectors import USUAL_CLASSES, RawPredictions
from sparse_core.speed.ratios import paired_ratio

MIN_SPARSITY = 0.005  # dense networks have a few zeros, too

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pair:
    """A sparse network and its dense counterpart, both in evaluation mode, with the fields that describe them in a
    record. Of a Structured backbone the compact form is timed (``form``), which is the one to deploy. The dense one has the
    same layers with random weights: an engine's time depends on zeros, not on values."""

    dense: nn.Module
    sparse: nn.Module
    transform: Transform
    description: dict[str, Any]


@dataclass(frozen=True)
class CompiledPair:
    """Both networks in one engine; ``difference`` is the larger of their relative differences to PyTorch in fp32."""

    dense: Compiled
    sparse: Compiled
    difference: float
    sparsity: float

    def line(self, samples: Mapping[str, Sequence[float]], busy_during: float | None) -> dict[str, Any]:
        """The fields that every line of a record has; ``samples`` are ms/image of "dense" and "sparse", one per round."""
        dense, sparse = ([float(value) for value in samples[name]] for name in ("dense", "sparse"))
        ratio = paired_ratio(dense, sparse)
        median = float(np.median(sparse))
        return {
            "engine": self.sparse.engine,
            "engine_version": self.sparse.version,
            "precision": self.sparse.precision,
            "batch_size": self.sparse.batch_size,
            "threads": self.sparse.threads,
            "sparsity": self.sparsity,
            "milliseconds_per_image": median,
            "dense_milliseconds_per_image": float(np.median(dense)),
            "quartiles": [float(value) for value in np.percentile(sparse, [25, 75])],
            "ratio": ratio.ratio,
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
            "interval_method": ratio.method,
            "gain": ratio.gain,
            "spread": ratio.spread,
            "images_per_second": 1000 / median,
            "samples": {"dense": dense, "sparse": sparse},
            "busy_during": busy_during,
            "seconds_to_compile": self.sparse.seconds_to_compile,
            "peak_memory_bytes": self.sparse.peak_memory_bytes,
            "difference": self.difference,
            "restarts": self.dense.restarts + self.sparse.restarts,
        }


def prepare(home: Path, spec: SpeedupSpec) -> Pair:
    """The networks that a spec asks for: a backbone and its dense counterpart, or random weights with and without a
    mask. Raises InputError for unknown names and for a backbone that is dense."""
    return _from_backbone(home, spec) if spec.backbone else _random_weights(home, spec)


@contextmanager
def compile_pair(pair: Pair, engine: str, batch_size: int, threads: int) -> Iterator[CompiledPair]:
    """Compile the dense and the sparse network in one engine, and measure the memory that the sparse one takes.

    PyTorch uses the precision in which the dense one is faster, bf16 only if both are exact enough in it; the other
    engines compute in fp32. Raises InputError if the engine cannot run a network or its output differs too much.
    """
    side, precision = pair.transform.crop, "best" if engine == "torch" and _bf16_is_exact(pair) else "fp32"
    with (
        compiling.compile(engine, pair.dense, side, batch_size, threads, precision) as dense,
        compiling.compile(engine, pair.sparse, side, batch_size, threads, dense.precision) as sparse,
    ):
        sparse.measure_memory()
        difference = max(compiling.require_exact(dense, pair.dense), compiling.require_exact(sparse, pair.sparse))
        yield CompiledPair(dense, sparse, difference, pair.description["sparsity"])


def repeat_if_restarted(networks: Sequence[Compiled], work: Callable[[], Result]) -> Result:
    """The result of ``work``, which times these networks; repeated if an engine's process was restarted meanwhile."""
    while True:
        before = [network.restarts for network in networks]
        result = work()
        if [network.restarts for network in networks] == before:
            return result


def _bf16_is_exact(pair: Pair) -> bool:
    for module in (pair.dense, pair.sparse):
        size, batch_size = pair.transform.crop, compiling.CHECKED_IMAGES
        with compiling.compile("torch", module, size, batch_size, 0, "bf16") as compiled:
            if not compiling.is_exact(compiled, compiling.difference(compiled, module)):
                return False
    return True


def _from_backbone(home: Path, spec: SpeedupSpec) -> Pair:
    name = spec.backbone
    backbone = _sparse_backbone(home, name)
    card = backbone.card
    _require_inference(spec, card.architecture)
    backbone = backbones.for_images(backbone, spec.image_size or backbone.transform.crop)
    torch.manual_seed(0)
    if card.is_detector:
        return _detectors(backbone, architectures.build(card.architecture, backbone.variant).eval(), spec)
    smaller = channel_groups.compact_form(backbone.module) if card.method == "Structured" else None
    return Pair(
        architectures.build(card.architecture, backbone.variant).eval(),
        smaller or backbone.module,
        backbone.transform,
        _described(backbone, spec) | {"form": "compact" if smaller else "", "image_size": spec.image_size},
    )


def _detectors(backbone: Backbone, dense: nn.Module, spec: SpeedupSpec) -> Pair:
    """A detector with its prediction layers, and the dense one with as many classes."""
    sparse = RawPredictions(backbone.module, backbone.predictions)  # type: ignore[arg-type]
    layers = new_layers(0, dense, sparse.network.classes or USUAL_CLASSES)  # type: ignore[arg-type]
    side = backbone.transform.crop
    described = _described(backbone, spec) | {"form": "", "image_size": side}
    return Pair(RawPredictions(dense, layers), sparse, backbone.transform, described)  # type: ignore[arg-type]


def _described(backbone: Backbone, spec: SpeedupSpec) -> dict[str, Any]:
    card = backbone.card
    return {
        "timing_only": False,
        "backbone": spec.backbone,
        "backbone_hash": backbone.hash,
        "architecture": card.architecture,
        "method": card.method,
        "sparsity": card.sparsity,
        "distribution": "",
        "measured_sparsity": backbone.sparsity,
    }


def _require_inference(spec: SpeedupSpec, architecture: str) -> None:
    if spec.mode == "training" and architecture in DETECTORS:
        raise InputError(
            f"Online training is of networks that classify images; {architecture_label(architecture)} is a detector. Choose the "
            "mode inference."
        )


def _random_weights(home: Path, spec: SpeedupSpec) -> Pair:
    architecture, variant = architectures.split_name(spec.architecture)
    _require_inference(spec, architecture)
    plain = backbones.untrained(spec.architecture)
    transform = backbones.for_images(plain, spec.image_size or plain.transform.crop).transform
    torch.manual_seed(0)
    dense = architectures.build(architecture, variant).eval()
    sparse = copy.deepcopy(dense)
    masks.apply(sparse, _timing_mask(home, sparse, spec))
    measured = masks.sparsity(sparse).total
    detector = architecture in DETECTORS
    return Pair(
        RawPredictions(dense) if detector else dense,  # type: ignore[arg-type]
        RawPredictions(sparse) if detector else sparse,  # type: ignore[arg-type]
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
            "image_size": transform.crop if detector else spec.image_size,
        },
    )


def _timing_mask(home: Path, module: nn.Module, spec: SpeedupSpec) -> masks.Mask:
    if not spec.densities_of:
        return masks.top_k(module, spec.sparsity, spec.distribution, dense_first=True)
    layers = masks.sparsity(_sparse_backbone(home, spec.densities_of).mask).layers
    return masks.with_densities(module, {name: 1 - layer for name, layer in layers.items()})


def _sparse_backbone(home: Path, name: str) -> Backbone:
    backbone = backbones.load_cached(home, name)
    if backbone.sparsity < MIN_SPARSITY:
        raise InputError(
            f"{name} is dense, with {backbone.sparsity:.1%} of its weights 0, so there is nothing to gain. Name a sparse one."
        )
    return backbone
