"""Images with boxes: the three layouts give the same dataset, and what is wrong in annotations is told and handled."""

import json

import numpy as np
import pytest
from PIL import Image

from sparse_core.datasets import catalogue
from tests.support import boxes as drawn
from tests.support.refusals import refused

LAYOUTS = {"VOC": drawn.voc, "COCO": drawn.coco, "YOLO": drawn.yolo}


def loaded(tmp_path, folder):
    return catalogue.load_boxes(tmp_path / "home", str(folder))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_drawn_boxes(tmp_path, layout):
    folder = LAYOUTS[layout](tmp_path / "data", 6, 2)
    data = loaded(tmp_path, folder)
    assert data.layout.startswith(layout) and catalogue.has_boxes(str(folder))
    assert (data.class_names, data.metric, len(data.train.labels), len(data.test.labels)) == (
        drawn.NAMES,
        "mAP@0.5",
        4,
        2,
    )
    for row in range(4):
        expected = np.array(drawn.drawn(row)[1])
        assert np.allclose(data.train.boxes[row].corners, expected[:, :4], atol=1e-3)
        assert data.train.boxes[row].labels.tolist() == expected[:, 4].tolist()
    assert loaded(tmp_path, folder).hash == data.hash
    refused(catalogue.load, tmp_path / "home", str(folder), match="detectors")


def test_without_lists_the_split_is_drawn_by_seed(tmp_path):
    folder = drawn.voc(tmp_path / "data", 10, 4)
    for file in (folder / "ImageSets/Main").iterdir():
        file.unlink()
    data = loaded(tmp_path, folder)
    assert (len(data.train.labels), len(data.test.labels)) == (8, 2) and "split by seed 0" in data.layout
    assert not set(data.train.names) & set(data.test.names)


def note(data, words):
    return next((each for each in data.notes if words in each), "")


def rewritten(folder, boxes, size=(drawn.SIDE, drawn.SIDE), **more):
    """The data with other boxes for image 0."""
    (folder / "Annotations/000.xml").write_text(drawn.voc_xml("000.jpg", size, boxes, **more))
    return folder


def test_boxes_beyond_the_image_without_area_and_of_no_number(tmp_path):
    wrong = [(-30, 10, 40, 50, 0), (20, 20, 20, 60, 1), (200, 200, 240, 240, 0), (5, 5, 60, 60, 1)]
    folder = rewritten(drawn.voc(tmp_path / "data"), wrong)
    text = (folder / "Annotations/001.xml").read_text()
    (folder / "Annotations/001.xml").write_text(text.replace("<xmin>", "<xmin>nan", 1))
    data = loaded(tmp_path, folder)
    assert data.train.boxes[0].corners.tolist() == [[0, 10, 40, 50], [5, 5, 60, 60]]
    assert note(data, "cut at its border").startswith("1 boxes") and "000.jpg" in note(data, "cut at its border")
    assert note(data, "no area").startswith("3 boxes")


def test_classes_that_only_the_test_images_have(tmp_path):
    folder = drawn.voc(tmp_path / "data")
    text = (folder / "Annotations/007.xml").read_text()
    (folder / "Annotations/007.xml").write_text(text.replace("circle", "triangle").replace("square", "triangle"))
    data = loaded(tmp_path, folder)
    assert "triangle" not in data.class_names and "007.jpg" in note(data, "not in the list of classes")


def test_missing_and_damaged_images(tmp_path):
    folder = drawn.voc(tmp_path / "data")
    (folder / "JPEGImages/001.jpg").unlink()
    (folder / "JPEGImages/002.jpg").write_bytes(b"no image")
    data = loaded(tmp_path, folder)
    assert len(data.train.labels) == 2
    assert "001.jpg" in note(data, "cannot be found") and "002.jpg" in note(data, "cannot be read")


def test_difficult_and_crowded_boxes_are_ignored(tmp_path):
    folder = rewritten(drawn.voc(tmp_path / "voc"), [(5, 5, 60, 60, 1)], difficult=1)
    data = loaded(tmp_path, folder)
    assert data.train.boxes[0].ignored.tolist() == [True] and "difficult" in note(data, "crowds")
    folder = drawn.coco(tmp_path / "coco")
    file = folder / "annotations/instances_val.json"
    document = json.loads(file.read_text())
    document["annotations"][0] |= {"iscrowd": 1}
    document["annotations"][1] |= {"category_id": 99}
    file.write_text(json.dumps(document))
    data = loaded(tmp_path, folder)
    assert sum(boxes.ignored.sum() for boxes in data.test.boxes) == 1 and note(data, "list of classes").startswith(
        "1 boxes"
    )


@pytest.mark.parametrize("turn", [6, 8, 3])
def test_boxes_turn_with_the_image(tmp_path, turn):
    folder = drawn.voc(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (60, 80)).save(folder / "JPEGImages/000.jpg", exif=exif)
    data = loaded(tmp_path, rewritten(folder, [(10, 10, 30, 40, 0)], (60, 80)))  # as it is stored
    expected = {
        6: [80 - 40, 10, 80 - 10, 30],  # a quarter clockwise: x' = height − y
        8: [10, 60 - 30, 40, 60 - 10],  # a quarter counterclockwise: y' = width − x
        3: [10, 10, 30, 40],  # upside down has the same size: the boxes are taken as those of the upright image
    }
    assert data.train.boxes[0].corners.tolist() == [expected[turn]]
    assert bool(note(data, "EXIF")) == (turn != 3)


def test_annotations_of_another_size(tmp_path):
    folder = rewritten(drawn.voc(tmp_path / "data"), [(10, 20, 30, 40, 0)], (2 * drawn.SIDE, 2 * drawn.SIDE))
    data = loaded(tmp_path, folder)
    assert data.train.boxes[0].corners.tolist() == [[5, 10, 15, 20]] and note(data, "scaled")


def test_images_without_boxes_are_background(tmp_path):
    data = loaded(tmp_path, rewritten(drawn.voc(tmp_path / "data"), []))
    assert data.train.labels[0] == 0 and "000.jpg" in note(data, "background")


def test_files_that_cannot_be_read_are_named(tmp_path):
    folder = drawn.voc(tmp_path / "voc")
    (folder / "Annotations/003.xml").write_text("<annotation><object>")
    refused(loaded, tmp_path, folder, match="003.xml is no XML")
    (folder / "Annotations/003.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')
    refused(loaded, tmp_path, folder, match="document type")
    folder = drawn.yolo(tmp_path / "yolo")
    label = next((folder / "labels/train").iterdir())
    label.write_text("0 0.5 0.5\n")
    refused(loaded, tmp_path, folder, match="Line 1 of")
    label.write_text("9 0.5 0.5 0.1 0.1\n")
    assert note(loaded(tmp_path, folder), "list of classes").startswith("1 boxes")
    folder = drawn.coco(tmp_path / "coco")
    (folder / "annotations/instances_val.json").write_text('{"images": [], "annotations": 3, "categories": []}')
    refused(loaded, tmp_path, folder, match="no list of annotations")
    (folder / "annotations/instances_val.json").write_text('{"images": [')
    refused(loaded, tmp_path, folder, match="no JSON")


def test_folders_without_boxes_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(loaded, tmp_path, tmp_path / "empty", match="Expected images with boxes")
    refused(loaded, tmp_path, "digits", match="Got 'digits'")
    folder = drawn.voc(tmp_path / "data")
    for file in (folder / "JPEGImages").iterdir():
        file.unlink()
    refused(loaded, tmp_path, folder, match="no box to use in its training images")
