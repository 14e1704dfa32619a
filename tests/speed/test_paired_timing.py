"""The networks that are compared; turns, precision, and rounds that are repeated."""

import pytest
import torch

from sparse_core.engines import compiling
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import InputError
from sparse_core.networks import masks
from sparse_core.speed import inference
from sparse_core.speed.paired_timing import prepare
from sparse_core.views import speed_tables
from tests.support.engines import patched_compile
from tests.support.exporting import in_library, structured_state
from tests.support.refusals import refused
from tests.support.speed import ROUNDS, run, spec


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


def test_of_a_structured_backbone_the_compact_form_is_timed_and_named(home):
    backbone = in_library(home, "filters", structured_state("resnet20"), method="Structured")
    pair = prepare(home, spec(backbone="filters"))
    sizes = [sum(weight.numel() for weight in masks.prunable(each).values()) for each in (pair.sparse, pair.dense)]
    assert 1 - sizes[0] / sizes[1] == pytest.approx(backbone.sparsity, abs=1e-6)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(pair.sparse(images), backbone.module(images), rtol=1e-5, atol=1e-5)
    record = run(home, spec(backbone="filters"))
    assert (record["form"], record["measured_sparsity"]) == ("compact", pytest.approx(backbone.sparsity))
    (row,) = speed_tables.table(home, [record], {"filters": "filters: ResNet20"}).itertuples()
    assert (row.form, row.network, row.origin) == (
        "compact",
        "filters: ResNet20, compact form",
        "Structured, compact form",
    )


def test_other_backbones_are_timed_as_they_are(home, sparse_backbone):
    assert prepare(home, spec(backbone=sparse_backbone)).description["form"] == ""
