"""Samples that a linear classifier separates in part, for the tests of its training."""

import numpy as np
import torch

from sparse_core.specs.training import Hyperparameters
from sparse_core.transfer.linear_training import Samples
from sparse_core.transfer.training import Result

SETTINGS = Hyperparameters(epochs=7, step_epochs=3, learning_rate=0.05, batch_size=16)


def blobs(rows: int, seed: int, classes: int = 4, dimensions: int = 24) -> Samples:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, dimensions))
    labels = np.arange(rows) % classes
    x = centres[labels] + 1.5 * generator.standard_normal((rows, dimensions))
    return Samples(x.astype(np.float32), labels.astype(np.int64))


def weight_of(result: Result[torch.nn.Linear]) -> np.ndarray:
    return result.network.weight.detach().numpy()


TRAIN, TEST = blobs(90, 1), blobs(61, 2)
