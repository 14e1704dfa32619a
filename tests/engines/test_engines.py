"""Engines against torch on every architecture, dense and sparse; a worker that is killed; refusals. No test looks at a time."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from benchmarks import deepsparse_speed
from sparse_core.catalog import ENGINES
from sparse_core.engines import (
    availability,
    choice,
    compiling,
    deepsparse_client,
    deepsparse_engine,
    exactness,
    machine,
)
from sparse_core.engines.compiled import Compiled
from sparse_core.errors import InputError
from sparse_core.networks import architectures, masks

NETWORKS = [(name, variant) for name, known in architectures.ARCHITECTURES.items() for variant in known.variants]
ENGINES = [
    pytest.param(
        name, marks=pytest.mark.skipif(availability.missing(name) is not None, reason=str(availability.missing(name)))
    )
    for name in ENGINES
]
needs_deepsparse = pytest.mark.skipif(deepsparse_client.missing() is not None, reason=str(deepsparse_client.missing()))


def images(number, size=32, seed=0):
    return np.random.default_rng(seed).standard_normal((number, 3, size, size), dtype=np.float32)


def calibrated(network):
    """The network with BatchNorm statistics of its own activations: with others, a sparse one's features vanish."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(images(8, seed=1)))
    return network.eval()


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return calibrated(architectures.build("resnet20"))


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
        difference = exactness.difference(compiled, module)
        assert difference <= exactness.TOLERANCE["fp32"]
        assert exactness.is_exact(compiled, difference)
        assert (compiled.engine, compiled.precision, compiled.batch_size, compiled.threads) == (engine, "fp32", 2, 1)
        assert compiled.seconds_to_compile > 0 and compiled.version


@pytest.mark.parametrize("engine", ENGINES)
def test_any_number_of_images_is_run_in_batches(small, engine):
    with torch.no_grad():
        expected = small(torch.from_numpy(images(7))).numpy()
    with compiling.compile(engine, small, 32, 3, 1) as compiled:
        for number in (1, 3, 7):
            features = compiled.run(images(7)[:number])
            np.testing.assert_allclose(features, expected[:number], atol=1e-4 * np.abs(expected).max())
        first = compiled.run(images(2))
        kept = first.copy()
        compiled.run(images(3, seed=2))
        np.testing.assert_array_equal(first, kept)  # what was given stays as it was


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(2, 3, 31, 32), (2, 1, 32, 32), (3, 32, 32), (0, 3, 32, 32)])
def test_images_of_another_shape_are_refused(compiled_small, engine, shape):
    with pytest.raises(InputError, match=r"Expected images of shape \(N, 3, 32, 32\)"):
        compiled_small(engine).run(np.zeros(shape, np.float32))


@pytest.fixture(scope="module")
def compiled_small(small):
    compiled = {}

    def get(engine):
        if engine not in compiled:
            compiled[engine] = compiling.compile(engine, small, 32, 2, 1)
        return compiled[engine]

    yield get
    for one in compiled.values():
        one.close()


def test_bf16_is_torchs_and_named(small):
    with compiling.compile("torch", small, 32, 2, precision="bf16") as compiled:
        assert compiled.precision == "bf16"
        difference = exactness.difference(compiled, small)
        assert 0 < difference <= exactness.TOLERANCE["bf16"]
    with pytest.raises(InputError, match="precision bf16 needs the engine torch"):
        compiling.compile("onnxruntime", small, 32, 2, precision="bf16")


def test_the_best_precision_is_bf16_only_where_the_processor_has_it(small, monkeypatch):
    monkeypatch.setattr("sparse_core.engines.torch_engine.native_bf16", lambda: False)
    with compiling.compile("torch", small, 32, 2, precision="best") as compiled:
        assert compiled.precision == "fp32"


def test_torchs_threads_are_the_engines_only_while_it_runs(small):
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


def test_a_difference_is_relative_to_the_largest_feature(small):
    class Off(Compiled):
        def _run_batch(self, given):
            with torch.no_grad():
                expected = small(torch.from_numpy(given)).numpy()
            return expected + 0.01 * np.abs(expected).max()

    compiled = Off("torch", 32, 2, 1)
    difference = exactness.difference(compiled, small)
    assert difference == pytest.approx(0.01, rel=1e-3)
    assert not exactness.is_exact(compiled, difference)
    compiled.precision = "bf16"
    assert exactness.is_exact(compiled, difference)
    assert not exactness.is_exact(compiled, float("nan"))


def test_the_benchmark_ends_where_an_output_differs_too_much(small):
    with compiling.compile("onnxruntime", small, 32, 2, 1) as compiled:
        networks, modules = {"dense": compiled}, {"dense": small}
        assert 0 <= deepsparse_speed.differences(networks, modules)["dense"] <= exactness.TOLERANCE["fp32"]
        right = compiled._run_batch
        compiled._run_batch = lambda given: 1.1 * right(given)
        with pytest.raises(SystemExit) as end:
            deepsparse_speed.differences(networks, modules)
    assert "The output of ONNX Runtime differs from PyTorch's in fp32 by 1.0e-01" in end.value.code


def test_features_that_are_not_finite_differ(small):
    class Broken(Compiled):
        def _run_batch(self, given):
            return np.full((len(given), 64), np.nan, np.float32)

    assert exactness.difference(Broken("torch", 32, 2, 1), small) == float("inf")


@pytest.mark.parametrize(
    ("node", "layer"),
    [
        ("/layer1/layer1.0/conv1/Conv_output_0", "layer1.0.conv1"),
        ("/_blocks/_blocks.0/_depthwise_conv/Conv_output_0", "_blocks.0._depthwise_conv"),
        ("/conv1/Conv_output_0,/maxpool/MaxPool_output_0", "conv1"),
        ("/layer1/layer1.0/Add_output_0", "layer1.0"),
        ("<none>", "other"),
        ("features_pooled", "other"),
    ],
)
def test_layers_are_named_as_modules(node, layer):
    assert deepsparse_engine.layer_name(node) == layer


@needs_deepsparse
def test_deepsparse_tells_the_share_of_each_layer(small, compiled_small):
    shares = compiled_small("deepsparse").layer_shares(1)
    assert sum(shares.values()) == pytest.approx(1)
    convolutions = {name for name, layer in small.named_modules() if isinstance(layer, nn.Conv2d)}
    assert len(convolutions & set(shares)) > len(convolutions) / 2  # some are fused with the one before


def test_the_other_engines_do_not_tell(compiled_small):
    assert compiled_small("onnxruntime").layer_shares() is None
    assert compiled_small("torch").layer_shares() is None


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells.")
@pytest.mark.parametrize("engine", ENGINES)
def test_the_memory_is_that_of_the_engine_and_its_batch_alone(small, engine):
    """An engine that runs in chunks takes the more for its images only: 0.2 MB each at 128 pixels, activations 1 MB a layer."""
    held = np.ones(300 * 2**20, np.uint8)  # by the process before and meanwhile
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


def test_where_the_memory_cannot_be_told_it_is_null(small, monkeypatch, tmp_path):
    monkeypatch.setattr("sparse_core.linux.PROC", tmp_path / "nowhere")
    with compiling.compile("torch", small, 32, 2, 1) as compiled:
        compiled.measure_memory()
    assert compiled.peak_memory_bytes is None


@needs_deepsparse
def test_a_killed_worker_is_started_again_once_and_then_reported(small):
    with compiling.compile("deepsparse", small, 32, 2, 1) as compiled:
        before = compiled.run(images(2))
        first = compiled._process.pid
        os.kill(first, signal.SIGKILL)
        np.testing.assert_array_equal(compiled.run(images(2)), before)
        assert compiled._process.pid != first and compiled.restarts == 1
        os.kill(compiled._process.pid, signal.SIGKILL)
        with pytest.raises(InputError, match=r"process died twice \(signal 9\)") as report:
            compiled.run(images(2))
        assert "\n" not in str(report.value)
        with pytest.raises(InputError, match="was closed"):
            compiled.run(images(2))


@needs_deepsparse
def test_a_worker_that_dies_while_it_compiles_is_reported_with_its_last_words(small, monkeypatch, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys\nsys.exit('no such luck')\n")
    monkeypatch.setattr(deepsparse_client, "SCRIPT", script)
    with pytest.raises(InputError, match=r"died twice \(exit code 1; it last said: no such luck\)"):
        compiling.compile("deepsparse", small, 32, 2, 1)


@needs_deepsparse
def test_closing_ends_the_worker_and_leaves_nothing(small):
    compiling.compile("deepsparse", small, 32, 2, 1).close()  # what torch opens at its first export stays open
    descriptors = len(os.listdir("/proc/self/fd"))
    compiled = compiling.compile("deepsparse", small, 32, 2, 1)
    pid, folder = compiled._process.pid, compiled._folder.name
    assert psutil.pid_exists(pid) and os.path.isdir(folder)
    compiled.close()
    assert not psutil.pid_exists(pid) and not os.path.exists(folder)
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    with pytest.raises(InputError, match="was closed"):
        compiled.run(images(2))


@needs_deepsparse
def test_the_worker_leaves_with_its_parent():
    script = (
        "import time, torch\n"
        "from sparse_core.engines import compiling\nfrom sparse_core.networks import architectures\n"
        "compiled = compiling.compile('deepsparse', architectures.build('resnet20').eval(), 32, 2, 1)\n"
        "print(compiled._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert worker.wait(timeout=30) is None or not worker.is_running()


@needs_deepsparse
def test_deepsparse_refuses_what_it_does_not_support():
    class Determinant(nn.Module):
        def forward(self, x):
            return torch.linalg.det(x.mean(1))[:, None]

    with pytest.raises(InputError, match="DeepSparse supports none of this network's operators"):
        compiling.compile("deepsparse", Determinant().eval(), 8, 2, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "deepspars"}, "Unknown engine 'deepspars'. Did you mean deepsparse?"),
        ({"precision": "fp16"}, "Unknown precision 'fp16'"),
        ({"batch_size": 0}, "The batch size must be at least 1; got 0."),
        ({"input_size": 0}, "The input size must be at least 1; got 0."),
        ({"threads": machine.cores() + 1}, f"as many as this machine has cores; got {machine.cores() + 1}."),
        ({"threads": -1}, "threads, as many as this machine has cores; got -1."),
    ],
)
def test_wrong_settings_are_one_line(small, given, words):
    settings = {"name": "onnxruntime", "module": small, "input_size": 32, "batch_size": 2, "threads": 1, **given}
    with pytest.raises(InputError) as refusal:
        compiling.compile(**settings)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_a_network_that_cannot_be_exported_is_refused(engine):
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x.mean((1, 2))).real

    with pytest.raises(InputError, match="cannot be exported to ONNX"):
        compiling.compile(engine, Spectrum().eval(), 32, 2, 1)


@pytest.mark.parametrize(
    ("system", "processor", "words"),
    [
        ("darwin", "arm64", "runs on Linux with an x86-64 processor only"),
        ("linux", "aarch64", "runs on Linux with an x86-64 processor only"),
        ("linux", "x86_64", "is not set up. 'make deepsparse' does it, given a Python from 3.9 to 3.11"),
    ],
)
def test_where_deepsparse_cannot_run_it_says_why(small, monkeypatch, tmp_path, system, processor, words):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: processor)
    monkeypatch.setattr(deepsparse_client, "ENVIRONMENT", tmp_path)
    assert words in availability.missing("deepsparse")
    with pytest.raises(InputError) as refusal:
        compiling.compile("deepsparse", small, 32, 2, 1)
    assert str(refusal.value) == availability.missing("deepsparse")


def test_a_set_up_that_failed_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(deepsparse_client, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / ".failed").touch()
    assert "'make deepsparse' tries again" in availability.missing("deepsparse")


def test_asking_what_is_missing_needs_no_torch():
    script = (
        "import sys\nfrom sparse_core.engines import availability, machine\n"
        "availability.missing('deepsparse')\nmachine.cores()\nsys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


class Timed(Compiled):
    """An engine of a given speed and error."""

    def __init__(self, name, module, seconds, error):
        super().__init__(name, 32, 2, 1)
        self._module, self._seconds, self._error = module, seconds, error

    def _run_batch(self, given):
        time.sleep(self._seconds)
        with torch.no_grad():
            return self._module(torch.from_numpy(given)).numpy() * np.float32(1 + self._error)


@pytest.fixture
def timed(monkeypatch):
    """Engines with speeds and errors of their own; counts how often one was compiled."""
    compiled = []
    known = {"deepsparse": (0.0, 0.1), "onnxruntime": (0.02, 0.0), "torch": (0.2, 0.0)}

    def compile(name, module, *_, **__):
        compiled.append(name)
        return Timed(name, module, *known[name])

    monkeypatch.setattr(compiling, "compile", compile)
    monkeypatch.setattr(availability, "missing", lambda name: None)
    monkeypatch.setattr("sparse_core.engines.compiled.MEASURE_SECONDS", 0.0)
    return compiled


def test_the_fastest_exact_engine_is_measured_once_and_remembered(small, timed, home):
    assert choice.fastest(home, small, "key", 32, 2) == "onnxruntime"  # deepsparse is faster, but wrong
    assert choice.fastest(home, small, "key", 32, 2) == "onnxruntime"
    assert timed == ["deepsparse", "onnxruntime", "torch"]
    (file,) = (home / "engines").glob("*.json")
    document = json.loads(file.read_text())
    assert document["measured"]["deepsparse"]["is_exact"] is False
    assert document["machine"]["processor"] and document["batch_size"] == 2
    choice.fastest(home, small, "key", 32, 4)
    choice.fastest(home, small, "other", 32, 2)
    assert len(timed) == 9


def test_bf16_and_a_few_images_go_to_torch_unmeasured(home, small, timed):
    assert choice.fastest(home, small, "key", 32, 2, precision="bf16") == "torch"
    assert choice.fastest(home, small, "key", 32, 2, images=choice.WORTH_MEASURING - 1) == "torch"
    assert not timed
    assert choice.fastest(home, small, "key", 32, 2, images=choice.WORTH_MEASURING) == "onnxruntime"
    assert choice.fastest(home, small, "key", 32, 2, images=1) == "onnxruntime"


def test_an_engine_that_cannot_do_the_network_is_passed_over(small, timed, monkeypatch, home):
    known = compiling.compile

    def compile(name, *given, **named):
        if name == "onnxruntime":
            raise InputError("This network cannot be exported to ONNX.")
        return known(name, *given, **named)

    monkeypatch.setattr(compiling, "compile", compile)
    assert choice.fastest(home, small, "key", 32, 2) == "torch"
    (file,) = (home / "engines").glob("*.json")
    assert "cannot be exported" in json.loads(file.read_text())["measured"]["onnxruntime"]["error"]


def test_a_damaged_memory_of_the_fastest_is_measured_again(small, timed, home):
    choice.fastest(home, small, "key", 32, 2)
    (file,) = (home / "engines").glob("*.json")
    file.write_text("{")
    assert choice.fastest(home, small, "key", 32, 2) == "onnxruntime"
    assert len(timed) == 6
