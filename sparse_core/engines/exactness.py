"""Whether an engine computes what PyTorch computes in fp32. Figures of one that does not are not kept."""

import numpy as np
import torch
from torch import nn

from sparse_core.catalog import ENGINES
from sparse_core.engines.compiled import Compiled, noise
from sparse_core.errors import InputError

# By precision, the largest accepted difference to PyTorch in fp32, relative to the largest feature.
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}
CHECKED_IMAGES = 4


def difference(compiled: Compiled, module: nn.Module) -> float:
    """The largest difference between the engine's features and those of ``module`` in PyTorch, fp32, on images of noise.

    Relative to the largest feature; infinite where a feature is not finite.
    """
    images = noise(CHECKED_IMAGES, compiled.input_size)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        expected = module(torch.from_numpy(images)).float().numpy()
    found = float(np.abs(compiled.run(images) - expected).max())
    return found / (float(np.abs(expected).max()) or 1.0) if np.isfinite(found) else float("inf")


def is_exact(compiled: Compiled, difference: float) -> bool:
    """Whether a relative difference is small enough to keep the engine's figures."""
    return difference <= TOLERANCE[compiled.precision]


def require_exact(compiled: Compiled, module: nn.Module) -> float:
    """The ``difference``. Raises InputError if it is too large."""
    found = difference(compiled, module)
    if not is_exact(compiled, found):
        raise InputError(
            f"The output of {ENGINES[compiled.engine]} differs from PyTorch's in fp32 by {found:.1e} of the largest "
            f"value, above {TOLERANCE[compiled.precision]:.0e}, so no figure was kept."
        )
    return found
