"""Structure against hand-computed numbers, torch's FLOP counter, and networks with dead channels actually removed."""

import copy
import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparse_core.networks import architectures, channels, masks, structure, structure_analysis
from sparse_core.networks.definitions import ZeroPaddedShortcut
from sparse_core.networks.library import BackboneCard
from tests.support.imports import loads_torch
from tests.support.refusals import refused

VARIANTS = [(name, variant) for name, known in architectures.ARCHITECTURES.items() for variant in known.variants]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks run faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Toy(nn.Module):
    """Three convolutions: 3×3, 1×1, 3×3, on 8 × 8 images."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 3, 1, bias=False), nn.BatchNorm2d(3)
        self.conv3 = nn.Conv2d(3, 2, 3, padding=1, bias=False)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.conv3(x).mean(dim=(2, 3))


@pytest.fixture
def toy():
    """In conv1 only filter 3 is alive: 0 is cut off by ReLU, 1 is constant before a 1×1 convolution, 2 is unused.

    In conv2 filter 0 is a constant 0.7 before a padded convolution, so alive; 1 is not pruned but its only input is the
    dead filter 0; 2 is alive.
    """
    torch.manual_seed(0)
    module = Toy().eval()
    with torch.no_grad():
        module.conv1.weight[:2] = 0
        module.bn1.bias[:] = torch.tensor([-1.0, 0.5, 0.2, 0.1])
        module.conv2.weight[:] = torch.tensor([[0.0, 0, 0, 0], [2, 0, 0, 0], [1, 3, 0, 4]])[:, :, None, None]
        module.bn2.bias[:] = torch.tensor([0.7, 0.0, 0.3])
    return module


def test_structure_of_a_toy_network_by_hand(toy):
    found = structure_analysis.analyse(toy, 8)
    assert [dataclasses.astuple(layer) for layer in found.layers] == [
        ("conv1", (4, 3, 3, 3), 1, 0.5, 4, 2, 3, 3, 0, 0, (8, 8), 108, 54, 6912, 3456, 81, 5184),
        ("conv2", (3, 4, 1, 1), 1, pytest.approx(8 / 12), 3, 1, 1, 4, 1, 3, (8, 8), 12, 4, 768, 256, 10, 640),
        ("conv3", (2, 3, 3, 3), 1, 0.0, 2, 0, 0, 3, 0, 1, (8, 8), 54, 54, 3456, 3456, 18, 1152),
    ]
    assert found.sparsity == pytest.approx(62 / 174)
    assert found.parameters == 108 + 12 + 54 + 14
    # bn2's factors are all 1, and one of its shifts is 0
    assert found.nonzero == 54 + 4 + 54 + 13
    assert (found.multiply_adds, found.multiply_adds_sparse) == (6912 + 768 + 3456, 3456 + 256 + 3456)
    assert found.bytes_dense == 4 * (188 + 14)
    # masks of 14, 2 and 7 bytes; conv3, which has no zeros, is smaller without one
    assert found.bytes_sparse == 4 * 28 + (14 + 4 * 54) + (2 + 4 * 4) + 4 * 54
    assert found.filters_pruned_share == pytest.approx(3 / 9)
    assert found.mean_layer_filters_pruned_share == pytest.approx((2 / 4 + 1 / 3 + 0) / 3)
    assert found.filters_dead_share == pytest.approx(4 / 9)
    # the BatchNorms lose three channels and one
    assert found.parameters_removable == 81 + 10 + 18 + 2 * (3 + 1)
    assert found.multiply_adds_removable == 5184 + 640 + 1152


def test_a_toy_network_without_its_dead_channels_computes_the_same(toy):
    small = without_dead(toy, 8)
    assert small.conv1.weight.shape == (1, 3, 3, 3)
    assert small.conv2.weight.shape == (2, 1, 1, 1)
    assert_same_output(toy, small, 8)
    gone = size_of(toy) - size_of(small)
    # the constant 0.5 of conv1's filter 1 moved into a bias that conv2 did not have
    assert structure_analysis.analyse(toy, 8).parameters_removable == gone + small.conv2.bias.numel()


def test_whether_a_constant_filter_is_dead_depends_on_the_next_convolution():
    """Dead if its constant is 0 or the next convolution is 1×1; alive if the next convolution is padded."""

    def dead(shift: float, kernel: int) -> int:
        after = nn.Conv2d(2, 2, kernel, padding=kernel // 2)
        network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), after)
        network[0].weight.data[0] = 0
        network[1].bias.data[0] = shift
        return structure_analysis.analyse(network.eval(), 8).layers[0].filters_dead

    assert [dead(-0.5, 1), dead(-0.5, 3), dead(0.5, 1), dead(0.5, 3)] == [1, 1, 1, 0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_nothing_is_constant_after_a_negative_variance(factor):
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    network[0].weight.data[0] = 0
    network[1].running_var[0] = -1.0
    network[1].weight.data[0] = factor
    assert structure_analysis.analyse(network.eval(), 8).layers[0].filters_dead == 0


def test_a_residual_channel_is_dead_only_if_every_producer_is_zero():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b = (nn.Conv2d(channels, 3, 1, bias=False) for channels in (3, 3, 3))
            self.head = nn.Conv2d(3, 1, 1)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            x = torch.relu(x + self.a(x))
            return self.head(torch.relu(x + self.b(x)))

    network = Residual()
    network.stem.weight.data[:2] = 0
    network.a.weight.data[:2] = 0
    network.b.weight.data[[0, 2]] = 0
    found = {layer.name: layer for layer in structure_analysis.analyse(network, 4).layers}
    assert [found[name].filters_pruned for name in ("stem", "a", "b")] == [2, 2, 2]
    assert [found[name].filters_dead for name in ("stem", "a", "b")] == [1, 1, 1]
    assert (found["a"].channels_dead, found["head"].channels_dead) == (1, 1)
    network.head.weight.data[:, 1] = 0  # now only a and b need channel 1, for each other
    network.a.weight.data[2, 1] = network.b.weight.data[1, 1] = 0
    assert structure_analysis.analyse(network, 4).layers[0].filters_dead == 2


def test_a_block_with_zero_output_is_dead():
    network = architectures.build("resnet20", "B").eval()
    network.layer1[1].conv2.weight.data.zero_()
    found = {layer.name: layer for layer in structure_analysis.analyse(network, 32).layers}
    conv1, conv2 = found["layer1.1.conv1"], found["layer1.1.conv2"]
    assert (conv1.filters_dead, conv2.channels_dead, conv2.filters_dead) == (16, 16, 0)
    assert conv2.parameters_removable == conv2.parameters


def test_concatenated_and_grouped_channels():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
            self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
            self.head = nn.Conv2d(4, 1, 1)

        def forward(self, x):
            return self.head(torch.relu(self.grouped(torch.cat([self.left(x), self.right(x)], dim=1))))

    network = Joined()
    network.head.weight.data[:, 3] = 0
    network.grouped.weight.data[2, 1] = 0  # in the second group, only filter 3 uses the second channel now
    found = {layer.name: layer for layer in structure_analysis.analyse(network, 6).layers}
    assert [found[name].filters_dead for name in ("left", "right", "grouped")] == [0, 1, 1]
    assert (found["grouped"].channels, found["grouped"].channels_dead, found["grouped"].channels_pruned) == (4, 1, 0)
    # the first group keeps 2 × 2 pairs, the second 1 × 1
    assert found["grouped"].parameters_removable == 9 * (8 - 5) + 1


def test_unknown_operations_keep_everything_alive():
    class Sums(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, dim=1)

    network = nn.Sequential(nn.Conv2d(3, 2, 1), Sums(), nn.Conv2d(2, 2, 1))
    network[0].weight.data[0] = 0
    network[2].weight.data[:, 0] = 0
    first, second = structure_analysis.analyse(network, 4).layers
    assert (first.filters_pruned, first.filters_dead, second.channels_pruned, second.channels_dead) == (1, 0, 1, 0)


@pytest.mark.parametrize(("architecture", "variant"), VARIANTS)
def test_every_architecture_computes_the_same_without_its_dead_channels(architecture, variant):
    module = architectures.build(architecture, variant)
    prune_at_random(module, seed=1)
    size = 32 if architecture.startswith("resnet") else 64
    found = structure_analysis.analyse(module, size)
    assert sum(layer.filters_dead for layer in found.layers) > 20
    small = without_dead(module, size)
    assert_same_output(module, small, size)
    counted = {name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    assert {layer.name for layer in found.layers} == counted
    convolutions = [layer for layer in small.modules() if isinstance(layer, nn.Conv2d)]
    biases = sum(layer.bias.numel() for layer in convolutions if layer.bias is not None)
    gone = size_of(module) - size_of(small) + biases
    assert found.parameters_removable == gone


@pytest.mark.parametrize("name", ["mobilenet_v2", "timm/test_resnet", "timm/test_efficientnet"])
def test_public_networks_compute_the_same_without_their_dead_channels(name):
    """Depthwise convolutions, BatchNorm with its activation in one module, and gates (squeeze and excitation)."""
    module = architectures.build(name)
    prune_at_random(module, seed=1)
    found = structure_analysis.analyse(module, 64)
    assert sum(layer.filters_dead for layer in found.layers) > 20
    assert_same_output(module, without_dead(module, 64), 64)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "timm/test_convnext", "timm/test_nfnet"])
def test_multiply_adds_of_public_networks_match_the_count_of_torch(name):
    module = architectures.build(name).eval()
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        copy.deepcopy(module).to("meta")(torch.empty(1, 3, 96, 96))
    assert 2 * structure_analysis.analyse(module, 96).multiply_adds == counter.get_total_flops()


@given(st.integers(0, 10_000), st.sampled_from(["A", "B"]))
@settings(max_examples=8, deadline=None)
def test_removing_dead_channels_never_changes_the_output(seed, variant):
    module = architectures.build("resnet20", variant)
    prune_at_random(module, seed)
    assert_same_output(module, without_dead(module, 16), 16)


@pytest.mark.parametrize(("architecture", "variant"), VARIANTS)
def test_multiply_adds_match_the_count_of_torch(architecture, variant):
    module = architectures.build(architecture, variant).eval()
    size = architectures.ARCHITECTURES[architecture].transform.crop
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        copy.deepcopy(module).to("meta")(torch.empty(1, 3, size, size))
    found = structure_analysis.analyse(module, size)
    assert 2 * found.multiply_adds == counter.get_total_flops()
    assert found.parameters == size_of(module)
    assert found.multiply_adds_removable == found.parameters_removable == 0


def test_resnet50_has_the_figures_stated_by_torchvision():
    meta = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta
    found = structure_analysis.analyse(torchvision.models.resnet50(weights=None).eval(), 224)
    assert found.parameters == meta["num_params"]
    assert round(found.multiply_adds / 1e9, 3) == meta["_ops"]
    assert found.bytes_dense / 2**20 == pytest.approx(meta["_file_size"], rel=2e-3)


def test_sparse_numbers_follow_the_mask():
    module = architectures.build("resnet20", "B").eval()
    mask = masks.top_k(module, 0.9)
    masks.apply(module, mask)
    found = structure_analysis.analyse(module, 32)
    assert found.sparsity == masks.sparsity(mask).total
    for layer in found.layers:
        kept = mask.tensors[f"{layer.name}.weight"]
        assert layer.nonzero == int(kept.sum())
        assert layer.multiply_adds_sparse == layer.nonzero * math.prod(layer.output)
        assert layer.filters_pruned == int((~kept.flatten(1).any(1)).sum())
        assert layer.channels_pruned == int((~kept.transpose(0, 1).flatten(1).any(1)).sum())


def test_the_image_of_a_mask_shows_kept_shares():
    kept = np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(structure.image(kept.reshape(4, 2, 3, 1), 10, 10), kept)
    np.testing.assert_array_equal(structure.image(kept, 2, 3), [[0.75, 0, 0.75], [0.5, 0.5, 0.5]])
    assert structure.image(np.ones((7, 3, 3, 3), bool), 3, 5).tolist() == [[1.0] * 5] * 3


def test_structures_are_stored_by_hash(home, monkeypatch):
    backbone = make_backbone()
    found = structure_analysis.analyse_cached(home, backbone)
    assert structure.recall(home, backbone.hash) == structure.recall_card(home, backbone.card) == found
    assert found == dataclasses.replace(structure_analysis.analyse(backbone.module, 32), hash=backbone.hash)
    assert masks.load(structure.mask_file(home, backbone.hash)) == backbone.mask
    monkeypatch.setattr(structure_analysis, "analyse", None)  # must not run again
    assert structure_analysis.analyse_cached(home, backbone) == found


def test_stored_structures_expire_if_the_card_changes_or_the_file_is_damaged(home):
    backbone = make_backbone()
    found = structure_analysis.analyse_cached(home, backbone)
    assert structure.recall_card(home, dataclasses.replace(backbone.card, sparsity=0.5)) is None
    assert structure.recall_card(home, dataclasses.replace(backbone.card, name="other")) is None
    weights = home / "backbones" / f"{backbone.card.name}.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"another network")
    assert structure.recall_card(home, backbone.card) is None
    weights.unlink()
    assert structure.recall_card(home, backbone.card) == found
    file = home / "structure" / f"{backbone.hash}.json"
    for text in ("", "{", json.dumps({"input_size": 3})):
        file.write_text(text)
        assert structure.recall(home, backbone.hash) is None
        assert structure_analysis.analyse_cached(home, backbone) == found
    structure.mask_file(home, backbone.hash).unlink()
    assert structure.recall(home, backbone.hash) is None


def test_reading_stored_structures_needs_no_torch(home):
    structure_analysis.analyse_cached(home, make_backbone())
    script = "import pathlib; from sparse_core.networks import structure;"
    assert not loads_torch(script + "assert structure.recall(pathlib.Path(sys.argv[1]), 'abc').layers", home)


def test_pooling_over_positions_that_hold_channels_needs_them_all():
    """As hybrids of convolutions and attention do: what is averaged are the filters themselves."""

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.last = nn.Linear(8, 5)

        def forward(self, images):
            turned = self.conv(images).permute(0, 2, 3, 1)  # (N, 8, 8, 4): rows are the channels now
            return self.last(nn.functional.adaptive_avg_pool2d(turned, 1).flatten(1))

    analysis = channels.analyse(Turned().eval(), 8)
    assert [entry.name for entry in analysis.layers] == ["conv", "last"]
    assert not any(entry.filters_dead.any() or entry.channels_dead.any() for entry in analysis.layers)


def test_networks_that_cannot_be_traced_are_refused():
    class DataDependent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(x) if x.sum() > 0 else x

    class Reused(DataDependent):
        def forward(self, x):
            return self.conv(self.conv(x))

    assert "cannot be traced" in refused(structure_analysis.analyse, DataDependent(), 8)
    assert "'conv' is used in two places" in refused(structure_analysis.analyse, Reused(), 8)
    assert "no convolution" in refused(structure_analysis.analyse, nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), 2)
    assert "cannot be traced" in refused(structure_analysis.analyse, nn.Sequential(nn.Conv2d(5, 3, 1)), 8)


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make_backbone():
    card = BackboneCard("small/one", "resnet20", "CIFAR-10", "Magnitude", 0.8, "file", "", True)
    module = architectures.build("resnet20", "A").eval()
    mask = masks.top_k(module, 0.8)
    masks.apply(module, mask)
    with torch.no_grad():
        module.conv1.weight[mask.tensors["conv1.weight"]] = 0  # kept although 0: only the mask shows that
    return SimpleNamespace(card=card, module=module, mask=mask, hash="abc", transform=SimpleNamespace(crop=32))


def prune_at_random(module: nn.Module, seed: int) -> None:
    """Zero random filters, channels and weights, and randomise BatchNorm statistics and parameters."""
    generator = torch.Generator().manual_seed(seed)

    def chosen(size: int, share: float) -> torch.Tensor:
        picks = torch.rand(size, generator=generator) < share
        picks[0] = False  # keeps the network alive
        return picks

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.data
            weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight[0].numel()))
            weight.view(-1)[chosen(weight.numel(), 0.3)] = 0
            weight[chosen(len(weight), 0.3)] = 0
            weight[:, chosen(weight.shape[1], 0.3)] = 0
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 2)
            layer.running_var.copy_(0.5 + torch.rand(layer.running_var.shape, generator=generator))
            layer.weight.data[chosen(len(layer.weight), 0.1)] = 0
    module.eval()


def without_dead(module: nn.Module, size: int) -> nn.Module:
    """A copy without dead filters and channels; constants move into biases."""
    analysis = channels.analyse(module, size)
    small = copy.deepcopy(module)
    for entry in analysis.layers:
        layer = small.get_submodule(entry.name)
        weight = layer.weight.data
        constants = torch.from_numpy(np.where(entry.channels_dead, np.nan_to_num(entry.constants), 0)).float()
        filters, inputs = torch.from_numpy(~entry.filters_dead), torch.from_numpy(~entry.channels_dead)
        if layer.groups == 1:
            bias = torch.einsum("fcij,c->f", weight, constants)
            weight = weight[:, inputs]
        else:
            bias = torch.zeros(len(weight))
            layer.groups = int(filters.sum())
        if layer.bias is not None or bool(bias.any()):
            layer.bias = nn.Parameter((bias if layer.bias is None else bias + layer.bias.data)[filters])
        layer.weight = nn.Parameter(weight[filters])
    for name, dead in analysis.norms_dead.items():
        norm = small.get_submodule(name)
        keep = torch.from_numpy(~dead)
        norm.weight, norm.bias = nn.Parameter(norm.weight.data[keep]), nn.Parameter(norm.bias.data[keep])
        norm.running_mean, norm.running_var = norm.running_mean[keep], norm.running_var[keep]
    cut_shortcuts(small, {entry.name: entry for entry in analysis.layers})
    return small


def cut_shortcuts(small: nn.Module, entries: dict) -> None:
    """Make zero-padding shortcuts (type A) work on the remaining channels."""

    class Around(nn.Module):
        def __init__(self, shortcut, inputs, outputs):
            super().__init__()
            self.shortcut, self.inputs, self.outputs = shortcut, inputs, outputs

        def forward(self, x):
            whole = x.new_zeros(len(x), len(self.inputs), *x.shape[2:])
            whole[:, self.inputs] = x
            return self.shortcut(whole)[:, self.outputs]

    for name, block in list(small.named_modules()):
        if isinstance(getattr(block, "shortcut", None), ZeroPaddedShortcut):
            inputs = torch.from_numpy(~entries[f"{name}.conv1"].channels_dead)
            outputs = torch.from_numpy(~entries[f"{name}.conv2"].filters_dead)
            block.shortcut = Around(block.shortcut, inputs, outputs)


def assert_same_output(module: nn.Module, small: nn.Module, size: int) -> None:
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = module(images), small(images)
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
