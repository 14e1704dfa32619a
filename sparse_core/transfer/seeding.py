"""What a seed decides in every training: the classifier's initial weights and the order of the training images."""

import math

import numpy as np
import torch
from torch import Tensor


def shuffled_rows(seed: int, epoch: int, rows: int) -> np.ndarray:
    """The order (rows,) of the training rows in ``epoch`` (from 0); it depends on the arguments only."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def initial_classifier(seed: int, classes: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) as torch.nn.Linear draws them (Kaiming uniform with a = √5): U(−1/√D, 1/√D)."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(dimensions)
    weight = torch.empty(classes, dimensions).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator)
    return weight, bias
