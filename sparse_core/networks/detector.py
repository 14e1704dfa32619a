"""A detector with its prediction layers: what it predicts, how that becomes boxes, and its safetensors file.

The file holds the tensors under the names of the public networks (``yolo_files``). Its metadata holds architecture and variant,
the names of the classes, the preparation of images, and the training data.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_core.networks import backbone_files, yolo_files
from sparse_core.networks.backbones import Backbone, Classifier
from sparse_core.networks.classifier import metadata
from sparse_core.networks.yolo import ANCHORS_PER_CELL, Body
from sparse_core.networks.yolo_files import BOX_VALUES

RARE = 0.01  # the probability of an object at any anchor that new prediction layers start from


class DetectorNetwork(nn.Module):
    """Images (N, 3, H, W) to predictions, for each level (N, 3, H / stride, W / stride, 5 + C): x, y, width, height, objectness
    and the classes, all before their activation. ``layers`` are weight and bias of each level's prediction layer, used without
    copying."""

    def __init__(self, body: Body, layers: Sequence[Classifier]) -> None:
        super().__init__()
        self.body = body
        self.predictions = nn.ModuleList(_layer(*each) for each in layers)

    @property
    def layers(self) -> list[Classifier]:
        """Weight and bias of each level's prediction layer."""
        state = self.predictions.state_dict()
        return [(state[f"{level}.weight"], state[f"{level}.bias"]) for level in range(len(self.predictions))]

    @property
    def classes(self) -> int | None:
        """The number of classes, None without prediction layers."""
        return yolo_files.classes_of(len(self.layers[0][1])) if len(self.predictions) else None

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.body(images)
        found = (layer(each) for layer, each in zip(self.predictions, maps, strict=True))
        return [by_anchor(each) for each in found]

    def boxes(self, predictions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (N, M, 4) as left, top, right and bottom in pixels of the input, and the probability (N, M, C) of each class
        there being in it, from what ``forward`` gives; M are all anchors of all cells, level by level."""
        corners, scores = [], []
        for level, raw in enumerate(predictions):
            raw = raw.float()
            centre, size = decoded(self.body, level, raw, cells(raw))
            corners.append(torch.cat((centre - size / 2, centre + size / 2), dim=-1).flatten(1, 3))
            scores.append((raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()).flatten(1, 3))
        return torch.cat(corners, dim=1), torch.cat(scores, dim=1)


def _layer(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], len(bias), 1, device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def by_anchor(raw: Tensor) -> Tensor:
    """A level's output (N, 3 · (5 + C), H, W) as (N, 3, H, W, 5 + C)."""
    count, channels, height, width = raw.shape
    return raw.view(count, ANCHORS_PER_CELL, channels // ANCHORS_PER_CELL, height, width).permute(0, 1, 3, 4, 2)


def cells(raw: Tensor) -> Tensor:
    """Column and row of each cell (H, W, 2) of a level's predictions."""
    rows, columns = (torch.arange(size, device=raw.device, dtype=torch.float32) for size in raw.shape[2:4])
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack(grid[::-1], dim=-1)


def decoded(body: Body, level: int, raw: Tensor, cell: Tensor, anchor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Centre and size (…, 2) in pixels of the input, from predictions (…, 5 + C) in fp32 of the cells (…, 2).

    Darknet: centre (σ(t) + cell) · stride, size exp(t) · anchor. YOLOv5: centre (2σ(t) − 0.5 + cell) · stride, size (2σ(t))² ·
    anchor. ``anchor`` (…, 2) is in pixels; without it ``raw`` is a whole level, as ``DetectorNetwork`` gives it.
    """
    if anchor is None:
        anchor = body.anchors[level].view(1, ANCHORS_PER_CELL, 1, 1, 2)
    stride, place, size = body.strides[level], raw[..., :2], raw[..., 2:4]
    if body.exponential:
        return (place.sigmoid() + cell) * stride, size.clamp(max=10.0).exp() * anchor
    return (2 * place.sigmoid() - 0.5 + cell) * stride, (2 * size.sigmoid()) ** 2 * anchor


def new_layers(seed: int, body: Body, classes: int) -> list[Classifier]:
    """New prediction layers for C classes: weights as torch.nn.Conv2d draws them, biases so that objects are rare and all classes
    equally probable at first (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3.3)."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for width in body.widths:
        bound = 1 / math.sqrt(width)
        weight = torch.empty(ANCHORS_PER_CELL * (BOX_VALUES + classes), width, 1, 1)
        bias = torch.zeros(ANCHORS_PER_CELL, BOX_VALUES + classes)
        bias[:, 4] = math.log(RARE / (1 - RARE))
        bias[:, BOX_VALUES:] = -math.log(max(classes - 1, 1))
        layers.append((weight.uniform_(-bound, bound, generator=generator), bias.flatten()))
    return layers


def save(network: DetectorNetwork, backbone: Backbone, class_names: list[str], target: Path, dataset: str) -> None:
    """Write a finetuned detector, all of it or nothing. ``dataset`` is the data it was finetuned on, as results list it."""
    tensors = yolo_files.public_names(backbone.card.architecture, network.body.state_dict(), network.layers)
    backbone_files.write(target, tensors, metadata(backbone, class_names, dataset))
