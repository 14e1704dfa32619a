"""The finetuning of detectors: loss, assignment and mean average precision against values computed by hand, the mask,
resuming."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sparse_core import cli
from sparse_core.datasets import catalogue
from sparse_core.datasets.box_loading import GREY, BoxLoader, Loaded
from sparse_core.datasets.boxes import Boxes
from sparse_core.networks import architectures, backbones, checkpoints, importing, masks
from sparse_core.networks.detector import DetectorNetwork, new_layers
from sparse_core.results.records import Records
from sparse_core.specs.transfer import DetectionSettings, DetectionSpec
from sparse_core.transfer import average_precision, detection, detection_loss, detection_runs, durations
from sparse_core.transfer.average_precision import Detections
from sparse_core.transfer.detection_loss import Targets
from tests.support import boxes as drawn
from tests.support.detectors import detector as made
from tests.support.refusals import refused


def network(architecture, variant="", classes=2):
    body, _ = made(architecture, variant)
    return DetectorNetwork(body, new_layers(0, body, classes)).eval()


@pytest.mark.parametrize(("architecture", "variant"), [("yolov3_tiny", "darknet"), ("yolov3_tiny", "ultralytics")])
def test_boxes_are_decoded_as_the_network_was_trained(architecture, variant):
    net = network(architecture, variant)
    raw = [torch.zeros(1, 3, side, side, 7) for side in (4, 2)]
    raw[0][0, 1, 2, 3] = torch.tensor([0.5, -0.5, 0.2, -0.3, 2.0, 1.0, -1.0])  # anchor 1 of the finer level: 23 × 27
    corners, scores = net.boxes(raw)
    place = 1 * 16 + 2 * 4 + 3
    x, y = 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(0.5))
    w, h = 1 / (1 + np.exp(-0.2)), 1 / (1 + np.exp(0.3))
    if variant == "darknet":
        centre, size = ((x + 3) * 16, (y + 2) * 16), (23 * np.exp(0.2), 27 * np.exp(-0.3))
    else:
        centre, size = ((2 * x - 0.5 + 3) * 16, (2 * y - 0.5 + 2) * 16), (23 * (2 * w) ** 2, 27 * (2 * h) ** 2)
    expected = [centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2]
    assert corners.shape == (1, 3 * 16 + 3 * 4, 4) and corners[0, place].tolist() == pytest.approx(expected, rel=1e-5)
    object_, classes = 1 / (1 + np.exp(-2)), [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]
    assert scores[0, place].tolist() == pytest.approx([object_ * each for each in classes], rel=1e-5)


def one_box(x, y, width, height):
    return Targets(torch.tensor([0]), torch.tensor([1]), torch.tensor([[x, y, width, height]], dtype=torch.float32))


def test_a_box_belongs_to_like_anchors_at_its_cell_and_the_two_nearest():
    body = architectures.build("yolov3_tiny", "ultralytics")
    # Stride 16: centre (40, 52) is cell (2, 3), in its middle from left to right, in its first half from above.
    found = detection_loss.assign(body, 0, one_box(41, 50, 30, 30), 8, 8)
    assert sorted(set(found.anchors.tolist())) == [0, 1, 2]  # 10 × 14, 23 × 27, 37 × 58: all less than 4 times as large
    places = {(row, column) for row, column in zip(found.rows.tolist(), found.columns.tolist(), strict=True)}
    assert places == {
        (3, 2),
        (3, 3),
        (2, 2),
    }  # 41 / 16 = 2.56, so the right neighbour; 50 / 16 = 3.125, so the upper one
    assert set(detection_loss.assign(body, 0, one_box(41, 50, 41, 30), 8, 8).anchors.tolist()) == {1, 2}  # 41 > 4 · 10
    corner = detection_loss.assign(body, 0, one_box(2, 2, 23, 27), 8, 8)  # no neighbours beyond the border
    assert {*zip(corner.rows.tolist(), corner.columns.tolist(), strict=True)} == {(0, 0)}
    darknet = architectures.build("yolov3_tiny", "darknet")
    alone = detection_loss.assign(darknet, 0, one_box(41, 50, 30, 30), 8, 8)
    assert {*zip(alone.rows.tolist(), alone.columns.tolist(), strict=True)} == {(3, 2)}


def ciou(a, b):
    """Complete IoU of two boxes (centre, size), by the formulas of Zheng et al., 2020."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    corners = [(x - w / 2, x + w / 2, y - h / 2, y + h / 2) for x, y, w, h in (a, b)]
    (al, ar, at, ab), (bl, br, bt, bb) = corners
    inner = max(0, min(ar, br) - max(al, bl)) * max(0, min(ab, bb) - max(at, bt))
    iou = inner / (aw * ah + bw * bh - inner)
    diagonal = (max(ar, br) - min(al, bl)) ** 2 + (max(ab, bb) - min(at, bt)) ** 2
    v = 4 / np.pi**2 * (np.arctan(bw / bh) - np.arctan(aw / ah)) ** 2
    return iou - ((ax - bx) ** 2 + (ay - by) ** 2) / diagonal - v * v / (1 - iou + v)


def test_the_loss_against_its_formula():
    body = architectures.build("yolov3_tiny", "darknet")
    generator = torch.Generator().manual_seed(0)
    raw = [torch.randn(1, 3, side, side, 7, generator=generator) for side in (4, 2)]
    box = (41.0, 20.0, 15.0, 20.0)  # on the finer level alone: anchors 10 × 14, 23 × 27 and 37 × 58
    found = float(detection_loss.loss(body, raw, one_box(*box), 64))
    distances, kinds, wanted = [], [], torch.zeros(3, 4, 4)
    for anchor, (width, height) in enumerate(((10, 14), (23, 27), (37, 58))):
        t = raw[0][0, anchor, 1, 2].double()
        x, y = float((t[0].sigmoid() + 2) * 16), float((t[1].sigmoid() + 1) * 16)
        overlap = ciou((x, y, float(t[2].exp()) * width, float(t[3].exp()) * height), box)
        distances.append(1 - overlap)
        wanted[anchor, 1, 2] = max(overlap, 0)
        kinds += [float(F.softplus(t[5])), float(F.softplus(-t[6]))]  # −log(1 − p) and −log(p)

    def entropy(level, target):
        logits = raw[level][0, ..., 4].double()
        return float((F.softplus(logits) - logits * target).mean())

    objects = 1.0 * entropy(0, wanted) + 0.4 * entropy(1, torch.zeros(3, 2, 2))
    parts = 0.05 * np.mean(distances) + (64 / 640) ** 2 * objects + 0.5 * 2 / 80 * np.mean(kinds)
    assert found == pytest.approx(3 / 2 * parts, rel=1e-4)


def test_mean_average_precision_on_a_curve_worked_by_hand():
    """Two true boxes; predictions by confidence: right, wrong, right. Precision 1 up to recall 0.5, then 2/3: 51 and 50
    points."""
    truth = Loaded(
        np.zeros((1, 1, 3)), Boxes(np.float32([[0, 0, 10, 10], [20, 20, 30, 30]]), np.int64([0, 0]), np.zeros(2, bool))
    )
    found = Detections(
        np.float32([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]]),
        np.float32([0.9, 0.8, 0.7]),
        np.int64([0, 0, 0]),
    )
    result = average_precision.precision([found], [truth], 2)
    assert result.map50 == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6) and result.map == pytest.approx(
        result.map50
    )
    assert result.by_class[0] == pytest.approx(result.map50) and np.isnan(result.by_class[1])
    ignored = dataclasses.replace(truth, boxes=dataclasses.replace(truth.boxes, ignored=np.array([False, True])))
    assert average_precision.precision([found], [ignored], 2).map50 == pytest.approx(1.0)  # neither missed nor found


def test_overlapping_predictions_of_a_class_count_once():
    corners = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50]])
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.7], [0.0005, 0.3]])
    plain = Loaded(
        np.zeros((1, 1, 3)), Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool)), scale=0.5, shift=(4, 0)
    )
    found = average_precision.detections(corners, scores, plain)
    assert list(zip(found.labels.tolist(), found.scores.astype(float).round(2).tolist(), strict=True)) == [
        (0, 0.9),
        (1, 0.7),
        (1, 0.3),
    ]
    assert found.corners[0].tolist() == [-8, 0, 12, 20]  # (x − 4) / 0.5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return catalogue.load_boxes(folder / "home", str(drawn.voc(folder / "voc", 6, 2)))


def test_letterbox_and_augmentation(data):
    loader = BoxLoader(data.train, 64, 1 << 20)
    whole = loader.whole(0)
    assert whole.image.shape == (64, 64, 3) and np.allclose(
        whole.boxes.corners, data.train.boxes[0].corners * 64 / drawn.SIDE
    )
    wide = BoxLoader(
        dataclasses.replace(data.train, open=lambda row: data.train.open(row).resize((128, 64))), 64, 0
    ).whole(0)
    assert (wide.image[:16] == GREY).all() and wide.shift == (0, 16) and wide.scale == 0.5
    first, again = loader.augmented(0, 3, 1), loader.augmented(0, 3, 1)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.boxes.corners, again.boxes.corners)
    assert not np.array_equal(first.image, loader.augmented(0, 3, 2).image)
    assert all(
        ((each.boxes.corners >= 0) & (each.boxes.corners <= 64)).all()
        for each in (loader.augmented(row, 0, 0) for row in range(4))
    )


def pruned(folder, sparsity=0.7):
    body, whole = made("yolov5n", "v6")
    masks.apply(body, masks.top_k(body, sparsity))
    torch.save(whole.state_dict(), folder / "pruned.pt")
    importing.add(folder / "home", folder / "pruned.pt", "pruned", architecture="yolov5n-v6", method="Magnitude")
    return backbones.for_images(backbones.load(folder / "home", "pruned"), 64)


SPEC = DetectionSpec("pruned", "data", settings=DetectionSettings(epochs=2, batch_size=2), precision="fp32")


def test_the_mask_is_exact_and_a_resumed_training_is_the_same(data, tmp_path):
    backbone = pruned(tmp_path)
    whole = detection.train(backbone, data, SPEC, 1)
    assert whole.curves["mask_violations"] == [0, 0] and masks.violations(whole.network.body, backbone.mask) == 0
    assert whole.details["sparsity_after"] == pytest.approx(whole.details["sparsity_before"], abs=1e-4)
    assert not any(bool((weight == 0).any()) for weight, _ in whole.network.layers)

    def stop(progress):
        if progress.saved:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detection.train(backbone, data, SPEC, 1, on_progress=stop, checkpoint=tmp_path / "state.pt")
    again = detection.train(backbone, data, SPEC, 1, checkpoint=tmp_path / "state.pt")
    assert again.curves == whole.curves
    state = whole.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.network.state_dict().items())
    (tmp_path / "state.pt").write_bytes(b"damaged")  # or deleted: it begins anew
    assert detection.train(backbone, data, SPEC, 1, checkpoint=tmp_path / "state.pt").curves == whole.curves


def test_the_duration_is_estimated_from_a_few_steps(tmp_path):
    backbone, folder = pruned(tmp_path), drawn.voc(tmp_path / "voc", 6, 2)
    spec = dataclasses.replace(SPEC, dataset=str(folder), image_size=64)
    home = tmp_path / "home"
    found = detection_runs.run_estimate(home, spec, (0,), lambda progress: None)
    known = durations.recall(home, spec)
    assert known is not None and known.sampled and known.seconds_per_epoch == found["seconds_per_epoch"] > 0
    assert known.stored == 4 * sum(each.numel() for each in backbone.module.parameters())
    assert durations.estimate(home, spec, 2, features_cached=False) == pytest.approx(2 * 2 * known.seconds_per_epoch)
    assert durations.recall(home, dataclasses.replace(spec, image_size=96)) is None


def test_the_sample_is_the_same_for_all_runs_and_the_worst_are_this_run_s(tmp_path):
    data = catalogue.load_boxes(tmp_path / "home", str(drawn.voc(tmp_path / "voc", 24, 20)))
    perfect = [Detections(each.corners, np.ones(len(each.labels)), each.labels) for each in data.test.boxes]
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, np.int64))

    def names(found, kind):
        return [each["image"] for each in detection.shown_images(data, found) if each["kind"] == kind]

    sample = names(perfect, "sample")
    missed = [row for row, name in enumerate(data.test.names) if name not in sample][3:9]
    found = [nothing if row in missed else each for row, each in enumerate(perfect)]
    assert names(found, "sample") == sample and len(sample) == 6
    assert set(names(found, "worst")) == {data.test.names[row] for row in missed}
    assert len(names(found, "other")) == 20 - 12  # the dense detector's, for the worst of others
    assert {each["f1"] for each in detection.shown_images(data, found) if each["kind"] == "worst"} == {0.0}


def test_eight_drawn_images_are_learnt(tmp_path):
    folder = drawn.voc(tmp_path / "voc", 10, 2)
    data = catalogue.load_boxes(tmp_path / "home", str(folder))
    data = dataclasses.replace(data, test=data.train)
    torch.manual_seed(0)
    backbone = backbones.for_images(backbones.untrained("yolov3_tiny-ultralytics"), 96)
    for layer in backbone.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.1  # the usual 0.03 needs more steps to forget the new statistics
    settings = DetectionSettings(epochs=32, batch_size=4, learning_rate=0.1)
    result = detection.train(backbone, data, dataclasses.replace(SPEC, settings=settings, augment=False), 0)
    assert result.best("map50") >= 0.95


def test_the_command_line_finetunes_a_detector(tmp_path, monkeypatch, capsys):
    pruned(tmp_path)
    drawn.voc(tmp_path / "voc", 4, 2)
    monkeypatch.setenv("SPARSE_TRANSFER_HOME", str(tmp_path / "home"))
    command = [
        "finetune",
        "--backbone",
        "pruned",
        "--dataset",
        str(tmp_path / "voc"),
        "--image-size",
        "64",
        "--epochs",
        "1",
    ]
    assert cli.main([*command, "--batch-size", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["metric"] == "mAP@0.5" and answer["mask_violations"] == 0
    assert set(answer["runs"][0]) >= {"map50_best", "map50_final", "map_best", "map_final", "checkpoint"}
    assert answer["map50_mean"] == answer["runs"][0]["map50_best"]
    again = checkpoints.read(answer["checkpoint"])
    assert (again.architecture, again.variant, again.classes) == ("yolov5n", "v6", 2)
    record = Records(tmp_path / "home").read(answer["runs"][0]["run_id"])
    assert record.result["metric"] == "mAP@0.5" and record.spec["task"] == "detection" and record.result["detections"]
    for wrong, words in (
        ([*command, "--optimizer", "adamw"], "--optimizer is no option"),
        (["finetune", "--backbone", "pruned", "--dataset", "digits"], "images with boxes"),
        (["finetune", "--backbone", "efficientnet_lite0", "--dataset", str(tmp_path / "voc")], "only detectors"),
        (["probe", "--backbone", "pruned", "--dataset", "digits"], "is a detector"),
        ([*command[:6], "100"], "multiple of 32"),
    ):
        assert cli.main(wrong) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(("images", "batch_size"), [(4, 1), (3, 2), (1, 8)])
def test_a_step_of_one_image_needs_more_than_one_cell(data, images, batch_size):
    few = dataclasses.replace(data, train=data.train.only(np.arange(images)))
    spec = dataclasses.replace(SPEC, settings=DetectionSettings(epochs=1, batch_size=batch_size))
    smallest = backbones.for_images(backbones.untrained("yolov5n"), 32)
    refused(detection.train, smallest, few, spec, 0, match="Choose 64 pixels or another batch size")


def test_nothing_found_at_all_is_a_map_of_zero(data):
    """And images without a true box count no prediction as right."""
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    truth = [BoxLoader(data.test, 64, 0).whole(row) for row in range(len(data.test.labels))]
    found = average_precision.precision([nothing] * len(truth), truth, 2)
    assert (found.map50, found.map) == (0.0, 0.0)
    bare = [
        dataclasses.replace(each, boxes=Boxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool)))
        for each in truth
    ]
    some = Detections(np.float32([[0, 0, 9, 9]]), np.float32([0.9]), np.int64([0]))
    assert average_precision.precision([some] * len(bare), bare, 2).map50 == 0.0
