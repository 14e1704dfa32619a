"""Datasets by name and path, and the conversion of their images to upright RGB."""

import numpy as np
import pytest
from PIL import Image

from sparse_core.datasets import catalogue
from sparse_core.datasets.dataset import upright_rgb
from tests.support.images import image
from tests.support.refusals import refused


def test_digits_are_scikit_learns_own(home):
    from sklearn.datasets import load_digits

    loaded = catalogue.load(home, "digits")
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (1437, 360)
    counts = np.bincount(np.concatenate([loaded.train.labels, loaded.test.labels]))
    assert counts.tolist() == np.bincount(load_digits().target).tolist()
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
