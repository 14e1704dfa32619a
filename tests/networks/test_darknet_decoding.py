"""YOLOv3-tiny's boxes against those that Darknet's own formulas give, written out here for one box after another: with random
weights, and with the real ones where they were fetched."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sparse_core import paths
from sparse_core.datasets.box_loading import Loaded
from sparse_core.datasets.boxes import Boxes
from sparse_core.networks import checkpoints, library
from sparse_core.networks.detector import DetectorNetwork
from sparse_core.transfer import average_precision
from tests.support.detectors import CLASSES, detector

# As in yolov3-tiny.cfg: all anchors, and those of the level with stride 16 and of the one with stride 32.
ANCHORS = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
USERS_HOME = paths.default_home()  # not that of a test
LEVELS = {16: (0, 1, 2), 32: (3, 4, 5)}


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def darknet_boxes(outputs, side, classes):
    """Boxes (M, 4) and probabilities (M, C), from what the last convolutions give, (3 · (5 + C), H, W) for each stride: as
    Darknet's yolo_layer.c decodes them, in shares of the image first."""
    corners, scores = [], []
    for (stride, chosen), output in zip(LEVELS.items(), outputs, strict=True):
        cells = side // stride
        for number, anchor in enumerate(chosen):
            entry = output[number * (5 + classes) :]
            for row in range(cells):
                for column in range(cells):
                    t = entry[:, row, column]
                    x, y = (column + sigmoid(t[0])) / cells, (row + sigmoid(t[1])) / cells
                    w, h = (math.exp(t[2 + at]) * ANCHORS[anchor][at] / side for at in (0, 1))
                    corners.append([side * each for each in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)])
                    scores.append([sigmoid(t[4]) * sigmoid(t[5 + label]) for label in range(classes)])
    return np.array(corners), np.array(scores)


def kept_boxes(corners, scores, overlap):
    """(box, class) in the order of their probability, without those that overlap a more probable one of the class."""
    kept = []
    for place in np.argsort(-scores, axis=None, kind="stable"):
        box, label = divmod(int(place), scores.shape[1])
        if scores[box, label] <= average_precision.CONFIDENCE:
            break
        a = corners[box]
        for other, same in kept:
            b = corners[other]
            width, height = (max(0.0, min(a[2 + at], b[2 + at]) - max(a[at], b[at])) for at in (0, 1))
            areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (a, b))
            if same == label and width * height / (areas - width * height) > overlap:
                break
        else:
            kept.append((box, label))
    return kept[: average_precision.MOST]


def drawn(side):
    """A street of flat colours, prepared as Darknet does: values from 0 to 1."""
    image = Image.new("RGB", (side, side), (150, 190, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, side // 2, side, side), fill=(90, 90, 95))
    draw.rectangle((side // 5, side // 3, side // 2, side * 3 // 5), fill=(190, 30, 30))
    for x in (side // 4, side * 9 // 20):
        draw.ellipse((x - side // 20, side * 11 // 20, x + side // 20, side * 13 // 20), fill=(15, 15, 15))
    values = np.asarray(image, np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def compare(network, classes, side):
    images = drawn(side)
    with torch.inference_mode():
        maps = network.body(images)
        outputs = [layer(each)[0].double().numpy() for layer, each in zip(network.predictions, maps, strict=True)]
        corners, scores = network.boxes(network(images))
    expected, probabilities = darknet_boxes(outputs, side, classes)
    assert np.allclose(corners[0].numpy(), expected, rtol=1e-4, atol=1e-2)
    assert np.allclose(scores[0].numpy(), probabilities, rtol=1e-4, atol=1e-6)
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool))
    plain = Loaded(np.zeros((side, side, 3), np.uint8), nothing)
    found = average_precision.detections(corners[0], scores[0], plain)
    kept = kept_boxes(corners[0].double().numpy(), scores[0].double().numpy(), average_precision.OVERLAP)
    assert found.labels.tolist() == [label for _, label in kept] and len(kept)
    assert np.allclose(found.corners, expected[[box for box, _ in kept]], rtol=1e-4, atol=1e-2)
    return found


def test_random_weights():
    body, whole = detector("yolov3_tiny", "darknet")
    layers = [(layer.weight.data, layer.bias.data) for layer in whole.model[-1].m]
    compare(DetectorNetwork(body, layers).eval(), CLASSES, 64)


def test_the_real_weights():
    file = library.local_file(USERS_HOME, library.FETCHED_DETECTOR)
    if file is None:
        pytest.skip("YOLOv3-tiny's weights are not here: 'backbones --fetch yolov3_tiny' gets them")
    checkpoint = checkpoints.read(file, library.FETCHED_DETECTOR)
    tensors = checkpoint.classifier
    layers = [(tensors[f"{level}.weight"], tensors[f"{level}.bias"]) for level in range(2)]
    found = compare(DetectorNetwork(checkpoint.network().eval(), layers).eval(), 80, 416)
    assert found.scores[0] > 0.05  # trained weights see something in the drawn street
