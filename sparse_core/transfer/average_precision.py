"""The evaluation of detectors: predictions of test images, and mean average precision by COCO's rules, with torchmetrics.

Predictions above a probability of ``CONFIDENCE``, without those that overlap a more probable one of their class by an IoU above
``OVERLAP``, at most ``MOST`` an image. mAP@0.5 counts a box as found from an IoU of 0.5 on, mAP@[.5:.95] is the mean over ten
such bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision import ops

from sparse_core.datasets.box_loading import Loaded

CONFIDENCE, OVERLAP, MOST = 0.001, 0.6, 300
CANDIDATES = 3000  # the most probable ones, before overlapping ones are removed
RECALLS = 101  # points of a precision–recall curve: recalls 0, 0.01, … 1


@dataclass(frozen=True)
class Detections:
    """The predicted boxes of one image: ``corners`` (K, 4) in its own pixels, probabilities ``scores`` (K,), ``labels`` (K,)."""

    corners: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Precision:
    """``map50`` and ``map`` (@[.5:.95]), each in [0, 1]; ``by_class`` (C,) average precision @0.5, NaN for a class without a
    test box; ``curves`` (C, 101) its precision at each recall."""

    map50: float
    map: float
    by_class: np.ndarray
    curves: np.ndarray


def detections(corners: Tensor, scores: Tensor, loaded: Loaded) -> Detections:
    """What is found in one image, from its boxes (M, 4) and class probabilities (M, C); the most probable first."""
    rows, labels = (scores > CONFIDENCE).nonzero(as_tuple=True)
    found, boxes = scores[rows, labels], corners[rows]
    best = found.topk(min(CANDIDATES, len(found))).indices
    found, boxes, labels = found[best], boxes[best], labels[best]
    kept = ops.batched_nms(boxes, found, labels, OVERLAP)[:MOST]
    original = (boxes[kept] - torch.tensor([*loaded.shift, *loaded.shift], device=boxes.device)) / loaded.scale
    return Detections(original.cpu().numpy(), found[kept].cpu().numpy(), labels[kept].cpu().numpy())


def precision(found: Sequence[Detections], truth: Sequence[Loaded], classes: int) -> Precision:
    """The precision of ``found`` on images whose true boxes are those of ``truth``; ignored ones count neither way."""
    metric = MeanAveragePrecision(
        box_format="xyxy",
        extended_summary=True,
        max_detection_thresholds=[1, 10, MOST],
        backend="pycocotools",
    )
    metric.warn_on_many_detections = False
    metric.update([_predicted(each) for each in found], [_true(each) for each in truth])
    result = metric.compute()
    values = result["precision"][
        :, :, :, 0, -1
    ].numpy()  # (10 IoUs, 101 recalls, present classes), of boxes of any size
    known = (values >= 0).all(axis=(0, 1))  # −1 without a true box
    curves = np.full((classes, RECALLS), np.nan)
    curves[result["classes"].flatten().numpy()[known]] = values[0][:, known].T
    counted = values[:, :, known]
    map50, over_all = (float(each.mean()) if known.any() else 0.0 for each in (counted[0], counted))
    return Precision(map50, over_all, curves.mean(axis=1), curves)


def _predicted(each: Detections) -> dict[str, Tensor]:
    return {
        "boxes": torch.from_numpy(each.corners).float(),
        "scores": torch.from_numpy(each.scores).float(),
        "labels": torch.from_numpy(each.labels),
    }


def _true(each: Loaded) -> dict[str, Tensor]:
    shift = np.tile(np.array(each.shift, np.float32), 2)
    return {
        "boxes": torch.from_numpy(((each.boxes.corners - shift) / each.scale).astype(np.float32)),
        "labels": torch.from_numpy(each.boxes.labels),
        "iscrowd": torch.from_numpy(each.boxes.ignored.astype(np.int64)),
    }
