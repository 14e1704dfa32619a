"""DeepSparse in its own process: layers, a worker that is killed, what it refuses, where it is missing."""

import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from sparse_core.engines import availability, compiling, deepsparse_engine
from sparse_core.engines.deepsparse_engine import layer_name
from tests.support.engines import images, needs_deepsparse
from tests.support.imports import loads_torch
from tests.support.refusals import refused


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
def test_layers_are_named_after_modules(node, layer):
    assert layer_name(node) == layer


@needs_deepsparse
def test_deepsparse_reports_the_share_of_each_layer(small, compiled_small):
    shares = compiled_small("deepsparse").layer_shares(1)
    assert sum(shares.values()) == pytest.approx(1)
    convolutions = {name for name, layer in small.named_modules() if isinstance(layer, nn.Conv2d)}
    assert len(convolutions & set(shares)) > len(convolutions) / 2  # some are fused with the one before


def test_other_engines_report_no_layers(compiled_small):
    assert compiled_small("onnxruntime").layer_shares() is None
    assert compiled_small("torch").layer_shares() is None


@needs_deepsparse
def test_a_killed_worker_is_started_again_once_and_then_reported(small):
    with compiling.compile("deepsparse", small, 32, 2, 1) as compiled:
        before = compiled.run(images(2))
        first = compiled._process.pid
        os.kill(first, signal.SIGKILL)
        np.testing.assert_array_equal(compiled.run(images(2)), before)
        assert compiled._process.pid != first and compiled.restarts == 1
        os.kill(compiled._process.pid, signal.SIGKILL)
        refused(compiled.run, images(2), match=r"process died twice \(signal 9\)")
        assert "was closed" in refused(compiled.run, images(2))


@needs_deepsparse
def test_a_worker_that_dies_while_it_compiles_is_reported_with_its_last_line(small, monkeypatch, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys\nsys.exit('no such luck')\n")
    monkeypatch.setattr(deepsparse_engine, "SCRIPT", script)
    message = refused(compiling.compile, "deepsparse", small, 32, 2, 1)
    assert "died twice (exit code 1; its last output: no such luck)" in message


@needs_deepsparse
def test_closing_ends_the_worker_and_removes_its_files(small):
    compiling.compile("deepsparse", small, 32, 2, 1).close()  # the first export opens files that torch keeps open
    descriptors = len(os.listdir("/proc/self/fd"))
    compiled = compiling.compile("deepsparse", small, 32, 2, 1)
    pid, folder = compiled._process.pid, compiled._folder.name
    assert psutil.pid_exists(pid) and os.path.isdir(folder)
    compiled.close()
    assert not psutil.pid_exists(pid) and not os.path.exists(folder)
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert "was closed" in refused(compiled.run, images(2))


@needs_deepsparse
def test_the_worker_ends_with_its_parent():
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

    message = refused(compiling.compile, "deepsparse", Determinant().eval(), 8, 2, 1)
    assert "DeepSparse supports none of this network's operators" in message


@pytest.mark.parametrize(
    ("system", "processor", "setup", "message"),
    [
        ("darwin", "arm64", ".ready", "runs on Linux with an x86-64 processor only"),
        ("linux", "aarch64", ".ready", "runs on Linux with an x86-64 processor only"),
        ("linux", "x86_64", "log.txt", "is not set up. 'make deepsparse' does it, given a Python from 3.9 to 3.11"),
        ("linux", "x86_64", ".failed", "'make deepsparse' tries again"),
    ],
)
def test_availability_says_why_deepsparse_cannot_run(small, monkeypatch, tmp_path, system, processor, setup, message):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: processor)
    monkeypatch.setattr(availability, "DEEPSPARSE", tmp_path)
    (tmp_path / setup).touch()
    assert message in availability.missing("deepsparse")
    assert refused(compiling.compile, "deepsparse", small, 32, 2, 1) == availability.missing("deepsparse")


def test_availability_and_cores_need_no_torch():
    script = (
        "from sparse_core.engines import availability, machine; availability.missing('deepsparse'); machine.cores()"
    )
    assert not loads_torch(script)
