"""Short measurements, and networks and engines to measure."""

import pytest

from sparse_core.engines import availability
from sparse_core.networks import importing, masks
from sparse_core.speed import inference
from tests.support.engines import patched_compile
from tests.support.networks import pruned_file


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("sparse_core.engines.compiled.MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(inference, "ROUND_SECONDS", 0.0)


@pytest.fixture
def sparse_backbone(home, tmp_path):
    """A pruned network in the library."""
    return importing.add(home, pruned_file(tmp_path / "net.pth", 0.8), "pruned", method="Magnitude").name


@pytest.fixture
def seconds(monkeypatch):
    """A function that sets the seconds of each dense and sparse round, and returns the list of networks as they run."""
    turns = []

    def set_seconds(dense, sparse):
        given = {"dense": iter(dense), "sparse": iter(sparse)}

        def measured(compiled, images, repeats):
            turns.append(compiled.of)
            return next(given[compiled.of]) * len(images)

        monkeypatch.setattr(inference, "_seconds_per_batch", measured)
        monkeypatch.setattr(inference, "_repeats", lambda *_: 1)

        def change(compile, name, module, *settings):
            compiled = compile(name, module, *settings)
            compiled.of = "sparse" if masks.sparsity(module).total else "dense"
            return compiled

        patched_compile(monkeypatch, change)
        return turns

    return set_seconds


@pytest.fixture
def no_deepsparse(monkeypatch):
    """The reason why DeepSparse is missing."""
    reason = "DeepSparse is not set up. 'make deepsparse' does it."
    known = availability.missing
    monkeypatch.setattr(availability, "missing", lambda name: reason if name == "deepsparse" else known(name))
    return reason
