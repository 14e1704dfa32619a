"""scikit-learn's digits: 1,797 images of 8 × 8 pixels, available without a download."""

import functools
import hashlib

import numpy as np
from PIL import Image

from sparse_core.datasets.dataset import Dataset, Split
from sparse_core.datasets.splits import stratified

DIGITS = "digits"
CLASS_NAMES = [str(digit) for digit in range(10)]
LAYOUT = "stratified split by seed 0"
TRAIN, TEST = 1437, 360


@functools.lru_cache(maxsize=1)
def digits() -> Dataset:
    """The dataset, split by class with seed 0."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = (loaded.images * (255 / 16)).round().astype(np.uint8)
    train, test = stratified(loaded.target.astype(np.int64))

    def split(rows: np.ndarray) -> Split:
        return Split(loaded.target[rows].astype(np.int64), lambda row: Image.fromarray(pixels[rows[row]]))

    digest = hashlib.sha256(pixels.tobytes() + loaded.target.tobytes() + test.tobytes()).hexdigest()
    return Dataset(DIGITS, "top1", CLASS_NAMES, split(train), split(test), digest, LAYOUT)
