"""Images with boxes: the three layouts give the same dataset, and what is wrong in annotations is told and handled."""

import hashlib
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import voc

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
    assert note(data, "cut at its border").endswith(": 1 (000.jpg).")
    assert note(data, "without area").endswith(": 3 (000.jpg, 001.jpg).")


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
    assert sum(boxes.ignored.sum() for boxes in data.test.boxes) == 1
    assert ": 1 (" in note(data, "list of classes")


def test_boxes_of_no_listed_image_are_told(tmp_path):
    folder = drawn.coco(tmp_path / "data")
    file = folder / "annotations/instances_train.json"
    document = json.loads(file.read_text())
    document["annotations"][0] |= {"image_id": 12345}
    document["annotations"][1] |= {"image_id": None}
    file.write_text(json.dumps(document))
    data = loaded(tmp_path, folder)
    assert "instances_train.json does not list, left out: 2." in note(data, "Boxes of images")


def test_ids_that_coco_files_use_twice_are_told_and_the_first_counts(tmp_path):
    folder = drawn.coco(tmp_path / "data")
    before = loaded(tmp_path, folder)
    for name in ("instances_train.json", "instances_val.json"):
        file = folder / "annotations" / name
        document = json.loads(file.read_text())
        first = document["categories"][0]
        document["categories"].append({**first, "name": "another"})
        document["images"].append({**document["images"][0], "file_name": document["images"][1]["file_name"]})
        file.write_text(json.dumps(document))
    data = loaded(tmp_path, folder)
    assert data.class_names == before.class_names
    assert [each.names for each in (data.train, data.test)] == [each.names for each in (before.train, before.test)]
    assert note(data, "Class ").count("'another'") == 1 and first["name"] in note(data, "Class ")
    assert "instances_val.json lists more than once, left out after the first: 1." in note(data, "val.json lists")


@pytest.mark.parametrize("turn", [6, 8, 3, 0])
def test_boxes_turn_with_the_image(tmp_path, turn):
    folder = drawn.voc(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (60, 80)).save(folder / "JPEGImages/000.jpg", exif=exif)
    data = loaded(tmp_path, rewritten(folder, [(10, 10, 30, 40, 0)], (60, 80)))  # as it is stored
    expected = {
        6: [80 - 40, 10, 80 - 10, 30],  # a quarter clockwise: x' = height − y
        8: [10, 60 - 30, 40, 60 - 10],  # a quarter counterclockwise: y' = width − x
        0: [10, 10, 30, 40],  # no rotation that EXIF knows
        3: [10, 10, 30, 40],  # upside down has the same size: the boxes are taken as those of the upright image
    }
    assert data.train.boxes[0].corners.tolist() == [expected[turn]]
    assert bool(note(data, "rotated with them")) == (turn in (6, 8))
    assert bool(note(data, "may be of the image as it is stored")) == (turn == 3)


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
    label.write_text("0 0.5 0.5 0.1 0.1 0.9\n")  # a prediction with its probability is no polygon
    refused(loaded, tmp_path, folder, match="Line 1 of")
    label.write_text("9 0.5 0.5 0.1 0.1\n")
    assert ": 1 (" in note(loaded(tmp_path, folder), "list of classes")
    folder = drawn.coco(tmp_path / "coco")
    (folder / "annotations/instances_val.json").write_text('{"images": [], "annotations": 3, "categories": []}')
    refused(loaded, tmp_path, folder, match="no list of annotations")
    (folder / "annotations/instances_val.json").write_text('{"images": [')
    refused(loaded, tmp_path, folder, match="no JSON")


def test_numbers_that_are_none(tmp_path):
    """Sizes without end and class numbers that no list could hold."""
    folder = drawn.voc(tmp_path / "voc")
    text = (folder / "Annotations/000.xml").read_text()
    (folder / "Annotations/000.xml").write_text(text.replace("<width>96", "<width>1e999"))
    assert len(loaded(tmp_path, folder).train.boxes[0].labels) == len(drawn.drawn(0)[1])
    folder = drawn.coco(tmp_path / "coco")
    file = folder / "annotations/instances_train.json"
    file.write_text(file.read_text().replace('"width": 96', '"width": 1e999', 1))
    assert len(loaded(tmp_path, folder).train.labels) == 4
    document = json.loads(file.read_text())
    document["images"][1]["height"] = document["annotations"][0]["bbox"][0] = 10**400  # more than a float holds
    file.write_text(json.dumps(document))
    assert "1 (0.png)" in note(loaded(tmp_path, folder), "finite coordinates")
    folder = drawn.yolo(tmp_path / "yolo")
    label = next((folder / "labels/train").iterdir())
    for number in ("1e300", "100000000", "inf", "-1", "0.5"):
        label.write_text(f"{number} 0.5 0.5 0.1 0.1\n")
        refused(loaded, tmp_path, folder, match="class number below 10,000")
    label.write_text("")
    (folder / "data.yaml").write_text("names: " + "[" * 5000)
    refused(loaded, tmp_path, folder, match="no YAML")


def test_images_of_both_splits_are_named(tmp_path):
    folder = drawn.voc(tmp_path / "data")
    (folder / "ImageSets/Main/test.txt").write_text("000\n006\n007\n")
    assert note(loaded(tmp_path, folder), "training images, too").endswith(": 1 (000.jpg).")


def test_an_image_that_cannot_be_decoded_is_left_out(tmp_path):
    """Its size can be read, so only decoding tells: the job does, a page does not wait for it."""
    folder = drawn.voc(tmp_path / "data", 120, 4)
    file = folder / "JPEGImages/003.jpg"
    file.write_bytes(file.read_bytes()[:-900])
    data = loaded(tmp_path, folder)
    assert len(data.train.labels) == 115 == len(data.train.boxes)
    assert "1 of 120 images cannot be read: JPEGImages/003.jpg" in note(data, "cannot be read")
    assert np.allclose(data.train.boxes[3].corners, np.array(drawn.drawn(4)[1])[:, :4], atol=1e-3)
    assert len(catalogue.load_boxes(tmp_path / "home", str(folder), download=False).train.labels) == 116


def test_folders_without_boxes_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(loaded, tmp_path, tmp_path / "empty", match="Expected images with boxes")
    refused(loaded, tmp_path, "digits", match="'digits' has no boxes")
    folder = drawn.voc(tmp_path / "data")
    for file in (folder / "JPEGImages").iterdir():
        file.unlink()
    refused(loaded, tmp_path, folder, match="no box to use in its training images")
    folder = drawn.voc(tmp_path / "difficult")
    for file in (folder / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    refused(loaded, tmp_path, folder, match="no box to use in its training images")
    folder = drawn.voc(tmp_path / "one", 1, 0)
    refused(loaded, tmp_path, folder, match="at least two annotated images")


@pytest.fixture
def voc_archives(tmp_path, server, monkeypatch):
    """The archives of PASCAL VOC with drawn images 0 to 5, where torchvision downloads them from."""
    lists = {
        "2007": ("VOC2007", "trainval", (0, 1)),
        "2012": ("VOC2012", "trainval", (2, 3)),
        "2007-test": ("VOC2007", "test", (4, 5)),
    }
    for key, (year, name, numbers) in lists.items():
        root = drawn.voc(tmp_path / key / "VOCdevkit" / year, 6, 0)
        (root / f"ImageSets/Main/{name}.txt").write_text("".join(f"{number:03}\n" for number in numbers))
        for number in set(range(6)) - set(numbers):
            (root / f"JPEGImages/{number:03}.jpg").unlink()
            (root / f"Annotations/{number:03}.xml").unlink()
        archive = tmp_path / voc.DATASET_YEAR_DICT[key]["filename"]
        with tarfile.open(archive, "w") as packed:
            packed.add(tmp_path / key / "VOCdevkit", "VOCdevkit")
        told = {"url": f"{server}/{archive.name}", "md5": hashlib.md5(archive.read_bytes()).hexdigest()}
        monkeypatch.setitem(voc.DATASET_YEAR_DICT, key, voc.DATASET_YEAR_DICT[key] | told)


def test_voc_is_downloaded_with_the_splits_of_the_paper(home, voc_archives):
    (card,) = catalogue.with_boxes(home)
    assert (card.id, card.ready, catalogue.has_boxes("voc")) == ("voc", False, True)
    refused(catalogue.load_boxes, home, "voc", download=False, match="not downloaded yet")
    data = catalogue.load_boxes(home, "voc")
    assert (data.id, data.task, data.class_names, "paper's split" in data.layout) == ("voc", "voc", drawn.NAMES, True)
    assert [name[-7:-4] for name in data.train.names] == ["000", "001", "002", "003"]
    for row, (split, number) in enumerate([(data.train, 2), (data.test, 4)]):
        place = split.names.index(next(name for name in split.names if f"{number:03}" in name))
        assert np.allclose(split.boxes[place].corners, np.array(drawn.drawn(number)[1])[:, :4], atol=1e-3), row
    assert not list((home / "datasets/voc").glob("*.tar"))
    assert catalogue.with_boxes(home)[0].ready and catalogue.load_boxes(home, "voc", download=False).hash == data.hash
    refused(catalogue.load, home, "voc", match="PASCAL VOC has images with boxes, which only detectors")
    (home / "datasets/voc/VOCdevkit/VOC2012/ImageSets/Main/trainval.txt").unlink()
    refused(catalogue.load_boxes, home, "voc", match="not as torchvision lays them out")


def test_a_failed_download_of_voc_leaves_nothing(home, monkeypatch):
    for key in ("2007", "2012", "2007-test"):
        monkeypatch.setitem(voc.DATASET_YEAR_DICT[key], "url", "http://127.0.0.1:9/none.tar")
    refused(catalogue.load_boxes, home, "voc", match="Could not download PASCAL VOC .*VOCdevkit")
    assert not (home / "datasets/voc").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("digits", "'digits' has no boxes"), ("/nowhere/data", "no folder or file at /nowhere")]
)
def test_what_has_no_boxes_is_refused_in_one_line(home, name, words):
    refused(catalogue.load_boxes, home, name, match=words)
