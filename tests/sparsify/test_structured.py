"""Whole filters: which go, that what reads them goes too, and that the compact form computes the same."""

import copy

import numpy as np
import pytest
import torch

from sparse_core.networks import architectures, channel_groups, masks, structure_analysis
from sparse_core.sparsify import structured
from sparse_core.sparsify.methods import METHODS
from tests.support.networks import live_batch_norm
from tests.support.refusals import refused
from tests.support.sparsify import tiny_spec

SIDES = {"resnet20": 32, "resnet18": 64, "resnet50": 64, "mobilenet_v1": 64, "efficientnet_lite0": 64}


def pruned(name, sparsity, distribution="uniform", variant=""):
    torch.manual_seed(0)
    body = live_batch_norm(architectures.build(name, variant)).eval()
    groups = channel_groups.find(body)
    kept = structured.choose(body, groups, sparsity, distribution)
    masks.apply(body, structured.structured_mask(body, groups, kept))
    structured.silence(body, groups, kept)
    return body, groups, kept


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("distribution", ["uniform", "global"])
def test_the_compact_form_is_smaller_and_computes_the_same(name, distribution):
    body, _, _ = pruned(name, 0.5, distribution)
    smaller = channel_groups.compact_form(body)
    images = torch.randn(2, 3, SIDES[name], SIDES[name], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = body(images), smaller(images)
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    sizes = [sum(weight.numel() for weight in masks.prunable(each).values()) for each in (smaller, body)]
    assert 1 - sizes[0] / sizes[1] == pytest.approx(masks.sparsity(body).total, abs=1e-6)
    assert masks.sparsity(body).total == pytest.approx(0.5, abs=0.02)


def test_a_network_with_all_its_filters_has_no_compact_form():
    assert channel_groups.compact_form(architectures.build("resnet20")) is None


def test_only_filters_inside_blocks_of_a_resnet_are_free():
    groups = channel_groups.find(architectures.build("resnet20", "B"))
    assert [group.producer for group in groups] == [f"layer{i}.{j}.conv1" for i in (1, 2, 3) for j in range(3)]
    assert groups[0].norms == ("layer1.0.bn1",) and groups[0].consumers == ("layer1.0.conv2",)
    bottlenecks = channel_groups.find(architectures.build("resnet50"))
    assert {group.producer[-5:] for group in bottlenecks} == {"conv1", "conv2"} and len(bottlenecks) == 32
    depthwise = channel_groups.find(architectures.build("mobilenet_v1"))
    assert all(len(group.depthwise) == 1 and len(group.norms) == 2 for group in depthwise) and len(depthwise) == 12


def test_the_filters_with_the_smallest_norm_go_first():
    body, groups, kept = pruned("resnet20", 0.4)
    torch.manual_seed(0)
    whole = architectures.build("resnet20")
    for group in groups:
        norms = whole.get_submodule(group.producer).weight.detach().abs().sum((1, 2, 3)).numpy()
        flags = kept[group.producer]
        assert norms[~flags].max() <= norms[flags].min()
        reader = body.get_submodule(group.consumers[0]).weight
        assert not bool(reader[:, ~flags].any())
    equal = copy.deepcopy(whole)
    for weight in masks.prunable(equal).values():
        weight.fill_(1.0)
    first = structured.choose(equal, groups, 0.4, "uniform")["layer1.0.conv1"]
    assert not np.diff(first.astype(int)).min() < 0  # of equal filters the first go


def test_structure_counts_the_removed_filters_as_removable():
    body, _, kept = pruned("resnet20", 0.6)
    removed = sum(int((~flags).sum()) for flags in kept.values())
    layers = structure_analysis.analyse(body, 32).layers
    assert sum(layer.filters_dead for layer in layers) >= removed
    assert sum(layer.filters_pruned for layer in layers) == removed


def test_removed_filters_stay_removed_while_the_rest_trains(dense_backbone, digits):
    result = METHODS["Structured"](dense_backbone, digits, tiny_spec("Structured", sparsity=0.6), 1)
    body = result.network.body
    assert masks.violations(body, result.mask) == 0
    assert result.details["filters_removed"] > 0
    for group in channel_groups.find(body):
        removed = ~body.get_submodule(group.producer).weight.flatten(1).any(1)
        norm = body.get_submodule(group.norms[0])
        assert not bool(norm.weight[removed].any()) and not bool(norm.bias[removed].any())
    images = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(channel_groups.compact_form(body)(images), body(images), rtol=1e-5, atol=1e-5)


def test_targets_out_of_reach_and_single_weights_densities_are_refused():
    body = architectures.build("resnet50")
    groups = channel_groups.find(body)
    assert "cannot be reached: it is at most" in refused(structured.choose, body, groups, 0.999, "uniform")
    assert "uniformly or globally" in refused(structured.choose, body, groups, 0.5, "erk")
