"""The paper's own splits, on a few images laid out as torchvision's downloads are."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from sparse_core.datasets import catalogue, tasks
from sparse_core.datasets.dataset import Split
from sparse_core.errors import InputError
from sparse_core.paths import write_text
from tests.support.images import image


def write_image(file: Path, number: int) -> None:
    """An image whose number, up to 80, can be read from its pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image(3 * number).save(file)


def numbers(split: Split, class_names: list[str]) -> dict[str, list[int]]:
    """The numbers of a split's images, by class, in their order."""
    found: dict[str, list[int]] = {name: [] for name in class_names}
    for row, label in enumerate(split.labels):
        found[class_names[label]].append(round(split.load(row).getpixel((0, 0))[0] / 3))
    return found


def load(home: Path, name: str) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    dataset = catalogue.load(home, name)
    assert (dataset.id, dataset.task) == (name, name)
    assert dataset.layout.startswith("the paper's split") and "not the paper" not in " ".join(dataset.notes)
    return numbers(dataset.train, dataset.class_names), numbers(dataset.test, dataset.class_names)


@pytest.mark.parametrize(
    ("name", "folder", "classes", "first"),
    [
        ("caltech101", "caltech101/101_ObjectCategories", {"BACKGROUND_Google": 3, "Faces": 33, "ant": 31}, 30),
        ("caltech256", "caltech256/256_ObjectCategories", {"001.ak47": 62, "002.american-flag": 61}, 60),
    ],
)
def test_the_first_images_of_each_class_of_the_caltechs_are_for_training(home, name, folder, classes, first):
    for place, (category, count) in enumerate(classes.items(), start=1):
        for number in range(1, count + 1):
            file = f"image_{number:04d}.jpg" if name == "caltech101" else f"{place:03d}_{number:04d}.jpg"
            write_image(home / "datasets" / name / folder / category / file, number)
    classes.pop("BACKGROUND_Google", None)
    train, test = load(home, name)
    assert train == {category: list(range(1, first + 1)) for category in classes}
    assert test == {category: list(range(first + 1, count + 1)) for category, count in classes.items()}


def test_dtd_trains_on_both_lists_of_partition_1(home):
    root = home / "datasets" / "dtd" / "dtd" / "dtd"
    lists = {"train1": [1, 2], "val1": [3], "test1": [4, 5], "train2": [5], "val2": [4], "test2": [1, 2, 3]}
    for name, listed in lists.items():
        lines = [f"{kind}/{kind}_{number:04d}.jpg" for kind in ("banded", "woven") for number in listed]
        write_text(root / "labels" / f"{name}.txt", "\n".join(lines))
    for kind in ("banded", "woven"):
        for number in range(1, 6):
            write_image(root / "images" / kind / f"{kind}_{number:04d}.jpg", number)
    train, test = load(home, "dtd")
    assert train == {"banded": [1, 2, 3], "woven": [1, 2, 3]} and test == {"banded": [4, 5], "woven": [4, 5]}


def test_lists_of_different_classes_are_refused(home):
    root = home / "datasets" / "dtd" / "dtd" / "dtd"
    for name, kinds in (("train1", "ab"), ("val1", "b"), ("test1", "ab")):
        write_text(root / "labels" / f"{name}.txt", "\n".join(f"{kind}/{kind}_1.jpg" for kind in kinds))
    with pytest.raises(InputError, match=r"Describable Textures .*its lists have different classes"):
        catalogue.load(home, "dtd")


def test_flowers_trains_on_the_training_and_the_validation_list(home, monkeypatch):
    root = home / "datasets" / "flowers" / "flowers-102"
    root.mkdir(parents=True)
    scipy.io.savemat(root / "imagelabels.mat", {"labels": [1, 1, 2, 2, 1, 2, 2]})
    scipy.io.savemat(root / "setid.mat", {"trnid": [3, 1], "valid": [2, 4], "tstid": [5, 6, 7]})
    for number in range(1, 8):
        write_image(root / "jpg" / f"image_{number:05d}.jpg", number)
    known = {key: (file, None) for key, (file, _) in datasets.Flowers102._file_dict.items()}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", known)
    train, test = load(home, "flowers")
    pink, orchid = catalogue.describe(home, "flowers").class_names[:2]
    assert (train[pink], train[orchid]) == ([1, 2], [3, 4]) and (test[pink], test[orchid]) == ([5], [6, 7])


def test_aircraft_and_pets_train_on_trainval(home):
    root = home / "datasets" / "aircraft" / "fgvc-aircraft-2013b" / "data"
    write_text(root / "variants.txt", "707\nA 320\n")
    for name, listed in (("trainval", {1: "A 320", 2: "707"}), ("test", {3: "707"}), ("train", {1: "A 320"})):
        write_text(root / f"images_variant_{name}.txt", "\n".join(f"{key} {label}" for key, label in listed.items()))
    for number in range(1, 4):
        write_image(root / "images" / f"{number}.jpg", number)
    assert load(home, "aircraft") == ({"707": [2], "A 320": [1]}, {"707": [3], "A 320": []})

    root = home / "datasets" / "pets" / "oxford-iiit-pet"
    (root / "annotations" / "trimaps").mkdir(parents=True)
    write_text(root / "annotations" / "trainval.txt", "Bengal_1 1 1 1\nbeagle_2 2 2 1\n")
    write_text(root / "annotations" / "test.txt", "Bengal_3 1 1 1\nbeagle_4 2 2 1\n")
    for number, kind in enumerate(("Bengal", "beagle", "Bengal", "beagle"), start=1):
        write_image(root / "images" / f"{kind}_{number}.jpg", number)
    assert load(home, "pets") == ({"Bengal": [1], "Beagle": [2]}, {"Bengal": [3], "Beagle": [4]})


@pytest.fixture
def sun397(home: Path) -> Path:
    """Two classes of six images, without the lists of the partition."""
    root = home / "datasets" / "sun397" / "SUN397"
    for name in ("/a/abbey", "/b/bar/indoor"):
        for number in range(1, 7):
            write_image(root / name[1:] / f"sun_{number}.jpg", number)
    write_text(root / "ClassName.txt", "/a/abbey\n/b/bar/indoor\n")
    return root


@pytest.mark.parametrize("place", ["", "..", "Partitions", "../Partitions"])
def test_sun397_follows_the_published_partition_where_its_lists_are(home, sun397, place):
    without = catalogue.load(home, "sun397")
    assert [len(split.labels) for split in (without.train, without.test)] == [6, 6]
    assert without.layout == "half of each class by seed 0, not the paper's split"
    assert "not the paper's split of SUN397" in without.notes[0] and "Training_01.txt" in without.notes[0]
    folder = sun397 / place
    folder.mkdir(exist_ok=True)
    for file, listed in zip(tasks.PARTITION, ([6, 2, 4], [1, 3, 5]), strict=True):
        lines = [f"{name}/sun_{number}.jpg\r\n" for name in ("/a/abbey", "/b/bar/indoor") for number in listed]
        (folder / file).write_text("".join(lines), newline="")
    train, test = load(home, "sun397")
    assert train == {"abbey": [6, 2, 4], "bar/indoor": [6, 2, 4]}
    assert test == {"abbey": [1, 3, 5], "bar/indoor": [1, 3, 5]}
    assert catalogue.load(home, "sun397").hash != without.hash  # runs on either split stay apart


def test_a_partition_that_names_other_images_is_refused(home, sun397):
    for file in tasks.PARTITION:
        (sun397 / file).write_text("/a/abbey/sun_1.jpg\n/a/abbey/sun_99.jpg\n")
    with pytest.raises(InputError, match=r"1 of 2 images of .*Training_01.txt .* a/abbey/sun_99.jpg"):
        catalogue.load(home, "sun397")


def test_partitions_are_downloaded_with_the_images_where_possible(tmp_path, server, monkeypatch):
    """Without them, the images that were downloaded are kept."""
    archive = tmp_path / "Partitions.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in tasks.PARTITION:
            packed.writestr(name, "")
    monkeypatch.setattr(tasks, "PARTITIONS_URL", f"{server}/Partitions.zip")
    monkeypatch.setattr(tasks, "PARTITIONS_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    tasks._download_partitions(tmp_path / "whole")
    assert len(tasks._partition_lists(tmp_path / "whole")) == 2
    monkeypatch.setattr(tasks, "PARTITIONS_URL", "http://127.0.0.1:9/none.zip")
    (tmp_path / "none").mkdir()
    tasks._download_partitions(tmp_path / "none")
    assert tasks._partition_lists(tmp_path / "none") == []


def test_a_split_of_the_users_is_not_called_the_papers(home):
    for name in ("train", "test"):
        for kind in ("a", "b"):
            write_image(home / "datasets" / "dtd" / name / kind / "1.jpg", 1)
    assert "paper" not in catalogue.load(home, "dtd").layout
    notes = {card.id: card.note for card in catalogue.available(home)}
    assert notes["dtd"] == "on this machine; your own train and test folders or Parquet files"
    assert notes["pets"] == "downloaded on first use; the paper's split: trainval and test lists"


def test_files_of_another_layout_are_refused_in_one_line(home):
    (home / "datasets" / "caltech101").mkdir(parents=True)
    with pytest.raises(InputError, match=r"The files of Caltech-101 in .* not as torchvision lays them out"):
        catalogue.load(home, "caltech101")


def test_labels_are_counted_from_0_in_every_class(home, sun397):
    assert np.bincount(catalogue.load(home, "sun397").train.labels).tolist() == [3, 3]
