"""Finetune with a detector, in Streamlit's test harness: what it is offered, what is refused, its progress and its result."""

from dataclasses import replace

import pytest
import torch
from streamlit.testing.v1 import AppTest

from sparse_core.datasets import catalogue
from sparse_core.jobs import queue, sweeps
from sparse_core.jobs.kinds import Job
from sparse_core.networks import importing
from sparse_core.specs.identity import recorded
from sparse_core.specs.progress import Progress
from sparse_core.specs.sweep import Plan, transfers
from sparse_core.specs.transfer import DetectionSettings, DetectionSpec
from sparse_core.views import activity
from tests.pages.support import chart_text, choose, figure, messages, metrics, open_page, press, run, submitted, table
from tests.support import boxes
from tests.support.detectors import detector
from tests.support.records import detection_record, write


@pytest.fixture
def folder(tmp_path):
    return boxes.voc(tmp_path / "voc", 6, 2)


def with_data(path) -> AppTest:
    """The form with a detector and the data at a path."""
    return choose(choose(open_page("finetune"), backbone="yolov3_tiny"), boxes_path=str(path))


def test_what_was_chosen_is_submitted(home, folder):
    app = with_data(folder)
    assert "2 classes (circle, square); training images: 4 with " in messages(app)
    assert not {"optimizer", "smoothing", "scratch", "frozen", "step"} & {
        each.key for each in (*app.selectbox, *app.number_input, *app.toggle)
    }
    press(choose(app, seeds=2, box_epochs=3, box_size=192, box_lr=0.02, box_augment=False), "Start finetuning")
    (job,) = submitted(home, "finetune_detector")
    assert (job.spec.backbone, job.spec.dataset, job.seeds) == ("yolov3_tiny", str(folder), (0, 1))
    settings = DetectionSettings(epochs=3, learning_rate=0.02)
    assert (job.spec.settings, job.spec.image_size, job.spec.augment) == (settings, 192, False)


def test_the_link_of_a_job_opens_the_form_with_its_settings(home, folder):
    spec = DetectionSpec("yolov3_tiny", str(folder), settings=DetectionSettings(epochs=7), image_size=224)
    app = open_page("finetune", job=queue.submit(home, Job("finetune_detector", spec)))
    fields = {each.key: each.value for each in app.number_input}
    assert (fields["box_epochs"], fields["box_size"], fields["box_lr"]) == (7, 224, None)
    assert app.text_input(key="boxes_path").value == str(folder)
    (command,) = [code.value for code in app.code]
    assert "--epochs 7 --image-size 224" in command and "--seeds" not in command


@pytest.mark.parametrize(
    ("made", "words"), [("classes", "Expected images with boxes in"), ("", "There is no folder or file at")]
)
def test_a_detector_takes_only_images_with_boxes(made, words, images, tmp_path):
    (error,) = with_data(images if made else tmp_path / "none").error
    assert words in error.value and "\n" not in error.value


def test_a_classifier_takes_no_boxes(folder):
    app = choose(choose(open_page("finetune"), dataset="My own folder or Parquet file"), path=str(folder))
    assert "which only detectors are finetuned on" in app.error[0].value


def test_an_image_size_that_no_detector_takes_is_refused(folder):
    app = choose(with_data(folder), box_size=200)
    assert "a multiple of 32 pixels" in app.error[0].value
    assert next(button for button in app.button if button.label == "Start finetuning").disabled


def test_what_is_wrong_with_labels_is_said_before_the_start(folder):
    (folder / "Annotations/000.xml").write_text(
        boxes.voc_xml("000.jpg", (96, 96), [(5, 5, 120, 60, 0), (9, 9, 9, 50, 1)])
    )
    app = with_data(folder)
    said = app.warning[0].value.replace("\\", "")
    assert "reach beyond their image, cut at its border: 1" in said and "Boxes without area" in said
    app.session_state["boxes_before"] = True
    assert not run(app).error and len(app.get("image")) == 4


def test_probe_offers_no_detector():
    backbone = open_page("probe").selectbox(key="backbone")
    assert not any("YOLO" in option for option in backbone.options) and "Detectors" in backbone.help


def test_voc_needs_no_path_and_is_downloaded_by_the_job(home):
    app = choose(choose(open_page("finetune"), backbone="yolov3_tiny"), boxes="voc")
    assert "2.8 GB, downloaded on first use" in messages(app)
    press(app, "Start finetuning")
    (job,) = submitted(home, "finetune_detector")
    assert job.spec.dataset == "voc"


def test_progress_shows_map_over_epochs(home):
    job_id = queue.submit(home, Job("finetune_detector", DetectionSpec("yolov3_tiny", "voc")))
    epochs = [{"seed": 0, "epoch": each, "loss": 1.0, "map50": 0.1 * each, "map": 0.05 * each} for each in (1, 2)]
    queue.open_reports(home, job_id).report(Progress("Training", 2, 9, epochs=tuple(epochs)))
    app = open_page("finetune", job=job_id)
    assert figure(app)["data"][0]["y"] == pytest.approx([10, 20]) and "mAP@0.5 (%)" in str(figure(app)["layout"])
    assert figure(choose(app, live_curve="mAP@[.5:.95]"))["data"][0]["y"] == pytest.approx([5, 10])
    press(app, "Cancel")
    assert queue.status(home, job_id).state == "cancelled"


def test_a_result_shows_map_with_seeds_beside_the_dense_detector(home, folder):
    data = catalogue.load_boxes(home, str(folder))
    of = {"dataset": str(folder), "content": data.hash, "image": data.test.names[0]}
    made = [detection_record(sparsity=0.5, seed=seed, map50=value, **of) for seed, value in ((0, 0.6), (1, 0.7))]
    write(home, *made, detection_record(**of))
    job_id = queue.submit(home, Job("finetune_detector", recorded(made[0].spec), (0, 1)))
    queue.end(home, job_id, "done", result={"runs": [each.run_id for each in made], "found": []})
    app = open_page("finetune", job=job_id)
    shown = metrics(app)
    assert shown["Final mAP@0.5"] == "65.0 ± 7.1 % (n = 2)" and shown["Mask violations"] == "0"
    assert shown["Final mAP@[.5:.95]"] == "32.5 ± 3.5 % (n = 2)"
    assert "Test mAP@0.5 per epoch" in chart_text(app)
    assert all(
        words in chart_text(app, 1) for words in ("Precision–recall by class", "<b>Magnitude 50 %</b>", "<b>Dense</b>")
    )
    app.session_state["drawn"] = True
    assert not run(app).error and len(app.get("image")) == 2  # the network's and the dense one's


@pytest.fixture
def sparse(home, tmp_path):
    """A pruned detector of COCO; the dense one is not downloaded."""
    torch.save(detector("yolov3_tiny", "darknet")[1].state_dict(), tmp_path / "net.pt")
    about = {"architecture": "yolov3_tiny", "method": "Magnitude", "sparsity": 0.5, "upstream": "COCO"}
    importing.add(home, tmp_path / "net.pt", "half", **about)
    return ["half"]


def batch(sparse, folder, **values) -> AppTest:
    app = choose(open_page("finetune", several="true"), backbones=sparse)
    return choose(choose(app, boxes_path=str(folder)), **values)


def test_a_batch_of_detectors_is_a_sweep_with_the_dense_detector(home, sparse, folder):
    app = batch(sparse, folder, seeds=2, box_epochs=3, box_size=64)
    assert "Added: " in messages(app) and "YOLOv3-tiny" in messages(app) and "**4 runs**, all new." in messages(app)
    (command,) = [code.value for code in app.code]
    assert len(command.splitlines()) == 2 and "--image-size 64" in command
    press(app, "Start batch")
    tasks = [each.task for each in sweeps.recent(home)[0].tasks]
    asked = [(task.kind, task.spec.backbone, task.seeds) for task in tasks]
    names = ("yolov3_tiny", *sparse)
    assert asked == [("finetune_detector", name, (seed,)) for name in names for seed in (0, 1)]
    assert {task.spec for task in tasks} >= {
        DetectionSpec(name, str(folder), settings=DetectionSettings(epochs=3), image_size=64) for name in sparse
    }
    again = open_page("finetune", sweep_id=app.query_params["sweep_id"])
    assert again.multiselect(key="backbones").value == list(names)
    assert again.text_input(key="boxes_path").value == str(folder)
    assert again.number_input(key="box_epochs").value == 3


def test_a_batch_takes_detectors_or_classifiers_and_boxes_by_name(home, sparse, folder):
    app = choose(open_page("finetune", several="true"), backbones=[*sparse, "efficientnet_lite0"])
    assert "not both" in app.error[0].value
    app = batch(sparse, folder, box_datasets=["voc", "My own folder or COCO file"], baselines=False)
    press(app, "Start batch")
    assert [each.task.spec.dataset for each in sweeps.recent(home)[0].tasks] == [str(folder), "voc"]
    assert "Choose at least one dataset." in messages(batch(sparse, folder, box_datasets=[]))
    assert "YOLO" not in str(open_page("probe", several="true").multiselect(key="backbones").options)


def test_a_batch_of_detectors_shows_its_results_as_map(home, sparse, folder):
    specs = [DetectionSpec(name, str(folder), precision="fp32") for name in ("yolov3_tiny", "half")]
    sweep_id = sweeps.submit(home, Plan("finetune", tuple(transfers("finetune_detector", specs, (0,)))))
    for sparsity, name, value in ((0.0, "yolov3_tiny", 0.8), (0.5, "half", 0.7)):
        made = detection_record(sparsity=sparsity, map50=value, dataset=str(folder))
        result = {**made.result, "dataset_name": "voc (own data)"}
        write(home, replace(made, spec={**made.spec, "backbone": name}, result=result))
    sweeps.advance(home, sweep_id)
    for _ in specs:
        waiting = (each for each in sweeps.status(home, sweep_id).tasks if each.state == "waiting" and each.job_id)
        queue.end(home, next(waiting).job_id, "done", result={"runs": ["a"], "found": []})
        sweeps.advance(home, sweep_id)
    app = open_page("finetune", sweep_id=sweep_id)
    assert "Mean mAP@0.5 (%)" in app.dataframe[-1].proto.columns
    rows = table(app).set_index("method")
    assert rows["accuracy_mean"].to_dict() == pytest.approx({"Dense": 80, "Magnitude": 70})
    assert rows.loc["Magnitude", "difference"] == pytest.approx(-10)


def test_the_indicator_links_a_job_of_a_detector_to_finetune(home):
    queue.submit(home, Job("finetune_detector", DetectionSpec("yolov3_tiny", "voc")))
    (job,) = activity.going_on(home)
    assert job.page == "finetune" and job.label.startswith("Finetuning of yolov3_tiny")
