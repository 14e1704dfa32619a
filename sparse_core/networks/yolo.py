"""The detectors: YOLOv3, YOLOv3-SPP and YOLOv3-tiny (Redmon & Farhadi, "YOLOv3: An Incremental Improvement", 2018), and YOLOv5 in
its five sizes.

A body takes images (N, 3, H, W), sides multiples of ``COARSEST``, and returns a feature map for each level, the finest first. The
prediction layers, 1 × 1 convolutions, are no part of it. Layers are numbered and named as in the public YOLOv5 and YOLOv3
files, so that their weights load; Darknet's files have no names, but hold the layers in the same order.

A variant is what the tensors' shapes do not tell: ``darknet`` or ``ultralytics`` for YOLOv3, the release (``v6``: a 6 × 6 stem
and pooling last; ``v5``, from releases 4 and 5: Focus and pooling before the last block) for YOLOv5, and the activation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparse_core.catalog import COARSEST

ANCHORS_PER_CELL = 3
MOMENTUM = 0.03  # of BatchNorm's running statistics
LEAK = 0.1
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "": partial(nn.SiLU, inplace=True),
    "leaky": partial(nn.LeakyReLU, LEAK, inplace=True),
    "hardswish": partial(nn.Hardswish, inplace=True),
}
_LARGE_ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
_TINY_ANCHORS = (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)
SIZES = {"n": (1 / 3, 0.25), "s": (1 / 3, 0.5), "m": (2 / 3, 0.75), "l": (1.0, 1.0), "x": (4 / 3, 1.25)}  # depth, width


@dataclass(frozen=True)
class Style:
    """What the layers of a variant have in common: the activation and BatchNorm's epsilon."""

    activation: Callable[[], nn.Module]
    epsilon: float

    @classmethod
    def of(cls, variant: str) -> "Style":
        if variant == "darknet":
            return cls(ACTIVATIONS["leaky"], 1e-5)
        return cls(ACTIVATIONS[variant.partition("_")[2]], 1e-3)


class Convolution(nn.Module):
    """Convolution without bias, BatchNorm, activation; the padding keeps H and W at stride 1."""

    def __init__(
        self, style: Style, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=style.epsilon, momentum=MOMENTUM)
        self.act = style.activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Focus(nn.Module):
    """The four pixels of each 2 × 2 square as channels, (N, 4C, H/2, W/2), then a convolution."""

    def __init__(self, style: Style, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Convolution(style, 4 * inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), dim=1))


class Bottleneck(nn.Module):
    """1 × 1 and 3 × 3 convolution, added to the input where it is a ``shortcut``."""

    def __init__(self, style: Style, width: int, hidden: int, shortcut: bool = True) -> None:
        super().__init__()
        self.cv1 = Convolution(style, width, hidden, 1)
        self.cv2 = Convolution(style, hidden, width, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C3(nn.Module):
    """Half of the channels through ``depth`` bottlenecks, half past them, both joined by a third convolution."""

    def __init__(self, style: Style, inputs: int, outputs: int, depth: int, shortcut: bool = True) -> None:
        super().__init__()
        hidden = outputs // 2
        self.cv1 = Convolution(style, inputs, hidden, 1)
        self.cv2 = Convolution(style, inputs, hidden, 1)
        self.cv3 = Convolution(style, 2 * hidden, outputs, 1)
        self.m = nn.Sequential(*(Bottleneck(style, hidden, hidden, shortcut) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), dim=1))


class SpatialPyramid(nn.Module):
    """Maxima over 5 × 5, 9 × 9 and 13 × 13 pixels beside the input (SPP), each from the one before as SPPF computes them.
    Darknet joins them from the largest on."""

    def __init__(self, style: Style, inputs: int, outputs: int, largest_first: bool = False) -> None:
        super().__init__()
        hidden = inputs // 2
        self.cv1 = Convolution(style, inputs, hidden, 1)
        self.cv2 = Convolution(style, 4 * hidden, outputs, 1)
        self.largest_first = largest_first

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, stride=1, padding=2))
        return self.cv2(torch.cat(parts[::-1] if self.largest_first else parts, dim=1))


class LastPool(nn.Module):
    """YOLOv3-tiny's maximum over 2 × 2 pixels at stride 1: what lies beyond the right and lower border is ``beyond``."""

    def __init__(self, beyond: float) -> None:
        super().__init__()
        self.beyond = beyond

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=self.beyond), 2, stride=1)


class Concatenation(nn.Module):
    """Several feature maps of one size as one."""

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, dim=1)


class Body(nn.Module):
    """A detector without its prediction layers.

    ``outputs`` are the numbers of the layers whose feature maps it returns, ``widths`` their channels, ``strides`` the pixels
    of a cell. ``anchors`` (levels, 3, 2) are widths and heights in pixels. ``exponential`` tells Darknet's decoding of boxes
    from YOLOv5's.
    """

    anchors: Tensor

    def __init__(self, layout: "_Layout", outputs: Sequence[int], anchors: Sequence[float], exponential: bool) -> None:
        super().__init__()
        self.model = nn.ModuleList(layout.layers)
        self.sources, self.outputs, self.exponential = layout.sources, tuple(outputs), exponential
        self.widths = tuple(layout.widths[number] for number in outputs)
        self.strides = tuple(COARSEST >> (len(outputs) - 1 - level) for level in range(len(outputs)))
        sizes = torch.tensor(anchors, dtype=torch.float32).view(len(outputs), ANCHORS_PER_CELL, 2)
        self.register_buffer("anchors", sizes)
        later = {source for number, sources in enumerate(self.sources) for source in sources if source != number - 1}
        self._kept = frozenset({*later, *outputs})

    def forward(self, images: Tensor) -> list[Tensor]:
        kept: dict[int, Tensor] = {}
        last = images
        for number, (layer, sources) in enumerate(zip(self.model, self.sources, strict=True)):
            last = layer(*(last if source == number - 1 else kept[source] for source in sources))
            if number in self._kept:
                kept[number] = last
        return [kept[number] for number in self.outputs]


class _Layout:
    """The layers of a body while they are put together, each with the numbers of its inputs and its channels."""

    def __init__(self) -> None:
        self.layers: list[nn.Module] = []
        self.sources: list[tuple[int, ...]] = []
        self.widths: list[int] = []

    @property
    def width(self) -> int:
        """The channels of the last layer."""
        return self.widths[-1] if self.widths else 3

    def add(self, layer: nn.Module, width: int, *sources: int) -> None:
        """Add a layer that takes the outputs of ``sources``, by default of the last one."""
        self.layers.append(layer)
        self.sources.append(sources or (len(self.layers) - 2,))
        self.widths.append(width)

    def upsampled_with(self, other: int) -> None:
        """The last feature map at twice its size, joined with that of the layer ``other``."""
        self.add(nn.Upsample(scale_factor=2.0, mode="nearest"), self.width)
        self.joined_with(other)

    def joined_with(self, other: int) -> None:
        last = len(self.layers) - 1
        self.add(Concatenation(), self.width + self.widths[other], last, other)


def yolov3(variant: str, pyramid: bool = False) -> Body:
    """YOLOv3: Darknet-53 and a head of three levels; with spatial ``pyramid`` pooling, YOLOv3-SPP."""
    style, layout = Style.of(variant), _Layout()

    def convolution(outputs: int, kernel: int, stride: int = 1, source: int | None = None) -> None:
        inputs = layout.width if source is None else layout.widths[source]
        layer = Convolution(style, inputs, outputs, kernel, stride)
        layout.add(layer, outputs, *(() if source is None else (source,)))

    def bottlenecks(outputs: int, count: int, shortcut: bool = True) -> None:
        """Bottlenecks in a row; the public files number those of a row as its parts."""
        made = [_bottleneck(style, outputs if number else layout.width, outputs, shortcut) for number in range(count)]
        layout.add(made[0] if count == 1 else nn.Sequential(*made), outputs)

    convolution(32, 3)
    for outputs, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        convolution(outputs, 3, 2)
        bottlenecks(outputs, count)
    bottlenecks(1024, 1, shortcut=False)
    if pyramid:
        layout.add(SpatialPyramid(style, 1024, 512, largest_first=variant == "darknet"), 512)
    else:
        convolution(512, 1)
    convolution(1024, 3)
    convolution(512, 1)
    convolution(1024, 3)
    convolution(256, 1, source=14)
    layout.upsampled_with(8)
    bottlenecks(512, 1, shortcut=False)
    bottlenecks(512, 1, shortcut=False)
    convolution(256, 1)
    convolution(512, 3)
    convolution(128, 1, source=21)
    layout.upsampled_with(6)
    bottlenecks(256, 1, shortcut=False)
    bottlenecks(256, 2, shortcut=False)
    return Body(layout, OUTPUTS["yolov3"], _LARGE_ANCHORS, variant == "darknet")


def _bottleneck(style: Style, inputs: int, outputs: int, shortcut: bool) -> nn.Module:
    """Darknet's residual block, half as wide inside; after an upsampling, the input has another width than the output."""
    block = Bottleneck(style, outputs, outputs // 2, shortcut)
    if inputs != outputs:
        block.cv1 = Convolution(style, inputs, outputs // 2, 1)
    return block


def yolov3_tiny(variant: str) -> Body:
    """YOLOv3-tiny: six convolutions with pooling in between, and two levels."""
    style, layout = Style.of(variant), _Layout()

    def convolution(outputs: int, kernel: int, source: int | None = None) -> None:
        inputs = layout.width if source is None else layout.widths[source]
        layout.add(Convolution(style, inputs, outputs, kernel), outputs, *(() if source is None else (source,)))

    for outputs in (16, 32, 64, 128, 256):
        convolution(outputs, 3)
        layout.add(nn.MaxPool2d(2), outputs)
    convolution(512, 3)
    layout.add(nn.Identity(), 512)  # the public files count the padding as a layer
    layout.add(LastPool(-math.inf if variant == "darknet" else 0.0), 512)
    convolution(1024, 3)
    convolution(256, 1)
    convolution(512, 3)
    convolution(128, 1, source=14)
    layout.upsampled_with(8)
    convolution(256, 3)
    return Body(layout, OUTPUTS["yolov3_tiny"], _TINY_ANCHORS, variant == "darknet")


def yolov5(variant: str, size: str) -> Body:
    """YOLOv5 of a ``size`` n, s, m, l or x."""
    style, layout = Style.of(variant), _Layout()
    depth, multiple = SIZES[size]

    def width(full: int) -> int:
        return math.ceil(full * multiple / 8) * 8

    def convolution(full: int, kernel: int, stride: int) -> None:
        layout.add(Convolution(style, layout.width, width(full), kernel, stride), width(full))

    def block(full: int, count: int, shortcut: bool = True) -> None:
        layout.add(C3(style, layout.width, width(full), max(round(count * depth), 1), shortcut), width(full))

    def pyramid() -> None:
        layout.add(SpatialPyramid(style, layout.width, width(1024)), width(1024))

    early = variant.startswith("v5")
    if early:
        layout.add(Focus(style, 3, width(64)), width(64))
    else:
        layout.add(Convolution(style, 3, width(64), 6, 2, padding=2), width(64))
    for full, count in ((128, 3), (256, 9 if early else 6), (512, 9)):
        convolution(full, 3, 2)
        block(full, count)
    convolution(1024, 3, 2)
    if early:
        pyramid()
    block(1024, 3, shortcut=not early)
    if not early:
        pyramid()
    convolution(512, 1, 1)
    layout.upsampled_with(6)
    block(512, 3, shortcut=False)
    convolution(256, 1, 1)
    layout.upsampled_with(4)
    block(256, 3, shortcut=False)
    convolution(256, 3, 2)
    layout.joined_with(14)
    block(512, 3, shortcut=False)
    convolution(512, 3, 2)
    layout.joined_with(10)
    block(1024, 3, shortcut=False)
    return Body(layout, OUTPUTS[f"yolov5{size}"], _LARGE_ANCHORS, False)


BODIES: dict[str, Callable[[str], Body]] = {
    "yolov3": yolov3,
    "yolov3_spp": partial(yolov3, pyramid=True),
    "yolov3_tiny": yolov3_tiny,
    **{f"yolov5{size}": partial(yolov5, size=size) for size in SIZES},
}
# Known without building the networks: the channels of each level, and the number of layers before the prediction layers.
WIDTHS = {"yolov3": (256, 512, 1024), "yolov3_spp": (256, 512, 1024), "yolov3_tiny": (256, 512)}
WIDTHS |= {
    f"yolov5{size}": tuple(int(full * multiple) for full in (256, 512, 1024)) for size, (_, multiple) in SIZES.items()
}
OUTPUTS = {name: (27, 22, 15) if name.startswith("yolov3") else (17, 20, 23) for name in BODIES} | {
    "yolov3_tiny": (19, 15)
}
LAYERS = {name: 20 if name == "yolov3_tiny" else 28 if name.startswith("yolov3") else 24 for name in BODIES}
