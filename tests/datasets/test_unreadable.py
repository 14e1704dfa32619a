"""Images that cannot be decoded: a few are left out and named, many are refused."""

from sparse_core.datasets import catalogue
from tests.support.images import encoded, image_folder, parquet_file
from tests.support.refusals import refused


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
    assert catalogue.load(home, str(file)).notes == (
        "1 of 300 images cannot be read: x.parquet row 217. They are left out.",
    )


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
