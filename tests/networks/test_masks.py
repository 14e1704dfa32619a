"""Masks against hand-computed densities, torch's own pruning and a plain sort; mask files; refusals."""

import json

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn.utils import prune

from sparse_core.catalog import DISTRIBUTIONS
from sparse_core.errors import InputError
from sparse_core.networks import masks, packed_masks
from sparse_core.networks.masks import Mask
from tests.support.imports import loads_torch
from tests.support.refusals import refused

ONES = {"w": torch.ones(2, 2)}
SHAPES = {"a": (1, 1, 3, 3), "b": (8, 1, 3, 3), "c": (16, 8, 3, 3), "d": (9, 8, 1, 1)}


@st.composite
def weights(draw):
    """A few small layers with weights from few values, so that there are many ties."""
    names = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True))
    sizes = st.tuples(*[st.integers(1, 4)] * 4)
    seed = draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(-3, 4, draw(sizes), generator=generator).float() for name in names}


sparsities = st.floats(0, 1, exclude_max=True)


def by_sorting(values: torch.Tensor, pruned: int) -> np.ndarray:
    """Keep all but the first ``pruned`` in order of magnitude, then of index."""
    flat = values.flatten().abs().numpy()
    kept = np.ones(len(flat), bool)
    kept[np.argsort(flat, kind="stable")[:pruned]] = False
    return kept


@given(weights(), sparsities)
def test_global_top_k_is_a_stable_sort_over_all_weights(weights, sparsity):
    flat = torch.cat([weight.flatten() for weight in weights.values()])
    mask = masks.top_k(weights, sparsity)
    kept = np.concatenate([tensor.flatten().numpy() for tensor in mask.tensors.values()])
    np.testing.assert_array_equal(kept, by_sorting(flat, round(sparsity * len(flat))))


@given(weights(), sparsities)
def test_uniform_top_k_is_a_stable_sort_in_each_layer(weights, sparsity):
    for name, kept in masks.top_k(weights, sparsity, "uniform").tensors.items():
        expected = by_sorting(weights[name], round(sparsity * weights[name].numel()))
        np.testing.assert_array_equal(kept.flatten().numpy(), expected)


@given(weights(), sparsities)
def test_erk_prunes_the_exact_total_and_each_layer_to_within_a_weight(weights, sparsity):
    mask = masks.top_k(weights, sparsity, "erk")
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    size = sum(weight.numel() for weight in weights.values())
    kept = {name: int(tensor.sum()) for name, tensor in mask.tensors.items()}
    assert size - sum(kept.values()) == round(sparsity * size)
    for name, density in masks.densities(shapes, sparsity, "erk").items():
        assert 0 <= density <= 1
        assert abs(kept[name] - density * weights[name].numel()) < 1 + 1e-6
    for name, tensor in mask.tensors.items():
        pruned = weights[name].numel() - kept[name]
        np.testing.assert_array_equal(tensor.flatten().numpy(), by_sorting(weights[name], pruned))


@given(weights(), sparsities, st.sampled_from(sorted(DISTRIBUTIONS)))
def test_the_first_layer_stays_dense_on_request(weights, sparsity, distribution):
    sizes = [weight.numel() for weight in weights.values()]
    if distribution != "uniform" and round(sparsity * sum(sizes)) > sum(sizes[1:]):
        with pytest.raises(InputError, match="With the first layer kept dense the sparsity can be at most"):
            masks.top_k(weights, sparsity, distribution, dense_first=True)
        return
    first, *others = masks.top_k(weights, sparsity, distribution, dense_first=True).tensors.values()
    assert bool(first.all())
    whole = sizes[1:] if distribution == "uniform" else [sum(sizes)]
    assert sum(int((~kept).sum()) for kept in others) == sum(round(sparsity * size) for size in whole)


def test_erk_densities_computed_by_hand():
    # Sizes 9, 72, 1,152, 72: 1,305 weights. Kept weights are proportional to the sums of the shapes: 8, 15, 30, 19; total 72.
    # At 96 % 52.2 are kept, 0.725 per unit, and no layer exceeds its size.
    expected = {"a": 5.8 / 9, "b": 10.875 / 72, "c": 21.75 / 1152, "d": 13.775 / 72}
    assert masks.densities(SHAPES, 0.96, "erk") == pytest.approx(expected)
    # At 90 % 130.5 are kept, 1.8125 per unit: 14.5 for a, which has 9 and stays dense; the others share 121.5 over 64.
    unit = 121.5 / 64
    expected = {"a": 1, "b": 15 * unit / 72, "c": 30 * unit / 1152, "d": 19 * unit / 72}
    assert masks.densities(SHAPES, 0.9, "erk") == pytest.approx(expected)
    # At 50 % 652.5 are kept, 9.0625 per unit: 72.5 for a, 135.9 for b and 172.2 for d, all above their sizes.
    assert masks.densities(SHAPES, 0.5, "erk") == pytest.approx({"a": 1, "b": 1, "c": 499.5 / 1152, "d": 1})


def test_uniform_densities():
    expected = {"a": 1, "b": 0.1, "c": 0.1, "d": 0.1}
    assert masks.densities(SHAPES, 0.9, "uniform", dense_first=True) == pytest.approx(expected)


def test_given_densities_keep_the_largest_weights_of_each_layer():
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Conv2d(2, 1, 1, bias=False))
    network[0].weight.data = torch.tensor([4.0, -1, 3, -2, 8, 7, 6, -5]).view(2, 1, 2, 2)
    mask = masks.with_densities(network, {"0.weight": 0.5, "1.weight": 1.0})
    assert mask.tensors["0.weight"].flatten().tolist() == [False, False, False, False, True, True, True, True]
    assert mask.tensors["1.weight"].all()
    refused(masks.with_densities, network, {"0.weight": 0.5}, match=r"1\.weight is only in one")


def test_scores_replace_magnitudes():
    weights = {"w": torch.tensor([[4.0, 3.0], [2.0, 1.0]])}
    mask = masks.top_k(weights, 0.5, scores={"w": torch.tensor([[0.0, 1.0], [-2.0, 3.0]])})
    assert mask.tensors["w"].tolist() == [[False, True], [False, True]]


def test_global_magnitude_pruning_is_that_of_torch():
    torch.manual_seed(0)
    module = torchvision.models.resnet18(weights=None)
    mask = masks.top_k(module, 0.7)
    convolutions = [(layer, "weight") for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    prune.global_unstructured(convolutions, prune.L1Unstructured, amount=0.7)
    for name, kept in mask.tensors.items():
        layer = module.get_submodule(name.removesuffix(".weight"))
        assert torch.equal(kept, layer.weight_mask.bool())


def test_ties_prune_the_lowest_index_first():
    module = nn.Conv2d(1, 4, 1, bias=False)
    module.weight.data.fill_(0.5)
    assert masks.top_k(module, 0.5).tensors["weight"].flatten().tolist() == [False, False, True, True]


@given(weights(), sparsities)
@settings(max_examples=30, deadline=None)
def test_a_mask_file_round_trip(tmp_path_factory, weights, sparsity):
    path = tmp_path_factory.mktemp("mask") / "mask.safetensors"
    mask = masks.top_k(weights, sparsity)
    masks.save(mask, path)
    loaded = masks.load(path)
    assert loaded == mask
    assert list(loaded.tensors) == list(mask.tensors)


def test_a_mask_file_takes_one_bit_per_weight(tmp_path):
    mask = masks.top_k(torchvision.models.resnet18(weights=None), 0.5)
    masks.save(mask, tmp_path / "mask")
    weights = sum(kept.numel() for kept in mask.tensors.values())
    assert (tmp_path / "mask").stat().st_size < weights / 8 + 8000


@given(weights(), sparsities, sparsities)
def test_overlap_is_counted_weight_by_weight(weights, one, other):
    a, b = masks.top_k(weights, one), masks.top_k(weights, other)
    kept = [{(name, *place) for name, t in m.tensors.items() for place in t.nonzero().tolist()} for m in (a, b)]
    either = len(kept[0] | kept[1])
    expected = len(kept[0] & kept[1]) / either if either else 1.0
    packed = [{name: np.packbits(kept.numpy().ravel()) for name, kept in m.tensors.items()} for m in (a, b)]
    for first, second in (packed, reversed(packed)):
        assert packed_masks.iou(packed_masks.overlaps(first, second).values()) == pytest.approx(expected)
    for pair in packed_masks.overlaps(packed[0], packed[0]).values():
        assert packed_masks.iou([pair]) == 1


@given(weights(), sparsities)
def test_a_network_pruned_by_a_mask_has_its_sparsity_and_no_violation(weights, sparsity):
    module = nn.ModuleDict({name: nn.Conv2d(w.shape[1], w.shape[0], w.shape[2:]) for name, w in weights.items()})
    mask = masks.top_k(module, sparsity)
    pruned = sum(int((~kept).sum()) for kept in mask.tensors.values())
    assert masks.violations(module, mask) == pruned
    masks.apply(module, mask)
    assert masks.violations(module, mask) == 0
    assert masks.sparsity(module) == masks.sparsity(mask)
    assert masks.sparsity(mask).total == pruned / sum(kept.numel() for kept in mask.tensors.values())
    assert masks.from_zeros(module) == mask


def test_whole_network_sparsity_counts_the_classifier_but_no_bias_and_no_batch_norm():
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 4))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    module[0].weight.data.view(-1)[:6] = 1.0
    module[3].weight.data.view(-1)[:2] = float("nan")
    assert masks.sparsity(module) == masks.Sparsity(0.25, {"0.weight": 0.25})
    assert masks.network_sparsity(module) == masks.Sparsity(0.5, {"0.weight": 0.25, "3.weight": 0.75})
    assert masks.network_sparsity({"w": torch.tensor([0.0, 1.0])}).total == 0.5


def test_a_pruned_weight_that_is_not_a_number_is_a_violation():
    module = nn.Conv2d(1, 2, 1)
    module.weight.data = torch.tensor([float("nan"), -0.0]).view(2, 1, 1, 1)
    assert masks.violations(module, Mask({"weight": torch.zeros(2, 1, 1, 1, dtype=torch.bool)})) == 1


def test_a_mask_moves_to_the_device_of_its_weights():
    module = nn.Conv2d(1, 2, 1, device="meta")
    ((weight, kept),) = masks._pairs(module, Mask({"weight": torch.ones(2, 1, 1, 1, dtype=torch.bool)}))
    assert kept.device == weight.device == torch.device("meta")


def test_equality_of_masks():
    kept = torch.tensor([True, False])
    assert Mask({"w": kept}) == Mask({"w": kept.clone()})
    assert Mask({"w": kept}) != Mask({"w": ~kept})
    assert Mask({"w": kept}) != Mask({"v": kept})
    assert Mask({"w": kept}) != Mask({"w": kept.view(2, 1)})
    assert Mask({"w": kept}) != {"w": kept}


def test_tensors_of_zeros_and_ones_become_a_mask():
    expected = Mask({"w": torch.tensor([True, False])})
    for dtype in (torch.float32, torch.uint8, torch.bool):
        assert masks.from_tensors({"w": torch.tensor([1, 0], dtype=dtype)}) == expected


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (Mask, ({},), "at least one weight"),
        (Mask, ({"w": torch.ones(2)},), r"boolean tensors; 'w' is torch\.float32"),
        (Mask, ({"w": [True]},), "boolean tensors; 'w' is list"),
        (Mask, ({"w": torch.ones(0, dtype=torch.bool)},), "with elements"),
        (Mask, ({"": torch.ones(1, dtype=torch.bool)},), "non-empty text"),
        (masks.from_tensors, ({"w": torch.tensor([0.5])},), "only 0 and 1"),
        (masks.from_tensors, ({"w": torch.tensor([float("nan")])},), "only 0 and 1"),
        *((masks.top_k, (ONES, sparsity), "sparsity must be in") for sparsity in (1.0, -0.1, float("nan"))),
        (masks.top_k, (ONES, 0.5, "ERK"), "Unknown distribution 'ERK'"),
        (masks.top_k, (nn.Linear(2, 2), 0.5), "no convolution"),
        (masks.top_k, ({"w": torch.tensor([1.0, float("inf")])}, 0.5), "NaN or infinite"),
        (masks.top_k, (ONES, 0.5, "global", {}), r"Expected scores of shape \(2, 2\) for 'w'; got missing"),
        (masks.top_k, (ONES, 0.5, "global", {"w": torch.ones(4)}), r"got \(4,\)"),
        (masks.densities, (SHAPES, 0.5, "global"), "depend on the weights"),
    ],
)
def test_invalid_masks_and_requests_are_refused(function, arguments, message):
    refused(function, *arguments, match=message)


def test_a_mask_of_another_network_is_refused_and_nothing_changes():
    module = nn.Conv2d(1, 2, 1)
    before = module.weight.clone()
    for wrong in ({"weight": torch.zeros(2, 1, dtype=torch.bool)}, {"other": torch.zeros(1, dtype=torch.bool)}):
        for use in (masks.apply, masks.violations):
            assert "mask" in refused(use, module, Mask(wrong))
    assert torch.equal(module.weight, before)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "mask.safetensors"
    masks.save(Mask({"w": torch.tensor([True, False, True]), "v": torch.ones(20, dtype=torch.bool)}), path)
    good = path.read_bytes()
    tensors = load_file(path)
    metadata = {"format": packed_masks.FORMAT, "shapes": json.dumps({"w": [3], "v": [20]}), "sha256": "0"}
    assert "does not exist" in refused(masks.load, tmp_path / "missing")
    assert "not a mask file" in refused(masks.load, tmp_path)
    for content in (b"", b"junk", good[: len(good) // 2], good[:-1], b"\xff" * 8 + good[8:]):
        path.write_bytes(content)
        assert "not a mask file, or it is damaged" in refused(masks.load, path)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "checksum does not match" in refused(masks.load, path)
    for change, message in (
        ({"format": "other"}, "does not name the format"),
        ({"shapes": json.dumps({"w": [3]})}, "do not match its shapes"),
        ({"shapes": json.dumps({"w": [300], "v": [20]})}, "do not match its shapes"),
        ({"shapes": json.dumps({"w": [-3], "v": [20]})}, "shapes are invalid"),
        ({"shapes": json.dumps({"w": [3.0], "v": [20]})}, "shapes are invalid"),
        ({"shapes": "[[" * 100_000}, "missing or unreadable"),
        ({"shapes": "{}"}, "shapes are invalid"),
        ({}, "checksum does not match"),
    ):
        save_file(tensors, path, {**metadata, **change})
        refused(masks.load, path, match=message)
    save_file({"w": np.ones(1, np.float32), "v": tensors["v"]}, path, metadata)
    assert "do not match its shapes" in refused(masks.load, path)
    save_file(tensors, path)
    assert "does not name the format" in refused(masks.load, path)


def test_reading_masks_needs_no_torch():
    assert not loads_torch("from sparse_core.networks import packed_masks")
