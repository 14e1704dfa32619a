"""Compiled networks against torch on every architecture, dense and sparse; batches, precision, threads, memory, refusals."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import deepsparse_speed
from sparse_core.engines import compiling, machine
from sparse_core.engines.compiled import Compiled
from sparse_core.networks import architectures, masks
from tests.support.engines import ENGINES, calibrated, features, images
from tests.support.networks import FourierTransform
from tests.support.refusals import refused

NETWORKS = [(name, variant) for name, known in architectures.ARCHITECTURES.items() for variant in known.variants]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
@pytest.mark.parametrize("network", NETWORKS, ids="-".join)
def test_engines_agree_with_torch(network, sparsity, engine):
    torch.manual_seed(0)
    module = architectures.build(*network)
    if sparsity:
        masks.apply(module, masks.top_k(module, sparsity, "uniform"))
    calibrated(module)
    with compiling.compile(engine, module, 32, 2, 1) as compiled:
        difference = compiling.difference(compiled, module)
        assert difference <= compiling.TOLERANCE["fp32"]
        assert compiling.is_exact(compiled, difference)
        assert (compiled.engine, compiled.precision, compiled.batch_size, compiled.threads) == (engine, "fp32", 2, 1)
        assert compiled.seconds_to_compile > 0 and compiled.version


@pytest.mark.parametrize("engine", ENGINES)
def test_any_number_of_images_runs_in_batches(small, engine):
    expected = features(small, images(7))
    with compiling.compile(engine, small, 32, 3, 1) as compiled:
        for number in (1, 3, 7):
            found = compiled.run(images(7)[:number])
            np.testing.assert_allclose(found, expected[:number], atol=1e-4 * np.abs(expected).max())
        first = compiled.run(images(2))
        kept = first.copy()
        compiled.run(images(3, seed=2))
        np.testing.assert_array_equal(first, kept)  # a later run leaves earlier results unchanged


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(2, 3, 31, 32), (2, 1, 32, 32), (3, 32, 32), (0, 3, 32, 32)])
def test_images_of_another_shape_are_refused(compiled_small, engine, shape):
    refused(compiled_small(engine).run, np.zeros(shape, np.float32), match=r"Expected images of shape \(N, 3, 32, 32\)")


def test_only_torch_computes_in_bf16(small):
    with compiling.compile("torch", small, 32, 2, precision="bf16") as compiled:
        assert compiled.precision == "bf16"
        difference = compiling.difference(compiled, small)
        assert 0 < difference <= compiling.TOLERANCE["bf16"]
    message = refused(compiling.compile, "onnxruntime", small, 32, 2, precision="bf16")
    assert "precision bf16 needs the engine torch" in message


def test_the_best_precision_is_fp32_without_native_bf16(small, monkeypatch):
    monkeypatch.setattr("sparse_core.engines.torch_engine.native_bf16", lambda: False)
    with compiling.compile("torch", small, 32, 2, precision="best") as compiled:
        assert compiled.precision == "fp32"


def test_torch_uses_the_engines_threads_only_while_it_runs(small):
    before = torch.get_num_threads()
    torch.set_num_threads(machine.cores())
    seen = []
    watched = nn.Sequential(small, nn.Flatten())
    watched.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    try:
        with compiling.compile("torch", small, 32, 2, 1) as compiled:
            compiled._forward = watched
            compiled.run(images(2))
        assert seen == [1]
        assert torch.get_num_threads() == machine.cores()
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux measures it.")
@pytest.mark.parametrize("engine", ENGINES)
def test_memory_counts_the_engine_and_its_batch_only(small, engine):
    """At 128 pixels an image takes 0.2 MB, which even an engine that runs in chunks holds for the whole batch."""
    held = np.ones(300 * 2**20, np.uint8)  # by this process before and meanwhile
    del held
    held = np.ones(100 * 2**20, np.uint8)
    taken = {}
    for batch_size in (1, 128):
        with compiling.compile(engine, small, 128, batch_size, 1) as compiled:
            assert compiled.peak_memory_bytes is None
            compiled.measure_memory()
            taken[batch_size] = compiled.peak_memory_bytes
    images_bytes = 127 * 3 * 128 * 128 * 4
    assert 0 <= taken[1] < len(held)
    assert taken[128] > taken[1] + 0.7 * images_bytes


def test_memory_is_null_if_the_system_cannot_measure_it(small, monkeypatch, tmp_path):
    monkeypatch.setattr("sparse_core.linux.PROC", tmp_path / "nowhere")
    with compiling.compile("torch", small, 32, 2, 1) as compiled:
        compiled.measure_memory()
    assert compiled.peak_memory_bytes is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "deepspars"}, "Unknown engine 'deepspars'. Did you mean deepsparse?"),
        ({"precision": "fp16"}, "Unknown precision 'fp16'"),
        ({"batch_size": 0}, "The batch size must be at least 1; got 0."),
        ({"input_size": 0}, "The input size must be at least 1; got 0."),
        ({"threads": machine.cores() + 1}, f"as many as this machine has cores; got {machine.cores() + 1}."),
        ({"threads": -1}, "threads, as many as this machine has cores; got -1."),
    ],
)
def test_wrong_settings_are_refused_in_one_line(small, given, message):
    settings = {"name": "onnxruntime", "module": small, "input_size": 32, "batch_size": 2, "threads": 1, **given}
    assert message in refused(compiling.compile, **settings)


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_a_network_that_cannot_be_exported_is_refused(engine):
    assert "cannot be exported to ONNX" in refused(compiling.compile, engine, FourierTransform().eval(), 32, 2, 1)


def test_a_difference_is_relative_to_the_largest_feature(small):
    class Off(Compiled):
        def _run_batch(self, given):
            expected = features(small, given)
            return expected + 0.01 * np.abs(expected).max()

    compiled = Off("torch", 32, 2, 1)
    difference = compiling.difference(compiled, small)
    assert difference == pytest.approx(0.01, rel=1e-3)
    assert not compiling.is_exact(compiled, difference)
    compiled.precision = "bf16"
    assert compiling.is_exact(compiled, difference)
    assert not compiling.is_exact(compiled, float("nan"))


def test_features_that_are_not_finite_are_not_exact(small):
    class Broken(Compiled):
        def _run_batch(self, given):
            return np.full((len(given), 64), np.nan, np.float32)

    assert compiling.difference(Broken("torch", 32, 2, 1), small) == float("inf")


def test_the_benchmark_stops_if_an_output_differs_too_much(small):
    with compiling.compile("onnxruntime", small, 32, 2, 1) as compiled:
        networks, modules = {"dense": compiled}, {"dense": small}
        assert 0 <= deepsparse_speed.differences(networks, modules)["dense"] <= compiling.TOLERANCE["fp32"]
        right = compiled._run_batch
        compiled._run_batch = lambda given: 1.1 * right(given)
        with pytest.raises(SystemExit) as end:
            deepsparse_speed.differences(networks, modules)
    assert "The output of ONNX Runtime differs from PyTorch's in fp32 by 1.0e-01" in end.value.code
