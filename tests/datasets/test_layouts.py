"""Datasets as other tools lay them out: names of splits, three splits, odd files and images, and what is said about them."""

import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import UnknownRangeError, upright_rgb, upright_size
from tests.support.images import encoded, image, image_folder
from tests.support.refusals import refused

UNLABELLED = [-1] * 10


def splits(root, **counts):
    """A folder a split, with that number of images in each of two classes."""
    for name, count in counts.items():
        image_folder(root / name, {"cat": count, "dog": count})
    return root


def hugging_face(file, count, labels=None, columns=("image", "label"), names=("cat", "dog")):
    """A Parquet file as Hugging Face's datasets writes it."""
    image_column, label_column = columns
    labels = [number % 2 for number in range(count)] if labels is None else labels
    features = {image_column: {"_type": "Image"}, label_column: {"names": list(names), "_type": "ClassLabel"}}
    images = [{"bytes": encoded(number % 250), "path": None} for number in range(count)]
    table = pa.table({image_column: images, label_column: labels})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), file)


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "valid"), ("Training", "Testing"), ("Train", "Test"), ("train", "dev"), ("TRAIN", "eval")],
)
def test_splits_by_their_usual_names(home, tmp_path, train, test):
    loaded = catalogue.load(home, str(splits(tmp_path / "d", **{train: 5, test: 3})))
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (10, 6)
    notes = (f"Trained on {train}, tested on {test}.",) if test in ("valid", "dev", "eval") else ()
    assert (loaded.layout, loaded.notes, loaded.class_names) == (f"{train} and {test} folders", notes, ["cat", "dog"])


def test_of_three_splits_the_test_split_is_tested_on_and_the_other_is_named(home, tmp_path):
    folders = catalogue.load(home, str(splits(tmp_path / "d", train=5, val=3, test=2)))
    assert (len(folders.train.labels), len(folders.test.labels)) == (10, 4)
    assert folders.notes == ("Trained on train, tested on test; not used: val.",)
    for name, count in (("train-00000-of-00002", 20), ("train-00001-of-00002", 10), ("validation-0", 6), ("test-0", 8)):
        hugging_face(tmp_path / "p" / f"{name}.parquet", count)
    parquet = catalogue.load(home, str(tmp_path / "p"))
    assert (len(parquet.train.labels), len(parquet.test.labels)) == (30, 8)
    assert parquet.notes == (
        "Trained on train, tested on test; not used: validation.",
        "1 of 4 Parquet files are not used: validation-0.parquet.",
    )


def test_a_split_without_labels_is_left_out_and_named(home, tmp_path):
    root = tmp_path / "p"
    hugging_face(root / "train.parquet", 20)
    hugging_face(root / "test.parquet", 10, UNLABELLED)
    alone = catalogue.load(home, str(root))
    assert (len(alone.train.labels), len(alone.test.labels)) == (16, 4)
    assert alone.notes[0] == "The labels of test match no class: not used."
    hugging_face(root / "validation.parquet", 6)
    validated = catalogue.load(home, str(root))
    assert (len(validated.train.labels), len(validated.test.labels)) == (20, 6)
    assert validated.layout == "train and validation Parquet files"
    assert validated.notes[:2] == (
        "Trained on train, tested on validation; not used: test.",
        "The labels of test match no class: not used.",
    )
    hugging_face(root / "test.parquet", 10, [0] + [-1] * 9)
    assert "9 of 10 labels in test.parquet match no class" in refused(catalogue.load, home, str(root))


def test_a_split_with_classes_of_its_own_is_named(home, tmp_path):
    root = splits(tmp_path / "d", train=5, val=3)
    image_folder(root / "more", {"x": 0})
    (root / "val" / "bird").mkdir()
    text = refused(catalogue.load, home, str(root))
    assert "val has classes that train lacks: bird. Remove them, or add images of them to train." in text
    splits(root, test=2)
    loaded = catalogue.load(home, str(root))
    assert len(loaded.test.labels) == 4 and "Val has classes that train lacks: bird." in loaded.notes


@pytest.mark.parametrize("layout", ["data/{split}-0.parquet", "default/{split}/0000.parquet", "{split}/0000.parquet"])
@pytest.mark.parametrize("columns", [("image", "label"), ("img", "fine_label"), ("image", "labels"), ("photo", "kind")])
def test_layouts_and_columns_of_hugging_face(home, tmp_path, layout, columns):
    hugging_face(tmp_path / "d" / layout.format(split="train"), 12, columns=columns)
    hugging_face(tmp_path / "d" / layout.format(split="test"), 4, columns=columns)
    loaded = catalogue.load(home, str(tmp_path / "d"))
    assert (len(loaded.train.labels), len(loaded.test.labels), loaded.class_names) == (12, 4, ["cat", "dog"])
    assert loaded.notes == (() if columns == ("image", "label") else (f"Columns: {columns[0]} and {columns[1]}.",))
    assert loaded.test.load(3).getpixel((0, 0)) == (3, 3, 3)


def test_two_configurations_are_not_taken_for_one(home, tmp_path):
    for configuration in ("small", "large"):
        hugging_face(tmp_path / "d" / configuration / "train-0.parquet", 12)
    assert "several folders of Parquet files: large, small. Give one" in refused(
        catalogue.load, home, str(tmp_path / "d")
    )


def test_layouts_that_are_not_read_are_refused_with_what_was_found(home, tmp_path):
    root = image_folder(tmp_path / "csv", {"images": 5})
    (root / "labels.csv").write_text("file,label\n0.png,cat\n")
    text = refused(catalogue.load, home, str(root))
    assert "1 folder (images) and 1 file .csv. Lists of labels are not read: put each image into the folder" in text
    (tmp_path / "wds").mkdir()
    (tmp_path / "wds" / "train-000000.tar").touch()
    text = refused(catalogue.load, home, str(tmp_path / "wds"))
    assert "1 file .tar. Archives are not read: unpack them" in text


def test_the_class_with_a_single_image_is_named(home, tmp_path):
    root = image_folder(tmp_path / "d", {f"species_{number:02d}": 1 if number == 41 else 3 for number in range(60)})
    assert "into training and test: species_41. Add images to it" in refused(catalogue.load, home, str(root))


def test_files_that_are_no_images_are_counted_and_named(home, tmp_path):
    root = image_folder(tmp_path / "d", {"cat": 10, "dog": 10})
    (root / "cat" / "old.jpg").mkdir()
    (root / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "dog" / "notes.txt").touch()
    image(3).save(root / "loose.png")
    loaded = catalogue.load(home, str(root))
    names = "cat/gone.jpg, cat/old.jpg, dog/notes.txt, loose.png"
    assert loaded.notes == (f"4 of the files and folders are no images and left out: {names}.",)
    assert len(loaded.train.labels) + len(loaded.test.labels) == 20


def test_what_operating_systems_leave_behind_is_passed_over(home, tmp_path):
    root = image_folder(tmp_path / "d", {"cat": 5, "dog": 5})
    clean = catalogue.load(home, str(root))
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", "dog/._0.png"):
        (root / name).write_bytes(b"litter")
    image_folder(root / "__MACOSX", {"cat": 2})
    image(9).save(root / "__MACOSX" / "._x.png")
    (root / "dog" / "@eaDir").mkdir()
    littered = catalogue.load(home, str(root))
    assert (littered.hash, littered.notes, littered.class_names) == (clean.hash, (), ["cat", "dog"])
    hugging_face(tmp_path / "p" / "train.parquet", 12)
    (tmp_path / "p" / "._train.parquet").write_bytes(b"litter")
    assert catalogue.load(home, str(tmp_path / "p")).notes == ()


def exif_of(*entries):
    """EXIF data in little-endian bytes; each entry is a tag, its type, its count and four bytes of value or eight beyond."""
    body = b"II*\0" + struct.pack("<IH", 8, len(entries))
    tail, end = b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        if len(value) > 4:
            body += struct.pack("<HHII", tag, kind, count, end + len(tail))
            tail += value
        else:
            body += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0" + body + struct.pack("<I", 0) + tail


SIX = struct.pack("<H", 6)
TURNED = (0x0112, 3, 1, SIX)
EXIF = {  # and whether it turns the image
    "a negative ratio": (exif_of(TURNED, (0x011A, 10, 1, struct.pack("<ii", -1, 0))), True),
    "two orientations": (exif_of((0x0112, 3, 2, 2 * SIX)), True),
    "orientation 9": (exif_of((0x0112, 3, 1, struct.pack("<H", 9))), False),
    "an orientation as text": (exif_of((0x0112, 2, 2, b"6\0")), False),
    "cut off": (exif_of(TURNED, (0x010F, 2, 2000, b"abc\0")), True),
    "garbage": (b"Exif\0\0\1\2\3\4garbage", False),
}


@pytest.mark.parametrize("kind", EXIF)
def test_images_with_damaged_exif_data_are_read(tmp_path, kind):
    exif, turned = EXIF[kind]
    image(9, size=(60, 40)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        size = upright_size(opened)
        assert upright_rgb(opened).size == size == ((40, 60) if turned else (60, 40))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_exif(tmp_path, orientation):
    """The pixel that is stored first lies where EXIF says: top left, top right, bottom right, …"""
    stored = Image.new("RGB", (3, 2))
    stored.putpixel((0, 0), (255, 255, 255))
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(upright_rgb(Image.open(tmp_path / "a.png")))[:, :, 0]
    (place,) = np.argwhere(upright == 255).tolist()
    corner = (place[0] > 0, place[1] > 0)  # bottom, right
    expected = [(0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (0, 1), (1, 1), (1, 0)][orientation - 1]
    assert corner == tuple(map(bool, expected)) and upright.shape == ((2, 3) if orientation < 5 else (3, 2))


@pytest.mark.parametrize("value", [0, 1, 200, 257 * 80, 65535])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_to_8_bits_however_dark_the_image_is(tmp_path, value, suffix):
    Image.fromarray(np.full((4, 4), value, dtype=np.uint16)).save(tmp_path / f"a.{suffix}")
    grey = round(value / 257)
    assert upright_rgb(Image.open(tmp_path / f"a.{suffix}")).getpixel((0, 0)) == (grey, grey, grey)


def test_palettes_cmyk_and_other_modes_become_rgb(tmp_path):
    red = Image.new("RGB", (4, 4), (250, 10, 20))
    for name, made in {
        "palette.png": red.quantize(4),
        "cmyk.tif": red.convert("CMYK"),
        "cmyk.jpg": red.convert("CMYK"),
        "ycbcr.jpg": red.convert("YCbCr"),
        "bw.tif": Image.new("1", (4, 4), 1),
        "lab.tif": Image.new("LAB", (4, 4), (255, 128, 128)),
        "la.png": Image.new("LA", (4, 4), (255, 0)),
    }.items():
        made.save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
        pixel = upright_rgb(Image.open(tmp_path / name)).getpixel((0, 0))
        expected = (255, 255, 255) if name in ("bw.tif", "lab.tif", "la.png") else (250, 10, 20)
        assert np.abs(np.subtract(pixel, expected)).max() <= 6, name


@pytest.mark.parametrize(("dtype", "words"), [(np.float32, "floating point"), (np.int32, "32-bit integers")])
def test_images_without_a_known_range_are_left_out_by_name_and_reason(home, tmp_path, dtype, words):
    root = image_folder(tmp_path / "d", {"cat": 100, "dog": 101})
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32).astype(dtype)).save(root / "cat" / "odd.tif")
    with pytest.raises(UnknownRangeError):
        upright_rgb(Image.open(root / "cat" / "odd.tif"))
    (note,) = catalogue.load(home, str(root)).notes
    assert note.startswith("1 of 202 images cannot be read: cat/odd.tif. Its values are " + words)
    assert note.endswith("They are left out.")
