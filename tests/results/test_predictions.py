"""Predictions kept with a run: what is stored comes back, and what cannot be of that run is refused."""

import numpy as np
import pytest

from sparse_core.results import predictions
from tests.support.refusals import refused


def test_what_is_stored_comes_back_and_is_short():
    predicted = np.random.default_rng(0).integers(10, size=10_000)
    text = predictions.encode(predicted)
    assert (predictions.decode(text, 10_000, 10) == predicted).all()
    assert len(text) < 10_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("~ no text", "damaged"),
        (predictions.encode(np.array([0, 1])), "not of its test images"),
        (predictions.encode(np.array([0, 1, 2, 1])), "not of its test images"),
        (predictions.encode(np.array([0, 1, 3])), "classes that it does not have"),
        (predictions.encode(np.array([0, 1, -1])), "classes that it does not have"),
    ],
)
def test_what_is_not_of_the_run_is_refused(text, message):
    refused(predictions.decode, text, 3, 3, match=message)
