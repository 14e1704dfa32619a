"""The hyperparameters of a training, with the defaults of the paper's protocol."""

import math
from dataclasses import dataclass

from sparse_core.specs.checks import require
from sparse_core.specs.options import option

OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
VALIDATION_SHARE = 0.2  # of the training data, held out while a learning rate is chosen
FULL_LEARNING_RATE = 0.001
FULL_LEARNING_RATES = {"aircraft": 0.01, "cars": 0.01}


@dataclass(frozen=True)
class Sgd:
    """The settings that every training by SGD has; its kinds give the defaults."""

    epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        require(0 < self.learning_rate < math.inf, "learning_rate", "finite and above 0", self.learning_rate)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite, 0 or more", self.weight_decay)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)


@dataclass(frozen=True)
class Hyperparameters(Sgd):
    """SGD with a step schedule (paper, section 3 and appendix). Defaults are those of linear transfer."""

    epochs: int = option(150, "passes over the training data")
    learning_rate: float = option(0.01, "at the start")
    momentum: float = option(0.9, "of SGD, in [0, 1)")
    weight_decay: float = option(5e-4, "L2 penalty")
    batch_size: int = option(64, "images a step")
    step_epochs: int = option(50, "epochs between learning-rate decays")
    step_factor: float = option(0.1, "learning-rate decay (gamma), in (0, 1]")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.step_epochs >= 1, "step_epochs", "at least 1", self.step_epochs)
        require(0 < self.step_factor <= 1, "step_factor", "in (0, 1]", self.step_factor)


def full_learning_rate(dataset: str) -> float:
    """The paper's learning rate of full transfer: 0.001, and 0.01 for Aircraft and Cars."""
    return FULL_LEARNING_RATES.get(dataset, FULL_LEARNING_RATE)
