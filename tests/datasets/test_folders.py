"""Folders of images: their splits, unreadable images, and which are refused."""

import errno
from pathlib import Path

import numpy as np
import pytest

from sparse_core.datasets import catalogue
from tests.support.images import encoded, image, image_folder, parquet_file
from tests.support.refusals import refused


def two_folders(root: Path, train: dict[str, int], test: dict[str, int]) -> Path:
    image_folder(root / "train", train)
    image_folder(root / "test", test)
    return root


def test_one_folder_per_class_is_split_by_seed(home, tmp_path):
    root = image_folder(tmp_path / "d", {"cat": 20, "dog": 10})
    (root / "cat" / ".DS_Store").touch()
    (root / "dog" / "Thumbs.db").touch()
    first, again = catalogue.load(home, str(root)), catalogue.load(home, str(root))
    assert first.class_names == ["cat", "dog"]
    assert np.bincount(first.test.labels).tolist() == [4, 2]
    assert first.hash == again.hash
    image(255).save(root / "cat" / "0.png")
    assert catalogue.load(home, str(root)).hash != first.hash


def test_train_and_test_folders(home, tmp_path):
    loaded = catalogue.load(home, str(two_folders(tmp_path / "d", {"a": 4, "b": 4}, {"a": 2})))
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (8, 2)
    assert loaded.notes == ("The test split has no image of 1 of the classes: b.",)


def test_classes_without_images_are_noted(home, tmp_path):
    root = two_folders(tmp_path / "d", {"a": 4, "b": 4, "c": 0, "none": 0}, {"a": 2, "c": 2})
    assert catalogue.load(home, str(root)).notes == (
        "Neither split has an image of 1 of the classes: none.",
        "The training split has no image of 1 of the classes: c. Their test images all count as wrong.",
        "The test split has no image of 1 of the classes: b.",
    )
    root = image_folder(tmp_path / "one", {"a": 4, "b": 4, "empty": 0})
    assert catalogue.load(home, str(root)).notes == ("Neither split has an image of 1 of the classes: empty.",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root.mkdir(), "found none"),
        (lambda root: image_folder(root, {"only": 5}), "only one class"),
        (lambda root: image_folder(root, {"a": 5, "b": 1}), "single image"),
        (lambda root: image_folder(root / "train", {"a": 5, "b": 5}), "no test folder"),
        (lambda root: two_folders(root, {"a": 5, "b": 5}, {"c": 5}), "test has classes that train lacks: c"),
        (
            lambda root: two_folders(root, {"a": 5, "b": 5, "c": 0}, {"c": 5}),
            "No class of the test split .* in training",
        ),
    ],
)
def test_unusable_folders_are_refused_in_one_line(home, tmp_path, make, message):
    make(tmp_path / "d")
    refused(catalogue.load, home, str(tmp_path / "d"), match=message)


@pytest.mark.parametrize("unreadable", ["d", "d/b", "d/b/1.png"])
def test_missing_permissions_are_reported_in_one_line(home, tmp_path, monkeypatch, unreadable):
    """Permissions are simulated, because they do not apply to root."""

    def checked(method):
        def call(self, *arguments, **options):
            if self == tmp_path / unreadable:
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return method(self, *arguments, **options)

        return call

    root = image_folder(tmp_path / "d", {"a": 3, "b": 3})
    for name in ("iterdir", "open"):
        monkeypatch.setattr(Path, name, checked(getattr(Path, name)))
    refused(catalogue.load, home, str(root), match=f"{unreadable} cannot be read .Permission denied")


def test_few_unreadable_images_are_named_and_left_out(home, tmp_path):
    root = image_folder(tmp_path / "d", {"a": 100, "b": 101})
    (root / "a" / "7.png").write_bytes(encoded(3)[:40])
    loaded = catalogue.load(home, str(root))
    assert loaded.notes == ("1 of 201 images cannot be read: a/7.png. They are left out.",)
    assert len(loaded.train.labels) + len(loaded.test.labels) == 200
    for row in range(len(loaded.train.labels)):
        loaded.train.load(row)


def test_unreadable_images_in_parquet_are_named_by_file_and_row(home, tmp_path):
    images = [encoded(value % 250) for value in range(300)]
    images[217] = b"broken"
    file = parquet_file(tmp_path / "x.parquet", [0, 1] * 150, images=images)
    (note,) = catalogue.load(home, str(file)).notes
    assert note == "1 of 300 images cannot be read: x.parquet row 217. They are left out."


def test_unreadable_images_are_named_with_their_split(home, tmp_path):
    for part in ("train", "test"):
        image_folder(tmp_path / "d" / part, {"a": 150, "b": 150})
        (tmp_path / "d" / part / "b" / "3.png").write_bytes(b"broken")
    (note,) = catalogue.load(home, str(tmp_path / "d")).notes
    assert "train/b/3.png, test/b/3.png." in note


def test_many_unreadable_images_are_refused(home, tmp_path):
    root = image_folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "7.png").write_bytes(b"")
    assert "1 of 20 images cannot be read: a/7.png. That is 1 % or more" in refused(catalogue.load, home, str(root))


def test_the_class_list_is_part_of_the_identity(home, tmp_path):
    """An empty folder is a class that cannot be predicted: notes and the classifier's size depend on it."""
    root = image_folder(tmp_path / "d", {"cat": 10, "dog": 10, "eel": 0})
    with_eel = catalogue.load(home, str(root))
    (root / "eel").rmdir()
    without = catalogue.load(home, str(root))
    assert (len(with_eel.class_names), len(without.class_names)) == (3, 2) and without.notes == ()
    assert with_eel.hash != without.hash
    (root / "eel").mkdir()
    assert catalogue.load(home, str(root)).hash == with_eel.hash


@pytest.mark.parametrize(
    "content", ["", "{}", "[[0]]", "[[], [-1]]", '[["0"], []]', "[[0], [99]]", "[[true], []]", "9"]
)
def test_damaged_caches_of_a_dataset_are_made_again(home, tmp_path, content):
    root = image_folder(tmp_path / "d", {"a": 10, "b": 10})
    first = catalogue.load(home, str(root))
    for file in [*(home / "datasets" / "hashes").iterdir(), *(home / "datasets" / "unreadable").iterdir()]:
        file.write_text(content)
    again = catalogue.load(home, str(root))
    assert (again.hash, len(again.train.labels), again.notes) == (first.hash, 16, ())


def test_folders_of_classes_beside_a_folder_of_boxes_are_classified(home, tmp_path):
    root = image_folder(tmp_path / "d", {"a": 3, "b": 3})
    (root / "Annotations").mkdir()
    (root / "Annotations" / "0.xml").write_text("<annotation/>")
    loaded = catalogue.load(home, str(root))
    assert len(loaded.train.labels) + len(loaded.test.labels) == 6
