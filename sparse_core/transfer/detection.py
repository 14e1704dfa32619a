"""Full transfer of a detector: every unpruned weight, BatchNorm and new dense prediction layers train; the mask stays fixed.

Source: Iofinova et al., "How Well Do Sparse ImageNet Models Transfer?", CVPR 2022, section 4 and table 6, with the training of
YOLOv5's release 6: SGD with warm-up and a cosine schedule, and a moving average of the weights, which is tested and kept.
"""

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torchvision import ops

from sparse_core.catalog import COARSEST
from sparse_core.datasets.box_loading import BoxLoader, Loaded
from sparse_core.datasets.boxes import BoxDataset
from sparse_core.datasets.loading import normalised
from sparse_core.datasets.transforms import Transform
from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.networks.backbones import Backbone
from sparse_core.networks.detector import DetectorNetwork, new_layers
from sparse_core.specs.progress import Progress, Report
from sparse_core.specs.transfer import AVERAGE, WARM_UP_EPOCHS, DetectionSpec
from sparse_core.transfer import average_precision, network_training
from sparse_core.transfer.average_precision import Detections, Precision
from sparse_core.transfer.detection_loss import Targets, loss
from sparse_core.transfer.finetune import FixedMask
from sparse_core.transfer.network_training import MEMORY_SHARE, EpochTraining
from sparse_core.transfer.training import Diverged, Reporter, Result, TrainingState, no_report

LAST_RATE = 0.01  # share of the learning rate at the end
LARGEST_GRADIENT = 10.0  # norm of all gradients together
TEST_BATCH = 16
TIMED_IMAGES = 8


def train(
    backbone: Backbone,
    dataset: BoxDataset,
    spec: DetectionSpec,
    seed: int,
    *,
    on_progress: Report = no_report,
    checkpoint: Path | None = None,
) -> Result[DetectorNetwork]:
    """Finetune one detector and test it after every epoch; as ``finetune.train``, with boxes. ``spec.precision`` is fp32 or bf16.

    The curves hold ``loss``, ``map50``, ``map`` (of the averaged network, on the test images) and ``mask_violations``.
    ``details`` hold sparsity before and after, ``seconds_training``, the average ``precision_by_class``, its curves, and
    ``detections``: what was found in each test image, as ``worst_and_sample`` chooses them.
    """
    training = _MaskedTraining(backbone, dataset, spec, seed)
    state = TrainingState(checkpoint, f"{spec} {seed} {dataset.hash} {len(dataset.class_names)}")
    with state:
        training.resume(state.load())
        reporter = Reporter(on_progress, spec.settings.epochs, training.epoch)
        while training.epoch < spec.settings.epochs:
            training.run_epoch(reporter)
            if training.epoch < spec.settings.epochs:
                state.save(training.state())
                reporter.saved()
    return training.finish()


def time_epoch(backbone: Backbone, dataset: BoxDataset, spec: DetectionSpec) -> float:
    """Estimated seconds per epoch, test included, from steps and tests on a few images."""
    few = dataclasses.replace(spec, settings=dataclasses.replace(spec.settings, batch_size=TIMED_IMAGES))
    train = partial(_MaskedTraining, backbone, spec=few, seed=0)
    return network_training.time_epoch(train, dataset, TIMED_IMAGES, TIMED_IMAGES)


class DetectionTraining(EpochTraining):
    """The training of one detector, and the moving average of its weights, ``average``, which is tested. Finetuning holds a fixed
    mask, ``sparsify`` prunes: they subclass it."""

    network: DetectorNetwork

    def __init__(
        self,
        network: DetectorNetwork,
        transform: Transform,
        dataset: BoxDataset,
        spec: DetectionSpec,
        seed: int,
        stage: str,
    ) -> None:
        super().__init__(len(dataset.train.labels), spec.settings.batch_size, stage, seed)
        _require_statistics(len(dataset.train.labels), spec.settings.batch_size, transform.crop)
        self.dataset, self.protocol, self.transform = dataset, spec, transform
        self.curves |= {"map50": [], "map": []}
        self.network = network
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = _optimizer(self.network, spec)
        self.steps_done = 0
        budget = int(MEMORY_SHARE * psutil.virtual_memory().available)
        side = transform.crop
        self.test_images = BoxLoader(dataset.test, side, budget // 3)
        self.images = BoxLoader(dataset.train, side, budget - budget // 3)
        self.detections: list[Detections] = []
        self.precision: Precision | None = None

    def learning_rate(self, step: int) -> float:
        settings, steps = self.protocol.settings, self.steps_per_epoch * self.protocol.settings.epochs
        warm_up = min(WARM_UP_EPOCHS * self.steps_per_epoch, steps // 3)
        cosine = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2
        return settings.learning_rate * cosine * min(1.0, (step + 1) / (warm_up + 1))

    def learn(self, rows: np.ndarray) -> Iterator[tuple[float, int]]:
        seed = self.seed if self.protocol.augment else None
        batches = self.images.batches(rows.tolist(), self.protocol.settings.batch_size, seed, self.epoch)
        for number, batch in enumerate(batches):
            self.begin_step(number)
            yield self.step(batch), len(batch)

    def step(self, batch: Sequence[Loaded]) -> float:
        """One step on a batch; returns the mean loss of an image."""
        with self.autocast(self.protocol.precision):
            predictions = self.network(self.input(batch))
        value = loss(self.network.body, predictions, targets(batch, self.device), self.transform.crop)
        self.optimizer.zero_grad()
        (value * len(batch)).backward()  # the learning rate is for the sum over the images of a step
        self.update()
        return float(value.detach())

    def update_weights(self) -> None:
        """Change the weights by their gradients."""
        self.optimizer.step()

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.update_weights()
        self.steps_done += 1
        decay = min(
            AVERAGE, (1 + self.steps_done) / (10 + self.steps_done)
        )  # so that a short training is averaged over less
        current = self.network.state_dict()
        with torch.no_grad():
            for name, tensor in self.average.state_dict().items():
                if tensor.is_floating_point():
                    tensor.lerp_(current[name], 1 - decay)
                else:
                    tensor.copy_(current[name])

    def test(self) -> dict[str, float]:
        try:
            self.detections, self.precision = evaluate(
                self.average, self.test_images, self.transform, len(self.dataset.class_names), self.protocol.precision
            )
        except FloatingPointError:
            raise self.diverged("the output for a test image") from None
        return {"map50": self.precision.map50, "map": self.precision.map}

    def input(self, batch: Sequence[Loaded]) -> Tensor:
        """The images of a batch as the network takes them."""
        return prepared(batch, self.transform).to(self.device)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "average": self.average.state_dict(), "steps_done": self.steps_done}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        if state:
            self.average.load_state_dict(state["average"])
            self.steps_done = state["steps_done"]

    def result(self, learning_rate: float, details: dict[str, Any]) -> Result[DetectorNetwork]:
        """The averaged network as it is now, on the CPU, with its history."""
        nothing = (np.zeros((0, 0), np.int64), np.empty(0, np.int64))
        return Result(self.seed, learning_rate, self.curves, *nothing, self.average.cpu(), self.seconds, details)


class _MaskedTraining(DetectionTraining):
    """The training of one detector under its fixed mask."""

    def __init__(self, backbone: Backbone, dataset: BoxDataset, spec: DetectionSpec, seed: int) -> None:
        body = copy.deepcopy(backbone.module).requires_grad_(True)
        masks.apply(body, backbone.mask)
        self.sparsity_before = masks.sparsity(body).total
        network = DetectorNetwork(body, new_layers(seed, body, len(dataset.class_names)))  # type: ignore[arg-type]
        super().__init__(network, backbone.transform, dataset, spec, seed, "Finetuning")
        self.fixed = FixedMask(self.network.body, backbone.mask)

    def update_weights(self) -> None:
        self.optimizer.step()
        self.fixed.hold()

    def measure(self) -> dict[str, float]:
        violations = self.fixed.violations() + masks.violations(self.average.body, self.fixed.mask)
        if violations:
            raise RuntimeError(f"{violations} pruned weights of seed {self.seed} are not 0 in epoch {self.epoch + 1}.")
        return {"mask_violations": violations}

    def finish(self) -> Result[DetectorNetwork]:
        """The result, once all epochs have ended."""
        assert self.precision is not None
        rounded = [[round(float(value), 4) for value in row] for row in np.nan_to_num(self.precision.curves)]
        details = {
            "sparsity_before": self.sparsity_before,
            "sparsity_after": masks.sparsity(self.average.body).total,
            "seconds_training": sum(self.seconds),
            "precision_by_class": [None if math.isnan(value) else float(value) for value in self.precision.by_class],
            "precision_curves": rounded,
            "detections": shown_images(self.dataset, self.detections),
        }
        return self.result(self.protocol.settings.learning_rate, details)

    def diverged(self, part: str) -> Diverged:
        return Diverged(
            f"Training diverged: {part} of seed {self.seed} is no longer finite in epoch {self.epoch + 1} at learning rate "
            f"{self.protocol.settings.learning_rate:g}. Lower the learning rate; if that does not help, the detector is damaged."
        )


def tested(
    network: DetectorNetwork, transform: Transform, dataset: BoxDataset, report: Report = no_report
) -> Precision:
    """How precise a network in evaluation mode is on the test images, in fp32. Raises InputError unless its output is finite."""
    budget = int(MEMORY_SHARE * psutil.virtual_memory().available) // 3
    images = BoxLoader(dataset.test, transform.crop, budget)
    try:
        return evaluate(network, images, transform, len(dataset.class_names), report=report)[1]
    except FloatingPointError as error:
        raise InputError(f"The detector is damaged: {error}.") from error


def evaluate(
    network: DetectorNetwork,
    images: BoxLoader,
    transform: Transform,
    classes: int,
    precision: str = "fp32",
    report: Report = no_report,
) -> tuple[list[Detections], Precision]:
    """What a network in evaluation mode finds in each image, and how precise that is. Raises FloatingPointError where its output
    is not finite."""
    found: list[Detections] = []
    truth: list[Loaded] = []
    device = next(network.parameters()).device
    with torch.inference_mode():
        for batch in images.batches(range(len(images.split.labels)), TEST_BATCH):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                predictions = network(prepared(batch, transform).to(device))
            corners, scores = network.boxes(predictions)
            if not bool(scores.isfinite().all() and corners.isfinite().all()):
                raise FloatingPointError("the output for an image is not finite")
            found += map(average_precision.detections, corners, scores, batch)
            truth += batch
            report(Progress("Evaluating", len(truth), len(images.split.labels)))
    return found, average_precision.precision(found, truth, classes)


def prepared(batch: Sequence[Loaded], transform: Transform) -> Tensor:
    """The images of a batch (N, 3, side, side) as a network takes them."""
    return normalised(np.stack([each.image for each in batch]), transform)


def targets(batch: Sequence[Loaded], device: torch.device) -> Targets:
    """The boxes of a batch, ignored ones left out."""
    kept = [~each.boxes.ignored for each in batch]
    numbers = np.concatenate([np.full(int(each.sum()), number) for number, each in enumerate(kept)])
    labels = np.concatenate([each.boxes.labels[counted] for each, counted in zip(batch, kept, strict=True)])
    corners = np.concatenate([each.boxes.corners[counted] for each, counted in zip(batch, kept, strict=True)])
    boxes = ops.box_convert(torch.from_numpy(corners).float(), "xyxy", "cxcywh")
    found = (torch.from_numpy(numbers.astype(np.int64)), torch.from_numpy(labels.astype(np.int64)), boxes)
    return Targets(*(tensor.to(device) for tensor in found))


def _require_statistics(images: int, batch_size: int, side: int) -> None:
    """Raise InputError where BatchNorm would see a single value: one image in a step, one cell in the coarsest map."""
    if side == COARSEST and 1 in (batch_size, images % batch_size or batch_size):
        raise InputError(
            f"Images of {side} pixels need two or more in every step; with {images} training images in batches of {batch_size} "
            f"one is alone. Choose {2 * COARSEST} pixels or another batch size."
        )


def _optimizer(network: nn.Module, spec: DetectionSpec) -> torch.optim.Optimizer:
    """SGD; weight decay acts on convolution weights only."""
    settings = spec.settings
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in trained if each.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [each for each in trained if each.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=True)


SHOWN = 6  # worst images, and images of the sample, in a run's record
KEPT = 100  # images in a run's record besides the worst ones, the same ones in all runs on a dataset
CONFIDENT = 0.25  # the probability from which on a prediction is drawn
DRAWN = 100  # predictions of an image


def shown_images(dataset: BoxDataset, found: Sequence[Detections]) -> list[dict[str, Any]]:
    """A sample of the test images, the worst of the others, and more of them for the runs that are compared with this one, with
    their true and predicted boxes: name, ``kind`` (sample, worst or other), ``f1``, ``truth`` and ``predicted`` as rows of left,
    top, right, bottom, label and, of predictions, probability."""
    counted = [(boxes.corners[~boxes.ignored], boxes.labels[~boxes.ignored]) for boxes in dataset.test.boxes]
    scores = [f1(each, *boxes) for each, boxes in zip(found, counted, strict=True)]
    order = np.random.default_rng(0).permutation(len(found)).tolist()
    sample = order[: min(SHOWN, len(found) // 2)]
    worst = [row for row in np.argsort(scores, kind="stable").tolist() if row not in sample][:SHOWN]
    kinds = dict.fromkeys(order[:KEPT], "other") | dict.fromkeys(sample, "sample") | dict.fromkeys(worst, "worst")
    shown = []
    for row in [*worst, *sorted(set(kinds) - set(worst))]:
        kind = kinds[row]
        boxes, each = dataset.test.boxes[row], found[row]
        sure = np.flatnonzero(each.scores >= CONFIDENT)[:DRAWN]
        truth = [[*map(float, corners), int(label)] for corners, label in zip(boxes.corners, boxes.labels, strict=True)]
        corners, labels = each.corners[sure].astype(float).round(1).tolist(), each.labels[sure].tolist()
        probabilities = each.scores[sure].astype(float).round(3).tolist()
        predicted = [[*place, *more] for place, *more in zip(corners, labels, probabilities, strict=True)]
        shown.append(
            {"image": dataset.test.names[row], "kind": kind, "f1": scores[row], "truth": truth, "predicted": predicted}
        )
    return shown


def f1(found: Detections, corners: np.ndarray, labels: np.ndarray) -> float:
    """The F1 score of one image's confident predictions at an IoU of 0.5, each matched to at most one true box of its class."""
    sure = found.scores >= CONFIDENT
    boxes, kinds = found.corners[sure], found.labels[sure]
    if not len(boxes) and not len(corners):
        return 1.0
    overlaps = ops.box_iou(
        torch.from_numpy(boxes).float().view(-1, 4), torch.from_numpy(corners).float().view(-1, 4)
    ).numpy()
    overlaps = overlaps * (kinds[:, None] == labels[None])
    free, matched = np.ones(len(corners), bool), 0
    for row in overlaps:
        place = int(np.argmax(row * free)) if len(row) else -1
        if place >= 0 and row[place] * free[place] >= 0.5:
            free[place] = False
            matched += 1
    return 2 * matched / (len(boxes) + len(corners))
