"""Every layout a user may bring, and every way in which it may be wrong."""

import errno
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import upright_rgb
from sparse_core.errors import InputError


def image(value: int, mode: str = "RGB", size: tuple[int, int] = (12, 9)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value)).convert(mode)


def folder(root, counts: dict[str, int]):
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            image(40 * number + index).save(root / name / f"{index}.png")
    return root


def encoded(value: int) -> bytes:
    stream = io.BytesIO()
    image(value).save(stream, "PNG")
    return stream.getvalue()


def test_digits_are_scikit_learns_own(home):
    from sklearn.datasets import load_digits

    loaded = catalogue.load(home, "digits")
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (1437, 360)
    counts = np.bincount(np.concatenate([loaded.train.labels, loaded.test.labels]))
    assert counts.tolist() == np.bincount(load_digits().target).tolist()
    assert np.bincount(loaded.test.labels).min() >= 34
    assert loaded.train.load(0).mode == "RGB"
    assert loaded.hash == catalogue.load(home, "digits").hash


def test_one_folder_a_class_is_split_by_seed(home, tmp_path):
    root = folder(tmp_path / "d", {"cat": 20, "dog": 10})
    (root / "cat" / ".DS_Store").touch()
    (root / "dog" / "Thumbs.db").touch()
    first, again = catalogue.load(home, str(root)), catalogue.load(home, str(root))
    assert first.class_names == ["cat", "dog"]
    assert np.bincount(first.test.labels).tolist() == [4, 2]
    assert first.hash == again.hash
    image(255).save(root / "cat" / "0.png")
    assert catalogue.load(home, str(root)).hash != first.hash


def test_train_and_test_folders(home, tmp_path):
    folder(tmp_path / "d" / "train", {"a": 4, "b": 4})
    folder(tmp_path / "d" / "test", {"a": 2})
    loaded = catalogue.load(home, str(tmp_path / "d"))
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (8, 2)
    assert loaded.notes == ("The test split has no image of 1 of the classes: b.",)


def test_classes_without_training_images_are_told(home, tmp_path):
    folder(tmp_path / "d" / "train", {"a": 4, "b": 4, "c": 0, "none": 0})
    folder(tmp_path / "d" / "test", {"a": 2, "c": 2})
    assert catalogue.load(home, str(tmp_path / "d")).notes == (
        "Neither split has an image of 1 of the classes: none.",
        "The training split has no image of 1 of the classes: c. Their test images all count as wrong.",
        "The test split has no image of 1 of the classes: b.",
    )
    folder(tmp_path / "one", {"a": 4, "b": 4, "empty": 0})
    assert catalogue.load(home, str(tmp_path / "one")).notes == (
        "Neither split has an image of 1 of the classes: empty.",
    )


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_plain_and_as_hugging_face_writes_it(home, tmp_path, struct):
    images = [encoded(20 * value) for value in range(10)]
    column = [{"bytes": data, "path": None} for data in images] if struct else images
    table = pa.table({"image": column, "label": [value % 2 for value in range(10)]})
    if struct:
        info = {"info": {"features": {"label": {"names": ["even", "odd"]}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    (tmp_path / "d").mkdir()
    pq.write_table(table, tmp_path / "d" / "train-0.parquet")
    pq.write_table(table.slice(0, 4), tmp_path / "d" / "test-0.parquet")
    loaded = catalogue.load(home, str(tmp_path / "d"))
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (10, 4)
    assert loaded.class_names == (["even", "odd"] if struct else ["0", "1"])
    assert np.asarray(loaded.train.load(3))[0, 0].tolist() == [60, 60, 60]
    alone = catalogue.load(home, str(tmp_path / "d" / "train-0.parquet"))
    assert len(alone.train.labels) + len(alone.test.labels) == 10


def labelled(file, labels, names=(), images=None):
    """A Parquet file of images, a label each; with ``names`` in its metadata as Hugging Face writes them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    images = images or [encoded(value % 250) for value in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    if names:
        info = {"info": {"features": {"label": {"names": list(names)}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, file)
    return file


def test_words_as_labels_are_found_among_the_names_of_the_metadata(home, tmp_path):
    file = labelled(tmp_path / "x.parquet", ["dog", "cat"] * 5, ["dog", "cat"])
    assert catalogue.load(home, str(file)).class_names == ["dog", "cat"]
    assert np.bincount(catalogue.load(home, str(file)).test.labels).tolist() == [1, 1]


def test_only_numbers_that_occur_are_classes(home, tmp_path):
    gaps, whole = (
        labelled(tmp_path / name, labels)
        for name, labels in (("g.parquet", [0, 3_000_000] * 5), ("w.parquet", [0, 1] * 5))
    )
    assert catalogue.describe(home, str(gaps)).class_names == ["0", "3000000"]
    assert catalogue.describe(home, str(gaps)).layout == "Parquet, stratified split by seed 0, class numbers with gaps"
    assert catalogue.describe(home, str(whole)).layout == "Parquet, stratified split by seed 0"
    assert set(catalogue.load(home, str(gaps)).train.labels) == {0, 1}


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1, -1, 1], "ab", r"1 of 4 labels in x.parquet .* first -1 in row 2; expected 0 to 1, or .*\(a, b\)"),
        ([0, 1, 2, 1], "ab", "first 2 in row 2; expected 0 to 1"),
        (["a", "b", "a", "c"], "ab", "first 'c' in row 3; expected 0 to 1"),
        ([0, 1, -1, -1], "", "2 of 4 labels .* first -1 in row 2; expected integers from 0"),
        ([0, 1, None, 1], "ab", "row 2 of x.parquet holds None"),
        ([0.5, 1.0, 0.5, 1.0], "", "row 0 of x.parquet holds 0.5"),
        ([[0], [1], [0], [1]], "", r"row 0 of x.parquet holds \[0\]"),
    ],
)
def test_labels_that_name_no_class_are_refused_at_the_first_look(home, tmp_path, labels, names, words):
    file = labelled(tmp_path / "x.parquet", labels, names)
    for look in (catalogue.describe, catalogue.load):
        with pytest.raises(InputError, match=words) as refusal:
            look(home, str(file))
        assert "\n" not in str(refusal.value)


def test_parquet_files_that_disagree_on_their_labels_are_refused(home, tmp_path):
    labelled(tmp_path / "names" / "train.parquet", [0, 1] * 3, "ab")
    labelled(tmp_path / "names" / "test.parquet", [0, 1] * 3, "ba")
    with pytest.raises(InputError, match="different class names"):
        catalogue.describe(home, str(tmp_path / "names"))
    labelled(tmp_path / "kinds" / "train.parquet", [0, 1] * 3)
    labelled(tmp_path / "kinds" / "test.parquet", ["a", "b"] * 3)
    with pytest.raises(InputError, match="integers or strings, not both"):
        catalogue.describe(home, str(tmp_path / "kinds"))


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


def test_few_unreadable_images_are_named_and_left_out(home, tmp_path):
    root = folder(tmp_path / "d", {"a": 100, "b": 101})
    (root / "a" / "7.png").write_bytes(encoded(3)[:40])
    loaded = catalogue.load(home, str(root))
    assert loaded.notes == ("1 of 201 images cannot be read: a/7.png. They are left out.",)
    assert len(loaded.train.labels) + len(loaded.test.labels) == 200
    for row in range(len(loaded.train.labels)):
        loaded.train.load(row)


def test_unreadable_images_of_parquet_are_named_by_file_and_row(home, tmp_path):
    images = [encoded(value % 250) for value in range(300)]
    images[217] = b"broken"
    file = labelled(tmp_path / "x.parquet", [0, 1] * 150, images=images)
    assert catalogue.load(home, str(file)).notes == (
        "1 of 300 images cannot be read: x.parquet row 217. They are left out.",
    )


def test_unreadable_images_of_train_and_test_folders_are_named_apart(home, tmp_path):
    for part in ("train", "test"):
        folder(tmp_path / "d" / part, {"a": 150, "b": 150})
        (tmp_path / "d" / part / "b" / "3.png").write_bytes(b"broken")
    (note,) = catalogue.load(home, str(tmp_path / "d")).notes
    assert "train/b/3.png, test/b/3.png." in note


def test_many_unreadable_images_are_refused(home, tmp_path):
    root = folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "7.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 20 images cannot be read: a/7.png. That is 1 % or more"):
        catalogue.load(home, str(root))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root.mkdir(), "found none"),
        (lambda root: folder(root, {"only": 5}), "only one class"),
        (lambda root: folder(root, {"a": 5, "b": 1}), "single image"),
        (lambda root: folder(root / "train", {"a": 5, "b": 5}), "no test folder"),
        (
            lambda root: (folder(root / "train", {"a": 5, "b": 5}), folder(root / "test", {"c": 5})),
            "training split lacks: c",
        ),
        (
            lambda root: (folder(root / "train", {"a": 5, "b": 5, "c": 0}), folder(root / "test", {"c": 5})),
            "No class of the test split .* in training",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(home, tmp_path, make, words):
    make(tmp_path / "d")
    with pytest.raises(InputError, match=words) as refusal:
        catalogue.load(home, str(tmp_path / "d"))
    assert "\n" not in str(refusal.value)


def test_bad_parquet_is_refused(home, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        catalogue.load(home, str(tmp_path / "x.parquet"))
    pq.write_table(pa.table({"photo": [b""], "label": [0]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match="lacks the column image; it has photo, label"):
        catalogue.load(home, str(tmp_path / "y.parquet"))


def test_unknown_names_and_paths(home):
    with pytest.raises(InputError, match="Did you mean digits"):
        catalogue.load(home, "digit")
    with pytest.raises(InputError, match="no folder or file at /nowhere/at/all"):
        catalogue.load(home, "/nowhere/at/all")
    with pytest.raises(InputError, match=r"Birdsnap cannot be downloaded.*train/CLASS"):
        catalogue.load(home, "birds")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/" + "x" * 300, "no folder or file at /xxx"),
        ("~nobody-of-that-name/x", "no folder or file at ~nobody-of-that-name/x"),
        ("", "Expected the name or the path of a dataset"),
        (" ", "Expected the name or the path of a dataset"),
    ],
)
def test_paths_that_cannot_be_are_one_line(home, path, words):
    for look in (catalogue.describe, catalogue.load):
        with pytest.raises(InputError, match=words):
            look(home, path)


@pytest.mark.parametrize("unreadable", ["d", "d/b", "d/b/1.png"])
def test_what_may_not_be_read_is_one_line(home, tmp_path, monkeypatch, unreadable):
    """Permissions are simulated, for they do not bind the superuser."""
    root = folder(tmp_path / "d", {"a": 3, "b": 3})
    for method in ("iterdir", "read_bytes"):
        forbid(monkeypatch, method, tmp_path / unreadable)
    with pytest.raises(InputError, match=f"{unreadable} cannot be read .Permission denied"):
        catalogue.load(home, str(root))


def forbid(monkeypatch, method, path):
    allowed = getattr(Path, method)

    def refuse(self):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return allowed(self)

    monkeypatch.setattr(Path, method, refuse)


def test_the_split_of_sun397_does_not_follow_the_order_of_the_disk(home, monkeypatch):
    root = home / "datasets" / "sun397" / "SUN397"
    for letter, name in (("a", "abbey"), ("b", "bar")):
        (root / letter / name).mkdir(parents=True)
        for index in range(8):
            image(10 * index).save(root / letter / name / f"sun_{index}.jpg")
    (root / "ClassName.txt").write_text("/a/abbey\n/b/bar\n")
    found = list(Path.rglob(root, "sun_*.jpg"))
    rglob = Path.rglob
    loaded = []
    for listed in (found, found[::-1]):
        monkeypatch.setattr(
            Path, "rglob", lambda self, words, listed=listed: listed if words.startswith("sun") else rglob(self, words)
        )
        loaded.append(catalogue.load(home, "sun397"))
    first, second = (
        [(int(label), dataset.train.load(row).getpixel((0, 0))) for row, label in enumerate(dataset.train.labels)]
        for dataset in loaded
    )
    assert first == second
    assert [label for label, _ in first] == [0] * 4 + [1] * 4


def test_a_task_by_folder(home):
    folder(home / "datasets" / "birds" / "train", {"a": 3, "b": 3})
    folder(home / "datasets" / "birds" / "test", {"a": 3, "b": 3})
    assert catalogue.load(home, "birds").class_names == ["a", "b"]
    assert {card.id: card.ready for card in catalogue.available(home)}["birds"]


def test_no_network_is_one_line_and_leaves_nothing(home, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
    with pytest.raises(InputError, match=r"Could not download CIFAR-10 .*train/CLASS"):
        catalogue.load(home, "cifar10")
    assert not list((home / "datasets").iterdir())
