"""The networks that are compared; the arithmetic of ratios by hand; turns, precision, and rounds that are repeated."""

import numpy as np
import pytest
import torch

from sparse_core.engines import compiling
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.speed import inference
from sparse_core.speed.paired_timing import Ratio, paired_ratio, prepare
from tests.support.engines import patched_compile
from tests.support.refusals import refused
from tests.support.speed import ROUNDS, run, spec


def test_the_ratio_is_that_of_the_medians():
    found = paired_ratio([10, 12, 11, 13, 30], [5, 4, 5, 5, 6])
    assert found.ratio == pytest.approx(12 / 5)
    assert found.spread == pytest.approx((13 - 11) / 12)  # the sparse quartiles are both 5
    assert found.low <= found.ratio <= found.high


def test_the_interval_is_the_bootstraps_over_whole_rounds():
    generator = np.random.default_rng(5)
    busy = generator.lognormal(0, 0.3, 25)  # affects both networks of a round
    dense, sparse = 3 * busy * generator.lognormal(0, 0.1, 25), busy * generator.lognormal(0, 0.1, 25)
    rows = generator.integers(25, size=(20_000, 25))
    ratios = np.median(dense[rows], 1) / np.median(sparse[rows], 1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    found = paired_ratio(dense, sparse)
    assert found.low == pytest.approx(low, rel=0.03)
    assert found.high == pytest.approx(high, rel=0.03)
    assert found == paired_ratio(dense, sparse)


def test_what_slows_both_networks_of_a_round_leaves_the_ratio_unchanged():
    dense = [1.0, 5.0, 2.0, 9.0, 3.0]
    found = paired_ratio(dense, [value / 4 for value in dense])
    assert (found.ratio, found.low, found.high) == (4, 4, 4)


def test_constant_times_give_an_interval_of_one_value():
    assert paired_ratio([6, 6, 6], [2, 2, 2]) == Ratio(3, 3, 3, 0)


@pytest.mark.parametrize(
    ("dense", "sparse", "gain"),
    [
        ([3, 3.1, 2.9, 3], [1, 1.1, 0.9, 1], "faster"),
        ([1, 1.1, 0.9, 1], [3, 3.1, 2.9, 3], "slower"),
        ([1, 3, 1, 3, 1, 3], [3, 1, 3, 1, 3, 1], "no gain"),
        ([1, 1, 1], [1, 1, 1], "no gain"),
    ],
)
def test_the_gain_depends_on_which_side_of_1_the_interval_lies(dense, sparse, gain):
    assert paired_ratio(dense, sparse).gain == gain


@pytest.mark.parametrize(
    ("dense", "sparse"),
    [([1, 1], [1, 1]), ([], []), ([1, 1, 0], [1, 1, 1]), ([1, 1, 1], [1, -1, 1]), ([1, 1, float("nan")], [1, 1, 1])],
)
def test_too_few_rounds_and_invalid_times_are_refused(dense, sparse):
    assert "three rounds or more of times above 0" in refused(paired_ratio, dense, sparse)


def test_dense_and_sparse_take_turns_and_alternate_who_begins(home, seconds):
    turns = seconds([0.003] * 4, [0.001] * 4)
    (line,) = run(home, spec())["lines"]
    assert turns == ["sparse", "dense", "dense", "sparse"] * 2
    assert (line["ratio"], line["milliseconds_per_image"]) == (pytest.approx(3), pytest.approx(1))


@pytest.mark.parametrize("exact", [True, False])
def test_both_networks_run_in_one_precision_and_in_bf16_only_if_exact(home, monkeypatch, exact):
    asked = []

    def change(compile, name, module, size, batch_size, threads=0, precision="fp32"):
        asked.append(precision)
        return compile(name, module, size, batch_size, threads, "bf16" if precision == "best" else precision)

    patched_compile(monkeypatch, change)
    monkeypatch.setitem(compiling.TOLERANCE, "bf16", 2e-2 if exact else 0.0)
    (line,) = run(home, spec(engines=("torch",)))["lines"]
    if exact:
        assert (asked, line["precision"]) == (["bf16", "bf16", "best", "bf16"], "bf16")
    else:
        assert (asked, line["precision"]) == (["bf16", "fp32", "fp32"], "fp32")


def test_a_round_with_a_restart_is_repeated(home, seconds, monkeypatch):
    """The second round takes the sparse network 9 s, because its process is started again."""
    seconds([3, 3, 3, 3, 3], [1, 9, 1, 1, 1])
    timed = inference._seconds_per_batch

    def dying(compiled, *given):
        took = timed(compiled, *given)
        compiled.died = getattr(compiled, "died", 0) + (took > 4 * len(given[0]))
        return took

    monkeypatch.setattr(inference, "_seconds_per_batch", dying)
    monkeypatch.setattr(Compiled, "restarts", property(lambda compiled: getattr(compiled, "died", 0)))
    record = run(home, spec())
    (line,) = record["lines"]
    assert line["samples"] == {"dense": [3000] * ROUNDS, "sparse": [1000] * ROUNDS}
    assert line["restarts"] == 1 and "ONNX Runtime, batch 2: its process died" in record["problems"][0]


@pytest.mark.parametrize("distribution", ["uniform", "erk"])
def test_a_mask_for_timing_prunes_all_but_the_first_convolution(home, distribution):
    pair = prepare(home, spec(sparsity=0.8, distribution=distribution))
    zeros = {
        name: float((layer.weight == 0).float().mean())
        for name, layer in pair.sparse.named_modules()
        if isinstance(layer, torch.nn.Conv2d)
    }
    assert zeros.pop("conv1") == 0
    if distribution == "uniform":
        assert list(zeros.values()) == pytest.approx([0.8] * len(zeros), abs=0.01)
    else:
        assert max(zeros.values()) > 0.8 > min(zeros.values())
    assert masks.sparsity(pair.dense).total == 0


def test_a_mask_for_timing_takes_the_layer_densities_of_a_backbone(home, sparse_backbone):
    pair = prepare(home, spec(sparsity=0.0, densities_of=sparse_backbone))
    expected = masks.sparsity(prepare(home, spec(backbone=sparse_backbone)).sparse).layers
    assert masks.sparsity(pair.sparse).layers == pytest.approx(expected, abs=1e-9)
    assert (pair.description["timing_only"], pair.description["backbone"]) == (True, "")
    assert (pair.description["distribution"], pair.description["sparsity"]) == ("as in pruned", 0.8)
    with pytest.raises(InputError, match="only in one"):
        prepare(home, spec(architecture="resnet32", sparsity=0.0, densities_of=sparse_backbone))
    assert "need an architecture instead" in refused(spec, backbone=sparse_backbone, densities_of=sparse_backbone)
