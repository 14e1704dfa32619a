"""The protocol with an engine's process, with a stand-in for DeepSparse: what it prints, and how it dies."""

import sys

import numpy as np
import pytest

from sparse_core.catalog import ENGINES
from sparse_core.engines import availability, deepsparse_engine
from sparse_core.engines.deepsparse_engine import Process
from sparse_core.speed import measurements
from tests.support.refusals import refused
from tests.support.speed import run, spec

# Features are the mean of each image's channels. ``noise`` is printed as an engine may, at import and between the answers.
PACKAGE = """
import os, sys
import numpy as np

def say():
    print({noise!r}, flush=True)
    os.write(1, b'{{"dimensions": 7}}\\n')
    os.write(2, b"a warning\\n")

class cpu:
    class cpu_architecture:
        num_available_physical_cores = 1

__version__ = "9"
say()

class Engine:
    fraction_of_supported_ops = 1.0
    def __init__(self, onnx, batch_size, num_cores):
        say()
        self.left = {lives}
    def run(self, images, val_inp=True):
        say()
        self.left -= 1
        if self.left < 0:
            os._exit(3)
        return [images[0].mean((2, 3))]

def model_debug_analysis(*_, **__):
    os._exit(4)
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A function that sets up the stand-in: what it prints, and how many batches it lives."""

    def set_up(noise="[INFO] compiling", lives=10**9):
        (tmp_path / "deepsparse.py").write_text(PACKAGE.format(noise=noise, lives=lives))
        start = f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); del sys.argv[0]; "
        start += "runpy.run_path(sys.argv[0], run_name='__main__')"
        monkeypatch.setattr(deepsparse_engine, "PYTHON", (sys.executable, "-c", start))
        known = availability.missing
        monkeypatch.setattr(availability, "missing", lambda name: None if name == "deepsparse" else known(name))

    return set_up


@pytest.mark.parametrize("noise", ["[INFO] compiling", "{}", '{"error": "no such thing"}', "", "{"])
def test_what_an_engine_prints_is_no_answer(engine, tmp_path, noise):
    engine(noise)
    images = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    process = Process(tmp_path / "none.onnx", (2, 3, 4, 4), 1)
    try:
        assert process.compiled == {"dimensions": 3, "threads": 1, "supported": 1.0, "version": "9"}
        np.testing.assert_allclose(process.run(images), images.mean((2, 3)), rtol=1e-5)
        assert process.restarts == 0
    finally:
        process.close()


def test_an_engine_that_dies_twice_is_one_sentence(engine, tmp_path):
    engine("out of luck", lives=1)  # the batch of the compilation
    process = Process(tmp_path / "none.onnx", (2, 3, 4, 4), 1)
    try:
        message = refused(process.run, np.zeros((2, 3, 4, 4), np.float32))
        assert "died twice (exit code 3; its last output: a warning)" in message
    finally:
        process.close()


@pytest.mark.parametrize("death", ["dies", "breaks"])
def test_an_engine_that_fails_leaves_the_figures_of_the_others(home, engine, monkeypatch, caplog, death):
    engine(lives=1)
    if death == "breaks":
        monkeypatch.setattr("sparse_core.engines.deepsparse_engine.Process", lambda *_: 1 / 0)
    record = run(home, spec(engines=("deepsparse", "torch")))
    assert [line["engine"] for line in record["lines"]] == ["torch"]
    (problem,) = record["problems"]
    assert problem.startswith(f"{ENGINES['deepsparse']}, batch 2: ")
    assert ("died twice" if death == "dies" else "internal error (ZeroDivisionError)") in problem
    assert measurements.read_all(home)[0]["problems"] == [problem]
