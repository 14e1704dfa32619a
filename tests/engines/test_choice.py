"""The engine that has the features soonest: measured once per machine and kind of network, kept, exact ones only."""

import dataclasses
import json

import numpy as np
import pytest

from sparse_core.engines import availability, choice, extractor
from sparse_core.errors import InputError
from tests.support.backbones import small_backbone

LONG, SHORT = 10_000, 20  # images
IMAGES = np.zeros((8, 32, 32, 3), np.uint8)


class TimedEngine:
    """An engine with given seconds to compile and per image, and perhaps an error."""

    known = {"torch": (0.0, 0.02), "onnxruntime": (3.0, 0.007), "deepsparse": (8.0, 0.003)}  # noqa: RUF012
    opened: list["TimedEngine"] = []  # noqa: RUF012

    def __init__(self, engine, backbone, precision="fp32"):
        self.seconds_to_start, self.pace = self.known[engine]
        self.engine, self.is_open, self.times_measured = engine, self.pace is not None, 0
        self.opened.append(self)
        if self.pace is None:
            raise InputError("This network cannot be exported to ONNX.")

    def seconds_per_image(self, images):
        assert images is IMAGES
        self.times_measured += 1
        return self.pace

    def require_exact(self, images):
        assert images is IMAGES
        if self.engine in self.inexact:
            raise InputError("It differs.")

    def close(self):
        self.is_open = False


@pytest.fixture
def timed(monkeypatch):
    """Replaces the engines by timed ones, which the tests may change."""
    timed = type("Timed", (TimedEngine,), {"known": dict(TimedEngine.known), "opened": [], "inexact": set()})
    monkeypatch.setattr(choice, "Extractor", timed)
    monkeypatch.setattr(availability, "missing", lambda name: None)
    return timed


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return small_backbone(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def sparse(dense):
    return dataclasses.replace(dense, sparsity=0.9)


def choose(timed, home, backbone, images):
    """The engine and the notes; nothing else is left open, and nothing compiled twice."""
    timed.opened.clear()
    chosen, notes = choice.open_fastest(home, backbone, lambda: IMAGES, images, lambda progress: None)
    assert [entry for entry in timed.opened if entry.is_open] == [chosen]
    engines = [entry.engine for entry in timed.opened]
    assert len(engines) == len(set(engines))
    return chosen.engine, notes


def measured(timed):
    return {entry.engine for entry in timed.opened if entry.times_measured}


def kept(home):
    """The files of measurements, by engine."""
    return {json.loads(file.read_text())["engine"]: file for file in (home / "engines").glob("*.json")}


def test_a_long_job_measures_the_engines_once_and_uses_the_measured_one(dense, timed, home):
    assert choose(timed, home, dense, LONG) == ("onnxruntime", [])
    assert measured(timed) == {"torch", "onnxruntime"}
    assert choose(timed, home, dense, LONG) == ("onnxruntime", [])
    assert not measured(timed)
    document = json.loads(kept(home)["onnxruntime"].read_text())
    assert document["measured"] == {"seconds_to_start": 3.0, "seconds_per_image": 0.007, "error": ""}
    assert document["machine"]["processor"] and document["architecture"] == "resnet20"


def test_another_network_of_the_kind_needs_no_measurement_but_another_kind_does(dense, sparse, timed, home):
    choose(timed, home, dense, LONG)
    choose(timed, home, dataclasses.replace(dense, hash="another", sparsity=0.04), LONG)
    assert not measured(timed)
    choose(timed, home, dataclasses.replace(dense, variant="B"), LONG)
    assert measured(timed) == {"torch", "onnxruntime"}


def test_only_deepsparse_is_measured_again_at_another_sparsity(dense, sparse, timed, home):
    choose(timed, home, dense, LONG)
    for sparsity in (0.9, 0.7):
        choose(timed, home, dataclasses.replace(sparse, sparsity=sparsity), LONG)
        assert measured(timed) == {"deepsparse"}
    choose(timed, home, dataclasses.replace(sparse, sparsity=0.71), LONG)
    assert not measured(timed)


def test_the_time_of_a_job_is_known_once_all_engines_worth_measuring_for_it_are(sparse, timed, home):
    assert choice.known_seconds(home, sparse, LONG) is None
    short = int(choice.WORTH_SECONDS["deepsparse"] / 0.007 / 2)
    choose(timed, home, sparse, short)
    assert choice.known_seconds(home, sparse, SHORT) == pytest.approx(SHORT * 0.02)
    assert choice.known_seconds(home, sparse, short) == pytest.approx(3 + short * 0.007)
    assert choice.known_seconds(home, sparse, LONG) is None  # DeepSparse is still to be measured
    choose(timed, home, sparse, LONG)
    assert choice.known_seconds(home, sparse, LONG) == pytest.approx(8 + LONG * 0.003)


def test_a_short_job_runs_in_torch(dense, timed, home):
    assert choose(timed, home, dense, SHORT) == ("torch", [])
    assert measured(timed) == {"torch"}
    choose(timed, home, dense, LONG)
    # Known to be faster, but not once the time to compile counts: 20 ms × 200 < 3 s + 7 ms × 200 < 20 ms × 300
    assert choose(timed, home, dense, 200) == ("torch", [])
    assert choose(timed, home, dense, 300) == ("onnxruntime", [])


def test_deepsparse_is_measured_for_sparse_networks_only(dense, sparse, timed, home):
    assert choose(timed, home, sparse, LONG) == ("deepsparse", [])
    assert measured(timed) == {"torch", "onnxruntime", "deepsparse"}
    choose(timed, home, dense, LONG)
    assert "deepsparse" not in measured(timed)


def test_deepsparse_is_not_measured_where_little_is_left_to_save(sparse, timed, home):
    images = int(choice.WORTH_SECONDS["deepsparse"] / 0.007 / 2)
    assert choose(timed, home, sparse, images) == ("onnxruntime", [])
    assert measured(timed) == {"torch", "onnxruntime"}
    assert choose(timed, home, sparse, LONG) == ("deepsparse", [])
    assert measured(timed) == {"deepsparse"}


def test_an_engine_that_is_not_exact_for_a_network_is_passed_over_for_it(sparse, timed, home):
    timed.inexact.add("deepsparse")
    engine, notes = choose(timed, home, sparse, LONG)
    assert engine == "onnxruntime" and "DeepSparse" in notes[0] and "It differs." in notes[0]
    timed.inexact.clear()
    assert choose(timed, home, sparse, LONG) == ("deepsparse", [])
    timed.inexact |= {"deepsparse", "onnxruntime"}
    engine, notes = choose(timed, home, sparse, LONG)
    assert engine == "torch" and len(notes) == 2


def test_an_engine_that_cannot_run_the_kind_of_network_is_not_tried_again(dense, timed, home):
    timed.known["onnxruntime"] = (0.0, None)
    for tries in (1, 0):
        assert choose(timed, home, dense, LONG) == ("torch", [])
        assert [entry.engine for entry in timed.opened].count("onnxruntime") == tries
    assert "cannot be exported" in json.loads(kept(home)["onnxruntime"].read_text())["measured"]["error"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "null",
        "{}",
        '{"measured": []}',
        '{"measured": {}}',
        '{"measured": {"seconds_to_start": "soon", "seconds_per_image": 1, "error": ""}}',
        '{"measured": {"seconds_to_start": 0, "seconds_per_image": -1, "error": ""}}',
    ],
)
def test_a_damaged_file_is_measured_again(dense, timed, home, content):
    choose(timed, home, dense, LONG)
    for file in kept(home).values():
        file.write_text(content)
    assert choose(timed, home, dense, LONG) == ("onnxruntime", [])
    assert measured(timed) == {"torch", "onnxruntime"}


def test_without_other_engines_torch_is_used(dense, timed, home, monkeypatch):
    monkeypatch.setattr(availability, "missing", lambda name: "not installed")
    assert choose(timed, home, dense, LONG) == ("torch", [])


def test_the_network_compiled_for_the_measurement_extracts(dense, home, monkeypatch):
    """With the real engines: one compilation, and the pace is that of the form in which features are extracted."""
    compiled, extracted = [], []

    class Watched(extractor.Extractor):
        def __init__(self, engine, backbone, precision="fp32"):
            compiled.append(engine)
            super().__init__(engine, backbone, precision)

        def extract(self, decode, rows):
            extracted.append((self.engine, len(rows)))
            return super().extract(decode, rows)

    monkeypatch.setattr(choice, "Extractor", Watched)
    monkeypatch.setattr(choice, "WORTH_SECONDS", {"onnxruntime": 0.0, "deepsparse": 0.0})
    monkeypatch.setattr(extractor, "MEASURE_SECONDS", 0.0)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    chosen, _ = choice.open_fastest(home, dense, lambda: images, 10**9, lambda progress: None)
    with chosen:
        assert compiled == ["torch", "onnxruntime"]
        assert {engine for engine, _ in extracted} == set(compiled)
        for engine, rows in extracted:
            assert rows % extractor.form(engine, 32).batch_size == 0
        assert np.concatenate(list(chosen.extract(lambda row: images[row], range(8)))).shape == (8, 64)
