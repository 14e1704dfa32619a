"""The flat copy of Parquet files' images: what their identity depends on, and that no file is read into memory whole."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparse_core.datasets import catalogue, parquet
from sparse_core.errors import InputError
from tests.support.images import encoded, parquet_file

LABELS = [0, 1, 2] * 20
IMAGES = [encoded(4 * number) for number in range(60)]


def write(folder: Path, pieces: int = 1, labels: list = LABELS, images: list[bytes] = IMAGES, **options) -> Path:
    """The same table as several files, cut and packed in any way."""
    folder.mkdir()
    for number in range(pieces):
        rows = slice(number * len(labels) // pieces, (number + 1) * len(labels) // pieces)
        table = pa.table({"image": images[rows], "label": labels[rows]})
        pq.write_table(table, folder / f"part-{number:02d}.parquet", **options)
    return folder


def pixels(split) -> list[int]:
    return [split.load(row).getpixel((0, 0))[0] for row in range(len(split.labels))]


@pytest.mark.parametrize(
    ("pieces", "options"),
    [
        (1, {"row_group_size": 7}),
        (1, {"compression": "zstd", "use_dictionary": False}),
        (3, {"row_group_size": 9}),
        (60, {}),
    ],
)
def test_identity_is_independent_of_row_groups_files_and_compression(home, tmp_path, pieces, options):
    first = catalogue.load(home, str(write(tmp_path / "a")))
    again = catalogue.load(home, str(write(tmp_path / "b", pieces, **options)))
    assert again.hash == first.hash
    assert [pixels(split) for split in (again.train, again.test)] == [
        pixels(split) for split in (first.train, first.test)
    ]
    assert sorted(pixels(first.train) + pixels(first.test)) == list(range(0, 240, 4))


def test_identity_depends_on_images_their_order_their_borders_labels_and_class_names(home, tmp_path):
    moved = [*IMAGES[1:], IMAGES[0]]
    longer = [IMAGES[0] + IMAGES[1][:5], IMAGES[1][5:], *IMAGES[2:]]  # the same bytes in a row
    tables = [(LABELS, IMAGES), (LABELS, moved), (LABELS, longer), ([0, 1, 2] * 19 + [0, 2, 1], IMAGES)]
    folders = [write(tmp_path / str(number), 1, *table) for number, table in enumerate(tables)]
    hashes = {catalogue._open(home, str(folder), download=False).hash for folder in folders}
    named = [parquet_file(tmp_path / f"{names}.parquet", LABELS, names, IMAGES) for names in ("abc", "abd", "abcd")]
    hashes |= {catalogue.load(home, str(file)).hash for file in named}
    assert len(hashes) == 7


def test_a_file_is_read_in_pieces(tmp_path):
    """Its images are 40 MB in a single row group: no more than a fraction is in memory at a time."""
    noise = np.random.default_rng(0)
    table = pa.table({"image": [noise.bytes(100_000) for _ in range(400)], "label": [0, 1] * 200})
    options = {"write_batch_size": 8, "data_page_size": 1 << 20, "use_dictionary": False}
    pq.write_table(table, tmp_path / "x.parquet", **options)
    del table
    before, most, total = pa.total_allocated_bytes(), 0, 0
    for batch in parquet._encoded_images(tmp_path / "x.parquet"):
        most, total = max(most, pa.total_allocated_bytes() - before), total + len(batch)
    assert total == 400 and most < 20e6


def test_an_unchanged_dataset_is_neither_read_nor_copied_again(home, tmp_path, monkeypatch):
    folder = write(tmp_path / "a")
    first = catalogue.load(home, str(folder))
    monkeypatch.setattr(parquet, "_batches", lambda _: pytest.fail("the images were read again"))
    assert catalogue.load(home, str(folder)).hash == first.hash


def test_one_copy_per_dataset_is_kept_and_none_of_those_that_are_gone(home, tmp_path):
    folders = [write(tmp_path / name, 1, LABELS, IMAGES[::step]) for name, step in (("a", 1), ("b", -1))]
    opened = [catalogue.load(home, str(folder)) for folder in folders]
    images = home / "datasets" / "images"
    assert len(list(images.iterdir())) == 2
    os.utime(folders[0] / "part-00.parquet", (1, 1))
    assert catalogue.load(home, str(folders[0])).hash == opened[0].hash and len(list(images.iterdir())) == 2
    (folders[1] / "part-00.parquet").unlink()
    folders[1].rmdir()
    catalogue.load(home, str(folders[0]))
    assert len(list(images.iterdir())) == 1
    assert pixels(opened[1].test) == pixels(opened[1].test)  # who has it open goes on reading it


@pytest.mark.parametrize("file", ["values.bin", "offsets.bin", "copy.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "foreign"])
def test_a_damaged_copy_is_made_again(home, tmp_path, file, damage):
    folder = write(tmp_path / "a")
    first = catalogue.load(home, str(folder))
    expected = pixels(first.test)
    (copy,) = (home / "datasets" / "images").iterdir()
    content = (copy / file).read_bytes()
    changed = {"empty": b"", "truncated": content[: len(content) // 2], "foreign": b"[1, 2]"}
    (copy / file).unlink() if damage == "missing" else (copy / file).write_bytes(changed[damage])
    again = catalogue.load(home, str(folder))
    assert again.hash == first.hash and pixels(again.test) == expected


def test_a_copy_that_is_cut_off_while_it_is_read_gives_one_line(home, tmp_path):
    loaded = catalogue.load(home, str(write(tmp_path / "a")))
    (copy,) = (home / "datasets" / "images").iterdir()
    os.truncate(copy / "values.bin", 100)
    with pytest.raises(InputError, match="was changed while it was read"):
        loaded.train.load(40)
