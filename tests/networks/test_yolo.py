"""The layers of detectors against values computed by hand, and whole bodies against a forward pass written with plain
functions."""

import math

import pytest
import torch
from torch.nn import functional as F

from sparse_core.networks import architectures, public_networks, yolo
from tests.support.detectors import detector

SILU = yolo.Style.of("v6")


def filled(layer, value=0.0):
    for parameter in layer.parameters():
        if parameter.dim() == 4:
            parameter.data.fill_(value)
    return layer.eval()


def silu(x):
    return x / (1 + math.exp(-x))


def test_a_convolution_is_normalised_then_activated():
    layer = filled(yolo.Convolution(SILU, 2, 1, 1), 0.5)
    layer.bn.running_mean.fill_(1.0)
    layer.bn.running_var.fill_(4.0 - 1e-3)  # with epsilon, a deviation of 2
    layer.bn.weight.data.fill_(3.0)
    layer.bn.bias.data.fill_(-0.25)
    x = torch.tensor([4.0, 6.0]).view(1, 2, 1, 1)  # their half sum is 5: (5 − 1) / 2 · 3 − 0.25 = 5.75
    assert layer(x).item() == pytest.approx(silu(5.75), rel=1e-6)


@pytest.mark.parametrize(
    ("variant", "expected"), [("darknet", -0.2), ("ultralytics_leaky", -0.2), ("v6_hardswish", -1 / 3)]
)
def test_the_activation_follows_from_the_variant(variant, expected):
    x = torch.tensor([-2.0 if "hardswish" not in variant else -1.0])  # hardswish: −1 · (−1 + 3) / 6
    assert yolo.Style.of(variant).activation()(x).item() == pytest.approx(expected)


def test_focus_puts_the_pixels_of_each_square_into_channels():
    layer = yolo.Focus(SILU, 1, 4)
    layer.conv = torch.nn.Identity()
    x = torch.arange(16.0).view(1, 1, 4, 4)
    # Rows first: upper left, lower left, upper right, lower right.
    assert layer(x)[0, :, 0, 0].tolist() == [0, 4, 1, 5]
    assert layer(x)[0, :, 1, 1].tolist() == [10, 14, 11, 15]


@pytest.mark.parametrize("shortcut", [True, False])
def test_a_bottleneck_adds_its_input_where_it_is_a_shortcut(shortcut):
    layer = filled(yolo.Bottleneck(SILU, 2, 1, shortcut))
    layer.cv2.bn.bias.data.fill_(2.0)
    x = torch.full((1, 2, 3, 3), 7.0)
    assert torch.allclose(layer(x), torch.full_like(x, silu(2.0) + 7.0 * shortcut))


def test_c3_joins_what_went_through_bottlenecks_and_what_went_past_them():
    layer = filled(yolo.C3(SILU, 2, 4, depth=2))
    layer.cv1.bn.bias.data.fill_(1.0)  # through the bottlenecks, which add silu(0) = 0 twice
    layer.cv2.bn.bias.data.fill_(3.0)
    layer.cv3.conv.weight.data.copy_(torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 4, 1, 1).repeat(4, 1, 1, 1))
    layer.cv3.bn.running_var.fill_(1 - 1e-3)
    x = torch.zeros(1, 2, 2, 2)
    assert layer(x)[0, :, 0, 0].tolist() == pytest.approx([silu(2 * silu(1.0))] * 4)


@pytest.mark.parametrize("largest_first", [False, True])
def test_the_pyramid_joins_maxima_over_5_9_and_13_pixels(largest_first):
    layer = yolo.SpatialPyramid(SILU, 2, 4, largest_first).eval()
    layer.cv1, layer.cv2 = torch.nn.Identity(), torch.nn.Identity()
    x = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    parts = [x, *(F.max_pool2d(x, side, stride=1, padding=side // 2) for side in (5, 9, 13))]
    assert torch.equal(layer(x), torch.cat(parts[::-1] if largest_first else parts, dim=1))


def test_what_lies_beyond_the_border_of_the_last_pooling():
    x = torch.tensor([[-4.0, -3.0], [-2.0, -1.0]]).view(1, 1, 2, 2)
    assert yolo.LastPool(-math.inf)(x).flatten().tolist() == [-1, -1, -1, -1]
    assert yolo.LastPool(0.0)(x).flatten().tolist() == [-1, 0, 0, 0]


# Parameters of the public networks with 80 classes, as their projects state them.
PUBLISHED = {
    ("yolov3", "darknet"): 61_949_149,
    ("yolov3_spp", "darknet"): 62_998_749,
    ("yolov3_tiny", "darknet"): 8_852_366,
    ("yolov5n", "v6"): 1_872_157,
    ("yolov5s", "v6"): 7_235_389,
    ("yolov5m", "v6"): 21_190_557,
    ("yolov5l", "v6"): 46_563_709,
    ("yolov5x", "v6"): 86_749_405,
    ("yolov5s", "v5"): 7_276_605,
}


@pytest.mark.parametrize(("architecture", "variant"), PUBLISHED)
def test_networks_have_the_published_number_of_parameters(architecture, variant):
    with public_networks.WithoutMemory():
        body = architectures.build(architecture, variant)
    predictions = sum((width + 1) * 3 * 85 for width in body.widths)
    assert sum(each.numel() for each in body.parameters()) + predictions == PUBLISHED[architecture, variant]
    known = architectures.find(architecture)
    assert (body.widths, body.outputs) == (yolo.WIDTHS[architecture], yolo.OUTPUTS[architecture])
    assert (known.dimensions, known.classifier) == (sum(body.widths), f"model.{len(body.model)}")


class Plain:
    """A forward pass with plain functions on the tensors of a state dict."""

    def __init__(self, state, activation, epsilon):
        self.state, self.activation, self.epsilon = state, activation, epsilon

    def conv(self, name, x, stride=1, padding=None):
        weight = self.state[f"{name}.conv.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2 if padding is None else padding)
        mean, var, gamma, beta = (
            self.state[f"{name}.bn.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return self.activation((x - mean) / torch.sqrt(var + self.epsilon) * gamma + beta)

    def c3(self, name, x, depth, shortcut):
        y = self.conv(f"{name}.cv1", x)
        for number in range(depth):
            inner = self.conv(f"{name}.m.{number}.cv2", self.conv(f"{name}.m.{number}.cv1", y))
            y = y + inner if shortcut else inner
        return self.conv(f"{name}.cv3", torch.cat((y, self.conv(f"{name}.cv2", x)), 1))


def doubled(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_yolov3_tiny_as_darknet_computes_it():
    body, _ = detector("yolov3_tiny", "darknet")
    plain = Plain(body.state_dict(), lambda x: torch.where(x > 0, x, 0.1 * x), 1e-5)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    x = images
    for number in (0, 2, 4, 6):
        x = F.max_pool2d(plain.conv(f"model.{number}", x), 2)
    fine = plain.conv("model.8", x)
    x = plain.conv("model.10", F.max_pool2d(fine, 2))
    x = F.max_pool2d(
        torch.cat((x, x[..., -1:]), 3), (1, 2), 1
    )  # the last column again: what lies beyond is never the maximum
    x = F.max_pool2d(torch.cat((x, x[..., -1:, :]), 2), (2, 1), 1)
    neck = plain.conv("model.14", plain.conv("model.13", x))
    coarse = plain.conv("model.15", neck)
    finer = plain.conv("model.19", torch.cat((doubled(plain.conv("model.16", neck)), fine), 1))
    for found, expected in zip(body(images), (finer, coarse), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_yolov5_as_its_release_6_computes_it():
    body, _ = detector("yolov5n", "v6")
    plain = Plain(body.state_dict(), lambda x: x * torch.sigmoid(x), 1e-3)
    x = images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    x = plain.conv("model.1", plain.conv("model.0", x, 2, padding=2), 2)
    x = plain.conv("model.3", plain.c3("model.2", x, 1, True), 2)
    p3 = plain.c3("model.4", x, 2, True)
    p4 = plain.c3("model.6", plain.conv("model.5", p3, 2), 3, True)
    x = plain.c3("model.8", plain.conv("model.7", p4, 2), 1, True)
    x = plain.conv("model.9.cv1", x)
    x = plain.conv("model.9.cv2", torch.cat([x, *(F.max_pool2d(x, side, 1, side // 2) for side in (5, 9, 13))], 1))
    top = plain.conv("model.10", x)
    middle = plain.conv("model.14", plain.c3("model.13", torch.cat((doubled(top), p4), 1), 1, False))
    fine = plain.c3("model.17", torch.cat((doubled(middle), p3), 1), 1, False)
    middle = plain.c3("model.20", torch.cat((plain.conv("model.18", fine, 2), middle), 1), 1, False)
    coarse = plain.c3("model.23", torch.cat((plain.conv("model.21", middle, 2), top), 1), 1, False)
    for found, expected in zip(body(images), (fine, middle, coarse), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "variant"), [("yolov3", "ultralytics"), ("yolov3_spp", "darknet"), ("yolov5n", "v5")]
)
def test_each_level_has_its_stride(architecture, variant):
    body, _ = detector(architecture, variant)
    with torch.inference_mode():
        maps = body(torch.zeros(1, 3, 64, 32))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (width, 64 // stride, 32 // stride) for width, stride in zip(body.widths, body.strides, strict=True)
    ]
