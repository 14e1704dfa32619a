"""From the names in a spec to the backbone and the dataset themselves."""

import dataclasses
from pathlib import Path

import torch

from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import Dataset
from sparse_core.engines.torch_cpu import native_bf16
from sparse_core.networks import backbones
from sparse_core.networks.backbones import Backbone
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.transfer import AnyTransfer

BF16_TOLERANCE = 2e-2  # largest difference of features, relative to the largest feature


def resolve(home: Path, spec: AnyTransfer, report: Report) -> tuple[Backbone, Dataset, AnyTransfer]:
    """The backbone and the dataset that a spec names, and the spec with their content hashes and its precision filled in."""
    report(Progress(f"Opening {spec.backbone}"))
    backbone = backbones.load_cached(home, spec.backbone)
    report(Progress(f"Opening {spec.dataset}"))
    dataset = catalogue.load(home, spec.dataset)
    precision = best_precision(backbone) if spec.precision == "auto" else spec.precision
    resolved = dataclasses.replace(spec, precision=precision, backbone_hash=backbone.hash, dataset_hash=dataset.hash)
    return backbone, dataset, resolved


def best_precision(backbone: Backbone) -> str:
    """bf16 where the processor computes it natively and the features agree with those in fp32; else fp32."""
    if torch.cuda.is_available() or not native_bf16():
        return "fp32"
    side = backbone.transform.crop
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = backbone.module(images)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = backbone.module(images).float()
    difference = (reduced - exact).abs().max() / exact.abs().max()
    return "bf16" if float(difference) <= BF16_TOLERANCE else "fp32"
