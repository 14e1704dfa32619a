"""Detectors as engines run them, and what follows outside the engine: the decoding of boxes and non-maximum suppression."""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import ops

from sparse_core.engines.torch_cpu import torch_threads
from sparse_core.networks.backbones import Classifier
from sparse_core.networks.detector import DetectorNetwork, new_layers
from sparse_core.networks.yolo import ANCHORS_PER_CELL, Body
from sparse_core.transfer.average_precision import CANDIDATES, MOST, OVERLAP

USUAL_CLASSES = 80  # of COCO, where a backbone has no prediction layers
DECODED_IMAGES = 8  # at once: those of a larger batch would take gigabytes
REPEATS = 5


class RawPredictions(nn.Module):
    """Images (N, 3, S, S) to the predictions of all levels side by side, (N, D), before their activation: what an engine computes
    of a detector. ``parts`` gives them back by level."""

    def __init__(self, body: Body, layers: Sequence[Classifier] = ()) -> None:
        super().__init__()
        self.network = DetectorNetwork(body, layers or new_layers(0, body, USUAL_CLASSES))
        self.eval().requires_grad_(False)  # all of it: ONNX export gives every part the mode of the whole

    @property
    def body(self) -> Body:
        return self.network.body

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([each.flatten(1) for each in self.network(images)], dim=1)

    def parts(self, raw: Tensor, side: int) -> list[Tensor]:
        """The predictions (N, D) of images of ``side`` pixels, for each level (N, 3, S / stride, S / stride, 5 + C)."""
        sides = [side // stride for stride in self.body.strides]
        outputs = [len(bias) // ANCHORS_PER_CELL for _, bias in self.network.layers]
        shapes = [(ANCHORS_PER_CELL, cells, cells, count) for cells, count in zip(sides, outputs, strict=True)]
        levels = raw.split([int(np.prod(shape)) for shape in shapes], dim=1)
        return [level.reshape(-1, *shape) for level, shape in zip(levels, shapes, strict=True)]


def after_network(module: RawPredictions, raw: np.ndarray, side: int, threads: int) -> dict[str, float]:
    """Milliseconds per image of what follows the network in torch, from its predictions (N, D): ``decoding_milliseconds`` into
    boxes and probabilities, and ``nms_milliseconds``, non-maximum suppression by class of the ``CANDIDATES`` most probable
    boxes, whatever their probabilities, so that it does not depend on what an image shows."""
    given = torch.from_numpy(raw[:DECODED_IMAGES])
    with torch_threads(threads), torch.inference_mode():
        corners, scores = module.network.boxes(module.parts(given, side))
        decoding = _milliseconds(lambda: module.network.boxes(module.parts(given, side)))
        suppression = _milliseconds(lambda: [suppressed(*each) for each in zip(corners, scores, strict=True)])
    return {"decoding_milliseconds": decoding / len(given), "nms_milliseconds": suppression / len(given)}


def suppressed(corners: Tensor, scores: Tensor) -> Tensor:
    """The numbers of what is kept of one image's boxes (M, 4) with probabilities (M, C), flattened; the most probable first."""
    flat = scores.flatten()
    best = flat.topk(min(CANDIDATES, len(flat)))
    boxes, labels = best.indices // scores.shape[1], best.indices % scores.shape[1]
    return best.indices[ops.batched_nms(corners[boxes], best.values, labels, OVERLAP)[:MOST]]


def _milliseconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)
