"""Every layout a user may bring, and every way in which it may be wrong."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparse_core import datasets
from sparse_core.errors import InputError


def picture(value: int, mode: str = "RGB", size: tuple[int, int] = (12, 9)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value)).convert(mode)


def folder(root, counts: dict[str, int]):
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            picture(40 * number + index).save(root / name / f"{index}.png")
    return root


def encoded(value: int) -> bytes:
    stream = io.BytesIO()
    picture(value).save(stream, "PNG")
    return stream.getvalue()


def test_digits_are_scikit_learns_own():
    from sklearn.datasets import load_digits

    loaded = datasets.load("digits")
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (1437, 360)
    counts = np.bincount(np.concatenate([loaded.train.labels, loaded.test.labels]))
    assert counts.tolist() == np.bincount(load_digits().target).tolist()
    assert np.bincount(loaded.test.labels).min() >= 34
    assert loaded.train.load(0).mode == "RGB"
    assert loaded.hash == datasets.load("digits").hash


def test_one_folder_a_class_is_split_by_seed(tmp_path):
    root = folder(tmp_path / "d", {"cat": 20, "dog": 10})
    (root / "cat" / ".DS_Store").touch()
    (root / "dog" / "Thumbs.db").touch()
    first, again = datasets.load(str(root)), datasets.load(str(root))
    assert first.class_names == ["cat", "dog"]
    assert np.bincount(first.test.labels).tolist() == [4, 2]
    assert first.hash == again.hash
    picture(255).save(root / "cat" / "0.png")
    assert datasets.load(str(root)).hash != first.hash


def test_train_and_test_folders(tmp_path):
    folder(tmp_path / "d" / "train", {"a": 4, "b": 4})
    folder(tmp_path / "d" / "test", {"a": 2})
    loaded = datasets.load(str(tmp_path / "d"))
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (8, 2)
    assert loaded.notes == ["The test split has no picture of 1 of the classes: b."]


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_plain_and_as_hugging_face_writes_it(tmp_path, struct):
    pictures = [encoded(20 * value) for value in range(10)]
    column = [{"bytes": data, "path": None} for data in pictures] if struct else pictures
    table = pa.table({"image": column, "label": [value % 2 for value in range(10)]})
    if struct:
        info = {"info": {"features": {"label": {"names": ["even", "odd"]}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    (tmp_path / "d").mkdir()
    pq.write_table(table, tmp_path / "d" / "train-0.parquet")
    pq.write_table(table.slice(0, 4), tmp_path / "d" / "test-0.parquet")
    loaded = datasets.load(str(tmp_path / "d"))
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (10, 4)
    assert loaded.class_names == (["even", "odd"] if struct else ["0", "1"])
    assert np.asarray(loaded.train.load(3))[0, 0].tolist() == [60, 60, 60]
    alone = datasets.load(str(tmp_path / "d" / "train-0.parquet"))
    assert len(alone.train.labels) + len(alone.test.labels) == 10


def test_every_kind_of_picture_becomes_upright_rgb(tmp_path):
    assert datasets.upright_rgb(picture(100, "L")).getpixel((0, 0)) == (100, 100, 100)
    assert datasets.upright_rgb(Image.new("RGBA", (4, 4), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert datasets.upright_rgb(picture(100, "P")).mode == "RGB"
    assert datasets.upright_rgb(picture(100, "CMYK")).mode == "RGB"
    deep = Image.fromarray(np.full((4, 4), 257 * 80, dtype=np.uint16))
    assert datasets.upright_rgb(deep).getpixel((0, 0)) == (80, 80, 80)
    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert datasets.upright_rgb(Image.open(tmp_path / "turned.jpg")).size == (2, 4)


def test_few_unreadable_pictures_are_named_and_left_out(tmp_path):
    root = folder(tmp_path / "d", {"a": 100, "b": 101})
    (root / "a" / "7.png").write_bytes(encoded(3)[:40])
    loaded = datasets.load(str(root))
    assert loaded.notes == ["1 of 201 pictures cannot be read: 7.png. They were left out."]
    assert len(loaded.train.labels) + len(loaded.test.labels) == 200
    for row in range(len(loaded.train.labels)):
        loaded.train.load(row)


def test_many_unreadable_pictures_are_refused(tmp_path):
    root = folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "7.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 20 pictures cannot be read: 7.png. That is 1 % or more"):
        datasets.load(str(root))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root.mkdir(), "found none"),
        (lambda root: folder(root, {"only": 5}), "one class only"),
        (lambda root: folder(root, {"a": 5, "b": 1}), "single picture"),
        (lambda root: folder(root / "train", {"a": 5, "b": 5}), "no test folder"),
        (
            lambda root: (folder(root / "train", {"a": 5, "b": 5}), folder(root / "test", {"c": 5})),
            "training split lacks: c",
        ),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, make, words):
    make(tmp_path / "d")
    with pytest.raises(InputError, match=words) as refusal:
        datasets.load(str(tmp_path / "d"))
    assert "\n" not in str(refusal.value)


def test_bad_parquet_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a Parquet file"):
        datasets.load(str(tmp_path / "x.parquet"))
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match="lacks the column image; it has picture, label"):
        datasets.load(str(tmp_path / "y.parquet"))


def test_unknown_names_and_paths():
    with pytest.raises(InputError, match="Did you mean digits"):
        datasets.load("digit")
    with pytest.raises(InputError, match="no folder or file at /nowhere/at/all"):
        datasets.load("/nowhere/at/all")
    with pytest.raises(InputError, match=r"Birdsnap cannot be downloaded.*train/CLASS"):
        datasets.load("birds")


def test_a_task_by_folder(home):
    folder(home / "datasets" / "birds" / "train", {"a": 3, "b": 3})
    folder(home / "datasets" / "birds" / "test", {"a": 3, "b": 3})
    assert datasets.load("birds").class_names == ["a", "b"]
    assert {card.id: card.ready for card in datasets.available()}["birds"]


def test_no_network_is_one_line_and_leaves_nothing(home, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
    with pytest.raises(InputError, match=r"Could not download CIFAR-10 .*train/CLASS"):
        datasets.load("cifar10")
    assert not list((home / "datasets").iterdir())
