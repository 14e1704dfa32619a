"""The learning-rate sweep of a probe against a training on the same validation split."""

import dataclasses

import numpy as np
import pytest

from sparse_core.errors import InputError
from sparse_core.transfer.linear_training import Samples, train
from sparse_core.transfer.probe import choose_learning_rate, validation_split
from tests.support.samples import SETTINGS, TRAIN


def test_the_sweep_chooses_what_is_best_on_validation_data():
    rate, scores = choose_learning_rate(TRAIN, 4, [0, 1], SETTINGS, (1e-7, 0.05))
    assert rate == 0.05
    assert scores[0.05] > scores[1e-7]
    fit, held_out = validation_split(TRAIN.labels)
    assert sorted([*fit, *held_out]) == list(range(len(TRAIN.labels)))
    one = dataclasses.replace(SETTINGS, learning_rate=0.05)
    x, y = TRAIN
    results = train(Samples(x[fit], y[fit]), Samples(x[held_out], y[held_out]), 4, [0, 1], one)
    assert scores[0.05] == pytest.approx(np.mean([result.final("top1") for result in results]))


def test_a_sweep_in_which_every_rate_diverges_is_refused():
    with pytest.raises(InputError, match=r"Every learning rate diverged \(1e\+25, 1e\+30\)"):
        choose_learning_rate(Samples(1e18 * TRAIN.features, TRAIN.labels), 4, [0], SETTINGS, (1e25, 1e30))
