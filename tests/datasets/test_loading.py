"""Crops, decoding at a reduced size and normalisation, against Pillow and torchvision."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_image
from torchvision.transforms import v2

from sparse_core.datasets import loading
from sparse_core.datasets.dataset import Split, upright_rgb
from sparse_core.datasets.transforms import CIFAR, IMAGENET, IMAGENET_BICUBIC


@pytest.mark.parametrize("transform", [CIFAR, IMAGENET, IMAGENET_BICUBIC], ids=["CIFAR", "bilinear", "bicubic"])
def test_a_crop_agrees_with_pillow(transform):
    colours = np.random.default_rng(0).integers(0, 256, (12, 60, 44, 3), dtype=np.uint8)
    split = Split(np.zeros(12), lambda row: Image.fromarray(colours[row, : 30 + 2 * row]))
    filter_ = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[transform.interpolation]
    made = loading.ImageLoader(split, transform, 0)
    flipped = 0
    for row in range(12):
        generator = np.random.default_rng([7, 3, row])
        image = split.load(row)
        left, top, width, height = loading.random_crop(image.width, image.height, generator)
        expected = image.crop((left, top, left + width, top + height)).resize((transform.crop,) * 2, filter_)
        if generator.random() < 0.5:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            flipped += 1
        difference = np.abs(made.augmented(row, 7, 3).astype(int) - np.asarray(expected))
        assert difference.max() <= 2 and difference.mean() < 0.3  # they round differently
    assert 0 < flipped < 12


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_smaller_and_gives_the_same_crop(tmp_path, monkeypatch, orientation):
    photograph = Image.fromarray(load_sample_image("china.jpg"))  # 640 × 427
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photograph.save(tmp_path / "large.jpg", quality=95, exif=exif)
    sizes = []
    split = Split(np.zeros(1), lambda _: Image.open(tmp_path / "large.jpg"))
    monkeypatch.setattr(loading, "upright_rgb", lambda opened: sizes.append(opened.size) or upright_rgb(opened))
    stream, whole = loading.ImageLoader(split, CIFAR, stream=True), loading.ImageLoader(split, CIFAR)
    for epoch in range(8):
        difference = np.abs(stream.augmented(0, 0, epoch).astype(int) - whole.augmented(0, 0, epoch))
        assert difference.mean() < 8  # of 255, as the crop is cut at larger pixels; another crop differs by 20 or more
    assert set(sizes) <= {(640, 427), (320, 214), (160, 107), (80, 54)} and (80, 54) in sizes


def test_images_are_normalised_as_in_torchvision():
    given = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    scaled = torch.from_numpy(given).permute(0, 3, 1, 2).float() / 255
    expected = v2.functional.normalize(scaled, list(IMAGENET.mean), list(IMAGENET.std))
    for memory_format in (torch.channels_last, torch.contiguous_format):
        ours = loading.normalised(given, IMAGENET, memory_format)
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
        assert ours.is_contiguous(memory_format=memory_format)
    out = torch.empty(5, 3, 8, 9)
    assert loading.normalised(given, IMAGENET, out=out) is out
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)


def test_small_images_are_moved_by_up_to_an_eighth_of_their_side_and_flipped():
    colours = np.random.default_rng(0).integers(1, 256, (400, 32, 32, 3), dtype=np.uint8)
    moved = loading.shifted(colours, np.random.default_rng(5))
    padded = np.pad(colours, ((0, 0), (4, 4), (4, 4), (0, 0)))
    found = set()
    for row in range(len(colours)):
        places = [
            (down, right, flip)
            for down in range(9)
            for right in range(9)
            for flip in (False, True)
            if np.array_equal(
                moved[row],
                np.flip(padded[row, down : down + 32, right : right + 32], 1)
                if flip
                else padded[row, down : down + 32, right : right + 32],
            )
        ]
        assert len(places) == 1
        found.add(places[0])
    assert {down for down, _, _ in found} == {right for _, right, _ in found} == set(range(9))
    assert {flip for _, _, flip in found} == {False, True}
    assert np.array_equal(moved, loading.shifted(colours, np.random.default_rng(5)))


@pytest.mark.parametrize("budget", [0, 3 * 32 * 32 * 12])
@pytest.mark.parametrize("transform", [CIFAR, IMAGENET], ids=["small", "large"])
def test_batches_are_those_of_single_images_whether_they_are_kept_or_not(transform, budget):
    colours = np.random.default_rng(0).integers(0, 256, (12, 60, 44, 3), dtype=np.uint8)
    loader = loading.ImageLoader(Split(np.zeros(12), lambda row: Image.fromarray(colours[row])), transform, budget)
    rows = [11, 3, 3, 0, 7]
    made = list(loader.centre_cropped_batches(rows, 2))
    assert [len(batch) for batch in made] == [2, 2, 1]
    expected = [loader.centre_cropped(row) for row in rows]
    np.testing.assert_array_equal(np.concatenate(made), np.stack(expected))
