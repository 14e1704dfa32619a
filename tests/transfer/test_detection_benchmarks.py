"""The benchmarks of detectors do what they say they time."""

import numpy as np
import pytest
import torch

from benchmarks import detection_speed, detection_step
from sparse_core.networks import masks


def test_the_masked_step_holds_the_mask_and_the_dense_one_does_not():
    made, images = detection_step.training("yolov5n", 64, 2), detection_step.batch(64, 2)
    made.masked = True
    made.step(images)
    assert made.fixed.violations() == 0 and masks.sparsity(made.network.body).total == pytest.approx(0.9, abs=1e-3)
    made.masked = False
    made.step(images)
    assert made.fixed.violations() > 0


@pytest.mark.parametrize("way", detection_speed.WAYS)
def test_each_way_of_training_takes_a_step(way, monkeypatch):
    layout, precision = detection_speed.WAYS[way]
    seen = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, given: seen.append((module, given[0]))
    )
    try:
        loss = detection_speed.step(64, 2, layout, precision)()
    finally:
        hook.remove()
    assert np.isfinite(loss)
    convolutions = [(module, given) for module, given in seen if isinstance(module, torch.nn.Conv2d)]
    assert convolutions[0][1].is_contiguous(memory_format=layout)
    assert (convolutions[1][1].dtype == torch.bfloat16) == (precision == "bf16")
