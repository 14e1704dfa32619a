"""Datasets by name and path, the tasks of the paper, and the conversion of images to upright RGB."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from sparse_core.datasets import catalogue, contents, tasks
from sparse_core.datasets.dataset import upright_rgb
from tests.support.images import image, image_folder
from tests.support.refusals import refused


def test_digits_are_scikit_learns_own(home):
    loaded = catalogue.load(home, "digits")
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (1437, 360)
    digits = load_digits()
    for split, rows in zip((loaded.train, loaded.test), contents.stratified(digits.target), strict=True):
        assert split.labels.tolist() == digits.target[rows].tolist()
        pixels = np.stack([np.asarray(split.load(number).convert("L")) for number in range(len(rows))])
        np.testing.assert_array_equal(pixels, (digits.images[rows] * 255 / 16).round())
    assert np.bincount(loaded.test.labels).min() >= 34
    assert loaded.train.load(0).mode == "RGB"
    assert loaded.hash == catalogue.load(home, "digits").hash


def test_every_kind_of_image_becomes_upright_rgb(tmp_path):
    assert upright_rgb(image(100, "L")).getpixel((0, 0)) == (100, 100, 100)
    assert upright_rgb(Image.new("RGBA", (4, 4), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert upright_rgb(image(100, "P")).mode == "RGB"
    assert upright_rgb(image(100, "CMYK")).mode == "RGB"
    deep = Image.fromarray(np.full((4, 4), 257 * 80, dtype=np.uint16))
    assert upright_rgb(deep).getpixel((0, 0)) == (80, 80, 80)
    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert upright_rgb(Image.open(tmp_path / "turned.jpg")).size == (2, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "Did you mean digits"),
        ("/nowhere/at/all", "no folder or file at /nowhere/at/all"),
        ("/" + "x" * 300, "no folder or file at /xxx"),
        ("~nobody-of-that-name/x", "no folder or file at ~nobody-of-that-name/x"),
        ("", "Expected the name or the path of a dataset"),
        (" ", "Expected the name or the path of a dataset"),
    ],
)
def test_unknown_names_and_paths_are_refused(home, name, message):
    for look in (catalogue.describe, catalogue.load):
        refused(look, home, name, match=message)


def test_a_task_without_a_download_is_refused(home):
    refused(catalogue.load, home, "birds", match=r"Birdsnap cannot be downloaded.*train/CLASS")


def test_a_folder_called_like_a_task_is_a_folder(home, tmp_path, monkeypatch):
    folder = str(image_folder(tmp_path / "flowers", {"a": 5, "b": 5}))
    loaded = catalogue.load(home, folder)
    assert (loaded.id, loaded.task, loaded.metric) == ("flowers", "", "top1")
    monkeypatch.chdir(tmp_path)
    refused(catalogue.describe, home, "flowers", match="Oxford Flowers-102 is not downloaded yet")  # the id is the task
    assert catalogue.load(home, "./flowers").task == ""
    assert catalogue.load(home, "digits").task == "digits"


def test_the_split_of_sun397_is_independent_of_the_order_of_the_disk(home, monkeypatch):
    root = home / "datasets" / "sun397" / "SUN397"
    for letter, name in (("a", "abbey"), ("b", "bar")):
        (root / letter / name).mkdir(parents=True)
        for index in range(8):
            image(10 * index).save(root / letter / name / f"sun_{index}.jpg")
    (root / "ClassName.txt").write_text("/a/abbey\n/b/bar\n")
    found = list(Path.rglob(root, "sun_*.jpg"))
    rglob = Path.rglob
    splits = []
    for listed in (found, found[::-1]):
        monkeypatch.setattr(
            Path, "rglob", lambda self, name, listed=listed: listed if "sun" in name else rglob(self, name)
        )
        train = catalogue.load(home, "sun397").train
        splits.append([(int(label), train.load(row).getpixel((0, 0))) for row, label in enumerate(train.labels)])
    first, second = splits
    assert first == second
    assert [label for label, _ in first] == [0] * 4 + [1] * 4


def test_a_task_from_folders(home):
    image_folder(home / "datasets" / "birds" / "train", {"a": 3, "b": 3})
    image_folder(home / "datasets" / "birds" / "test", {"a": 3, "b": 3})
    loaded = catalogue.load(home, "birds")
    assert (loaded.class_names, loaded.task) == (["a", "b"], "birds")
    assert {card.id: card.ready for card in catalogue.available(home)}["birds"]


def test_a_failed_download_is_reported_in_one_line_and_leaves_nothing(home, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
    refused(catalogue.load, home, "cifar10", match=r"Could not download CIFAR-10 .*train/CLASS")
    assert not list((home / "datasets").iterdir())


@pytest.mark.parametrize("name", tasks.DOWNLOADS)
def test_torchvision_still_has_the_private_names(name):
    """The names are in ``tasks.LABELS`` and ``tasks.FILES``: adapt them when this fails after an update of torchvision."""
    made_by = getattr(datasets, tasks.DOWNLOADS[name].made_by)
    source = "".join(inspect.getsource(kind) for kind in made_by.__mro__ if kind.__module__.startswith("torchvision"))
    names = [tasks.LABELS.get(name, tasks.OTHER_LABELS), *([tasks.FILES[name]] if name in tasks.FILES else [])]
    gone = [attribute for attribute in names if not re.search(rf"self\.{attribute}\b[^=\n]* = ", source)]
    assert not gone, f"torchvision's {made_by.__name__} no longer sets {gone}, which datasets/tasks.py reads"
