"""Evaluate in Streamlit's test harness: the job it submits, its result in the table, what is refused first, and deleting."""

import pytest
import torch

from sparse_core.datasets import imagenet
from sparse_core.jobs import queue, worker
from sparse_core.networks import importing
from sparse_core.results import evaluations
from sparse_core.specs.evaluation import EvaluateSpec
from sparse_core.views import activity
from tests.pages.support import buttons, choose, open_app, press, run, submitted, table
from tests.support import boxes
from tests.support.detectors import detector
from tests.support.evaluations import evaluation
from tests.support.images import image_folder
from tests.support.networks import pruned_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten classes in place of a thousand."""
    monkeypatch.setattr(imagenet, "CLASSES", 10)
    return str(image_folder(tmp_path / "val", {f"n{number}": 2 for number in range(10)}))


@pytest.fixture
def page(home, tmp_path):
    importing.add(home, pruned_file(tmp_path / "ten.pth", 0.5), "ten", method="AC/DC")
    app = open_app("evaluate")
    label = next(option for option in app.selectbox(key="backbone").options if option.startswith("ten"))
    return open_app("evaluate", backbone=label)


def test_an_evaluation_from_the_button_to_the_table(home, page, folder):
    assert "No network was evaluated" in page.info[-1].value
    choose(page, evaluate_on="imagenet", images=folder)
    press(page, "Evaluate")
    (job,) = submitted(home, "evaluate")
    assert job.spec == EvaluateSpec("ten", "imagenet", folder) and "Cancel" in buttons(page)
    assert activity.job_label(job) == "Evaluation of ten on ImageNet"
    job_id = page.query_params["job"]
    worker.work(home, job_id)
    (record,) = evaluations.read_all(home)
    app = open_app("evaluate", job=job_id)
    assert [metric.label for metric in app.metric] == ["Top-1 accuracy", "Mean per-class accuracy", "Images", "Time"]
    shown = table(app)
    assert shown["imagenet"].tolist() == [100 * record["top1"]] and shown["images_of"].tolist() == ["ImageNet 20"]
    assert shown["network_name"].tolist() == ["ten"] and shown["method"].tolist() == ["AC/DC"]
    app = open_app("tradeoffs", view="Upstream and downstream")
    assert table(app)["network_name"].tolist() == ["ten"]


def test_what_cannot_be_evaluated_is_said_before_a_job_starts(home, page, folder, tmp_path):
    for values, message in (
        ({"evaluate_on": "imagenet", "images": str(tmp_path / "nowhere")}, "Expected the images of imagenet in"),
        ({"evaluate_on": "imagenet-real", "images": folder}, "Expected ReaL's labels in"),
    ):
        choose(page, **values)
        press(page, "Evaluate")
        assert message in page.error[-1].value.replace("\\", "")
    assert submitted(home, "evaluate") == []


def test_a_cancelled_evaluation_says_so(home, page, folder):
    choose(page, evaluate_on="imagenet", images=folder)
    press(page, "Evaluate")
    press(page, "Cancel")
    assert queue.status(home, page.query_params["job"]).state == "cancelled"
    assert "No network was evaluated" in page.info[-1].value


def test_deleting_an_evaluation_asks_first_and_can_be_undone(home):
    for number in ("1", "2"):
        evaluations.write(home, evaluation(number * 64, backbone=f"net{number}"))
    app = open_app("evaluate")
    assert table(app)["network_name"].tolist() == ["net1", "net2"]
    press(app, "Delete …")
    assert buttons(app)[-1] == "Delete" and len(evaluations.read_all(home)) == 2
    evaluations.delete(home, evaluation("1" * 64)["id"])
    app.session_state["deleted_evaluation"] = evaluation("1" * 64)["id"]
    assert table(run(app))["network_name"].tolist() == ["net2"]
    press(app, "Undo")
    assert table(app)["network_name"].tolist() == ["net1", "net2"]


def test_a_detector_is_evaluated_on_boxes(home, tmp_path):
    folder = boxes.yolo(tmp_path / "three", 6, 2)
    (folder / "data.yaml").write_text("names: [circle, square, triangle]\n")
    torch.save(detector("yolov5n", "v6")[1].state_dict(), tmp_path / "net.pt")
    importing.add(home, tmp_path / "net.pt", "found", architecture="yolov5n-v6", upstream="three", resize=64, crop=64)
    app = open_app("evaluate")
    label = next(option for option in app.selectbox(key="backbone").options if option.startswith("found"))
    app = open_app("evaluate", backbone=label)
    assert not any(each.key == "evaluate_on" for each in app.selectbox)
    two = choose(app, boxes_path=str(boxes.voc(tmp_path / "two", 4, 2)))
    assert "was trained on 3 classes; these images have 2" in two.error[0].value and "Evaluate" not in buttons(two)
    press(choose(app, boxes_path=str(folder)), "Evaluate")
    (job,) = submitted(home, "evaluate")
    assert job.spec == EvaluateSpec("found", str(folder))
    worker.work(home, app.query_params["job"])
    (record,) = evaluations.read_all(home)
    app = open_app("evaluate", job=app.query_params["job"])
    assert [metric.label for metric in app.metric] == ["mAP@0.5", "mAP@[.5:.95]", "Images", "Time"]
    shown = table(app)
    assert shown["map50"].tolist() == [pytest.approx(100 * record["map50"])] and shown["images"].tolist() == [2]
