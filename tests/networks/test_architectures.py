"""Networks against torchvision's, and against forward passes written from the papers and weight names alone."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from sparse_core.networks import architectures
from tests.support.networks import live_batch_norm
from tests.support.refusals import refused

TORCHVISION = ("resnet18", "resnet34", "resnet50")


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def build(architecture, variant=""):
    torch.manual_seed(0)
    return live_batch_norm(architectures.build(architecture, variant)).eval()


def norm(x, state, name, eps=1e-5):
    parts = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (state[f"{name}.{part}"].view(1, -1, 1, 1) for part in parts)
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


@pytest.mark.parametrize("name", TORCHVISION)
def test_resnets_match_torchvision(name, images):
    module = build(name)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    theirs.load_state_dict(module.state_dict(), strict=False)
    theirs.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(module(images), theirs(images), rtol=1e-5, atol=1e-5)


def padded_max_pool(x):
    """3 × 3 windows with stride 2, padded by one row at the bottom and one column at the right."""
    count, channels, height, width = x.shape
    out = torch.full((count, channels, math.ceil((height - 1) / 2), math.ceil((width - 1) / 2)), -math.inf)
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            window = x[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            out[:, :, row, column] = window.flatten(2).max(2).values
    return out


def test_the_tensorflow_variant_pads_max_pooling_right_and_bottom_only(images):
    module = build("resnet50", "tensorflow")
    state = module.state_dict()

    def bottleneck(x, name, stride):
        y = norm(F.conv2d(x, state[f"{name}.conv1.weight"]), state, f"{name}.bn1").relu()
        y = norm(F.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1), state, f"{name}.bn2").relu()
        y = norm(F.conv2d(y, state[f"{name}.conv3.weight"]), state, f"{name}.bn3")
        if f"{name}.downsample.0.weight" in state:
            shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
            x = norm(shortcut, state, f"{name}.downsample.1")
        return (x + y).relu()

    with torch.no_grad():
        x = norm(F.conv2d(images, state["conv1.weight"], stride=2, padding=3), state, "bn1").relu()
        x = padded_max_pool(x)
        for layer, blocks in enumerate((3, 4, 6, 3), start=1):
            for block in range(blocks):
                x = bottleneck(x, f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1)
        expected = x.mean(dim=(2, 3))
        torch.testing.assert_close(module(images), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
        plain = architectures.assemble("resnet50", "", state).eval()(images)
    assert not torch.allclose(plain, expected, rtol=1e-3)
    variants = architectures.ARCHITECTURES["resnet50"].variants
    assert (variants["tensorflow"].interpolation, variants[""].interpolation) == ("bicubic", "bilinear")


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_cifar_resnets_match_their_paper(shortcut):
    module = build("resnet20", shortcut)
    state = module.state_dict()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def projected(x, name, out):
        if shortcut == "B":
            y = F.conv2d(x, state[f"{name}.shortcut.0.weight"], stride=2)
            return norm(y, state, f"{name}.shortcut.1")
        y = torch.zeros(len(x), out, x.shape[2] // 2, x.shape[3] // 2)
        before = (out - x.shape[1]) // 2
        for channel in range(x.shape[1]):
            y[:, before + channel] = x[:, channel, ::2, ::2]
        return y

    with torch.no_grad():
        x = norm(F.conv2d(images, state["conv1.weight"], padding=1), state, "bn1").relu()
        for layer, out in enumerate((16, 32, 64), start=1):
            for block in range(3):
                name = f"layer{layer}.{block}"
                stride = 2 if layer > 1 and block == 0 else 1
                y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(norm(y, state, f"{name}.bn1").relu(), state[f"{name}.conv2.weight"], padding=1)
                x = (norm(y, state, f"{name}.bn2") + (x if stride == 1 else projected(x, name, out))).relu()
        expected = x.mean(dim=(2, 3))
        torch.testing.assert_close(module(images), expected, rtol=1e-5, atol=1e-5)


def test_mobilenet_matches_its_paper(images):
    module = build("mobilenet_v1")
    state = module.state_dict()
    strides = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    with torch.no_grad():
        x = F.conv2d(images, state["model.0.0.weight"], stride=2, padding=1)
        x = norm(x, state, "model.0.1").relu()
        for block, stride in enumerate(strides[1:], start=1):
            depthwise = state[f"model.{block}.0.weight"]
            x = F.conv2d(x, depthwise, stride=stride, padding=1, groups=len(depthwise))
            x = norm(x, state, f"model.{block}.1").relu()
            x = norm(F.conv2d(x, state[f"model.{block}.3.weight"]), state, f"model.{block}.4").relu()
        torch.testing.assert_close(module(images), x.mean(3).mean(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "variant", "parameters"),
    [
        # published totals minus the classifiers: 0.27, 0.46, 0.66 and 0.85 million with 650 for ten classes
        ("resnet20", "A", 269_722 - 650),
        ("resnet32", "A", 464_154 - 650),
        ("resnet44", "A", 658_586 - 650),
        ("resnet56", "A", 853_018 - 650),
        ("mobilenet_v1", "", 4_231_976 - 1_025_000),
        ("resnet18", "", 11_689_512 - 513_000),
        ("resnet50", "tensorflow", 25_557_032 - 2_049_000),
    ],
)
def test_sizes_are_the_published_ones(architecture, variant, parameters):
    module = architectures.build(architecture, variant)
    assert sum(tensor.numel() for tensor in module.parameters()) == parameters


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES)
def test_each_network_accepts_the_images_of_its_transform(architecture):
    known = architectures.ARCHITECTURES[architecture]
    for variant, transform in known.variants.items():
        module = architectures.build(architecture, variant).eval()
        with torch.no_grad():
            features = module(torch.zeros(1, 3, transform.crop, transform.crop))
        assert features.shape == (1, known.dimensions) == (1, module.dimensions)
        assert module.training is False


def test_names_of_variants():
    assert architectures.split_name("resnet50-tensorflow") == ("resnet50", "tensorflow")
    assert architectures.split_name("resnet20") == ("resnet20", "")
    refused(architectures.build, "resnet5O", match=r"Did you mean .*resnet50")
    assert "Unknown variant of resnet20 'C'" in refused(architectures.build, "resnet20", "C")
    assert architectures.split_name("vgg16") == ("vgg16", "")
    assert "Unknown architecture" in refused(architectures.split_name, "vgg17x")
