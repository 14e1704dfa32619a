"""What the fixed mask costs in a step of a detector's finetuning.

    python -m benchmarks.detection_step [--pairs 15] [--batch-size 8] [--side 416] [--architecture yolov3_tiny]

The detector at 90 % sparsity with the whole step of the product: forward and backward pass, clipping, SGD, the moving average
of the weights and, in the masked one, clearing the bits of every pruned weight. The two take turns on the same network; the
ratio is the median over pairs. Expected: at most 1.03. Prints one JSON line.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import harness
from sparse_core.datasets.box_loading import Loaded
from sparse_core.datasets.boxes import METRIC, BoxDataset, Boxes, BoxSplit
from sparse_core.networks import backbones, masks
from sparse_core.networks.detector import DetectorNetwork, new_layers
from sparse_core.specs.transfer import DetectionSettings, DetectionSpec
from sparse_core.transfer.detection import DetectionTraining
from sparse_core.transfer.finetune import FixedMask

CLASSES = 20
BOXES = 5  # of an image


class Training(DetectionTraining):
    """The training of a detector on images laid out as ``layout``, which holds its mask while ``masked``."""

    fixed: FixedMask
    masked = False
    layout = torch.channels_last

    def update_weights(self) -> None:
        self.optimizer.step()
        if self.masked:
            self.fixed.hold()

    def input(self, batch: Sequence[Loaded]) -> Tensor:
        return super().input(batch).contiguous(memory_format=self.layout)


def training(architecture: str, side: int, batch_size: int, sparsity: float = 0.9) -> Training:
    """The training of a sparse detector with random weights."""
    torch.manual_seed(0)
    backbone = backbones.for_images(backbones.untrained(architecture), side)
    body = backbone.module.requires_grad_(True)
    mask = masks.top_k(body, sparsity, dense_first=True)
    masks.apply(body, mask)
    network = DetectorNetwork(body, new_layers(0, body, CLASSES))
    settings = DetectionSettings(batch_size=batch_size, learning_rate=1e-4)
    spec = DetectionSpec(architecture, "noise", settings=settings, precision="fp32")
    made = Training(network, backbone.transform, noise(side), spec, 0, "Finetuning")
    made.fixed = FixedMask(made.network.body, mask)
    made.network.train()
    return made


def noise(side: int) -> BoxDataset:
    """A dataset of one image, which no step reads."""
    nothing = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    split = BoxSplit(np.zeros(1, np.int64), lambda _: Image.new("RGB", (side, side)), ["noise"], [nothing])
    names = [str(number) for number in range(CLASSES)]
    return BoxDataset("noise", METRIC, names, split, split, "", "noise")


def batch(side: int, size: int) -> list[Loaded]:
    """Images of noise with boxes."""
    generator = np.random.default_rng(0)
    loaded = []
    for _ in range(size):
        corner = generator.uniform(0, side / 2, (BOXES, 2))
        corners = np.concatenate([corner, corner + generator.uniform(side / 16, side / 2, (BOXES, 2))], axis=1)
        boxes = Boxes(corners.astype(np.float32), generator.integers(CLASSES, size=BOXES), np.zeros(BOXES, bool))
        loaded.append(Loaded(generator.integers(256, size=(side, side, 3), dtype=np.uint8), boxes))
    return loaded


def main() -> None:
    given = harness.parser(__doc__, pairs=15, batch_size=8, side=416, architecture="yolov3_tiny").parse_args()
    made, images = training(given.architecture, given.side, given.batch_size), batch(given.side, given.batch_size)

    def step(masked: bool) -> None:
        made.masked = masked
        made.step(images)

    works = {"masked": lambda: step(True), "dense": lambda: step(False)}
    for work in works.values():
        work()
    seconds = harness.seconds_in_turn(works, given.pairs)
    harness.report(
        "detection_step",
        given,
        ratio_masked_to_dense=round(harness.median_ratio(seconds["masked"], seconds["dense"]), 4),
        seconds_per_step=harness.rounded(seconds, 3),
    )


if __name__ == "__main__":
    main()
