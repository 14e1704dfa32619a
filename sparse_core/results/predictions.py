"""The predicted class of each test image, kept with a run as one short text: a few hundred bytes per thousand images."""

import base64
import binascii
import zlib

import numpy as np

from sparse_core.errors import InputError


def encode(predicted: np.ndarray) -> str:
    """Classes (T,), in the order of the test split, as text."""
    return base64.b85encode(zlib.compress(predicted.astype("<i4").tobytes(), 9)).decode()


def decode(text: str, images: int, classes: int) -> np.ndarray:
    """The classes (T,) int64 in such a text. Raises InputError unless they are ``images`` numbers, each of 0..``classes`` − 1."""
    try:
        unpacked = zlib.decompressobj().decompress(base64.b85decode(text), 4 * images + 1)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise InputError("The predictions stored with this run are damaged.") from error
    if len(unpacked) != 4 * images:
        raise InputError("The predictions stored with this run are not of its test images.")
    predicted = np.frombuffer(unpacked, dtype="<i4").astype(np.int64)
    if images and not (predicted.min() >= 0 and predicted.max() < classes):
        raise InputError("The predictions stored with this run name classes that it does not have.")
    return predicted
