"""Detectors for tests: small networks with live BatchNorm, and their files as YOLOv5's, YOLOv3's and Darknet's projects save
them."""

import struct

import numpy as np
import torch
from torch import nn

from sparse_core.networks import architectures, yolo
from tests.support.networks import live_batch_norm

CLASSES = 3


class Detect(nn.Module):
    """The last layer as the public files have it: prediction layers, anchors in cells and what follows from them."""

    def __init__(self, body, classes):
        super().__init__()
        strides = torch.tensor(body.strides).view(-1, 1, 1)
        self.register_buffer("anchors", body.anchors / strides)
        self.register_buffer("anchor_grid", body.anchors.view(len(body.strides), 1, 3, 1, 1, 2).clone())
        self.m = nn.ModuleList(nn.Conv2d(width, 3 * (5 + classes), 1) for width in body.widths)


class Model(nn.Module):
    """A network as it is saved whole: all layers as ``model``."""

    def __init__(self, body, classes=CLASSES):
        super().__init__()
        self.model = nn.Sequential(*body.model, Detect(body, classes))
        self.names, self.yaml = ["a", "b", "c"], {"nc": classes}


def detector(architecture, variant="", seed=0):
    """A body in evaluation mode, and the whole network as it is saved."""
    torch.manual_seed(seed)
    body = live_batch_norm(architectures.build(architecture, variant)).eval()
    return body, Model(body).eval()


def darknet_file(path, body, network, version=(0, 2), cut=0):
    """Write a network as Darknet does: layer by layer in the order of the forward pass, prediction layers where their input is
    made."""
    major, minor = version
    header = struct.pack("<iii", major, minor, 0) + struct.pack("<q" if major * 10 + minor >= 2 else "<i", 1000)
    predictions = dict(zip(body.outputs, network.model[-1].m, strict=True))
    numbers = []
    for number, layer in enumerate(body.model):
        for block in layer.modules():
            if isinstance(block, yolo.Convolution):
                norm = block.bn
                numbers += [norm.bias, norm.weight, norm.running_mean, norm.running_var, block.conv.weight]
        if number in predictions:
            numbers += [predictions[number].bias, predictions[number].weight]
    content = np.concatenate([tensor.detach().numpy().ravel() for tensor in numbers]).astype("<f4").tobytes()
    path.write_bytes(header + content[: len(content) - cut])
    return path
