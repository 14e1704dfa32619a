"""The loss of detectors and the assignment of boxes to anchors, as YOLOv5's release 6 trains them.

A box belongs to an anchor of a level where neither their widths nor their heights differ by a factor of ``MOST_UNLIKE`` or
more: at the cell of its centre and, where the decoding reaches beyond a cell, at the two nearest neighbours. The loss is the
sum of three parts: 1 − CIoU (Zheng et al., AAAI 2020) of the assigned predictions; the binary cross entropy of objectness,
which should be the IoU of box and prediction, over all anchors; and the binary cross entropy of the classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from sparse_core.networks.detector import decoded
from sparse_core.networks.yolo import Body
from sparse_core.networks.yolo_files import BOX_VALUES

MOST_UNLIKE = 4.0
BOX, OBJECT, CLASS = 0.05, 1.0, 0.5  # weights of the parts
BALANCE = {8: 4.0, 16: 1.0, 32: 0.4}  # of objectness, by stride
USUAL_CLASSES, USUAL_SIDE, USUAL_LEVELS = 80, 640, 3  # for which the weights were found
NEIGHBOURS = torch.tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]])


@dataclass(frozen=True)
class Targets:
    """The boxes of a batch: ``images`` (B,) say which image each is in, ``labels`` (B,) its class, ``boxes`` (B, 4) its centre,
    width and height in pixels of the input."""

    images: Tensor
    labels: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Assigned:
    """The targets of one level (K,): the numbers of the boxes, and the anchor, row and column of each prediction."""

    targets: Tensor
    anchors: Tensor
    rows: Tensor
    columns: Tensor


def assign(body: Body, level: int, targets: Targets, height: int, width: int) -> Assigned:
    """The predictions of a level of ``height`` × ``width`` cells that belong to boxes."""
    centres, sizes = targets.boxes[:, :2] / body.strides[level], targets.boxes[:, 2:]
    ratios = sizes[:, None] / body.anchors[level][None]
    like = torch.maximum(ratios, 1 / ratios).amax(dim=2) < MOST_UNLIKE
    numbers, anchors = like.nonzero(as_tuple=True)
    own = centres[numbers].floor().long()
    limits = own.new_tensor([width, height])
    own = torch.minimum(own, limits - 1)
    if body.exponential:  # a prediction cannot leave its cell
        return Assigned(numbers, anchors, own[:, 1], own[:, 0])
    inside = centres[numbers] - own
    near = torch.stack([torch.ones_like(inside[:, 0], dtype=torch.bool), *(inside < 0.5).T, *(inside > 0.5).T], dim=1)
    places = own[:, None] + NEIGHBOURS.to(own.device)
    near &= ((places >= 0) & (places < limits)).all(dim=2)
    kept, _ = near.nonzero(as_tuple=True)
    columns, rows = places[near].T
    return Assigned(numbers[kept], anchors[kept], rows, columns)


def loss(body: Body, predictions: Sequence[Tensor], targets: Targets, side: int) -> Tensor:
    """The mean loss of an image of ``side`` pixels, from ``DetectorNetwork``'s predictions for each level."""
    classes = predictions[0].shape[-1] - BOX_VALUES
    levels = USUAL_LEVELS / len(predictions)
    boxes, objects, kinds = (predictions[0].new_zeros((), dtype=torch.float32) for _ in range(3))
    for level, raw in enumerate(predictions):
        assigned = assign(body, level, targets, *raw.shape[2:4])
        place = (targets.images[assigned.targets], assigned.anchors, assigned.rows, assigned.columns)
        wanted = raw.new_zeros(raw.shape[:4], dtype=torch.float32)
        if len(assigned.targets):
            chosen = raw[place].float()
            distances = _distances(body, level, chosen, assigned, targets)
            boxes = boxes + distances.mean()
            wanted[place] = (1 - distances.detach()).clamp(min=0)
            one_hot = F.one_hot(targets.labels[assigned.targets], classes).float()
            if classes > 1:
                kinds = kinds + F.binary_cross_entropy_with_logits(chosen[:, BOX_VALUES:], one_hot)
        balance = BALANCE[body.strides[level]]
        objects = objects + balance * F.binary_cross_entropy_with_logits(raw[..., 4].float(), wanted)
    size = (side / USUAL_SIDE) ** 2
    return levels * (BOX * boxes + OBJECT * size * objects + CLASS * classes / USUAL_CLASSES * kinds)


def _distances(body: Body, level: int, chosen: Tensor, assigned: Assigned, targets: Targets) -> Tensor:
    """1 − CIoU (K,) of assigned predictions (K, 5 + C) and their boxes."""
    cell = torch.stack((assigned.columns, assigned.rows), dim=1).float()
    centre, size = decoded(body, level, chosen, cell, body.anchors[level][assigned.anchors])
    found = torch.cat((centre - size / 2, centre + size / 2), dim=1)
    wanted = ops.box_convert(targets.boxes[assigned.targets], "cxcywh", "xyxy")
    return ops.complete_box_iou_loss(found, wanted)
