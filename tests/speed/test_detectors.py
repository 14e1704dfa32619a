"""Speed of detectors: engines compute what PyTorch does, what follows the network is timed apart, image sizes are kept apart."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks import detector_engines
from sparse_core import cli
from sparse_core.engines import compiling
from sparse_core.errors import InputError
from sparse_core.networks import importing, masks
from sparse_core.networks.detector import DetectorNetwork, new_layers
from sparse_core.speed import detectors, durations, measurements
from sparse_core.speed.detectors import RawPredictions
from sparse_core.transfer.average_precision import CANDIDATES, MOST, OVERLAP
from sparse_core.views import speed_tables
from tests.support.detectors import detector
from tests.support.engines import ENGINES, images
from tests.support.speed import run, spec


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("architecture", "variant"), [("yolov3_tiny", "darknet"), ("yolov5n", "v6")])
def test_engines_compute_the_predictions_of_torch(engine, architecture, variant):
    compare(engine, architecture, variant)


@pytest.mark.parametrize(("architecture", "variant"), [("yolov3_tiny", "ultralytics"), ("yolov5n", "v5")])
def test_the_other_variants_are_exported_alike(architecture, variant):
    compare("onnxruntime", architecture, variant)


def compare(engine, architecture, variant):
    body, _ = detector(architecture, variant)
    layers = new_layers(0, body, 3)
    network = RawPredictions(body, layers)
    given = images(2, 64)
    with torch.inference_mode():
        expected = DetectorNetwork(body, layers)(torch.from_numpy(given))
    with compiling.compile(engine, network, 64, 2, 1) as compiled:
        found = network.parts(torch.from_numpy(compiled.run(given)), 64)
        assert compiling.require_exact(compiled, network) <= compiling.TOLERANCE["fp32"]
    for level, wanted in zip(found, expected, strict=True):
        assert level.shape == wanted.shape
        assert float((level - wanted).abs().max()) <= 1e-3 * float(wanted.abs().max())


def overlap(a, b):
    width, height = (max(0.0, min(a[2 + at], b[2 + at]) - max(a[at], b[at])) for at in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_suppression_keeps_the_most_probable_of_overlapping_boxes_of_a_class():
    generator = np.random.default_rng(0)
    corner = generator.uniform(0, 60, (60, 2))
    corners = np.concatenate([corner, corner + generator.uniform(20, 40, (60, 2))], axis=1)
    scores = generator.uniform(0, 1, (60, 3))
    kept = []
    for place in np.argsort(-scores.ravel())[:CANDIDATES]:
        box, label = divmod(int(place), 3)
        if all(label != other % 3 or overlap(corners[box], corners[other // 3]) <= OVERLAP for other in kept):
            kept.append(int(place))
    found = detectors.suppressed(torch.from_numpy(corners).float(), torch.from_numpy(scores).float())
    assert found.tolist() == kept[:MOST]


@pytest.fixture
def sparse_detector(home, tmp_path):
    body, whole = detector("yolov5n", "v6")
    masks.apply(body, masks.top_k(body, 0.8))
    save_file(whole.state_dict(), tmp_path / "sparse.safetensors")
    return importing.add(
        home, tmp_path / "sparse.safetensors", "pruned", architecture="yolov5n-v6", method="Magnitude"
    ).name


def test_a_record_of_a_detector_says_image_size_and_what_follows_the_network(home, sparse_detector):
    record = run(home, spec(backbone=sparse_detector, image_size=64))
    (line,) = record["lines"]
    assert record["image_size"] == 64 and record["architecture"] == "yolov5n" and record["timing_only"] is False
    assert line["decoding_milliseconds"] > 0 and line["nms_milliseconds"] > 0
    (row,) = speed_tables.table(home, [record], {}).itertuples()
    assert "at batch 2 and 64 px" in speed_tables.sentence(row)
    (words,) = speed_tables.after_network(speed_tables.table(home, [record], {}))
    assert "Images/s at batch 2 in ONNX Runtime" in words and "non-maximum suppression" in words
    other = run(home, spec(backbone=sparse_detector, image_size=96))
    assert len(speed_tables.latest(speed_tables.table(home, [record, other], {}))) == 2
    rows = measurements.frame(home)
    assert durations.by_parts(spec(backbone=sparse_detector, image_size=96), "yolov5n", rows) is not None
    assert durations.by_parts(spec(backbone=sparse_detector, image_size=128), "yolov5n", rows) is None


def test_random_weights_of_a_detector_are_timed_from_the_command_line(home, capsys):
    arguments = ["speedup", "--architecture", "yolov3_tiny", "--sparsity", "0.9", "--engines", "torch", "--rounds", "3"]
    assert cli.main([*arguments, "--batch-sizes", "1", "--image-size", "64", "--threads", "1", "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert line.keys() >= {"ratio", "images_per_second", "decoding_milliseconds", "nms_milliseconds"}
    (record,) = measurements.read_all(home)
    assert (
        record["image_size"] == 64
        and record["timing_only"]
        and record["measured_sparsity"] == pytest.approx(0.9, abs=0.01)
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 100}, "multiple of 32"),
        ({"mode": "training", "dataset": "digits", "engines": ("torch",)}, "YOLOv5n is a detector"),
    ],
)
def test_what_a_detector_is_not_timed_for_is_refused(home, sparse_detector, fields, message):
    with pytest.raises(InputError, match=message):
        run(home, spec(backbone=sparse_detector, **fields))


def test_a_classifier_is_timed_at_another_image_size(home, sparse_backbone):
    record = run(home, spec(backbone=sparse_backbone, image_size=64))
    assert record["image_size"] == 64 and "nms_milliseconds" not in record["lines"][0]
    with pytest.raises(InputError, match="Online training takes images of the network's own size"):
        spec(mode="training", dataset="digits", image_size=64)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_benchmark_reports_the_ratio_of_the_two_networks(home, engine):
    timed = spec(architecture="yolov5n", sparsity=0.9, image_size=64, batch_sizes=(1,), rounds=3)
    found = detector_engines.measured(timed, engine)
    ratio = found["dense_milliseconds_per_image"] / found["milliseconds_per_image"]
    assert found["ratio"] == pytest.approx(ratio, rel=2e-3) and found["ratio_low"] <= found["ratio"]
    assert found["images_per_second"] == pytest.approx(1000 / found["milliseconds_per_image"], rel=2e-3)
    assert found["nms_milliseconds"] > 0 and found["decoding_milliseconds"] > 0
    assert found["difference"] <= compiling.TOLERANCE["fp32"]
